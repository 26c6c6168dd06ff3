/* What a program sees of SIGFPE, in all the ways in which it can ask about it, and what is no number meanwhile. */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile double zero;
static volatile sig_atomic_t came, within;
static sigjmp_buf out;

static const char *none(void)
{
    double value = zero / zero;
    return __builtin_signbit(value) ? "-nan" : "nan";
}

static int is_blocked(int number)
{
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    return sigismember(&now, number);
}

static void told(int number, siginfo_t *information, void *context)
{
    (void)context;
    came += information->si_code == SI_USER || information->si_code == SI_TKILL ? 1 : 100;
    within = is_blocked(number) + 10 * is_blocked(SIGUSR1);
}

static void plain(int number)
{
    came += number == SIGFPE ? 1000 : 0;
}

static void leaves(int number)
{
    (void)number;
    siglongjmp(out, 1);
}

static void show(const char *when)
{
    struct sigaction now;
    sigaction(SIGFPE, NULL, &now);
    printf("%s: %s flags %x mask %d %d came %d within %d blocked %d, %s\n", when,
           now.sa_handler == SIG_DFL ? "default" : now.sa_handler == SIG_IGN ? "ignored" :
           now.sa_sigaction == told ? "told" : now.sa_handler == plain ? "plain" : "other",
           (unsigned)now.sa_flags & ~0x04000000u, sigismember(&now.sa_mask, SIGUSR1), sigismember(&now.sa_mask, SIGFPE),
           (int)came, (int)within, is_blocked(SIGFPE), none());
    came = within = 0;
}

static void act(void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    sigaddset(&action.sa_mask, SIGUSR1);
    sigaction(SIGFPE, &action, NULL);
}

static void *thread(void *set)
{
    pthread_sigmask(SIG_BLOCK, set, NULL);
    printf("thread: %s\n", none());
    return NULL;
}

static void blocking(void)
{
    sigset_t fpe, all, empty, pending, before;
    pthread_t other;
    int number;
    sigemptyset(&empty), sigemptyset(&fpe), sigaddset(&fpe, SIGFPE), sigfillset(&all);
    sigprocmask(SIG_BLOCK, &fpe, &before);
    show("blocked");
    raise(SIGFPE), kill(getpid(), SIGFPE);
    sigpending(&pending);
    printf("pending %d before %d\n", sigismember(&pending, SIGFPE), sigismember(&before, SIGFPE));
    sigprocmask(SIG_SETMASK, &empty, &before);
    printf("before %d\n", sigismember(&before, SIGFPE));
    show("once more");
    sigprocmask(SIG_SETMASK, &all, NULL);
    kill(getpid(), SIGFPE);
    sigwait(&fpe, &number);
    printf("waited for %d\n", number);
    sigprocmask(SIG_UNBLOCK, &all, NULL);
    show("waited");
    sigprocmask(SIG_BLOCK, &fpe, NULL);
    kill(getpid(), SIGFPE);
    sigsuspend(&empty);
    printf("suspended: came %d blocked %d\n", (int)came, is_blocked(SIGFPE));
    sigprocmask(SIG_UNBLOCK, &fpe, NULL);
    show("suspended");
    pthread_create(&other, NULL, thread, &all), pthread_join(other, NULL);
    show("after a thread");
}

/* What is blocked and ignored goes on to what a program starts. */
static void starts(void (*handler)(int), int block)
{
    static char *const words[] = {"grep", "-E", "Sig(Blk|Ign)", "/proc/self/status", NULL};
    sigset_t fpe;
    if (!fork()) {
        sigemptyset(&fpe), sigaddset(&fpe, SIGFPE);
        signal(SIGFPE, handler);
        if (block)
            sigprocmask(SIG_BLOCK, &fpe, NULL);
        execv("/there/is/none", words);
        show("not started");
        execvp(words[0], words);
    }
    wait(NULL);
}

static void ends(const char *how, int handler_before)
{
    int status;
    fflush(stdout);
    if (!fork()) {
        sigset_t fpe;
        sigemptyset(&fpe), sigaddset(&fpe, SIGFPE);
        signal(SIGFPE, handler_before ? plain : SIG_DFL);
        if (!none()[0])
            _exit(2);
        if (*how == 'b')
            sigprocmask(SIG_BLOCK, &fpe, NULL);
        if (*how == 'k')
            kill(getpid(), SIGFPE);
        else
            raise(SIGFPE);
        if (*how == 'b')
            sigprocmask(SIG_UNBLOCK, &fpe, NULL);
        printf("child %s: came %d %s\n", how, (int)came, none());
        fflush(stdout);
        _exit(0);
    }
    wait(&status);
    printf("%s: %s %d\n", how, WIFSIGNALED(status) ? "killed by" : "ended with", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

int main(void)
{
    struct sigaction jump;
    int status;
    setvbuf(stdout, NULL, _IOLBF, 0);
    show("start");
    printf("was %d\n", signal(SIGFPE, plain) == SIG_DFL);
    show("signal");
    raise(SIGFPE);
    show("raised");
    act(told, SA_SIGINFO);
    raise(SIGFPE);
    show("told");
    act(told, SA_SIGINFO | SA_RESETHAND | SA_NODEFER);
    show("once");
    kill(getpid(), SIGFPE);
    show("reset");
    act(told, SA_SIGINFO | SA_RESTART);
    blocking();
    if (!vfork()) {
        signal(SIGFPE, SIG_DFL);
        _exit(0);
    }
    wait(&status);
    raise(SIGFPE);
    show("after vfork"); /* of a real one; qemu's is a fork */
    signal(SIGFPE, SIG_IGN);
    raise(SIGFPE), kill(getpid(), SIGFPE);
    show("ignored");
    ends("raised", 0), ends("killed", 0), ends("blocked", 0), ends("handled", 1), ends("killed, handled", 1);
    starts(SIG_DFL, 0), starts(SIG_IGN, 0), starts(plain, 1);
    memset(&jump, 0, sizeof jump);
    jump.sa_handler = leaves;
    sigaction(SIGALRM, &jump, NULL);
    if (!sigsetjmp(out, 1))
        raise(SIGALRM);
    show("out of a handler");
    return 0;
}
