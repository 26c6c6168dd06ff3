#pragma once
#include <string>
std::string forecast(int degrees);
