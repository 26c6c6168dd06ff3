int count(int to);
