/* Does one thing that builds do and emulators have got wrong; ends with 0, or says what came instead and ends with 1.

   canary NAME; the names stand in a table at the end. Compiled by the target root's own compiler; with NARROW only the
   reading of a directory, as programs with 32-bit file offsets do it. */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES 300

#define CHECK(what, ...) do { if (!(what)) fail(__VA_ARGS__); } while (0)

static _Noreturn void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
    _exit(1);
}

static void read_directory(void)
{
    char name[64];
    CHECK(mkdir("readdir", 0755) == 0, "mkdir: %s", strerror(errno));
    for (int number = 0; number < FILES; number++) {
        snprintf(name, sizeof name, "readdir/file-%d", number);
        int file = open(name, O_CREAT | O_WRONLY | O_EXCL, 0644);
        CHECK(file >= 0, "%s: %s", name, strerror(errno));
        close(file);
    }
    DIR *directory = opendir("readdir");
    CHECK(directory, "opendir: %s", strerror(errno));
    int found = -2; /* . and .. */
    errno = 0;
    while (readdir(directory))
        found++;
    CHECK(found == FILES && errno == 0, "readdir found %d of %d files (%s), off_t being %d bits wide",
          found < 0 ? 0 : found, FILES, errno ? strerror(errno) : "without an error", (int)sizeof(off_t) * 8);
    closedir(directory);
}

#ifdef NARROW

int main(void)
{
    read_directory();
    return 0;
}

#else

#include <grp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>

#define THREADS 8
#define ROUNDS 1000
/* Ids of the build's user and of one that no file has, both in the range that a sandbox maps. */
#define USER 1000
#define STRANGER 12345

static char *self;
extern char **environ;

static pid_t forked(void)
{
    pid_t child = fork();
    CHECK(child >= 0, "fork: %s", strerror(errno));
    return child;
}

static int wait_for(pid_t child)
{
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child, "waitpid: %s", strerror(errno));
    return status;
}

static void expect_exit(const char *how, pid_t child, int code)
{
    int status = wait_for(child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == code, "%s: the child's status is %#x, not exit code %d", how,
          status, code);
}

static void use_fork(void)
{
    for (int code = 0; code < 3; code++) {
        char word[12], *words[] = {self, "exit", word, NULL};
        snprintf(word, sizeof word, "%d", code + 40);
        pid_t child = forked();
        if (child == 0) {
            execv(self, words);
            _exit(127);
        }
        expect_exit("a program of the build, after fork", child, code + 40);
    }
}

static void use_vfork(void)
{
    char *commands[] = {"/bin/true", "/bin/false"};
    for (int code = 0; code < 2; code++) {
        pid_t child = vfork();
        CHECK(child >= 0, "vfork: %s", strerror(errno));
        if (child == 0) {
            execl(commands[code], commands[code], (char *)NULL);
            _exit(127);
        }
        expect_exit(commands[code], child, code);
    }
}

