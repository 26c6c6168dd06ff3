/* How a twin begins again as the emulated program (late.h tells when it may), or ends. Both are written down. */
#include <stddef.h>
#include <stdint.h>

static void write_down(const char *program, enum verdict verdict)
{
    static struct {
        struct record head;
        char path[4096];
    } entry;
    const struct table *table = (const struct table *)(const void *)table_of_this_build();
    uint64_t now[2] = {0, 0};
    size_t n = 0;
    long fd;
    if (!table || !table->record)
        return;
    for (; program[n] && n < sizeof entry.path - 1; n++)
        entry.path[n] = program[n];
    entry.head.length = (uint16_t)(sizeof entry.head + n);
    entry.head.verdict = (uint8_t)verdict;
    RAW(NR_clock_gettime, CLOCK_BOOTTIME, now, 0);
    entry.head.time = now[0] * 1000000000u + now[1];
    entry.head.pid = (uint32_t)RAW(NR_getpid, 0, 0, 0);
    fd = raw(NR_openat, (uint64_t)AT_FDCWD, (uint64_t)((const char *)table + table->record),
             O_WRONLY | O_APPEND | O_CLOEXEC, 0, 0, 0);
    if (fd < 0)
        return;
    RAW(NR_write, fd, &entry, entry.head.length);
    RAW(NR_close, fd, 0, 0);
}

static void put_back(void)
{
    for (uint64_t number = 1; number <= 64; number++) {
        uint64_t bit = (uint64_t)1 << (number - 1);
        struct action action = {late.ignored & bit ? SIG_IGN : SIG_DFL, SA_RESTORER, late_restorer, 0};
        if (late.changed & bit)
            raw(NR_rt_sigaction, number, (uint64_t)&action, 0, 8, 0, 0);
    }
    raw(NR_rt_sigaction, SIGSYS, (uint64_t)&late.own, 0, 8, 0, 0);
    if (late.umask_changed)
        RAW(NR_umask, late.umask, 0, 0);
    for (uint64_t fd = 0; fd < DESCRIPTORS; fd++) {
        if (is_in(late.opened, fd))
            RAW(NR_close, fd, 0, 0);
        if (is_in(late.closing, fd))
            RAW(NR_fcntl, fd, F_SETFD, 0);
    }
    /* Two descriptors may be one open file: the first that was read knows where it stood. */
    while (late.moves--)
        RAW(NR_lseek, late.moved[late.moves].fd, late.moved[late.moves].offset, 0);
    if (late.mask_changed)
        raw(NR_rt_sigprocmask, SIG_SETMASK, (uint64_t)&late.mask, 0, 8, 0, 0);
}

static void say(const char *text)
{
    size_t n = 0;
    while (text[n])
        n++;
    RAW(NR_write, 2, text, n);
}

static __attribute__((noreturn)) void end(const char *program, const char *library)
{
    char digits[24], *at = digits + sizeof digits;
    write_down(program, TOO_LATE);
    say("xbuild: ");
    say(program);
    say(" runs natively, and ");
    say(library);
    say(", which it asks for, is only there for the target. It cannot begin again emulated: ");
    *--at = 0;
    if (late.over) {
        long rest = late.over - 1;
        do
            *--at = (char)('0' + rest % 10);
        while (rest /= 10);
        say("it has done something already (system call ");
        say(at);
        say(")\n");
    } else {
        say("the kernel or the length of its arguments does not let it\n");
    }
    for (;;)
        RAW(NR_exit_group, 126, 0, 0);
}

/* Begins again as the emulated program, or ends. */
static __attribute__((noreturn)) void become_emulated(const char *library)
{
    static char program[4096];
    char **words, *name;
    const char *table = table_of_this_build();
    long got = readlink("/proc/self/exe", program, sizeof program - 1);
    program[got < 0 ? 0 : got] = 0;
    if (late.over || !late.envp || !table || got < 0)
        end(program, library);
    /* One word more than BEFORE: the name of the program moves. */
    words = late.argv - BEFORE;
    name = late.argv[0];
    words[0] = (char *)(table + ((const struct table *)(const void *)table)->qemu);
    words[1] = "-0";
    words[2] = name;
    words[3] = program;
    write_down(program, BEGUN_AGAIN);
    put_back();
    RAW(NR_execve, words[0], words, late.envp);
    late.envp = NULL;
    end(program, library);
}
