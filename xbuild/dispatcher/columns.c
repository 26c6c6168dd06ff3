/* Stands before the preprocessor that ccache starts (its setting prefix_command_cpp): `columns COMPILER ARGS... -E -o FILE`.
 *
 * ccache knows an object by preprocessed text. Blanks and comments between two words of a line are gone from it, and by
 * these the columns move that debug information, for one, takes note of. So for calls with an argument that fits a
 * pattern in XBUILD_COLUMNS (blanks between them) FILE gets a second text: with directives carried out but no macro
 * replaced, so with the columns of the source (gcc's -fdirectives-only), comments blank, and no blanks at a line's end.
 */
#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pattern.h"

enum { NOT_RUN = 126, RAW_DELIMITER = 16 /* [lex.string] */ };

static void fail(const char *what)
{
    perror(what);
    exit(NOT_RUN);
}

static int asked(char **args)
{
    char *patterns = strdup(getenv("XBUILD_COLUMNS") ?: "");
    for (char *one = strtok(patterns, " "); one; one = strtok(NULL, " "))
        for (char **arg = args; *arg; arg++)
            if (matches(one, *arg))
                return 1;
    return 0;
}

/* The end of a comment that begins at `at`, and what is in it made blank. */
static char *comment(char *at, char *end)
{
    int line = at[1] == '/';
    char *after = at + 2;
    for (; after < end; after++) {
        if (line && *after == '\n' && after[-1] != '\\')
            break;
        if (!line && after >= at + 3 && after[-1] == '*' && *after == '/') {
            after++;
            break;
        }
    }
    for (; at < after; at++)
        if (*at != '\n')
            *at = ' ';
    return after;
}

/* Behind the character or string that begins at `at`; one that is not closed ends with its line. */
static char *quoted(char *at, char *end)
{
    char mark = *at++;
    while (at < end && *at != mark && *at != '\n')
        at += *at == '\\' && at + 1 < end ? 2 : 1;
    return at < end ? at + 1 : end;
}

/* Behind the raw string whose quotation mark is at `at`; `at` if it is none. */
static char *raw(char *at, char *end)
{
    char closing[RAW_DELIMITER + 3] = ")";
    size_t size = 1;
    while (at + size < end && size <= RAW_DELIMITER && !strchr("()\\ \t\n\"", at[size])) {
        closing[size] = at[size];
        size++;
    }
    if (at + size >= end || at[size] != '(')
        return at;
    closing[size++] = '"';
    char *found = memmem(at, end - at, closing, size);
    return found ? found + size : end;
}

/* Is a word before a quotation mark the prefix of a raw string? */
static int raw_prefix(const char *first, const char *end)
{
    static const char *const known[] = {"R", "LR", "uR", "UR", "u8R"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i]) == (size_t)(end - first) && memcmp(known[i], first, end - first) == 0)
            return 1;
    return 0;
}

/* Behind the word or number at `at`, and a raw string that it is the prefix of. */
static char *word(char *at, char *end)
{
    char *first = at;
    int number = isdigit((unsigned char)*at);
    /* In a number a quotation mark between two digits only parts them. */
    while (at < end && (isalnum((unsigned char)*at) || *at == '_' ||
                        (number && *at == '\'' && at + 1 < end && isalnum((unsigned char)at[1]))))
        at++;
    return at < end && *at == '"' && raw_prefix(first, at) ? raw(at, end) : at;
}

/* Make comments blank. */
static void blank(char *text, char *end)
{
    for (char *at = text; at < end;)
        if (*at == '/' && at + 1 < end && (at[1] == '*' || at[1] == '/'))
            at = comment(at, end);
        else if (*at == '"' || *at == '\'')
            at = quoted(at, end);
        else if (isalnum((unsigned char)*at) || *at == '_')
            at = word(at, end);
        else
            at++;
}

/* Add lines to a file, without the blanks at their ends. */
static void append(const char *path, char *text, char *end)
{
    FILE *file = fopen(path, "ae");
    if (!file)
        fail(path);
    for (char *line = text; line < end;) {
        char *next = memchr(line, '\n', end - line) ?: end, *last = next;
        while (last > line && (last[-1] == ' ' || last[-1] == '\t'))
            last--;
        fwrite(line, 1, last - line, file);
        putc('\n', file);
        line = next + 1;
    }
    if (fclose(file))
        fail(path);
}

static char *read_all(int fd, size_t *size)
{
    char *text = NULL;
    size_t room = 0;
    ssize_t got = 1;
    for (*size = 0; got > 0; *size += got) {
        if (*size == room && !(text = realloc(text, room = room * 2 + (1 << 20))))
            fail("memory");
        got = read(fd, text + *size, room - *size);
        if (got < 0)
            fail("pipe");
    }
    return text;
}

/* Start the compiler for the second text, which it writes to `output`. */
static pid_t start(char **args, char **file, int output)
{
    pid_t child = fork();
    if (child)
        return child;
    size_t words = 0;
    while (args[words])
        words++;
    char *given[words + 1];
    words = 0;
    for (char **arg = args; *arg; arg++)
        if (arg != file && arg + 1 != file)
            given[words++] = *arg;
    given[words++] = "-fdirectives-only";
    given[words] = NULL;
    /* What it has to say the other one says. */
    int silent = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (silent < 0 || dup2(silent, 2) < 0 || dup2(output, 1) < 0)
        fail("/dev/null");
    execv(given[0], given);
    _exit(NOT_RUN);
}

static int ended(pid_t child)
{
    int status;
    if (child < 0 || waitpid(child, &status, 0) < 0)
        fail("child");
    return WIFEXITED(status) ? WEXITSTATUS(status) : NOT_RUN;
}

int main(int count, char **words)
{
    char **args = words + 1, **file = NULL;
    for (int i = 1; i + 1 < count; i++)
        if (strcmp(words[i], "-o") == 0)
            file = words + i + 1;
    if (count < 2 || !file || !asked(args)) {
        if (count > 1)
            execv(args[0], args);
        fail("columns");
    }
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        fail("pipe");
    pid_t first = fork();
    if (first == 0) {
        execv(args[0], args);
        _exit(NOT_RUN);
    }
    pid_t second = start(args, file, ends[1]);
    close(ends[1]);
    size_t size;
    char *text = read_all(ends[0], &size);
    int code = ended(first), other = ended(second);
    if (code || other)
        return code ?: other;
    blank(text, text + size);
    append(*file, text, text + size);
    return 0;
}
