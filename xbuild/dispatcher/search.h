/* What the target's own program would find for a library by its name. It needs PRIVATE, LAYER, TRIPLET,
 * NATIVE_TRIPLET and libc. */
#include <stddef.h>
#include <stdint.h>

enum { RTLD_LAZY = 1, RTLD_NOLOAD = 4 };

extern int dlclose(void *handle);
extern char *getenv(const char *name);
extern int munmap(void *at, size_t size);

#ifndef TARGET_CACHE
#define TARGET_CACHE "/etc/ld.so.cache"
#endif

static void *(*real_dlopen)(const char *, int);

/* The real path of DIRECTORY/NAME, if that is there. */
static int is_there(const char *directory, size_t length, const char *name, char *whole)
{
    char path[4096];
    size_t n = strlen(name);
    if (length + n + 2 > sizeof path)
        return 0;
    memmove(path, directory, length);
    path[length] = '/';
    memmove(path + length + 1, name, n + 1);
    return realpath(path, whole) != NULL;
}

/* Is it in one of these, and the twin could not open it? `:` or `;` stands between the directories, as in
 * LD_LIBRARY_PATH; an empty one is the current directory. */
static int is_in_one(const char *directories, const char *name, char *whole)
{
    for (;;) {
        size_t n = 0;
        while (directories[n] && directories[n] != ':' && directories[n] != ';')
            n++;
        if (is_there(n ? directories : ".", n ? n : 1, name, whole) && is_foreign(whole))
            return 1;
        if (!directories[n])
            return 0;
        directories += n + 1;
    }
}

/* What ldconfig has written down (struct cache_file_new in glibc's sysdeps/generic/dl-cache.h). */
static int is_in_cache(const char *name, char *whole)
{
    struct head {
        char magic[20];
        uint32_t count, rest[6];
        struct {
            uint32_t flags, name, path, version, capabilities[2];
        } entries[];
    };
    static const char magic[] = "glibc-ld.so.cache1.1";
    struct statx st;
    const struct head *head;
    size_t size, room, n = strlen(name) + 1;
    int fd = open(TARGET_CACHE, O_CLOEXEC), is = 0;
    if (fd < 0)
        return 0;
    size = syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_SIZE, &st) ? 0 : (size_t)st.size;
    head = size > sizeof *head ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0) : (void *)-1;
    close(fd);
    if (head == (void *)-1)
        return 0;
    if (!strncmp(head->magic, magic, sizeof head->magic) && head->count <= (size - sizeof *head) / sizeof *head->entries)
        for (uint32_t i = 0; i < head->count && !is; i++) {
            const char *text = (const char *)head;
            uint32_t at = head->entries[i].name, path = head->entries[i].path;
            char copy[4096];
            if (at >= size || size - at < n || strncmp(text + at, name, n) || path >= size)
                continue;
            room = size - path < sizeof copy ? size - path : sizeof copy;
            memmove(copy, text + path, room);
            copy[room - 1] = 0;
            is = realpath(copy, whole) && is_foreign(whole);
        }
    munmap((void *)(uintptr_t)head, size);
    return is;
}

/* Would the target's program find there a library by this name, where the twin finds none? `whole`: its real path. */
static int search(const char *name, char *whole)
{
    const char *directories = getenv("LD_LIBRARY_PATH");
    static const char *const own[] = {PRIVATE "/lib", LAYER "/lib"};
    void *loaded;
    if (directories && *directories && is_in_one(directories, name, whole))
        return 1;
    loaded = real_dlopen(name, RTLD_LAZY | RTLD_NOLOAD);
    if (loaded) {
        dlclose(loaded);
        return 0;
    }
    for (int i = 0; i < 2; i++)
        if (is_there(own[i], strlen(own[i]), name, whole))
            return 0;
    return is_in_cache(name, whole) || is_in_one("/lib/" TRIPLET ":/usr/lib/" TRIPLET ":/lib:/usr/lib", name, whole);
}

/* The real path of a file; where a program has its own machine's directory compiled in, that of the target's. */
static int real_path_of(const char *path, char *whole)
{
    static const char native[] = "/usr/lib/" NATIVE_TRIPLET "/", target[] = "/usr/lib/" TRIPLET "/";
    char other[4096];
    if (realpath(path, whole))
        return 1;
    if (strncmp(path, native, sizeof native - 1) || strlen(path) + sizeof target > sizeof other)
        return 0;
    strcpy(other, target);
    strcpy(other + sizeof target - 1, path + sizeof native - 1);
    return realpath(other, whole) != NULL;
}
