/* The late fallback: a twin becomes the emulated program, in the middle of its work, as if it had been that from the
 * start. That is only right while nothing can be seen of what it did, and while execve(2) carries on nothing that it
 * changed. So from the start until the first call that has an effect, the kernel sends each call of the process here
 * instead (Syscall User Dispatch, Documentation/admin-guide/syscall-user-dispatch.rst): libc's own inner ones, too.
 * What is on the list below is done as asked; the first one that is not ends all that, for good, and runs as if
 * nothing had been. The list need not be complete to be right: what is missing in it only ends the chance early.
 *
 * What changes but can be put back is noted: files opened, signals ignored, the signal mask, the umask.
 */
#include <stddef.h>
#include <stdint.h>

enum { PASS = 0, TRAP = 1 };
enum { PR_SET_NAME = 15, PR_SET_SYSCALL_USER_DISPATCH = 59, SYS_USER_DISPATCH = 2, SIGSYS = 31, SIGKILL = 9, SIGSTOP = 19 };
enum { SA_SIGINFO = 4, SA_RESTORER = 0x04000000, SIG_DFL = 0, SIG_IGN = 1, SIG_BLOCK = 0, SIG_UNBLOCK = 1, SIG_SETMASK = 2 };
enum { AUDIT_ARCH_X86_64 = (int)0xc000003e, BEFORE = 3, DESCRIPTORS = 1024, MOVED = 8 };
enum { PROT_WRITE = 2, MAP_SHARED_ANY = 1, MAP_ANONYMOUS = 0x20, FUTEX_WAKE = 1, FUTEX_COMMAND = 127 };
enum { O_WRITES = 3 | 0100 | 01000 | 020000000 }; /* O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, __O_TMPFILE */
enum { F_GETFD = 1, F_SETFD = 2, F_GETFL = 3, TCGETS = 0x5401, TIOCGWINSZ = 0x5413, FIOCLEX = 0x5451, SEEK_CUR = 1 };
enum { S_IFMT = 0170000, S_IFREG = 0100000, S_IFDIR = 0040000, S_IFCHR = 0020000, MEMORY_DEVICES = 1 };
enum { O_WRONLY = 1, O_APPEND = 02000, CLOCK_BOOTTIME = 7 };

struct action { /* the kernel's struct sigaction */
    uintptr_t handler;
    uint64_t flags;
    void (*restorer)(void);
    uint64_t mask;
};

struct information { /* siginfo_t, <asm-generic/siginfo.h> */
    int number, error, code, pad;
    void *address;
    int call;
    unsigned architecture;
};

struct context { /* struct ucontext, <asm/ucontext.h> and <asm/sigcontext.h> */
    uint64_t flags, link, stack[3];
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15, di, si, bp, bx, dx, ax, cx, sp, ip, rflags, segments, error, trap;
    uint64_t old_mask, cr2, state, reserved[8];
    uint64_t mask;
};

/* Is it an ELF file for another machine, or of another word size, than ours? */
static int is_foreign(const char *path)
{
    unsigned char head[20];
    const unsigned char *own = (const unsigned char *)__ehdr_start;
    int fd = open(path, O_CLOEXEC), got;
    if (fd < 0)
        return 0;
    got = pread(fd, head, sizeof head, 0) == sizeof head && head[0] == 0x7f && head[1] == 'E' && head[2] == 'L' &&
          head[3] == 'F' && (head[4] != own[4] || head[18] != own[18] || head[19] != own[19]);
    close(fd);
    return got;
}

static struct {
    char **argv, **envp;        /* copies; NULL: there is no way back */
    volatile char selector;
    uint64_t changed, ignored;  /* signals whose action changed; of these, what was ignored before */
    uint64_t mask;              /* before it changed */
    uint64_t hidden;            /* SIGSYS, if the program thinks that it is blocked */
    struct action own;          /* what SIGSYS did before */
    uint64_t opened[DESCRIPTORS / 64], closing[DESCRIPTORS / 64]; /* by us; inherited, and to be closed at an exec */
    struct {
        long fd, offset;
    } moved[MOVED]; /* inherited files, in the order in which they were first read */
    int moves;
    int mask_changed, umask_changed;
    long umask;
    long over;                  /* the call that ended it, plus one */
} late;

