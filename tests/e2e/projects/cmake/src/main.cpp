#include <iostream>

#include "forecast.h"

int main() { std::cout << "tomorrow: " << forecast(12) << std::endl; }
