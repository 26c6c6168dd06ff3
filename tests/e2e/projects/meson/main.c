#include <stdio.h>
#include "hands.h"

int main(void)
{
	printf("at nine: %.0f degrees\n", angle(21));
	return 0;
}
