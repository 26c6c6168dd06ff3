/* The late fallback: a twin becomes the emulated program, in the middle of its work, as if it had been that from the
 * start. That is only right while nothing can be seen of what it did, and while execve(2) carries on nothing that it
 * changed. So from the start until the first call that has an effect, the kernel sends each call of the process here
 * instead (Syscall User Dispatch, Documentation/admin-guide/syscall-user-dispatch.rst): libc's own inner ones, too.
 * What is on the list below is done as asked; the first one that is not ends all that, for good, and runs as if
 * nothing had been. The list need not be complete to be right: what is missing in it only ends the chance early.
 *
 * What changes but can be put back is noted: files opened, signals ignored, the signal mask, the umask. What the program
 * writes may stay if it is a cache that the policy names for it: the emulated program would have written the same.
 */
#include <stddef.h>
#include <stdint.h>

enum { PASS = 0, TRAP = 1 };
enum { PR_SET_NAME = 15, PR_SET_SYSCALL_USER_DISPATCH = 59, SYS_USER_DISPATCH = 2, SIGSYS = 31, SIGKILL = 9, SIGSTOP = 19 };
enum { SIGBUS = 7, SIGSEGV = 11 };
enum { SA_SIGINFO = 4, SA_RESTORER = 0x04000000, SIG_DFL = 0, SIG_BLOCK = 0, SIG_UNBLOCK = 1, SIG_SETMASK = 2 };
enum { DESCRIPTORS = 1024, MOVED = 8, SIGNALS = 64 };
enum { PROT_WRITE = 2, MAP_SHARED_ANY = 1, MAP_ANONYMOUS = 0x20, FUTEX_WAKE_PRIVATE = 1 | 128 };
enum { O_CREAT = 0100, O_EXCL = 0200 };
enum { O_WRITES = 3 | O_CREAT | 01000 | 020000000 }; /* O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, __O_TMPFILE */
enum { F_GETFD = 1, F_SETFD = 2, F_GETFL = 3, F_SETFL = 4, SEEK_CUR = 1, EFAULT = 14 };
enum { TCGETS = 0x5401, TCGETS2 = 0x802c542a, TIOCGWINSZ = 0x5413, FIOCLEX = 0x5451 };
enum { S_IFMT = 0170000, S_IFREG = 0100000, S_IFDIR = 0040000, S_IFCHR = 0020000, MEMORY_DEVICES = 1 };

static struct {
    char **argv, **envp;        /* copies; NULL: there is no way back */
    volatile char selector;
    uint64_t changed, ignored;  /* signals whose action changed; of these, what was ignored before */
    struct action asked[SIGNALS]; /* where our own handler stands before the program's */
    uint64_t mask;              /* before it changed */
    uint64_t ours;              /* signals that may not be blocked: the kernel would kill the process */
    uint64_t hidden;            /* of these, what the program thinks is blocked */
    struct action own;          /* what SIGSYS did before */
    uint64_t opened[DESCRIPTORS / 64], closing[DESCRIPTORS / 64]; /* by us; inherited, and to be closed at an exec */
    struct {
        long fd;
        int64_t offset;
    } moved[MOVED]; /* inherited files, in the order in which they were first read */
    int moves;
    struct {
        long fd, flags;
    } flagged[MOVED];           /* inherited files that got another mode of writing */
    int flags;
    int mask_changed, umask_changed;
    long umask;
    long cache;                 /* the descriptor of the cache that is being written, plus one */
    char cache_path[4096];      /* from its making until it gets its name; empty: none is being made */
    long over;                  /* the call that ended it, plus one */
    int gone;                   /* no call is watched any more */
} late;

/* What stays hidden when no call is watched any more: SIGFPE (invalid.h). */
static __thread uint64_t still_hidden __attribute__((tls_model("initial-exec")));

extern int *__errno_location(void);
extern void late_restorer(void) __attribute__((visibility("hidden")));

/* No call is watched any more. */
static void let_go(void);

static int is_pure(long number)
{
    switch (number) {
    PURE_CALLS
        return 1;
    default:
        return 0;
    }
}

static int is_in(const uint64_t *set, uintptr_t fd)
{
    return fd < DESCRIPTORS && (set[fd / 64] >> fd % 64 & 1);
}

static void put(uint64_t *set, uintptr_t fd, int yes)
{
    if (yes)
        set[fd / 64] |= (uint64_t)1 << fd % 64;
    else
        set[fd / 64] &= ~((uint64_t)1 << fd % 64);
}

static int64_t seek(long fd, int64_t offset, int whence)
{
#ifdef __i386__
    int64_t result = 0;
    long error = raw(NR__llseek, (uintptr_t)fd, (uintptr_t)(offset >> 32), (uintptr_t)offset, (uintptr_t)&result,
                     (uintptr_t)whence, 0);
    return error ? error : result;
#else
    return RAW(NR_lseek, fd, offset, whence);
#endif
}

