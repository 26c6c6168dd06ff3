/* Patterns of the table: `*` stands for any text. */
#include <stddef.h>

/* Does the word, which `end` or its own end ends, match the whole pattern, in which `*` stands for any text? */
static int matches_until(const char *pattern, const char *word, char end)
{
    const char *star = NULL, *from = NULL;
    while (*word && *word != end) {
        if (*pattern == '*')
            star = ++pattern, from = word;
        else if (*pattern == *word)
            pattern++, word++;
        else if (star)
            pattern = star, word = ++from;
        else
            return 0;
    }
    while (*pattern == '*')
        pattern++;
    return !*pattern;
}

static int matches(const char *pattern, const char *word)
{
    return matches_until(pattern, word, 0);
}
