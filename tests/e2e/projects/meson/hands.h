double angle(int hour);
