/* The binfmt_misc interpreter of all target ELF files: runs the twin where the table has one, else qemu-user.
 *
 * Registered with the flags F, P and O (kernel documentation, binfmt-misc.rst), so it is called as
 *     dispatcher PATH ARGV0 ARGS...
 * with the opened file as AT_EXECFD. It uses no libc: it starts once for every program that a build executes.
 * Where the entry is the machine's own, preamble.c is called so, and starts it in turn with a word that names the file.
 */
#include <stddef.h>

#include "kernel.h"
#include "content.h"
#include "image.h"
#include "preload.h"
#include "table.h"
#include "copied.h"
#include "named.h"

/* Filled in after linking; volatile so that the compiler does not take the zeros for the contents. */
__attribute__((section(".xbuild_table"), aligned(4096))) const volatile char table_bytes[TABLE_SIZE] = {0};
#define TABLE ((const char *)(uintptr_t)table_bytes)

#include "words.h"
#include "cached.h"

static const struct slot *look_up(const char *path)
{
    const struct table *table = (const struct table *)TABLE;
    const struct slot *slots = (const struct slot *)(TABLE + table->slots);
    uint32_t hash = 2166136261u; /* FNV-1a, 32 bits */
    for (const char *p = path; *p; p++)
        hash = (hash ^ (unsigned char)*p) * 16777619u;
    for (uint32_t i = hash & table->slot_mask; slots[i].path; i = (i + 1) & table->slot_mask)
        if (slots[i].hash == hash && same(TABLE + slots[i].path, path))
            return &slots[i];
    return NULL;
}

/* A file that the build has written over or touched has another change time, which nobody can set. In a container all
 * files have other ones than where the table was made: there the contents decide. */
static int is_distributions_own(const struct slot *slot, int fd)
{
    struct stat64 st;
    if (slot->size < 0)
        return 1;
    if (call(SYS_fstat, fd, (long)&st, 0) || st.st_size != slot->size)
        return 0;
    return (st.ctime == slot->ctime_sec && st.ctime_nsec == slot->ctime_nsec) ||
           (slot->digest && has_contents(fd, st.st_size, TABLE + slot->digest));
}

/* Room for the record, whose path is the file that binfmt_misc has opened. */
static struct {
    struct record head;
    char path[4096];
} entry;

/* Writes the real path of the open file, which may be reached by many names, without a NUL; gives its length, 0 or less
 * if it has none. */
static long real_path(int fd, char *path, size_t size)
{
    char link[32] = "/proc/self/fd/", digits[12];
    int n = 0, at = 14;
    for (int rest = fd; rest > 0 || !n; rest /= 10)
        digits[n++] = (char)('0' + rest % 10);
    while (n)
        link[at++] = digits[--n];
    return fd < 0 ? -1 : call5(SYS_readlinkat, AT_FDCWD, (long)link, (long)path, (long)size, 0);
}

/* The real path of the program that was opened; what we were called by, if it has none. */
static void find_path(int fd, const char *called)
{
    long got = real_path(fd, entry.path, sizeof entry.path - 1);
    if (got <= 0)
        for (got = 0; called[got] && got < (long)sizeof entry.path - 1; got++)
            entry.path[got] = called[got];
    entry.path[got] = 0;
    entry.head.length = (uint16_t)(sizeof entry.head + (size_t)got);
}

/* One write(2) to a file opened for appending is whole, also beside those of other processes. A limit that the build has
 * set on the size of its files (ulimit -f) is not meant for ours, and its signal would end the build's program. */
static void append(int fd)
{
    uint64_t limit[2] = {0, 0}, ignore[4] = {1, 0, 0, 0}, before[4]; /* struct sigaction; SIG_IGN */
    long length = entry.head.length, done = -1;
    struct stat64 st;
    if (call5(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, (long)limit, 0) || limit[0] == UINT64_MAX) {
        done = call(SYS_write, fd, (long)&entry, length);
    } else if (!call(SYS_fstat, fd, (long)&st, 0) && (uint64_t)(st.st_size + length) <= limit[0]) {
        /* Another process may come between. */
        call5(SYS_rt_sigaction, SIGXFSZ, (long)ignore, (long)before, 8, 0);
        done = call(SYS_write, fd, (long)&entry, length);
        call5(SYS_rt_sigaction, SIGXFSZ, (long)before, 0, 8, 0);
    }
    /* A full disk or that limit: a mark outside of the file's contents tells readers that something is missing. */
    if (done != length)
        call5(SYS_fsetxattr, fd, (long)RECORD_CUT, (long)"1", 1, 0);
}

