#include "forecast.h"

std::string forecast(int degrees) { return degrees < 15 ? "cold" : "warm"; }