static long look(long directory, const char *path, long flags, struct statx *st)
{
    return raw(SYS_statx, (uintptr_t)directory, (uintptr_t)path, (uintptr_t)flags, 1, (uintptr_t)st, 0); /* STATX_TYPE */
}

/* Notes where an inherited file stands, before it is read or moved; a pipe cannot be put back. */
static int can_be_put_back(long fd)
{
    struct statx st;
    for (int i = 0; i < late.moves; i++)
        if (late.moved[i].fd == fd)
            return 1;
    if (late.moves == MOVED || look(fd, "", AT_EMPTY_PATH, &st) || (st.mode & S_IFMT) != S_IFREG)
        return 0;
    late.moved[late.moves].fd = fd;
    late.moved[late.moves].offset = seek(fd, 0, SEEK_CUR);
    return late.moved[late.moves].offset >= 0 && ++late.moves;
}

/* What is read there is there again for whoever reads next. */
static int is_harmless_file(long directory, const char *path)
{
    struct statx st;
    uint32_t mode;
    if (look(directory, path, 0, &st))
        return 1; /* and opening it fails as well */
    mode = st.mode & S_IFMT;
    return mode == S_IFREG || mode == S_IFDIR || (mode == S_IFCHR && st.rdev_major == MEMORY_DEVICES);
}

#ifdef __x86_64__
#include "invalid.h"
#endif
#include "signals.h"

static int open_to_read(long directory, uintptr_t path, uintptr_t flags, long *result)
{
    if (flags & O_WRITES || !is_harmless_file(directory, (const char *)path))
        return 0;
    *result = raw(NR_openat, (uintptr_t)directory, path, flags, 0, 0, 0);
    if (*result >= DESCRIPTORS) {
        RAW(NR_close, *result, 0, 0);
        return 0;
    }
    if (*result >= 0)
        put(late.opened, (uintptr_t)*result, 1);
    return 1;
}

/* What the table says of this program's caches: patterns, one after another. */
static const char *own_caches(void)
{
    const char *table = table_of_this_build(), *path = own_path();
    const struct slot *slot = table && path ? slot_of(table, path) : NULL;
    const struct rules *rules = slot && slot->rules ? (const struct rules *)(const void *)(table + slot->rules) : NULL;
    return rules && rules->caches ? table + rules->caches : "";
}

/* A program may make what it writes on append, as make does with its output. */
static int set_append(const uintptr_t *words, long *result)
{
    long before = RAW(NR_fcntl, words[0], F_GETFL, 0);
    if (before < 0 || late.flags == MOVED || (before ^ (long)words[2]) & ~O_APPEND)
        return 0;
    late.flagged[late.flags].fd = (long)words[0], late.flagged[late.flags].flags = before;
    late.flags++;
    *result = RAW(NR_fcntl, words[0], F_SETFL, words[2]);
    return 1;
}

/* Is it a cache of this program? Only asked for in the handler, where only a fault comes between. */
static int is_cache(uintptr_t path)
{
    static const char *patterns; /* empty: none */
    struct statx st;
    int error = *__errno_location();
    if (look(AT_FDCWD, (const char *)path, 0, &st) == -EFAULT)
        return 0;
    if (!patterns) {
        late.selector = PASS;
        patterns = own_caches();
        late.selector = late.gone ? PASS : TRAP;
        *__errno_location() = error;
    }
    for (const char *pattern = patterns; *pattern; pattern += strlen(pattern) + 1)
        if (matches(pattern, (const char *)path))
            return 1;
    return 0;
}

/* A cache is made under another name and gets its own at once. Whoever does that again sees and leaves the same; so
 * does who makes its directory, as programs do whether it is there or not. */
static int cache_call(const struct call *call, long *result)
{
    const uintptr_t *words = call->words + (call->number == NR_openat);
    int making = call->number == NR_open || call->number == NR_openat;
    if (making && (late.cache_path[0] || (words[1] & (O_CREAT | O_EXCL)) != (O_CREAT | O_EXCL)))
        return 0;
    if (!is_cache(words[0]) || (call->number == NR_rename && !is_cache(words[1])))
        return 0;
    if ((call->number == NR_rename || call->number == NR_unlink) && strcmp((const char *)words[0], late.cache_path))
        return 0;
    if (making && strlen((const char *)words[0]) >= sizeof late.cache_path)
        return 0;
    *result = raw(call->number, call->words[0], call->words[1], call->words[2], call->words[3], 0, 0);
    if (making && *result >= 0) {
        late.cache = *result + 1;
        strcpy(late.cache_path, (const char *)words[0]);
    } else if (call->number != NR_mkdir && !making && !*result) {
        late.cache_path[0] = 0;
    }
    return 1;
}

