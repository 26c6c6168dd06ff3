/* System calls of a twin without libc, and what the kernel tells a handler of SIGSYS about one; by machine. `raw` needs
 * libc's syscall(2) where no call is ever to be watched (late.h). */
#include <stddef.h>
#include <stdint.h>

struct call {
    long number;
    uintptr_t words[6];
};

struct information { /* siginfo_t of SIGSYS, <asm-generic/siginfo.h> */
    int number, error, code;
    void *address __attribute__((aligned(sizeof(void *))));
    int call;
    unsigned architecture;
};

struct action { /* the kernel's struct sigaction */
    uintptr_t handler;
    unsigned long flags;
    void (*restorer)(void); /* 64-bit ARM's kernel has it too, and does not ask for it */
    uint64_t mask;
};

#if defined __x86_64__
#define WATCHED
enum { AUDIT_ARCH_OWN = (int)0xc000003e };
/* From 0x1000 on: not there. */
enum {
    NR_read = 0, NR_write = 1, NR_open = 2, NR_close = 3, NR_lseek = 8, NR_mmap = 9, NR_rt_sigaction = 13,
    NR_rt_sigprocmask = 14, NR_rt_sigreturn = 15, NR_ioctl = 16, NR_pread64 = 17, NR_readv = 19, NR_getpid = 39, NR_execve = 59, NR_fcntl = 72,
    NR_getdents = 78, NR_rename = 82, NR_mkdir = 83, NR_unlink = 87, NR_umask = 95, NR_prctl = 157, NR_futex = 202,
    NR_getdents64 = 217, NR_fadvise64 = 221, NR_clock_gettime = 228, NR_exit_group = 231, NR_openat = 257,
    NR_fsetxattr = 190, NR_newfstatat = 262,
    NR_prlimit64 = 302, NR_fcntl64 = 0x1000, NR__llseek, NR_futex_time64
};

/* Calls that change nothing but the memory of this process, or nothing at all, whatever their arguments are. */
#define PURE_CALLS \
    case 4: case 5: case 6: case 262: case 332:              /* stat fstat lstat newfstatat statx */ \
    case 137: case 138: case 21: case 269: case 439:         /* statfs fstatfs access faccessat faccessat2 */ \
    case 89: case 267: case 79:                              /* readlink readlinkat getcwd */ \
    case 191: case 192: case 193: case 194: case 195: case 196: /* getxattr ... flistxattr */ \
    case 10: case 11: case 12: case 25: case 28:             /* mprotect munmap brk mremap madvise */ \
    case 39: case 102: case 104: case 107: case 108: case 110: /* getpid getuid getgid geteuid getegid getppid */ \
    case 111: case 115: case 118: case 120: case 121: case 124: case 186: /* getpgrp getgroups getresuid ... gettid */ \
    case 96: case 98: case 99: case 100: case 201: case 228: case 229: /* gettimeofday getrusage sysinfo times time ... */ \
    case 63: case 97: case 140: case 204: case 318: case 309: /* uname getrlimit getpriority affinity getrandom getcpu */ \
    case 131: case 158: case 218: case 273: case 334:        /* sigaltstack arch_prctl set_tid_address robust_list rseq */ \
    case 127: case 60: case 231: case 24:                    /* rt_sigpending exit exit_group sched_yield */

struct context { /* struct ucontext, <asm/ucontext.h> and <asm/sigcontext.h> */
    uint64_t flags, link, stack[3];
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15, di, si, bp, bx, dx, ax, cx, sp, ip, rflags, segments, error, trap;
    uint64_t old_mask, cr2, state, reserved[8];
    uint64_t mask;
};

#define WORDS_OF(c) {(c)->di, (c)->si, (c)->dx, (c)->r10, (c)->r8, (c)->r9}

