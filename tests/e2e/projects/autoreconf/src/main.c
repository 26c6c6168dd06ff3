#include <config.h>
#include <stdio.h>
#include "count.h"

int main(void)
{
	printf("%s counts to %d\n", PACKAGE_STRING, count(3));
	return 0;
}