static void use_spawn(void)
{
    char *commands[][4] = {{"/bin/true", NULL}, {"/bin/false", NULL}, {self, "exit", "42", NULL}};
    int codes[] = {0, 1, 42}, ends[2];
    char said[8] = "";
    posix_spawn_file_actions_t actions;
    for (int number = 0; number < 3; number++) {
        pid_t child = -1;
        int error = posix_spawn(&child, commands[number][0], NULL, NULL, commands[number], environ);
        CHECK(error == 0, "posix_spawn of %s: %s", commands[number][0], strerror(error));
        expect_exit(commands[number][0], child, codes[number]);
    }
    CHECK(pipe(ends) == 0, "pipe: %s", strerror(errno));
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    char *words[] = {"sh", "-c", "echo 42", NULL};
    pid_t child = -1;
    int error = posix_spawnp(&child, "sh", &actions, NULL, words, environ);
    CHECK(error == 0, "posix_spawnp of sh: %s", strerror(error));
    expect_exit("sh", child, 0);
    close(ends[1]);
    CHECK(read(ends[0], said, sizeof said - 1) == 3 && !strcmp(said, "42\n"), "sh, spawned, said %s, not 42", said);
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static __thread long own = 7;
static long total, waiting, go;

static void *work(void *argument)
{
    pthread_mutex_lock(&mutex);
    waiting++;
    pthread_cond_broadcast(&condition);
    while (!go)
        pthread_cond_wait(&condition, &mutex);
    pthread_mutex_unlock(&mutex);
    for (int round = 0; round < ROUNDS; round++) {
        pthread_mutex_lock(&mutex);
        total++;
        own++;
        pthread_mutex_unlock(&mutex);
    }
    return (void *)((intptr_t)argument + own);
}

static void use_threads(void)
{
    pthread_t threads[THREADS];
    for (intptr_t number = 0; number < THREADS; number++) {
        int error = pthread_create(&threads[number], NULL, work, (void *)number);
        CHECK(error == 0, "pthread_create: %s", strerror(error));
    }
    pthread_mutex_lock(&mutex);
    while (waiting < THREADS)
        pthread_cond_wait(&condition, &mutex);
    go = 1;
    pthread_cond_broadcast(&condition);
    pthread_mutex_unlock(&mutex);
    for (intptr_t number = 0; number < THREADS; number++) {
        void *result = NULL;
        int error = pthread_join(threads[number], &result);
        CHECK(error == 0, "pthread_join: %s", strerror(error));
        CHECK((intptr_t)result == number + 7 + ROUNDS, "thread %d gave %d, not %d: its own variable is not its own",
              (int)number, (int)(intptr_t)result, (int)number + 7 + ROUNDS);
    }
    CHECK(total == THREADS * ROUNDS, "%ld rounds under a mutex were counted, not %d", total, THREADS * ROUNDS);
}

static volatile sig_atomic_t handled;
static void *volatile fault, *volatile handler_stack;
static sigjmp_buf before_fault;
/* Not a constant: compilers make a trap of a write to that. */
static int *volatile nowhere;

static void count(int number)
{
    handled += number == SIGUSR1 || number == SIGALRM;
}

static void leave(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    fault = info->si_addr;
    handler_stack = (void *)&number;
    siglongjmp(before_fault, 1);
}

static void die_by_signal(int number)
{
    struct rlimit none = {0, 0};
    pid_t child = forked();
    if (child == 0) {
        setrlimit(RLIMIT_CORE, &none);
        if (number == SIGSEGV)
            *nowhere = 0;
        raise(number);
        _exit(0);
    }
    int status = wait_for(child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == number, "a child that dies by signal %d has status %#x", number,
          status);
}

static void catch_fault(void)
{
    size_t size = 1 << 16;
    char *stack = malloc(size), *page = mmap(NULL, 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t other = {.ss_sp = stack, .ss_size = size};
    struct sigaction action = {.sa_sigaction = leave, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    CHECK(stack && page != MAP_FAILED, "no memory");
    CHECK(sigaltstack(&other, NULL) == 0, "sigaltstack: %s", strerror(errno));
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0, "sigaction: %s", strerror(errno));
    if (sigsetjmp(before_fault, 1) == 0) {
        page[5] = 1;
        fail("a write to memory without access did nothing");
    }
    CHECK(fault == page + 5, "the fault was at %p, and the handler was told %p", (void *)(page + 5), fault);
    CHECK((char *)handler_stack >= stack && (char *)handler_stack < stack + size, "the handler had another stack");
}

static void use_signals(void)
{
    int ends[2];
    char byte;
    sigset_t set, before;
    struct sigaction action = {.sa_handler = count};
    struct itimerval soon = {.it_value = {.tv_usec = 20000}, .it_interval = {.tv_usec = 20000}};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0, "sigaction: %s", strerror(errno));
    CHECK(sigaction(SIGALRM, &action, NULL) == 0, "sigaction: %s", strerror(errno));
    CHECK(kill(getpid(), SIGUSR1) == 0 && handled == 1, "a handler did not run");
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, &before);
    kill(getpid(), SIGUSR1);
    CHECK(handled == 1, "a blocked signal came through");
    sigsuspend(&before);
    CHECK(handled == 2, "sigsuspend did not wait for the signal");
    CHECK(pipe(ends) == 0, "pipe: %s", strerror(errno));
    /* It comes again and again: the first could be there before read waits. */
    setitimer(ITIMER_REAL, &soon, NULL);
    ssize_t length = read(ends[0], &byte, 1);
    CHECK(length == -1 && errno == EINTR && handled > 2, "a timer did not interrupt read: %s", strerror(errno));
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    die_by_signal(SIGTERM);
    die_by_signal(SIGSEGV);
    catch_fault();
}

static void use_flock(void)
{
    int file = open("lock", O_CREAT | O_RDWR, 0644);
    CHECK(file >= 0, "open: %s", strerror(errno));
    CHECK(flock(file, LOCK_EX) == 0, "flock: %s", strerror(errno));
    for (int free = 0; free < 2; free++) {
        pid_t child = forked();
        if (child == 0)
            _exit(flock(open("lock", O_RDWR), LOCK_EX | LOCK_NB) == 0 ? 0 : errno == EWOULDBLOCK ? 1 : 2);
        expect_exit(free ? "flock of a free file" : "flock of a locked file", child, !free);
        flock(file, LOCK_UN);
    }
    close(file);
}

