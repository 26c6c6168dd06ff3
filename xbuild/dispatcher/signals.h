/* What a watched twin (late.h) does about signals, so that it can be put back. */
#include <stddef.h>
#include <stdint.h>

/* A signal has come: whatever the handler does, also a jump out of it, is not to be forgotten. */
static void signalled(struct context *c)
{
    if (late.gone)
        return;
    late.over = NR_rt_sigreturn + 1;
    let_go();
    c->mask |= late.hidden;
}

static void entered(int number, struct information *information, struct context *c)
{
    void (*handler)(int, struct information *, struct context *) =
        (void (*)(int, struct information *, struct context *))late.asked[number - 1].handler;
    signalled(c);
    handler(number, information, c);
}

static void note_action(uintptr_t number, uintptr_t before)
{
    uint64_t bit = (uint64_t)1 << (number - 1);
    if (!(late.changed & bit) && before == SIG_IGN)
        late.ignored |= bit;
    late.changed |= bit;
}

static int set_action(const struct call *call, long *result)
{
    uintptr_t number = call->words[0];
    const struct action *to = (const struct action *)call->words[1];
    struct action before, given, *out = (struct action *)call->words[2];
    if (number == SIGSYS) {
        if (to)
            return 0;
        if (out)
            *out = late.own;
        *result = 0;
        return 1;
    }
#ifdef __x86_64__
    if (number == SIGFPE && invalid.on) {
        *result = ask_invalid(to, out);
        return 1;
    }
#endif
    if (to) {
        given = *to;
        if (to->handler > SIG_IGN) {
            if (to->mask >> (SIGSYS - 1) & 1)
                return 0; /* our signal may never be blocked: the kernel would kill the process */
            given.handler = (uintptr_t)entered, given.flags |= SA_SIGINFO;
        }
    }
    *result = raw(NR_rt_sigaction, number, (uintptr_t)(to ? &given : NULL), (uintptr_t)&before, call->words[3], 0, 0);
    if (*result)
        return 1;
    if (before.handler == (uintptr_t)entered)
        before = late.asked[number - 1];
    if (to) {
        note_action(number, before.handler);
        late.asked[number - 1] = *to;
    }
    if (out)
        *out = before;
    return 1;
}

/* now: the mask that counts when the program goes on. */
static int set_mask(const struct call *call, uint64_t *now, long *result)
{
    uint64_t before = *now | late.hidden, to = before, given;
    uintptr_t how = call->words[0];
    if (call->words[1]) {
        given = *(const uint64_t *)call->words[1];
        to = how == SIG_BLOCK ? to | given : how == SIG_UNBLOCK ? to & ~given : given;
        to &= ~((uint64_t)1 << (SIGKILL - 1) | (uint64_t)1 << (SIGSTOP - 1));
        if (how > SIG_SETMASK)
            return 0;
        if (!late.mask_changed)
            late.mask = before;
        late.mask_changed = 1;
        late.hidden = to & late.ours;
    }
    if (call->words[2])
        *(uint64_t *)call->words[2] = before;
    *now = to & ~late.hidden;
    *result = 0;
    return 1;
}
