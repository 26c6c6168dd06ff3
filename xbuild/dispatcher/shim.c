/* A library that some twins load before libc. It answers, for the twin alone, as the target would. Macros given to the
 * compiler: MACHINE; PRIVATE, the directory of the twins of this word size; LAYER, that of a native layer; TRIPLET and
 * NATIVE_TRIPLET, the target's and theirs; OWN_TARGET (mark.h); TARGET_WORD, the bytes of the target's words.
 *   uname(2)                   MACHINE: what uname -m says on the target
 *   readlink, realpath and their kin, of /proc/self/exe   the path of the target's own file, without our private directory
 *   dlopen of /some/plugin.so  the native one that the table of twins has for it (partner.h); where there is none, the
 *                              twin begins again emulated (again.h), or ends and leaves a mark (mark.h): never does it
 *                              go on without what the target's program would have had
 *   arithmetic (x86-64)        what is no number has the target's sign (invalid.h)
 *   _obstack_begin (i386)      with the sizes that the target's libc has by default: the assembler breaks its work where
 *                              a chunk of an obstack ends, and that shows in the line tables that it writes
 */
#include <stddef.h>
#include <stdint.h>

#if defined __x86_64__
enum { SYS_uname = 63, SYS_readlinkat = 267 };
#elif defined __i386__
enum { SYS_uname = 122, SYS_readlinkat = 305 };
#elif defined __aarch64__
enum { SYS_uname = 160, SYS_readlinkat = 78 };
#elif defined __arm__
enum { SYS_uname = 122, SYS_readlinkat = 332 };
#else
#error "system calls are not known for this machine"
#endif

#define RTLD_NEXT ((void *)-1)   /* <dlfcn.h> */
#define AT_FDCWD -100            /* <fcntl.h> */
enum { FIELD = 65, MACHINE_AT = 4 * FIELD }; /* struct new_utsname, <linux/utsname.h> */

extern long syscall(long number, ...);
extern void *dlsym(void *handle, const char *name);
extern void *memmove(void *to, const void *from, size_t n);
extern int strncmp(const char *a, const char *b, size_t n);
extern int strcmp(const char *a, const char *b);
extern char *strchr(const char *s, int c);
extern size_t strlen(const char *s);
extern char *strcpy(char *to, const char *from);
extern char *realpath(const char *path, char *resolved);
extern void __chk_fail(void) __attribute__((noreturn));

int uname(char *names)
{
    int result = (int)syscall(SYS_uname, names);
    if (!result)
        strcpy(names + MACHINE_AT, MACHINE);
    return result;
}

long readlinkat(int directory, const char *path, char *buffer, size_t size)
{
    static const char private_directory[] = PRIVATE "/";
    size_t n = sizeof PRIVATE - 1;
    char whole[4096];
    if (strcmp(path, "/proc/self/exe"))
        return syscall(SYS_readlinkat, directory, path, buffer, size);
    long got = syscall(SYS_readlinkat, AT_FDCWD, path, whole, sizeof whole);
    if (got < 0)
        return got;
    const char *start = whole;
    if ((size_t)got > n && !strncmp(whole, private_directory, n + 1))
        start += n, got -= (long)n;
    if ((size_t)got > size)
        got = (long)size;
    memmove(buffer, start, (size_t)got);
    return got;
}

long readlink(const char *path, char *buffer, size_t size)
{
    return readlinkat(AT_FDCWD, path, buffer, size);
}

/* What calls become under _FORTIFY_SOURCE; room: of the buffer. */
long __readlinkat_chk(int directory, const char *path, char *buffer, size_t size, size_t room)
{
    if (size > room)
        __chk_fail();
    return readlinkat(directory, path, buffer, size);
}

long __readlink_chk(const char *path, char *buffer, size_t size, size_t room)
{
    return __readlinkat_chk(AT_FDCWD, path, buffer, size, room);
}

char *realpath(const char *path, char *resolved)
{
    static char *(*real)(const char *, char *);
    char whole[4096];
    if (!real)
        real = (char *(*)(const char *, char *))(uintptr_t)dlsym(RTLD_NEXT, "realpath");
    if (strcmp(path, "/proc/self/exe"))
        return real(path, resolved);
    long got = readlink(path, whole, sizeof whole - 1);
    if (got < 0)
        return NULL;
    whole[got] = 0;
    return real(whole, resolved);
}

