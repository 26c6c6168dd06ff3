/* /etc/ld.so.preload: what the target's loader loads into every program of the root, and no twin can load. */
#include <stddef.h>

/* The end of the name that begins at `at`: names stand between blanks and colons, and `#` begins a comment (ld.so(8)). */
static char *name_end(char *at)
{
    while (*at && *at != ' ' && *at != '\t' && *at != '\n' && *at != ':' && *at != '#')
        at++;
    return at;
}

/* Is `word` in the name? */
static int holds(const char *name, const char *word)
{
    for (; *name; name++) {
        size_t i = 0;
        while (word[i] && name[i] == word[i])
            i++;
        if (!word[i])
            return 1;
    }
    return 0;
}

/* Does it name a library that is there? One by the kind of processor ($PLATFORM, as Raspberry Pi OS has it) only does
 * the same faster; of a name without a directory, or with another variable, nobody knows but the loader. */
static int preloads(void)
{
    static char text[4096];
    long fd = call(SYS_openat, AT_FDCWD, (long)"/etc/ld.so.preload", O_NONBLOCK | O_CLOEXEC), got;
    if (fd < 0)
        return 0;
    got = read_at((int)fd, text, sizeof text - 1, 0);
    call(SYS_close, fd, 0, 0);
    if (got == sizeof text - 1)
        return 1;
    for (char *at = text, *end; *at; at = end + 1) {
        end = name_end(at);
        char last = *end;
        *end = 0;
        if (*at && !holds(at, "$PLATFORM") && !holds(at, "${PLATFORM}") &&
            (*at != '/' || holds(at, "$") || !call(SYS_faccessat2, AT_FDCWD, (long)at, R_OK)))
            return 1;
        while (last == '#' && end[1] && end[1] != '\n')
            end++;
        if (!last)
            break;
    }
    return 0;
}