static void note(enum verdict verdict)
{
    const struct table *table = (const struct table *)TABLE;
    int64_t now[2] = {0, 0};
    long fd;
    if (!table->record)
        return;
    fd = call(SYS_openat, AT_FDCWD, (long)(TABLE + table->record), O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd < 0)
        fd = call(SYS_openat, AT_FDCWD, (long)(TABLE + table->far_record), O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd < 0)
        return;
    call(SYS_clock_gettime, CLOCK_BOOTTIME, (long)now, 0);
    entry.head.verdict = (uint8_t)verdict;
    entry.head.pid = (uint32_t)call(SYS_getpid, 0, 0, 0);
    entry.head.time = (uint64_t)now[0] * 1000000000u + (uint64_t)now[1];
    append((int)fd);
    call(SYS_close, fd, 0, 0);
}

static size_t count(char **words)
{
    size_t n = 0;
    while (words[n])
        n++;
    return n;
}

/* With what the rules add; comes back if the program cannot be started: without our directory (a chroot that the build
 * made), or with too long a command line. Then qemu tells, or the target's own program runs, with its own words. */
static void start(const char *program, const struct rules *rules, char **argv, char **envp)
{
    size_t added = words_in(rules->add_args), set = words_in(rules->set_env);
    if (added && any_arg(rules->add_args_unless, argv + 1))
        added = 0;
    char *words[added ? count(argv) + added + 1 : 1], *variables[set ? count(envp) + set + 1 : 1];
    if (added)
        add_words(words, argv, rules->add_args);
    if (set)
        set_variables(variables, envp, rules->set_env);
    call(SYS_execve, (long)program, (long)(added ? words : argv), (long)(set ? variables : envp));
}

/* Is the script one that the policy lets the twin run, as its package brought it, or do words stand in its place? */
static int may_run_script(const struct rules *rules, char **arguments)
{
    char path[sizeof entry.path];
    char **script = behind_options(rules->script_options, rules->value_options, arguments);
    if (begin_with_any(rules->script_words, script))
        return 1;
    if (!*script || **script == '-')
        return 0;
    /* Not yet for reading: it may be a pipe, of which somebody would see that. */
    long fd = call(SYS_openat, AT_FDCWD, (long)*script, O_PATH | O_CLOEXEC);
    long got = real_path((int)fd, path, sizeof path - 1);
    path[got > 0 ? got : 0] = 0;
    call(SYS_close, fd, 0, 0);
    const struct slot *slot = look_up(path);
    if (!slot || slot->exec || slot->other)
        return 0;
    fd = call(SYS_openat, AT_FDCWD, (long)path, O_CLOEXEC);
    int may = fd >= 0 && is_distributions_own(slot, (int)fd);
    call(SYS_close, fd, 0, 0);
    return may;
}

/* Which twin is to run, or why the target's own program is. */
static enum verdict choose(const struct slot *slot, const struct rules *rules, char **argv, char **envp)
{
    char **arguments = argv + 1; /* argv[0] is a name */
    if (any_but(rules->text_args, rules->emulate_args, rules->value_options, arguments))
        return ARGUMENT;
    if (any_other_word(rules->linker_words, arguments))
        return ARGUMENT;
    if (any_option(rules->emulate_options, rules->value_options, arguments))
        return ARGUMENT;
    if (rules->script_options && !may_run_script(rules, arguments))
        return ARGUMENT;
    if (rules->emulate_without && !any_arg(rules->emulate_without, arguments))
        return ARGUMENT;
    if (any_env(rules->emulate_env, envp))
        return VARIABLE;
    return slot->other && any_arg(rules->target_width_args, arguments) ? WIDTH_TWIN : TWIN;
}

/* Does not return if the twin runs; else tells why the target's own program has to. */
static enum verdict run_twin(const struct slot *slot, char **argv, char **envp)
{
    static const struct rules none;
    const struct rules *rules = slot->rules ? (const struct rules *)(TABLE + slot->rules) : &none;
    enum verdict verdict = preloads() ? PRELOADED : choose(slot, rules, argv, envp);
    if (verdict != TWIN && verdict != WIDTH_TWIN)
        return verdict;
    note(verdict);
    if (slot->cache && cache_may_answer(rules, argv, envp))
        start_cache(TABLE + slot->cache, entry.path, argv, envp);
    start(TABLE + (verdict == TWIN ? slot->exec : slot->other), rules, argv, envp);
    return FAILED;
}

