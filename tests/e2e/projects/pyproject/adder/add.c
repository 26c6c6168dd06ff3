long add(long one, long other) { return one + other; }
