/* The same list as in late.h for functions of libc that interpreters call most while they begin: called here, they need
 * no signal. What is not here is found by its system call all the same, so this only saves time. */
#include <stddef.h>
#include <stdint.h>

/* Does it, and gives what libc's function gives; 0 if libc's own function is to do it. */
static int quickly(long number, long a, long b, long c, long d, long *result)
{
    struct call call = {number, {(uintptr_t)a, (uintptr_t)b, (uintptr_t)c, (uintptr_t)d, 0, 0}};
    if (late.selector != TRAP)
        return 0;
    if (!done(&call, NULL, result)) {
        late.over = number + 1;
        let_go();
        raw(NR_rt_sigprocmask, SIG_BLOCK, (uint64_t)&late.hidden, 0, 8, 0, 0);
        return 0;
    }
    if (*result < 0)
        *__errno_location() = (int)-*result, *result = -1;
    return 1;
}

#define LIBC(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) \
        real = (type (*)(__VA_ARGS__))(uintptr_t)dlsym(RTLD_NEXT, name)

#define STAT(name, directory, path, flags, ...) \
    { \
        long result; \
        LIBC(int, name, __VA_ARGS__); \
        return quickly(NR_newfstatat, directory, (long)path, (long)st, flags, &result) ? (int)result : real(first, st); \
    }

enum { AT_SYMLINK_NOFOLLOW = 0x100 };

int stat64(const char *first, void *st) STAT("stat64", AT_FDCWD, first, 0, const char *, void *)
int stat(const char *first, void *st) STAT("stat", AT_FDCWD, first, 0, const char *, void *)
int lstat64(const char *first, void *st) STAT("lstat64", AT_FDCWD, first, AT_SYMLINK_NOFOLLOW, const char *, void *)
int lstat(const char *first, void *st) STAT("lstat", AT_FDCWD, first, AT_SYMLINK_NOFOLLOW, const char *, void *)
int fstat64(int first, void *st) STAT("fstat64", first, "", AT_EMPTY_PATH, int, void *)
int fstat(int first, void *st) STAT("fstat", first, "", AT_EMPTY_PATH, int, void *)

long read(int fd, void *buffer, size_t size)
{
    long result;
    LIBC(long, "read", int, void *, size_t);
    return quickly(NR_read, fd, (long)buffer, (long)size, 0, &result) ? result : real(fd, buffer, size);
}

long lseek64(int fd, long offset, int whence)
{
    long result;
    LIBC(long, "lseek64", int, long, int);
    return quickly(NR_lseek, fd, offset, whence, 0, &result) ? result : real(fd, offset, whence);
}

long lseek(int fd, long offset, int whence)
{
    return lseek64(fd, offset, whence);
}

int close(int fd)
{
    long result;
    LIBC(int, "close", int);
    return quickly(NR_close, fd, 0, 0, 0, &result) ? (int)result : real(fd);
}

/* A mode is only given where a file may be made, and that is libc's to do. */
int open64(const char *path, int flags, ...)
{
    long result;
    __builtin_va_list more;
    unsigned mode;
    LIBC(int, "open64", const char *, int, ...);
    if (!(flags & O_WRITES) && quickly(NR_openat, AT_FDCWD, (long)path, flags, 0, &result))
        return (int)result;
    __builtin_va_start(more, flags);
    mode = flags & O_WRITES & ~3 ? __builtin_va_arg(more, unsigned) : 0;
    __builtin_va_end(more);
    return real(path, flags, mode);
}

struct sigaction { /* <bits/sigaction.h> */
    uintptr_t handler;
    uint64_t mask[16];
    int flags;
    void (*restorer)(void);
};

static void tell(struct sigaction *out, const struct action *from)
{
    out->handler = from->handler, out->flags = (int)from->flags, out->restorer = from->restorer;
    out->mask[0] = from->mask;
    for (int i = 1; i < 16; i++)
        out->mask[i] = 0;
}

static int invalid_action(const struct sigaction *to, struct sigaction *out)
{
    struct action given, before;
    if (to)
        given = (struct action){to->handler, (unsigned)to->flags | SA_RESTORER, late_restorer, to->mask[0]};
    ask_invalid(to ? &given : NULL, &before);
    if (out)
        tell(out, &before);
    return 0;
}

int sigaction(int number, const struct sigaction *to, struct sigaction *out)
{
    long result;
    struct action before;
    LIBC(int, "sigaction", int, const struct sigaction *, struct sigaction *);
    if (number == SIGFPE && invalid.on)
        return invalid_action(to, out);
    if (to || !out || !quickly(NR_rt_sigaction, number, 0, (long)&before, sizeof before.mask, &result))
        return real(number, to, out);
    if (!result)
        tell(out, &before);
    return (int)result;
}

uintptr_t signal(int number, uintptr_t handler)
{
    struct action to = {handler, SA_RESTART | SA_RESTORER, late_restorer, invalid_bit}, before;
    LIBC(uintptr_t, "signal", int, uintptr_t);
    if (number != SIGFPE || !invalid.on || handler == (uintptr_t)-1)
        return real(number, handler);
    ask_invalid(&to, &before);
    return before.handler;
}

int sigprocmask(int how, const uint64_t *to, uint64_t *out)
{
    LIBC(int, "sigprocmask", int, const uint64_t *, uint64_t *);
    return change_mask(real, how, to, out);
}

int pthread_sigmask(int how, const uint64_t *to, uint64_t *out)
{
    LIBC(int, "pthread_sigmask", int, const uint64_t *, uint64_t *);
    return change_mask(real, how, to, out);
}

int sigsuspend(const uint64_t *mask)
{
    LIBC(int, "sigsuspend", const uint64_t *);
    return invalid.on && late.selector != TRAP ? suspended(real, mask) : real(mask);
}

__attribute__((noreturn)) void __longjmp_chk(void *to, int value)
{
    LIBC(void, "__longjmp_chk", void *, int);
    before_jump();
    real(to, value);
    __builtin_unreachable();
}

int execve(const char *path, char *const *argv, char *const *envp)
{
    LIBC(int, "execve", const char *, char *const *, char *const *);
    before_exec();
    return exec_failed(real(path, argv, envp));
}

int execv(const char *path, char *const *argv)
{
    LIBC(int, "execv", const char *, char *const *);
    before_exec();
    return exec_failed(real(path, argv));
}

int execvp(const char *name, char *const *argv)
{
    LIBC(int, "execvp", const char *, char *const *);
    before_exec();
    return exec_failed(real(name, argv));
}
