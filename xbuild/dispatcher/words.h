/* What the rules of the table ask of arguments and variables, and what they add to them. It needs TABLE, where lists are. */
#include <stddef.h>
#include <stdint.h>

#include "pattern.h"

static size_t length(const char *s)
{
    size_t n = 0;
    while (s[n])
        n++;
    return n;
}

static int same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static const char *next(const char *s)
{
    return s + length(s) + 1;
}

/* Does the environment entry set the variable that `name` (NAME or NAME=VALUE) names? */
static int names(const char *entry, const char *name)
{
    while (*name && *name != '=' && *entry == *name)
        entry++, name++;
    return *entry == '=' && (!*name || *name == '=');
}

static char **find_env(char **envp, const char *name)
{
    for (; *envp; envp++)
        if (names(*envp, name))
            return envp;
    return NULL;
}

static int is_one_of(uint32_t patterns, const char *word)
{
    if (patterns)
        for (const char *p = TABLE + patterns; *p; p = next(p))
            if (matches(p, word))
                return 1;
    return 0;
}

static int any_arg(uint32_t patterns, char **argv)
{
    for (; patterns && *argv; argv++)
        if (is_one_of(patterns, *argv))
            return 1;
    return 0;
}

/* What stands behind an option and its value. */
static char **behind(uint32_t with_value, char **option)
{
    return option + 1 + (option[1] && is_one_of(with_value, *option));
}

/* As any_arg, but for arguments that are `text`, with their value in the next word. */
static int any_but(uint32_t text, uint32_t patterns, uint32_t with_value, char **argv)
{
    while (patterns && *argv)
        if (is_one_of(text, *argv))
            argv = behind(with_value, argv);
        else if (is_one_of(patterns, *argv++))
            return 1;
    return 0;
}

/* As any_arg, before the first word that is no option: `--`, and `-`, are none. */
static int any_option(uint32_t patterns, uint32_t with_value, char **argv)
{
    if (!patterns)
        return 0;
    for (; *argv && (*argv)[0] == '-' && (*argv)[1] && !same(*argv, "--"); argv = behind(with_value, argv))
        if (is_one_of(patterns, *argv))
            return 1;
    return 0;
}

/* Do the arguments begin with the words of `text`, which are parted by blanks? */
static int begin_with(const char *text, char **argv)
{
    for (; *argv; argv++) {
        const char *word = *argv;
        while (*word && *text == *word)
            text++, word++;
        if (*word || (*text && *text != ' '))
            return 0;
        if (!*text++)
            return 1;
    }
    return 0;
}

static int begin_with_any(uint32_t texts, char **argv)
{
    if (texts)
        for (const char *p = TABLE + texts; *p; p = next(p))
            if (begin_with(p, argv))
                return 1;
    return 0;
}

/* What stands behind nothing but options that may stand before a script. */
static char **behind_options(uint32_t options, uint32_t with_value, char **argv)
{
    while (*argv && is_one_of(options, *argv))
        argv = behind(with_value, argv);
    return argv;
}

/* Is each option among words for the linker, with commas between them, one of the patterns? Two dashes count as one. */
static int all_known(uint32_t patterns, const char *words)
{
    for (int more = 1; more;) {
        const char *p = TABLE + patterns;
        if (words[0] == '-' && words[1] == '-')
            words++;
        while (*p && !matches_until(p, words, ','))
            p = next(p);
        /* What is no option is a file, or the value of the option before. */
        if (!*p && (*words == '-' || *words == '@'))
            return 0;
        while (*words && *words != ',')
            words++;
        more = *words++ == ',';
    }
    return 1;
}

/* Does -Wl,A,B or -Xlinker A hand an option to the linker that is none of the patterns? */
static int any_other_word(uint32_t patterns, char **argv)
{
    if (!patterns)
        return 0;
    for (; *argv; argv++) {
        if (matches("-Wl,*", *argv) && !all_known(patterns, *argv + 4))
            return 1;
        if (same("-Xlinker", *argv) && argv[1] && !all_known(patterns, *++argv))
            return 1;
    }
    return 0;
}

static int any_env(uint32_t list, char **envp)
{
    if (!list)
        return 0;
    for (const char *name = TABLE + list; *name; name = next(name)) {
        char **entry = find_env(envp, name);
        size_t n = length(name);
        if (entry && (name[n - 1] != '=' || (*entry)[n]))
            return 1;
    }
    return 0;
}

/* How many words the list has. */
static size_t words_in(uint32_t list)
{
    size_t n = 0;
    if (list)
        for (const char *s = TABLE + list; *s; s = next(s))
            n++;
    return n;
}

/* Writes argv to `to`, with the list's words behind argv[0]. */
static void add_words(char **to, char **argv, uint32_t list)
{
    *to++ = *argv++;
    for (const char *s = TABLE + list; *s; s = next(s))
        *to++ = (char *)s;
    while ((*to++ = *argv++))
        ;
}

/* Writes envp to `to`, with the list's NAME=VALUE in the place of what there was of these names, or at the end. */
static void set_variables(char **to, char **envp, uint32_t list)
{
    char **end = to;
    while ((*end = *envp++))
        end++;
    for (const char *s = TABLE + list; *s; s = next(s)) {
        char **place = find_env(to, s);
        if (!place) {
            place = end++;
            *end = NULL;
        }
        *place = (char *)s;
    }
}
