#define WHOM "world"
void greet(const char *whom);
