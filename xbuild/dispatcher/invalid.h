/* What is no number, as the target has it. The exception for invalid operations is unmasked, so the kernel tells of
 * each one by SIGFPE, before it has a result, and gets ARM's (instruction.h). Threads and forks inherit that, an exec
 * ends it. Linux begins handlers of signals with all exceptions masked.
 *
 * SIGFPE is still the program's own. What it wants done about it is kept here, and done where the signal means anything
 * else; that it blocks it is kept too, as the kernel would kill it for an exception then.
 */
#include <stddef.h>
#include <stdint.h>

#include "operations.h"
#include "instruction.h"

enum { SIGFPE = 8, FPE_FLTINV = 7, X87_TRAP = 16, SA_RESTART = 0x10000000 };
enum { NR_rt_tgsigqueueinfo = 297, NR_gettid = 186 };
static const uint64_t invalid_bit = (uint64_t)1 << (SIGFPE - 1);
static const unsigned long reset_flag = 0x80000000; /* SA_RESETHAND */

static struct {
    int on;
    long process;        /* a child of vfork(2) shares our memory, but neither actions nor masks */
    struct action asked; /* by the program */
} invalid;
static __thread int postponed __attribute__((tls_model("initial-exec")));

static __attribute__((noreturn)) void become_emulated(const char *library);
static void signalled(struct context *c);
static void invalid_operation(int number, struct information *information, struct context *c);

static long set_invalid(void)
{
    struct action own = {(uintptr_t)invalid_operation, SA_SIGINFO | SA_RESTORER | SA_RESTART, late_restorer, 0};
    if (invalid.asked.handler > SIG_IGN) {
        own.flags = (invalid.asked.flags & ~reset_flag) | SA_SIGINFO | SA_RESTORER;
        own.mask = invalid.asked.mask & ~((uint64_t)1 << (SIGSYS - 1));
    }
    return raw(NR_rt_sigaction, SIGFPE, (uintptr_t)&own, 0, 8, 0, 0);
}

/* sigaction(2) of the program. */
static long ask_invalid(const struct action *to, struct action *out)
{
    struct action before = invalid.asked;
    long result = 0;
    if (to && RAW(NR_getpid, 0, 0, 0) != invalid.process) {
        result = raw(NR_rt_sigaction, SIGFPE, (uintptr_t)to, 0, 8, 0, 0);
    } else if (to) {
        invalid.asked = *to;
        result = set_invalid();
    }
    if (out)
        *out = before;
    return result;
}

static uint32_t own_control(void)
{
    uint32_t control;
    __asm__ volatile("stmxcsr %0" : "=m"(control));
    return control;
}

static void unmask_invalid(void)
{
    uint32_t control = own_control() & ~(uint32_t)INVALID_MASKED;
    uint16_t x87;
    __asm__ volatile("fnstcw %0" : "=m"(x87));
    x87 &= (uint16_t)~1;
    __asm__ volatile("ldmxcsr %0\n\tfldcw %1" ::"m"(control), "m"(x87));
}

/* Ends the process by the signal, when the handler comes back. */
static void die_of_invalid(const struct information *information, struct context *c)
{
    struct action action = {SIG_DFL, SA_RESTORER, late_restorer, 0};
    raw(NR_rt_sigaction, SIGFPE, (uintptr_t)&action, 0, 8, 0, 0);
    c->mask &= ~invalid_bit;
    if (information->code <= 0)
        raw(NR_rt_tgsigqueueinfo, (uintptr_t)RAW(NR_getpid, 0, 0, 0), (uintptr_t)RAW(NR_gettid, 0, 0, 0), SIGFPE,
            (uintptr_t)information, 0, 0);
}

/* It waits in the kernel until the program no longer blocks it. */
static void postpone(const struct information *information, struct context *c)
{
    c->mask |= invalid_bit;
    *control(c) |= INVALID_MASKED;
    *(uint16_t *)(uintptr_t)c->state |= 1;
    postponed = 1;
    raw(NR_rt_tgsigqueueinfo, (uintptr_t)RAW(NR_getpid, 0, 0, 0), (uintptr_t)RAW(NR_gettid, 0, 0, 0), SIGFPE,
        (uintptr_t)information, 0, 0);
}

static void come_back(struct context *c)
{
    c->mask &= ~invalid_bit;
    *control(c) &= ~(uint32_t)INVALID_MASKED;
    *(uint16_t *)(uintptr_t)c->state &= (uint16_t)~1;
    postponed = 0;
}

