#include "hail.h"

const char *hail_word(void) { return "hail"; }
