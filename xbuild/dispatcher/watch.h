/* How a twin begins: with copies of its words, and watched from then on (late.h). */
#include <stddef.h>
#include <stdint.h>

enum { BEFORE = 3 };

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
    char **room = (char **)raw(NR_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, (uintptr_t)-1, 0);
    char *text;
    if ((uintptr_t)room >= (uintptr_t)-PAGE)
        return;
    text = (char *)(room + BEFORE + words);
    late.argv = copied(argv, room + BEFORE, &text);
    while (*argv++)
        room++;
    late.envp = copied(envp, room + BEFORE + 1, &text);
}

static void watch_calls(int argc, char **argv, char **envp, uint64_t blocked)
{
    size_t variables = 0;
    /* On the program's stack: where that ends, its own handler for that gets the word. */
    uint64_t faults = (uint64_t)1 << (SIGSEGV - 1) | (uint64_t)1 << (SIGBUS - 1);
    struct action action = {(uintptr_t)trapped, SA_SIGINFO | SA_RESTORER, late_restorer, ~faults};
    while (envp[variables])
        variables++;
    copy(argv, envp, (size_t)argc + variables + 2);
    if (!late.envp || (blocked >> (SIGSYS - 1) & 1) ||
        raw(NR_rt_sigaction, SIGSYS, (uintptr_t)&action, (uintptr_t)&late.own, 8, 0, 0)) {
        late.envp = NULL;
        return;
    }
    late.ours = (uint64_t)1 << (SIGSYS - 1);
    late.selector = TRAP;
    if (raw(NR_prctl, PR_SET_SYSCALL_USER_DISPATCH, 1, (uintptr_t)__ehdr_start, (uintptr_t)(_etext - __ehdr_start),
            (uintptr_t)&late.selector, 0)) {
        late.selector = PASS;
        late.envp = NULL;
        raw(NR_rt_sigaction, SIGSYS, (uintptr_t)&late.own, 0, 8, 0, 0);
    }
}

__attribute__((constructor)) static void watch(int argc, char **argv, char **envp)
{
    uint64_t blocked = 0;
    raw(NR_rt_sigprocmask, SIG_BLOCK, 0, (uintptr_t)&blocked, 8, 0, 0);
    watch_calls(argc, argv, envp, blocked);
#ifdef __x86_64__
    take_invalid(blocked);
#endif
}
