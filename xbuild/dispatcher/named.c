/* What runs before the qemu-user of a build, as preamble.c does before that of a machine: the process is called as the
 * target's program, and shows its arguments alone, where an exec of qemu lets ps, pgrep and killall see qemu's.
 *
 * The dispatcher, for which the kernel took the name from the file that was executed, hands it on in qemu's argv[0]:
 * NAME/.xbuild/qemu -0 ARGV0 PATH ARGS...
 */
#include <stddef.h>
#include <stdint.h>

#include "ahead.h"
#include "kernel.h"
#include "named.h"

enum { SYS_brk =
#ifdef __x86_64__
           12
#else
           214
#endif
};
enum { PR_SET_NAME = 15, PR_SET_MM = 35, PR_SET_MM_MAP = 14, NO_FILE = -1 };

struct map { /* struct prctl_mm_map, <linux/prctl.h> */
    uint64_t start_code, end_code, start_data, end_data, start_brk, brk, start_stack;
    uint64_t arg_start, arg_end, env_start, env_end, auxv;
    uint32_t auxv_size, exe_fd;
};

static char *end_of(char *text)
{
    while (*text++)
        ;
    return text;
}

static void turn(char *first, char *end)
{
    for (; first < --end; first++) {
        char kept = *first;
        *first = *end, *end = kept;
    }
}

/* ARGV0 and PATH lie one behind the other; changes their places, so that ARGV0 has the arguments behind it. */
static void put_behind(char **argv0, char **path)
{
    char *first = *argv0, *second = *path, *end = end_of(second);
    if (end_of(first) != second)
        return;
    turn(first, second), turn(second, end), turn(first, end);
    *path = first, *argv0 = first + (end - second);
}

/* What the kernel shows as arguments and variables begins at the program's. All else stays, or is only shown. */
static void show(long *stack, char **argv, char **envp)
{
    struct map map = {0};
    uint64_t here = (uint64_t)(uintptr_t)stack;
    char **last = argv + stack[0] - 1;
    map.start_code = map.start_data = map.end_data = (uint64_t)(uintptr_t)show, map.end_code = map.start_code + 1;
    map.start_brk = map.brk = (uint64_t)call(SYS_brk, 0, 0, 0);
    map.start_stack = here;
    map.arg_start = (uint64_t)(uintptr_t)argv[2];
    map.arg_end = map.env_start = map.env_end = (uint64_t)(uintptr_t)end_of(last == argv + 3 ? argv[2] : *last);
    for (; *envp; envp++)
        map.env_end = (uint64_t)(uintptr_t)end_of(*envp);
    map.exe_fd = (uint32_t)NO_FILE;
    call5(SYS_prctl, PR_SET_MM, PR_SET_MM_MAP, (long)&map, sizeof map, 0);
}

void before(long *stack)
{
    char **argv = (char **)(stack + 1), name[NAME];
    long count = stack[0];
    size_t n = 0;
    if (count < 4 || argv[0][0] == '/')
        return;
    for (; n < sizeof name - 1 && argv[0][n] && argv[0][n] != '/'; n++)
        name[n] = argv[0][n];
    name[n] = 0;
    call(SYS_prctl, PR_SET_NAME, (long)name, 0);
    put_behind(&argv[2], &argv[3]);
    show(stack, argv, argv + count + 1);
}
