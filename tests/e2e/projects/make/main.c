#include "greet.h"

int main(void)
{
	greet(WHOM);
	return 0;
}