static inline long raw(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
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

#define RAW(number, a, b, c) raw(number, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), 0, 0, 0)

/* x86-64's numbers (<asm/unistd_64.h>), where the list needs their names. */
enum {
    NR_read = 0, NR_write = 1, NR_open = 2, NR_close = 3, NR_fstat = 5, NR_lseek = 8, NR_mmap = 9, NR_rt_sigaction = 13,
    NR_rt_sigprocmask = 14, NR_rt_sigreturn = 15, NR_ioctl = 16, NR_pread64 = 17, NR_getpid = 39, NR_execve = 59,
    NR_fcntl = 72, NR_umask = 95, NR_prctl = 157, NR_getdents64 = 217, NR_futex = 202, NR_clock_gettime = 228,
    NR_exit_group = 231, NR_openat = 257, NR_newfstatat = 262, NR_prlimit64 = 302, NR_statx = 332
};

__asm__(".text\n\t.type late_restorer, @function\nlate_restorer:\n\tmov $15, %eax\n\tsyscall");
extern void late_restorer(void) __attribute__((visibility("hidden")));

/* Calls that change nothing but the memory of this process, or nothing at all, whatever their arguments are. */
static int is_pure(long number)
{
    switch (number) {
    case 4: case 5: case 6: case 262: case 332:              /* stat fstat lstat newfstatat statx */
    case 137: case 138: case 21: case 269: case 439:         /* statfs fstatfs access faccessat faccessat2 */
    case 89: case 267: case 79:                              /* readlink readlinkat getcwd */
    case 191: case 192: case 193: case 194: case 195: case 196: /* getxattr ... flistxattr */
    case 10: case 11: case 12: case 25: case 28:             /* mprotect munmap brk mremap madvise */
    case 39: case 102: case 104: case 107: case 108: case 110: /* getpid getuid getgid geteuid getegid getppid */
    case 111: case 115: case 118: case 120: case 121: case 124: case 186: /* getpgrp getgroups getresuid ... gettid */
    case 96: case 98: case 99: case 100: case 201: case 228: case 229: /* gettimeofday getrusage sysinfo times time ... */
    case 63: case 97: case 140: case 204: case 318: case 309: /* uname getrlimit getpriority affinity getrandom getcpu */
    case 131: case 158: case 218: case 273: case 334:        /* sigaltstack arch_prctl set_tid_address robust_list rseq */
    case 127: case 60: case 231: case 24:                    /* rt_sigpending exit exit_group sched_yield */
        return 1;
    default:
        return 0;
    }
}

static int is_in(const uint64_t *set, uint64_t fd)
{
    return fd < DESCRIPTORS && (set[fd / 64] >> fd % 64 & 1);
}

static void put(uint64_t *set, uint64_t fd, int yes)
{
    if (yes)
        set[fd / 64] |= (uint64_t)1 << fd % 64;
    else
        set[fd / 64] &= ~((uint64_t)1 << fd % 64);
}

/* Notes where an inherited file stands, before it is read or moved; a pipe cannot be put back. */
static int can_be_put_back(uint64_t fd)
{
    uint64_t st[18];
    for (int i = 0; i < late.moves; i++)
        if (late.moved[i].fd == (long)fd)
            return 1;
    if (late.moves == MOVED || RAW(NR_fstat, fd, st, 0) || ((uint32_t)st[3] & S_IFMT) != S_IFREG)
        return 0;
    late.moved[late.moves].fd = (long)fd;
    late.moved[late.moves].offset = RAW(NR_lseek, fd, 0, SEEK_CUR);
    return late.moved[late.moves].offset >= 0 && ++late.moves;
}

/* What is read there is there again for whoever reads next. */
static int is_harmless_file(long directory, uint64_t path)
{
    uint64_t st[18]; /* struct stat: st_mode is the 4 bytes at 24, st_rdev at 40 */
    uint32_t mode;
    if (raw(NR_newfstatat, (uint64_t)directory, path, (uint64_t)st, 0, 0, 0))
        return 1; /* and opening it fails as well */
    mode = (uint32_t)st[3] & S_IFMT;
    return mode == S_IFREG || mode == S_IFDIR || (mode == S_IFCHR && (st[5] >> 8 & 0xfff) == MEMORY_DEVICES);
}

static void note_action(uint64_t number, uintptr_t before)
{
    uint64_t bit = (uint64_t)1 << (number - 1);
    if (!(late.changed & bit) && before == SIG_IGN)
        late.ignored |= bit;
    late.changed |= bit;
}

static int set_action(struct context *c, long *result)
{
    const struct action *to = (const struct action *)c->si;
    struct action before, *out = (struct action *)c->dx;
    if (c->di == SIGSYS) {
        if (to)
            return 0;
        if (out)
            *out = late.own;
        *result = 0;
        return 1;
    }
    if (to && to->handler > SIG_IGN && (to->mask >> (SIGSYS - 1) & 1))
        return 0; /* our signal may never be blocked: the kernel would kill the process */
    *result = raw(NR_rt_sigaction, c->di, c->si, (uint64_t)&before, 8, 0, 0);
    if (!*result && to)
        note_action(c->di, before.handler);
    if (!*result && out)
        *out = before;
    return 1;
}

static int set_mask(struct context *c, long *result)
{
    uint64_t before = c->mask | late.hidden, to = before, given;
    if (c->si) {
        given = *(const uint64_t *)c->si;
        to = c->di == SIG_BLOCK ? to | given : c->di == SIG_UNBLOCK ? to & ~given : given;
        to &= ~((uint64_t)1 << (SIGKILL - 1) | (uint64_t)1 << (SIGSTOP - 1));
        if (c->di > SIG_SETMASK)
            return 0;
        if (!late.mask_changed)
            late.mask = before;
        late.mask_changed = 1;
        /* Ours is not to be blocked: the kernel would kill the process. It counts as blocked all the same. */
        late.hidden = to & (uint64_t)1 << (SIGSYS - 1);
    }
    if (c->dx)
        *(uint64_t *)c->dx = before;
    c->mask = to & ~late.hidden;
    *result = 0;
    return 1;
}

static int open_to_read(uint64_t directory, uint64_t path, uint64_t flags, long *result)
{
    if (flags & O_WRITES || !is_harmless_file((long)(int)directory, path))
        return 0;
    *result = raw(NR_openat, directory, path, flags, 0, 0, 0);
    if (*result >= DESCRIPTORS) {
        raw(NR_close, (uint64_t)*result, 0, 0, 0, 0, 0);
        return 0;
    }
    if (*result >= 0)
        put(late.opened, (uint64_t)*result, 1);
    return 1;
}

/* Does the call as the program asks for it, if it may be done and still leaves a way back. */
static int done(long number, struct context *c, long *result)
{
    int ours = is_in(late.opened, c->di);
    if (is_pure(number))
        goto as_asked;
    switch (number) {
    case NR_openat:
        return open_to_read(c->di, c->si, c->dx, result);
    case NR_open:
        return open_to_read((uint64_t)AT_FDCWD, c->di, c->si, result);
    case NR_close:
        if (!ours)
            return 0;
        put(late.opened, c->di, 0);
        goto as_asked;
    case NR_lseek:
        if (!ours && (c->si || c->dx != SEEK_CUR) && !can_be_put_back(c->di))
            return 0;
        goto as_asked;
    case NR_read: case NR_pread64: case NR_getdents64: case 19: case 78: case 221: /* readv getdents fadvise64 */
        if (!ours && !can_be_put_back(c->di))
            return 0;
        goto as_asked;
    case NR_fcntl:
        if (c->si != F_GETFD && c->si != F_GETFL && (c->di >= DESCRIPTORS || c->si != F_SETFD))
            return 0;
        /* What was inherited was not to be closed. */
        if (c->si == F_SETFD && !ours)
            put(late.closing, c->di, (int)c->dx & 1);
        goto as_asked;
    case NR_ioctl:
        if (c->si != TCGETS && c->si != TIOCGWINSZ && (!ours || c->si != FIOCLEX))
            return 0;
        goto as_asked;
    case NR_mmap:
        if (c->r10 & MAP_SHARED_ANY && c->dx & PROT_WRITE && !(c->r10 & MAP_ANONYMOUS))
            return 0;
        goto as_asked;
    case NR_futex:
        if ((c->si & FUTEX_COMMAND) != FUTEX_WAKE)
            return 0;
        goto as_asked;
    case NR_prlimit64:
        if (c->dx)
            return 0;
        goto as_asked;
    case NR_prctl:
        if (c->di != PR_SET_NAME) /* execve sets the name */
            return 0;
        goto as_asked;
    case NR_umask:
        *result = raw(number, c->di, 0, 0, 0, 0, 0);
        if (!late.umask_changed)
            late.umask = *result;
        late.umask_changed = 1;
        return 1;
    case NR_rt_sigaction:
        return set_action(c, result);
    case NR_rt_sigprocmask:
        return set_mask(c, result);
    default:
        return 0;
    }
as_asked:
    *result = raw(number, c->di, c->si, c->dx, c->r10, c->r8, c->r9);
    return 1;
}

/* No call comes here any more. */
static void let_go(void)
{
    late.selector = PASS;
    RAW(NR_prctl, PR_SET_SYSCALL_USER_DISPATCH, 0, 0);
    raw(NR_rt_sigaction, SIGSYS, (uint64_t)&late.own, 0, 8, 0, 0);
}

static void trapped(int number, struct information *information, struct context *c)
{
    long result;
    (void)number;
    if (information->code == SYS_USER_DISPATCH && (int)information->architecture == AUDIT_ARCH_X86_64 &&
        done(information->call, c, &result)) {
        c->ax = (uint64_t)result;
        return;
    }
    late.over = information->call + 1L;
    let_go();
    c->mask |= late.hidden;
    /* Once more, and now in earnest: the instruction has two bytes. */
    c->ip -= 2;
    c->ax = (uint64_t)(long)information->call;
}

static size_t bytes_of(char **words)
{
    size_t bytes = sizeof *words;
    for (; *words; words++) {
        const char *end = *words;
        while (*end++)
            ;
        bytes += sizeof *words + (size_t)(end - *words);
    }
    return bytes;
}

/* Copies the words to `room`, and their text to `*text`. */
static char **copied(char **words, char **room, char **text)
{
    char **to = room;
    for (; *words; words++) {
        const char *from = *words;
        *to++ = *text;
        while ((*(*text)++ = *from++))
            ;
    }
    *to = NULL;
    return room;
}

/* Copies of what the stack holds, which the program may write over; before the arguments room for BEFORE more. */
static void copy(char **argv, char **envp, size_t words)
{
    size_t size = bytes_of(argv) + bytes_of(envp) + BEFORE * sizeof *argv;
    char **room = (char **)raw(NR_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, (uint64_t)-1, 0);
    char *text;
    if ((uintptr_t)room >= (uintptr_t)-PAGE)
        return;
    text = (char *)(room + BEFORE + words);
    late.argv = copied(argv, room + BEFORE, &text);
    while (*argv++)
        room++;
    late.envp = copied(envp, room + BEFORE + 1, &text);
}

__attribute__((constructor)) static void watch(int argc, char **argv, char **envp)
{
    uint64_t blocked = 0;
    size_t variables = 0;
    struct action action = {(uintptr_t)trapped, SA_SIGINFO | SA_RESTORER, late_restorer, ~(uint64_t)0};
    while (envp[variables])
        variables++;
    copy(argv, envp, (size_t)argc + variables + 2);
    raw(NR_rt_sigprocmask, SIG_BLOCK, 0, (uint64_t)&blocked, 8, 0, 0);
    if (!late.envp || (blocked >> (SIGSYS - 1) & 1) ||
        raw(NR_rt_sigaction, SIGSYS, (uint64_t)&action, (uint64_t)&late.own, 8, 0, 0)) {
        late.envp = NULL;
        return;
    }
    late.selector = TRAP;
    if (raw(NR_prctl, PR_SET_SYSCALL_USER_DISPATCH, 1, (uint64_t)__ehdr_start, (uint64_t)(_etext - __ehdr_start),
            (uint64_t)&late.selector, 0)) {
        late.selector = PASS;
        late.envp = NULL;
        raw(NR_rt_sigaction, SIGSYS, (uint64_t)&late.own, 0, 8, 0, 0);
    }
}