static void use_record_locks(void)
{
    struct flock part = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 10}, asked = part;
    int file = open("lock", O_RDWR);
    CHECK(file >= 0 && fcntl(file, F_SETLK, &part) == 0, "fcntl F_SETLK: %s", strerror(errno));
    pid_t parent = getpid(), child = forked();
    if (child == 0) {
        struct flock beside = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 20, .l_len = 10};
        CHECK(fcntl(file, F_SETLK, &part) == -1 && (errno == EAGAIN || errno == EACCES),
              "fcntl F_SETLK locked what another process has locked");
        CHECK(fcntl(file, F_SETLK, &beside) == 0, "fcntl F_SETLK of another part: %s", strerror(errno));
        CHECK(fcntl(file, F_GETLK, &asked) == 0 && asked.l_type == F_WRLCK && asked.l_pid == parent &&
                  asked.l_start == 10 && asked.l_len == 10,
              "fcntl F_GETLK told of a lock of process %d, not %d", (int)asked.l_pid, (int)parent);
        _exit(0);
    }
    CHECK(wait_for(child) == 0, "(seen by the process beside)");
    close(file);
}

static void use_open_file_locks(void)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int one = open("lock", O_RDWR), two = open("lock", O_RDWR);
    CHECK(fcntl(one, F_OFD_SETLK, &whole) == 0, "fcntl F_OFD_SETLK: %s", strerror(errno));
    CHECK(fcntl(two, F_OFD_SETLK, &whole) == -1 && (errno == EAGAIN || errno == EACCES),
          "fcntl F_OFD_SETLK locked what another open file has locked");
    close(one);
    CHECK(fcntl(two, F_OFD_SETLK, &whole) == 0, "fcntl F_OFD_SETLK after the other's end: %s", strerror(errno));
}

static void use_locks(void)
{
    use_flock();
    use_record_locks();
    use_open_file_locks();
}

static void owned_by(int file, uid_t user, gid_t group)
{
    struct stat state;
    CHECK(fstat(file, &state) == 0, "fstat: %s", strerror(errno));
    CHECK(state.st_uid == user && state.st_gid == group, "a file is %ld:%ld's, not %ld:%ld's", (long)state.st_uid,
          (long)state.st_gid, (long)user, (long)group);
}

static _Noreturn void be_another(void)
{
    uid_t real, effective, saved;
    gid_t groups[] = {USER, STRANGER};
    CHECK(setgroups(2, groups) == 0 && getgroups(0, NULL) == 2, "setgroups: %s", strerror(errno));
    CHECK(setresgid(USER, USER, 0) == 0, "setresgid: %s", strerror(errno));
    CHECK(setresuid(USER, USER, 0) == 0, "setresuid: %s", strerror(errno));
    int file = open("owned/new", O_CREAT | O_RDWR | O_EXCL, 0644);
    CHECK(file >= 0, "open as uid %d: %s", USER, strerror(errno));
    owned_by(file, USER, USER);
    CHECK(fchown(file, STRANGER, STRANGER) == -1 && errno == EPERM, "uid %d could give a file away", USER);
    CHECK(setresuid(-1, 0, -1) == 0, "setresuid back: %s", strerror(errno));
    CHECK(fchown(file, STRANGER, STRANGER) == 0, "chown: %s", strerror(errno));
    owned_by(file, STRANGER, STRANGER);
    CHECK(setuid(USER) == 0, "setuid: %s", strerror(errno));
    CHECK(getresuid(&real, &effective, &saved) == 0 && real == USER && effective == USER && saved == USER,
          "after setuid the ids are %ld %ld %ld", (long)real, (long)effective, (long)saved);
    CHECK(setuid(0) == -1 && errno == EPERM, "setuid back to 0 was not refused");
    _exit(0);
}

static void use_ids(void)
{
    CHECK(getuid() == 0, "uid %ld, not 0, inside the namespace", (long)getuid());
    CHECK(mkdir("owned", 0755) == 0 && chown("owned", USER, USER) == 0, "chown: %s", strerror(errno));
    pid_t child = forked();
    if (child == 0)
        be_another();
    CHECK(wait_for(child) == 0, "(seen by the process with the other ids)");
}

static const struct {
    const char *name;
    void (*test)(void);
} tests[] = {
    {"readdir", read_directory}, {"fork", use_fork}, {"vfork", use_vfork}, {"posix_spawn", use_spawn},
    {"threads", use_threads}, {"signals", use_signals}, {"locks", use_locks}, {"setuid", use_ids},
};

int main(int number, char **words)
{
    self = words[0];
    if (number == 3 && !strcmp(words[1], "exit"))
        return atoi(words[2]);
    if (number == 2 && !strcmp(words[1], "widths"))
        return printf("%zu %zu\n", sizeof(void *) * 8, sizeof(off_t) * 8) < 0;
    for (size_t known = 0; number == 2 && known < sizeof tests / sizeof *tests; known++) {
        if (strcmp(words[1], tests[known].name) == 0) {
            tests[known].test();
            return 0;
        }
    }
    fail("usage: canary NAME");
}

#endif
