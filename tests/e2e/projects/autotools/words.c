const char *word(void) { return "bits:"; }
