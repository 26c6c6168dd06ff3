#include <stdio.h>
#include "greet.h"

void greet(const char *whom) { printf("hello, %s\n", whom); }