char *canonicalize_file_name(const char *path)
{
    return realpath(path, NULL);
}

char *__realpath_chk(const char *path, char *resolved, size_t size)
{
    static char *(*real)(const char *, char *, size_t);
    if (!real)
        real = (char *(*)(const char *, char *, size_t))(uintptr_t)dlsym(RTLD_NEXT, "__realpath_chk");
    return strcmp(path, "/proc/self/exe") ? real(path, resolved, size) : realpath(path, resolved);
}

extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char _etext[] __attribute__((visibility("hidden")));

#include "calls.h"
#include "partner.h"
#include "mark.h"
#if defined LATE && defined WATCHED
#include "pattern.h"
#include "late.h"
#include "named.h"
#include "watch.h"
#include "again.h"
#ifdef __x86_64__
#include "quick.h"
#endif
#else
static __attribute__((noreturn)) void become_emulated(const char *library)
{
    end(library, "it was not watched from its start", "");
}
#endif
#include "search.h"

#ifdef INEXACT_FUNCTIONS
/* Functions that no native library computes as the target's does to the last bit (a toolchain's `inexact`). */
#define INEXACT(name) __attribute__((noreturn)) void name(void) { become_emulated(#name "() of its C library"); }
INEXACT_FUNCTIONS
#endif

static __attribute__((noinline)) void *open_native(const char *path, int flags)
{
    char whole[4096];
    const char *native;
    void *found = NULL;
    if (!real_dlopen)
        real_dlopen = (void *(*)(const char *, int))(uintptr_t)dlsym(RTLD_NEXT, "dlopen");
    if (!path || !*path)
        return NULL;
    if (!strchr(path, '/')) {
        if (search(path, whole) && !(flags & RTLD_NOLOAD))
            become_emulated(whole);
        return NULL;
    }
    /* Plugins are found through links, as in /usr/lib/bfd-plugins. */
    if (!real_path_of(path, whole))
        return NULL;
    native = partner(whole);
    if (native)
        found = real_dlopen(native, flags);
    /* A partner that does not open needs what is not there for it. */
    if (!found && !(flags & RTLD_NOLOAD) && (native || is_foreign(whole)))
        become_emulated(whole);
    return found;
}

/* libc searches by the RUNPATH of its caller, whom it knows by the address to return to. So the call at the end has to be
 * a jump, as gcc makes it where nothing on the stack is needed any more. */
void *dlopen(const char *path, int flags)
{
    void *found = open_native(path, flags);
    return found ? found : real_dlopen(path, flags);
}

/* Another name space has its own copies of libraries, and no shim in it. */
void *dlmopen(long space, const char *path, int flags)
{
    static void *(*real)(long, const char *, int);
    void *found = open_native(space ? NULL : path, flags);
    char whole[4096];
    if (!real)
        real = (void *(*)(long, const char *, int))(uintptr_t)dlsym(RTLD_NEXT, "dlmopen");
    if (space && path && *path && (strchr(path, '/') ? real_path_of(path, whole) && is_foreign(whole) : search(path, whole)))
        become_emulated(whole);
    return found ? found : real(space, path, flags);
}

#ifdef __i386__
/* glibc's malloc/obstack.c derives both from a union of uintmax_t, long double and a pointer. On 32-bit ARM that has
 * size and alignment 8, which gives a chunk of 4096 - 24 bytes; on i386 12 and 4, which gives 4096 - 32. */
enum { TARGET_ALIGNMENT = 8, TARGET_CHUNK = 4096 - 24 };

int _obstack_begin(void *obstack, int size, int alignment, void *allocate, void *release)
{
    static int (*real)(void *, int, int, void *, void *);
    if (!real)
        real = (int (*)(void *, int, int, void *, void *))(uintptr_t)dlsym(RTLD_NEXT, "_obstack_begin");
    return real(obstack, size ? size : TARGET_CHUNK, alignment ? alignment : TARGET_ALIGNMENT, allocate, release);
}
#endif
