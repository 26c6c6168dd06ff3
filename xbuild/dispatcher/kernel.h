/* What a program without a libc asks the kernel for: numbers and structures of x86-64 Linux. */
#include <stddef.h>
#include <stdint.h>

enum { SYS_write = 1, SYS_open = 2, SYS_close = 3, SYS_fstat = 5, SYS_pread64 = 17, SYS_getpid = 39 };
enum { SYS_execve = 59, SYS_exit = 60, SYS_readlink = 89, SYS_clock_gettime = 228 };
enum { AT_NULL = 0, AT_EXECFD = 2 };
enum { O_WRONLY = 1, O_APPEND = 02000, O_CLOEXEC = 02000000 };
enum { E2BIG = 7, ENOENT = 2, CLOCK_BOOTTIME = 7 };

struct stat64 { /* struct stat of x86-64, <asm/stat.h> */
    uint64_t st_dev, st_ino, st_nlink;
    uint32_t st_mode, st_uid, st_gid, pad;
    uint64_t st_rdev;
    int64_t st_size, st_blksize, st_blocks, atime, atime_nsec, mtime, mtime_nsec, ctime, ctime_nsec, unused[3];
};

static long call4(long number, long a, long b, long c, long d)
{
    register long r10 __asm__("r10") = d;
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
    return result;
}
#define call(number, a, b, c) call4(number, a, b, c, 0)

static long read_at(int fd, char *buffer, size_t size, int64_t offset)
{
    return call4(SYS_pread64, fd, (long)buffer, (long)size, offset);
}
