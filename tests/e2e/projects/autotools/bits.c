#include <stdio.h>
#include "config.h"

const char *word(void);

int main(void)
{
	printf("%s %d\n", word(), BITS);
	return 0;
}
