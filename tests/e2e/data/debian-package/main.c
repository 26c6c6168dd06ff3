#include "hail.h"

#include <stdio.h>

int main(void)
{
    for (int left = hail_times(); left > 0; left--)
        printf("%s%c", hail_word(), left > 1 ? ' ' : '\n');
    return 0;
}