/* What the kernel took as the name of the process, from the file that was executed. If preamble.c started us, it did so
 * once more, and the program's own name has to do. */
static const char *own_name(int handed_on, const char *path)
{
    static char name[NAME];
    const char *base = path;
    while (*path)
        if (*path++ == '/')
            base = path;
    return handed_on || call(SYS_prctl, PR_GET_NAME, (long)name, 0) ? base : name;
}

/* The descriptor that the word names, if preamble.c has written it; else -1. */
static int handed_on(const char *word)
{
    int fd = 0;
    if (!matches(HANDED_ON "*", word))
        return -1;
    for (word += sizeof HANDED_ON - 1; *word; word++)
        fd = fd * 10 + *word - '0';
    return fd;
}

/* Says the words, ended by NULL, and ends as a shell does that cannot run a program. */
static __attribute__((noreturn)) void fail(int code, const char *const *words)
{
    for (; *words; words++)
        call(SYS_write, 2, (long)*words, (long)length(*words));
    call(SYS_write, 2, (long)"\n", 1);
    for (;;)
        call(SYS_exit, code, 0, 0);
}

/* Does not return if the kernel would not run the file, nor qemu, which looks for loaders below its prefixes first. */
static void refuse(int fd, const char *path, char **envp)
{
    const char *loader = NULL;
    int error = refused(fd, &loader);
    if (!error || (error == ENOENT && (find_env(envp, "QEMU_LD_PREFIX") ||
                                       !call(SYS_faccessat2, AT_FDCWD, (long)"/etc/qemu-binfmt", 0) ||
                                       !call(SYS_faccessat2, AT_FDCWD, (long)"/usr/gnemul", 0))))
        return;
    const char *words[] = {"xbuild: cannot run ", path, ": ", error_text(error), loader ? ", its loader " : NULL, loader, NULL};
    fail(error == ENOENT ? 127 : 126, words);
}

__attribute__((noreturn, used)) void begin(long *stack)
{
    const struct table *table = (const struct table *)TABLE;
    long count = stack[0];
    char **argv = (char **)(stack + 1), **envp = argv + count + 1;
    long *aux = (long *)envp;
    char first[FIRST_WORD];
    int fd = -1, handed = 0;
    while (*aux++)
        ;
    for (; aux[0] != AT_NULL; aux += 2)
        if (aux[0] == AT_EXECFD)
            fd = (int)aux[1];
    if (count < 3 || table->magic != TABLE_MAGIC)
        fail(126, (const char *[]){"xbuild: the dispatcher is not called by binfmt_misc", NULL});
    if (fd < 0)
        handed = (fd = handed_on(argv[0])) >= 0;
    find_path(fd, argv[1]);
    enum verdict verdict = NO_ENTRY;
    const struct slot *slot = look_up(entry.path);
    if (slot && slot->exec)
        verdict = fd >= 0 && is_distributions_own(slot, fd) ? TWIN : CHANGED;
    if (verdict != TWIN && fd >= 0)
        refuse(fd, argv[1], envp);
    if (fd >= 0)
        call(SYS_fcntl, fd, F_SETFD, FD_CLOEXEC);
    if (verdict == TWIN)
        verdict = run_twin(slot, argv + 2, envp);
    note(verdict);
    /* qemu -0 ARGV0 PATH ARGS...: one word more than we were given; the slot of argc is free now. */
    char **words = (char **)stack;
    char *path = argv[1], *argv0 = argv[2];
    words[0] = (char *)named(first, own_name(handed, path), TABLE + table->qemu);
    words[1] = "-0";
    words[2] = argv0;
    words[3] = path;
    long error = call(SYS_execve, (long)(TABLE + table->qemu), (long)words, (long)envp);
    if (error == -ENOENT) {
        /* A chroot that the build made lacks our directory, but its pid 1 is ours. */
        error = call(SYS_execve, (long)(TABLE + table->far_qemu), (long)words, (long)envp);
    }
    if (error != -E2BIG && fd >= 0) {
        words[3] = argv0;
        run_copy(fd, words + 3, envp);
    }
    const char *why = error == -E2BIG ? "xbuild: argument list too long: " : "xbuild: cannot start qemu for ";
    fail(126, (const char *[]){why, path, NULL});
}

START(begin);