static inline long raw(long number, uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d, uintptr_t e, uintptr_t f)
{
    register uint64_t r10 __asm__("r10") = d;
    register uint64_t r8 __asm__("r8") = e;
    register uint64_t r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

__asm__(".text\n\t.type late_restorer, @function\nlate_restorer:\n\tmov $15, %eax\n\tsyscall");

#elif defined __i386__
#define WATCHED
enum { AUDIT_ARCH_OWN = 0x40000003 };
enum {
    NR_read = 3, NR_write = 4, NR_open = 5, NR_close = 6, NR_unlink = 10, NR_lseek = 19, NR_getpid = 20, NR_rename = 38,
    NR_mkdir = 39, NR_execve = 11, NR_ioctl = 54, NR_fcntl = 55, NR_umask = 60, NR__llseek = 140,
    NR_getdents = 141, NR_readv = 145, NR_prctl = 172, NR_rt_sigreturn = 173, NR_rt_sigaction = 174, NR_rt_sigprocmask = 175, NR_pread64 = 180,
    NR_mmap = 192, NR_getdents64 = 220, NR_fcntl64 = 221, NR_futex = 240, NR_fadvise64 = 272, NR_exit_group = 252,
    NR_clock_gettime = 265, NR_openat = 295, NR_fsetxattr = 228, NR_prlimit64 = 340, NR_futex_time64 = 422
};

/* The same as above, and their forms of old, for 16-bit numbers of users, 32-bit times and sizes. */
#define PURE_CALLS \
    case 106: case 107: case 108: case 195: case 196: case 197: case 300: case 383: /* stat ... fstatat64 statx */ \
    case 99: case 100: case 268: case 269: case 33: case 307: case 439: /* statfs ... fstatfs64 access ... faccessat2 */ \
    case 85: case 305: case 183:                             /* readlink readlinkat getcwd */ \
    case 229: case 230: case 231: case 232: case 233: case 234: /* getxattr ... flistxattr */ \
    case 125: case 91: case 45: case 163: case 219:          /* mprotect munmap brk mremap madvise */ \
    case 20: case 24: case 47: case 49: case 50: case 64: case 199: case 200: case 201: case 202: /* getpid getuid ... */ \
    case 65: case 80: case 165: case 171: case 205: case 209: case 211: case 132: case 147: case 224: /* ... gettid */ \
    case 78: case 77: case 116: case 43: case 13: case 265: case 266: case 403: case 406: /* gettimeofday getrusage ... */ \
    case 122: case 76: case 191: case 96: case 242: case 355: case 318: /* uname getrlimit ugetrlimit getpriority ... */ \
    case 186: case 243: case 258: case 311: case 386:        /* sigaltstack set_thread_area set_tid_address ... rseq */ \
    case 176: case 1: case 252: case 158:                    /* rt_sigpending exit exit_group sched_yield */

struct context {
    uint32_t flags, link, stack[3];
    uint32_t segments[4], di, si, bp, sp, bx, dx, cx, ax, trap, error, ip, cs, rflags, sp_at_signal, ss, state, old_mask;
    uint32_t cr2;
    uint64_t mask;
};

#define WORDS_OF(c) {(c)->bx, (c)->cx, (c)->dx, (c)->si, (c)->di, (c)->bp}

static __attribute__((noinline)) long raw(long number, uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d, uintptr_t e,
                                          uintptr_t f)
{
    long result;
    __asm__ volatile("push %7\n\tpush %%ebp\n\tmov 4(%%esp), %%ebp\n\tint $0x80\n\tpop %%ebp\n\tadd $4, %%esp"
                     : "=a"(result)
                     : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e), "g"(f)
                     : "memory");
    return result;
}

__asm__(".text\n\t.type late_restorer, @function\nlate_restorer:\n\tmov $173, %eax\n\tint $0x80");

#else
#if defined __aarch64__
enum {
    NR_fsetxattr = 7, NR_openat = 56, NR_close = 57, NR_write = 64, NR_exit_group = 94, NR_clock_gettime = 113,
    NR_rt_sigaction = 134, NR_getpid = 172, NR_prlimit64 = 261
};
#else
enum {
    NR_write = 4, NR_close = 6, NR_getpid = 20, NR_rt_sigaction = 174, NR_fsetxattr = 228, NR_exit_group = 248,
    NR_clock_gettime = 263, NR_openat = 322, NR_prlimit64 = 369
};
#endif

#define raw(number, a, b, c, d, e, f) syscall(number, a, b, c, d, e, f)
#endif

#define RAW(number, a, b, c) raw(number, (uintptr_t)(a), (uintptr_t)(b), (uintptr_t)(c), 0, 0, 0)
