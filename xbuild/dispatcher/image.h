/* What Linux would answer to the exec of an ELF file, were its own loader asked (fs/binfmt_elf.c): binfmt_misc takes a
 * file by its first bytes, and then the exec has succeeded. The emulator's answers are others, and so is its exit code.
 */
#include <stddef.h>
#include <stdint.h>

enum { PT_INTERP = 3, MOST_HEADERS = 65536, LONGEST_PATH = 4096 };
enum { WIDE = 2, BIG = 2 }; /* e_ident[4] of a 64-bit file, e_ident[5] of one with the high byte first */

/* A number in the file's own byte order. */
static uint64_t number(const unsigned char *from, int size, int big)
{
    uint64_t value = 0;
    for (int i = 0; i < size; i++)
        value |= (uint64_t)from[big ? size - 1 - i : i] << (8 * i);
    return value;
}

/* Can the file at `path` load a program that begins with `head`? 0, or the error. */
static int refused_loader(const char *path, const unsigned char *head)
{
    unsigned char own[20];
    long error = call(SYS_faccessat2, AT_FDCWD, (long)path, X_OK), fd, got;
    if (error && error != -ENOSYS)
        return (int)-error;
    fd = call(SYS_openat, AT_FDCWD, (long)path, O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return (int)-fd;
    got = read_at((int)fd, (char *)own, sizeof own, 0);
    call(SYS_close, fd, 0, 0);
    if (got != sizeof own)
        return got < 0 ? EACCES : EIO; /* what can be opened and not read is no file */
    for (int i = 0; i < (int)sizeof own; i++)
        if ((i < 6 || i >= 18) && own[i] != head[i])
            return ELIBBAD;
    return 0;
}

/* 0, or why the open ELF file cannot be run; then `loader` is the path of its loader, if that is at fault. */
static int refused(int fd, const char **loader)
{
    static unsigned char headers[MOST_HEADERS];
    static char path[LONGEST_PATH];
    unsigned char head[64];
    for (size_t i = 0; i < sizeof head; i++)
        *(volatile unsigned char *)&head[i] = 0;
    /* What may not be read is left to the emulator. */
    if (read_at(fd, (char *)head, sizeof head, 0) < 0)
        return 0;
    int wide = head[4] == WIDE, big = head[5] == BIG;
    uint64_t at = wide ? number(head + 32, 8, big) : number(head + 28, 4, big);
    uint64_t size = number(head + (wide ? 54 : 42), 2, big), all = size * number(head + (wide ? 56 : 44), 2, big);
    if (size != (wide ? 56 : 32) || !all || all > MOST_HEADERS)
        return ENOEXEC;
    if (read_at(fd, (char *)headers, all, (int64_t)at) != (long)all)
        return ENOEXEC;
    for (const unsigned char *header = headers; header < headers + all; header += size) {
        if (number(header, 4, big) != PT_INTERP)
            continue;
        uint64_t length = wide ? number(header + 32, 8, big) : number(header + 16, 4, big);
        at = wide ? number(header + 8, 8, big) : number(header + 4, 4, big);
        if (length < 2 || length > LONGEST_PATH)
            return ENOEXEC;
        if (read_at(fd, path, length, (int64_t)at) != (long)length)
            return EIO;
        if (path[length - 1])
            return ENOEXEC;
        *loader = path;
        return refused_loader(path, head);
    }
    return 0;
}

static const char *error_text(int error)
{
    switch (error) {
    case ENOENT:
        return "No such file or directory";
    case EIO:
        return "Input/output error";
    case E2BIG:
        return "Argument list too long";
    case ENOEXEC:
        return "Exec format error";
    case EACCES:
        return "Permission denied";
    case ENOTDIR:
        return "Not a directory";
    case ELOOP:
        return "Too many levels of symbolic links";
    case ELIBBAD:
        return "Accessing a corrupted shared library";
    }
    return "Error";
}
