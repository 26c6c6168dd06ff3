/* What a twin leaves that asked for a library of the target: a record, and a message. Needs PRIVATE, LAYER, libc. */
#include <stddef.h>
#include <stdint.h>

enum { O_WRONLY = 1, O_APPEND = 02000, CLOCK_BOOTTIME = 7, RLIMIT_FSIZE = 1, SIGXFSZ = 25, SIG_IGN = 1 };

#ifndef OWN_TARGET
#define OWN_TARGET 0 /* 1: the twins are programs of the target's machine */
#endif

/* Is it a library that the program could not open, if it were the target's own? Any of another machine's or word size;
 * and where the target is another machine than the twin's, any that is not from our private directory or a native layer. */
static int is_foreign(const char *path)
{
    unsigned char head[20];
    const unsigned char *own = (const unsigned char *)__ehdr_start;
    int ours = !strncmp(path, PRIVATE "/", sizeof PRIVATE) || !strncmp(path, LAYER "/", sizeof LAYER);
    int fd = ours ? -1 : open(path, O_CLOEXEC), got;
    if (fd < 0)
        return 0;
    got = pread(fd, head, sizeof head, 0) == sizeof head && head[0] == 0x7f && head[1] == 'E' && head[2] == 'L' &&
          head[3] == 'F' && (!OWN_TARGET || head[4] != own[4] || head[18] != own[18] || head[19] != own[19]);
    close(fd);
    return got;
}

/* The path of the target's own file; NULL if it cannot be had. */
static const char *own_path(void)
{
    static char program[4096];
    long got = readlink("/proc/self/exe", program, sizeof program - 1);
    program[got < 0 ? 0 : got] = 0;
    return got < 0 ? NULL : program;
}

/* Under a limit on files (RLIMIT_FSIZE), too, which who ends needs no longer. What is not whole is told (dispatcher.c). */
static void append(long fd, const void *data, size_t size, enum verdict verdict)
{
    struct action ignore = {SIG_IGN, 0, NULL, 0}, before;
    uint64_t limit[2];
    if (verdict == TOO_LATE && !raw(NR_prlimit64, 0, RLIMIT_FSIZE, 0, (uintptr_t)limit, 0, 0)) {
        limit[0] = limit[1];
        RAW(NR_prlimit64, 0, RLIMIT_FSIZE, limit);
    }
    raw(NR_rt_sigaction, SIGXFSZ, (uintptr_t)&ignore, (uintptr_t)&before, 8, 0, 0);
    if (RAW(NR_write, fd, data, size) != (long)size)
        raw(NR_fsetxattr, (uintptr_t)fd, (uintptr_t)RECORD_CUT, (uintptr_t)"1", 1, 0, 0);
    raw(NR_rt_sigaction, SIGXFSZ, (uintptr_t)&before, 0, 8, 0, 0);
}

static void write_down(const char *program, enum verdict verdict)
{
    static struct {
        struct record head;
        char path[4096];
    } entry;
    const struct table *table = (const struct table *)(const void *)table_of_this_build();
    long now[2] = {0, 0};
    size_t n = 0;
    long fd;
    if (!table)
        return;
    for (; program[n] && n < sizeof entry.path - 1; n++)
        entry.path[n] = program[n];
    entry.head.length = (uint16_t)(sizeof entry.head + n);
    entry.head.verdict = (uint8_t)verdict;
    RAW(NR_clock_gettime, CLOCK_BOOTTIME, now, 0);
    entry.head.time = (uint64_t)now[0] * 1000000000u + (uint64_t)now[1];
    entry.head.pid = (uint32_t)RAW(NR_getpid, 0, 0, 0);
    fd = RAW(NR_openat, AT_FDCWD, (const char *)table + table->marks, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd < 0) /* in a root that lacks our directory */
        fd = RAW(NR_openat, AT_FDCWD, (const char *)table + table->far_marks, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd < 0)
        return;
    append(fd, &entry, entry.head.length, verdict);
    RAW(NR_close, fd, 0, 0);
}

static void say(const char *text)
{
    size_t n = 0;
    while (text[n])
        n++;
    RAW(NR_write, 2, text, n);
}

/* The build takes the record for a mark: it begins once more, with that program emulated. No exit function of libc runs,
 * so nothing that is buffered comes out. */
static __attribute__((noreturn)) void end(const char *library, const char *reason, const char *detail)
{
    const char *program = own_path();
    program = program ? program : "?";
    write_down(program, TOO_LATE);
    say("xbuild: ");
    say(program);
    say(" runs natively, and ");
    say(library);
    say(", which it asks for, is only there for the target. It cannot begin again emulated: ");
    say(reason);
    say(detail);
    say("\n");
    for (;;)
        RAW(NR_exit_group, 126, 0, 0);
}