static void invalid_operation(int number, struct information *information, struct context *c)
{
    void (*handler)(int, struct information *, struct context *) =
        (void (*)(int, struct information *, struct context *))invalid.asked.handler;
    int sent = information->code <= 0;
    if (information->code == FPE_FLTINV) {
        if (c->trap == X87_TRAP ? remainder_as_arm(c) : done_as_arm(c))
            return;
        raw(NR_rt_sigprocmask, SIG_SETMASK, (uintptr_t)&c->mask, 0, 8, 0, 0);
        become_emulated("what some operation gives that is no number");
    }
    signalled(c);
    if (sent && still_hidden) {
        postpone(information, c);
    } else if (invalid.asked.handler == SIG_DFL || (!sent && (invalid.asked.handler == SIG_IGN || still_hidden))) {
        die_of_invalid(information, c);
    } else if (invalid.asked.handler != SIG_IGN) {
        if (postponed && sent)
            come_back(c);
        if (invalid.asked.flags & reset_flag) {
            invalid.asked.handler = SIG_DFL;
            set_invalid();
        }
        handler(number, information, c);
    }
}

extern int __register_atfork(void (*before)(void), void (*parent)(void), void (*child)(void), void *object);

static void forked(void)
{
    invalid.process = RAW(NR_getpid, 0, 0, 0);
}

/* What is ignored or blocked goes on to what the program starts, so then it is the emulated one from the start. */
static void take_invalid(uint64_t blocked)
{
    struct action before;
    if (raw(NR_rt_sigaction, SIGFPE, 0, (uintptr_t)&before, 8, 0, 0))
        return;
    if (before.handler != SIG_DFL || blocked & invalid_bit)
        become_emulated("a SIGFPE that is ignored or blocked");
    forked();
    if (set_invalid() || __register_atfork(NULL, NULL, forked, NULL))
        return;
    invalid.on = 1;
    late.ours |= invalid_bit;
    unmask_invalid();
}

/* sigprocmask(2) of libc, and its kin, once no call is watched. */
static int change_mask(int (*real)(int, const uint64_t *, uint64_t *), int how, const uint64_t *to, uint64_t *out)
{
    uint64_t given[16], before = still_hidden; /* sigset_t */
    int result;
    if (!invalid.on || late.selector == TRAP)
        return real(how, to, out);
    if (to) {
        memmove(given, to, sizeof given);
        if (given[0] & invalid_bit)
            still_hidden = how == SIG_UNBLOCK ? 0 : invalid_bit;
        else if (how == SIG_SETMASK)
            still_hidden = 0;
        if (how != SIG_UNBLOCK)
            given[0] &= ~invalid_bit;
    }
    result = real(how, to ? given : NULL, out);
    if (result)
        still_hidden = before;
    else if (out)
        out[0] |= before;
    if (postponed && !still_hidden) {
        postponed = 0;
        unmask_invalid();
    }
    return result;
}

/* While it waits nothing is blocked but what it says. */
static int suspended(int (*real)(const uint64_t *), const uint64_t *mask)
{
    uint64_t before = still_hidden;
    int result;
    still_hidden &= mask[0];
    result = real(mask);
    still_hidden = before;
    return result;
}

/* A jump may lead out of a handler. */
static void before_jump(void)
{
    uint64_t blocked = invalid_bit;
    if (!invalid.on || postponed || !(own_control() & INVALID_MASKED))
        return;
    raw(NR_rt_sigprocmask, SIG_BLOCK, 0, (uintptr_t)&blocked, 8, 0, 0);
    if (!(blocked & invalid_bit))
        unmask_invalid();
}

/* What an exec carries on is as the program wants it. */
static void before_exec(void)
{
    struct action ignore = {SIG_IGN, SA_RESTORER, late_restorer, 0};
    if (!invalid.on)
        return;
    if (late.selector == TRAP) {
        late.over = NR_execve + 1;
        let_go();
        raw(NR_rt_sigprocmask, SIG_BLOCK, (uintptr_t)&late.hidden, 0, 8, 0, 0);
    }
    if (still_hidden)
        raw(NR_rt_sigprocmask, SIG_BLOCK, (uintptr_t)&still_hidden, 0, 8, 0, 0);
    if (invalid.asked.handler == SIG_IGN)
        raw(NR_rt_sigaction, SIGFPE, (uintptr_t)&ignore, 0, 8, 0, 0);
}

static int exec_failed(int result)
{
    if (!invalid.on)
        return result;
    set_invalid();
    if (!postponed)
        raw(NR_rt_sigprocmask, SIG_UNBLOCK, (uintptr_t)&invalid_bit, 0, 8, 0, 0);
    return result;
}
