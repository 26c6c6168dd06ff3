/* How a twin begins again as the emulated program (late.h tells when it may), or ends. Both are written down. */
#include <stddef.h>
#include <stdint.h>

static void put_back(void)
{
    for (uintptr_t number = 1; number <= SIGNALS; number++) {
        uint64_t bit = (uint64_t)1 << (number - 1);
        struct action action = {late.ignored & bit ? SIG_IGN : SIG_DFL, SA_RESTORER, late_restorer, 0};
        if (late.changed & bit)
            raw(NR_rt_sigaction, number, (uintptr_t)&action, 0, 8, 0, 0);
    }
    raw(NR_rt_sigaction, SIGSYS, (uintptr_t)&late.own, 0, 8, 0, 0);
    if (late.umask_changed)
        RAW(NR_umask, late.umask, 0, 0);
    for (uintptr_t fd = 0; fd < DESCRIPTORS; fd++) {
        if (is_in(late.opened, fd))
            RAW(NR_close, fd, 0, 0);
        if (is_in(late.closing, fd))
            RAW(NR_fcntl, fd, F_SETFD, 0);
    }
    while (late.flags--)
        RAW(NR_fcntl, late.flagged[late.flags].fd, F_SETFL, late.flagged[late.flags].flags);
    /* Two descriptors may be one open file: the first that was read knows where it stood. */
    while (late.moves--)
        seek(late.moved[late.moves].fd, late.moved[late.moves].offset, 0);
    raw(NR_rt_sigprocmask, SIG_SETMASK, (uintptr_t)&late.mask, 0, 8, 0, 0);
}

static __attribute__((noreturn)) void end_late(const char *library)
{
    char digits[24], *at = digits + sizeof digits;
    long rest = late.over - 1;
    if (!late.over)
        end(library, "the kernel or the length of its arguments does not let it", "");
    *--at = 0, *--at = ')';
    do
        *--at = (char)('0' + rest % 10);
    while (rest /= 10);
    end(library, "it has done something already (system call ", at);
}

static __attribute__((noreturn)) void become_emulated(const char *library)
{
    const char *table = table_of_this_build(), *program = own_path(), *qemu;
    uint64_t all = ~((uint64_t)1 << (SIGSYS - 1)), mask = 0;
    char **words, *name, first[FIRST_WORD], own[NAME] = "";
    /* A signal that comes from here on waits for the emulated program. */
    raw(NR_rt_sigprocmask, SIG_SETMASK, (uintptr_t)&all, (uintptr_t)&mask, 8, 0, 0);
    if (!late.mask_changed)
        late.mask = mask;
    if (late.cache_path[0])
        late.over = NR_write + 1; /* a cache half made */
    if (late.over || !late.envp || !table || !program)
        end_late(library);
    /* One word more than BEFORE: the name of the program moves. */
    words = late.argv - BEFORE;
    name = late.argv[0];
    qemu = table + ((const struct table *)(const void *)table)->qemu;
    RAW(NR_prctl, PR_GET_NAME, own, 0);
    words[0] = (char *)named(first, own, qemu);
    words[1] = "-0";
    words[2] = name;
    words[3] = (char *)program;
    write_down(program, BEGUN_AGAIN);
    put_back();
    RAW(NR_execve, qemu, words, late.envp);
    late.envp = NULL;
    end_late(library);
}
