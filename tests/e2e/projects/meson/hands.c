#include "hands.h"
#include <math.h>

double angle(int hour) { return fmod(hour * 30.0, 360.0); }
