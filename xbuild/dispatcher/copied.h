/* The last way to the emulator, where no path leads to it: in a chroot without /proc, with a process 1 of its own, or after
 * pivot_root. A copy of the program in memory, marked, goes to the kernel once more, which has the emulator open for
 * files with this mark (a second entry of binfmt_misc). */
#include <stddef.h>
#include <stdint.h>

enum { F_SETFD = 2, F_ADD_SEALS = 1033, F_GET_SEALS = 1034, F_SEAL_SEAL = 1, F_SEAL_SHRINK = 2, F_SEAL_WRITE = 8 };
enum { FD_CLOEXEC = 1, MFD_CLOEXEC = 1, MFD_ALLOW_SEALING = 2, EBADF = 9, AT_EMPTY_PATH = 0x1000, HIGHEST = 1023 };
enum { OUR_SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_WRITE };

/* The whole file, with the mark; else a negative number. */
static long copy_of(int fd)
{
    static char buffer[65536];
    int64_t at = 0;
    long got, copy = call(SYS_memfd_create, (long)"", MFD_CLOEXEC | MFD_ALLOW_SEALING, 0);
    if (copy < 0)
        return copy;
    while ((got = read_at(fd, buffer, sizeof buffer, at)) > 0) {
        for (size_t i = 0; !at && i < sizeof COPY_MARK - 1; i++)
            buffer[COPY_MARK_AT + i] = COPY_MARK[i];
        if (call(SYS_write, copy, (long)buffer, got) != got)
            return -1;
        at += got;
    }
    return call(SYS_fcntl, copy, F_ADD_SEALS, OUR_SEALS) ? -1 : copy;
}

/* Moves it to the highest number that is free, or has such a copy from before: it stays open, as the kernel wants it, and
 * programs that start each other would gather them. */
static long moved_up(long copy)
{
    uint64_t limit[2] = {0, 0};
    call5(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, (long)limit, 0);
    for (long number = limit[0] > HIGHEST ? HIGHEST : (long)limit[0] - 1; number > 2; number--) {
        long seals = call(SYS_fcntl, number, F_GET_SEALS, 0);
        if (seals == -EBADF || seals == OUR_SEALS)
            return number == copy ? call(SYS_fcntl, copy, F_SETFD, 0), copy : call(SYS_dup3, copy, number, 0);
    }
    return -1;
}

/* Comes back if it cannot be done. argv, envp: the program's own. */
static void run_copy(int fd, char **argv, char **envp)
{
    long copy = copy_of(fd);
    if (copy >= 0)
        copy = moved_up(copy);
    if (copy < 0)
        return;
    call5(SYS_execveat, copy, (long)"", (long)argv, (long)envp, AT_EMPTY_PATH);
}
