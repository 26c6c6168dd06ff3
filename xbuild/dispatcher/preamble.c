/* What runs before qemu-user where one entry of binfmt_misc serves the whole machine.
 *
 * It is put in front of a static qemu (preamble.py), and the two are registered as one program with the flags F, P and
 * O. Where the caller's own root has /.xbuild/dispatch, that runs, with the opened file; everywhere else qemu goes on
 * as if nothing had happened. No path of qemu is needed, nor /proc: so it works in chroots and containers.
 *
 * It gives nobody a right. The entry has no flag C, so it runs with the rights of whoever starts a program; and what
 * it runs belongs to root of the caller's own user namespace, and cannot be written by others. A file that the caller
 * may not read is left to qemu: the kernel has opened it for the emulator, not for what somebody put into a root.
 */
#include <stddef.h>

#include "ahead.h"
#include "kernel.h"
#include "table.h"

enum { AT_EACCESS = 0x200, AT_EMPTY_PATH = 0x1000 };
enum { STATX_BASIC_STATS = 0x7ff, S_IFMT = 0170000, S_IFREG = 0100000, S_IFDIR = 0040000 };
enum { WRITABLE_BY_OTHERS = 022, SETS_IDS = 06000 };

struct statx { /* <linux/stat.h> */
    uint32_t mask, blksize;
    uint64_t attributes;
    uint32_t nlink, uid, gid;
    uint16_t mode, spare;
    uint64_t rest[28];
};

/* Opened without following a link, and of root's own; else a negative number, and nothing is left open: qemu goes on in
 * this process, and the numbers of its descriptors are those that the program gets. */
static long trusted(long directory, const char *name, long flags, uint32_t type)
{
    struct statx st;
    long fd = call(SYS_openat, directory, (long)name, O_PATH | O_NOFOLLOW | O_CLOEXEC | flags);
    if (fd < 0)
        return -1;
    if (!call5(SYS_statx, fd, (long)"", AT_EMPTY_PATH, STATX_BASIC_STATS, (long)&st) &&
        (st.mode & S_IFMT) == type && !st.uid && !(st.mode & (WRITABLE_BY_OTHERS | SETS_IDS)))
        return fd;
    call(SYS_close, fd, 0, 0);
    return -1;
}

void before(long *stack)
{
    static const char prefix[] = HANDED_ON;
    char word[sizeof prefix + 12], digits[12];
    long directory, dispatcher, fd = -1;
    char **argv = (char **)(stack + 1), **envp = argv + stack[0] + 1, *first = argv[0];
    long *aux = (long *)envp;
    int n = 0;
    size_t at = sizeof prefix - 1;
    while (*aux++)
        ;
    for (; aux[0] != AT_NULL; aux += 2)
        if (aux[0] == AT_EXECFD)
            fd = aux[1];
    /* Outside of xbuild this fails at the first call, and that is all that it costs. */
    directory = trusted(AT_FDCWD, "/.xbuild", O_DIRECTORY, S_IFDIR);
    if (directory < 0)
        return;
    dispatcher = trusted(directory, "dispatch", 0, S_IFREG);
    call(SYS_close, directory, 0, 0);
    if (dispatcher < 0)
        return;
    for (size_t i = 0; i < at; i++)
        word[i] = prefix[i];
    for (long rest = fd; rest > 0 || !n; rest /= 10)
        digits[n++] = (char)('0' + rest % 10);
    while (n)
        word[at++] = digits[--n];
    word[at] = 0;
    argv[0] = word;
    if (fd >= 0 && !call5(SYS_faccessat2, fd, (long)"", R_OK, AT_EMPTY_PATH | AT_EACCESS, 0))
        call5(SYS_execveat, dispatcher, (long)"", (long)argv, (long)envp, AT_EMPTY_PATH);
    argv[0] = first;
    call(SYS_close, dispatcher, 0, 0);
}
