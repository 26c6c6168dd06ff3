#include "count.h"

int count(int to)
{
	int number = 0;

	while (number < to)
		number++;
	return number;
}
