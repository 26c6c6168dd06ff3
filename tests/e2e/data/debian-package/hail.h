const char *hail_word(void);
int hail_times(void);