/* Does the call as the program asks for it, if it may be done and still leaves a way back. */
static int done(const struct call *call, uint64_t *mask, long *result)
{
    const uintptr_t *words = call->words;
    int ours = is_in(late.opened, words[0]), cache = (long)words[0] == late.cache - 1;
    if (is_pure(call->number))
        goto as_asked;
    switch (call->number) {
    case NR_openat:
        if (words[2] & O_EXCL)
            return cache_call(call, result);
        return open_to_read((int)words[0], words[1], words[2], result);
    case NR_open:
        if (words[1] & O_EXCL)
            return cache_call(call, result);
        return open_to_read(AT_FDCWD, words[0], words[1], result);
    case NR_mkdir: case NR_rename: case NR_unlink:
        return cache_call(call, result);
    case NR_write:
        if (!cache)
            return 0;
        goto as_asked;
    case NR_close:
        if (!ours && !cache)
            return 0;
        if (cache)
            late.cache = 0;
        else
            put(late.opened, words[0], 0);
        goto as_asked;
    case NR__llseek:
        if (!ours && !cache && (words[1] || words[2] || words[4] != SEEK_CUR) && !can_be_put_back((int)words[0]))
            return 0;
        goto as_asked;
    case NR_lseek:
        if (!ours && !cache && (words[1] || words[2] != SEEK_CUR) && !can_be_put_back((int)words[0]))
            return 0;
        goto as_asked;
    case NR_read: case NR_pread64: case NR_readv: case NR_getdents: case NR_getdents64: case NR_fadvise64:
        if (!ours && !can_be_put_back((int)words[0]))
            return 0;
        goto as_asked;
    case NR_fcntl: case NR_fcntl64:
        if (words[1] == F_SETFL)
            return set_append(words, result);
        if (words[1] != F_GETFD && words[1] != F_GETFL && (words[0] >= DESCRIPTORS || words[1] != F_SETFD))
            return 0;
        /* What was inherited was not to be closed. */
        if (words[1] == F_SETFD && !ours && !cache)
            put(late.closing, words[0], (int)words[2] & 1);
        goto as_asked;
    case NR_ioctl:
        if (words[1] != TCGETS && words[1] != TCGETS2 && words[1] != TIOCGWINSZ && (!ours || words[1] != FIOCLEX))
            return 0;
        goto as_asked;
    case NR_mmap:
        /* What is inherited may be open for writing, and mprotect(2) is free. */
        if (words[3] & MAP_SHARED_ANY && !(words[3] & MAP_ANONYMOUS) && !is_in(late.opened, words[4]))
            return 0;
        goto as_asked;
    case NR_futex: case NR_futex_time64:
        if (words[1] != FUTEX_WAKE_PRIVATE)
            return 0;
        goto as_asked;
    case NR_prlimit64:
        if (words[2])
            return 0;
        goto as_asked;
    case NR_prctl:
        if (words[0] != PR_SET_NAME) /* execve sets the name */
            return 0;
        goto as_asked;
    case NR_umask:
        *result = RAW(NR_umask, words[0], 0, 0);
        if (!late.umask_changed)
            late.umask = *result;
        late.umask_changed = 1;
        return 1;
    case NR_rt_sigaction:
        return set_action(call, result);
    case NR_rt_sigprocmask:
        return set_mask(call, mask, result);
    default:
        return 0;
    }
as_asked:
    *result = raw(call->number, words[0], words[1], words[2], words[3], words[4], words[5]);
    return 1;
}

static void let_go(void)
{
    struct action now;
    if (late.gone)
        return;
    late.gone = 1;
    late.selector = PASS;
    still_hidden = late.hidden & ~((uint64_t)1 << (SIGSYS - 1));
    late.hidden &= ~still_hidden;
    raw(NR_prctl, PR_SET_SYSCALL_USER_DISPATCH, 0, 0, 0, 0, 0);
    for (uintptr_t number = 1; number <= SIGNALS; number++)
        if (late.changed >> (number - 1) & 1 && !raw(NR_rt_sigaction, number, 0, (uintptr_t)&now, 8, 0, 0) &&
            now.handler == (uintptr_t)entered)
            raw(NR_rt_sigaction, number, (uintptr_t)&late.asked[number - 1], 0, 8, 0, 0);
    raw(NR_rt_sigaction, SIGSYS, (uintptr_t)&late.own, 0, 8, 0, 0);
}

static void trapped(int number, struct information *information, struct context *c)
{
    struct call call = {information->call, WORDS_OF(c)};
    long result;
    (void)number;
    if (information->code == SYS_USER_DISPATCH && (int)information->architecture == AUDIT_ARCH_OWN &&
        done(&call, &c->mask, &result)) {
        c->ax = (uintptr_t)result;
        return;
    }
    late.over = information->call + 1L;
    let_go();
    c->mask |= late.hidden;
    /* Once more, and now in earnest: the instruction has two bytes. */
    c->ip -= 2;
    c->ax = (uintptr_t)(long)information->call;
}
