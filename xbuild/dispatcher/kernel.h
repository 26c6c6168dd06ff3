/* What a program without a libc asks Linux for: numbers and structures of the native machine. */
#include <stddef.h>
#include <stdint.h>

enum { AT_NULL = 0, AT_EXECFD = 2 };
enum { AT_FDCWD = -100, O_WRONLY = 1, O_APPEND = 02000, O_NONBLOCK = 04000, O_CLOEXEC = 02000000, O_PATH = 010000000 };
enum { ENOENT = 2, EIO = 5, E2BIG = 7, ENOEXEC = 8, EACCES = 13, ENOTDIR = 20, ENOSYS = 38, ELOOP = 40, ELIBBAD = 80 };
enum { CLOCK_BOOTTIME = 7, X_OK = 1, R_OK = 4, RLIMIT_FSIZE = 1, RLIMIT_NOFILE = 7, SIGXFSZ = 25 };

#if defined __x86_64__

enum { SYS_write = 1, SYS_close = 3, SYS_fstat = 5, SYS_pread64 = 17, SYS_getpid = 39, SYS_execve = 59, SYS_exit = 60 };
enum { SYS_clock_gettime = 228, SYS_openat = 257, SYS_readlinkat = 267, SYS_execveat = 322, SYS_statx = 332 };
enum { SYS_rt_sigaction = 13, SYS_fcntl = 72, SYS_fsetxattr = 190, SYS_dup3 = 292, SYS_prlimit64 = 302, SYS_memfd_create = 319,
       SYS_prctl = 157 };
enum { O_DIRECTORY = 0200000, O_NOFOLLOW = 0400000 };

struct stat64 { /* struct stat, <asm/stat.h> */
    uint64_t st_dev, st_ino, st_nlink;
    uint32_t st_mode, st_uid, st_gid, pad;
    uint64_t st_rdev;
    int64_t st_size, st_blksize, st_blocks, atime, atime_nsec, mtime, mtime_nsec, ctime, ctime_nsec, unused[3];
};

static inline long call5(long number, long a, long b, long c, long d, long e)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}

/* Where the kernel starts the program: `function` gets the stack as it was then. */
#define START(function) \
    __asm__(".text\n\t.globl _start\n_start:\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall " #function "\n\thlt")

#elif defined __aarch64__

enum { SYS_openat = 56, SYS_close = 57, SYS_write = 64, SYS_pread64 = 67, SYS_readlinkat = 78, SYS_fstat = 80 };
enum { SYS_exit = 93, SYS_clock_gettime = 113, SYS_getpid = 172, SYS_execve = 221, SYS_execveat = 281, SYS_statx = 291 };
enum { SYS_fsetxattr = 7, SYS_dup3 = 24, SYS_fcntl = 25, SYS_rt_sigaction = 134, SYS_prlimit64 = 261, SYS_memfd_create = 279,
       SYS_prctl = 167 };
enum { O_DIRECTORY = 040000, O_NOFOLLOW = 0100000 };

struct stat64 { /* struct stat, <asm-generic/stat.h> */
    uint64_t st_dev, st_ino;
    uint32_t st_mode, st_nlink, st_uid, st_gid;
    uint64_t st_rdev, pad;
    int64_t st_size;
    int32_t st_blksize, pad2;
    int64_t st_blocks, atime, atime_nsec, mtime, mtime_nsec, ctime, ctime_nsec;
    uint32_t unused[2];
};

static inline long call5(long number, long a, long b, long c, long d, long e)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    return x0;
}

#define START(function) \
    __asm__(".text\n\t.globl _start\n_start:\n\tmov x29, #0\n\tmov x30, #0\n\tmov x0, sp\n\tb " #function)

#else
#error "system calls and the start of a program are not known for this machine"
#endif

enum { SYS_faccessat2 = 439 }; /* newer than the time when each machine had numbers of its own */

#define call(number, a, b, c) call5(number, a, b, c, 0, 0)

static inline long read_at(int fd, char *buffer, size_t size, int64_t offset)
{
    return call5(SYS_pread64, fd, (long)buffer, (long)size, offset, 0);
}
