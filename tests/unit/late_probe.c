/* Does what its first argument names, then asks for a library of another machine: `probe ACTION LIBRARY`. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
static const char *library;


static sigjmp_buf before;
static void handle(int number) { (void)number; }
static void jump(int number) { siglongjmp(before, number); }
static int deeper(int n)
{
    volatile char room[256];
    room[n % 256] = syscall(SYS_getppid);
    return deeper(n + 1) + room[0];
}
static void *thread(void *nothing) { return nothing; }
static void action(int number, void (*what)(int), int block_all)
{
    struct sigaction to = {.sa_handler = what};
    if (block_all)
        sigfillset(&to.sa_mask);
    sigaction(number, &to, NULL);
}
static void block(int number)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    sigprocmask(SIG_BLOCK, &set, NULL);
}
static void ask(void) { printf("went on: %s\n", dlopen(library, RTLD_NOW) ? "opened" : dlerror()); }
static int begin_cache(void)
{
    int fd = open("kept/x.new", O_WRONLY | O_CREAT | O_EXCL, 0644);
    if (fd < 0 || write(fd, "cache\n", 6) != 6 || lseek(fd, 0, SEEK_CUR) != 6 || isatty(fd))
        abort();
    return fd;
}
static void cache(void)
{
    mkdir("kept", 0777);
    close(begin_cache());
    if (rename("kept/x.new", "kept/x"))
        abort();
}
static int on_stdin(const char *wanted)
{
    char text[64] = "";
    return fgets(text, sizeof text, stdin) && !strcmp(text, wanted);
}

/* Starts once more, where the kernel refuses Syscall User Dispatch. */
static void begin_refused(char **argv)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 59, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof rules / sizeof *rules, rules};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, 2, &program))
        abort();
    argv[1] = "nothing";
    execv(argv[0], argv);
}

#define DO(name, ...) if (!strcmp(what, #name)) { __VA_ARGS__; }

int main(int argc, char **argv)
{
    const char *what = argv[1];
    char text[4096];
    (void)argc;
    library = argv[2];
    if (!strcmp(what, "refused"))
        begin_refused(argv);
    /* What leaves a way back. */
    DO(nothing, )
    DO(read_a_file, FILE *f = fopen("/etc/passwd", "re"); if (!fgets(text, 20, f)) abort())
    DO(read_input, if (!on_stdin("first\n")) abort())
    DO(seek_input, lseek(0, 7, SEEK_SET))
    DO(list_a_directory, DIR *d = opendir("/usr"); while (readdir(d)); )
    DO(set_umask, umask(0); umask(077))
    DO(ignore_signals, signal(SIGFPE, SIG_IGN); signal(SIGHUP, SIG_DFL))
    DO(handle_a_signal, action(SIGINT, handle, 0))
    DO(block_a_signal, block(SIGUSR1))
    DO(block_all_signals, sigset_t s; sigfillset(&s); sigprocmask(SIG_BLOCK, &s, NULL);
       sigprocmask(SIG_BLOCK, NULL, &s); if (!sigismember(&s, SIGSYS)) abort(); fopen("/etc/passwd", "r"))
    DO(close_on_exec, fcntl(0, F_SETFD, FD_CLOEXEC); fcntl(1, F_SETFD, FD_CLOEXEC))
    DO(name_itself, prctl(PR_SET_NAME, "another"); memset(argv[1], 'x', strlen(argv[1])); setenv("Q", "changed", 1))
    DO(use_memory, char *p = malloc(64 << 20); memset(p, 1, 64 << 20))
    DO(print_unflushed, printf("nobody sees this\n"))
    DO(leave_a_descriptor, if (open("/etc/passwd", O_RDONLY) < 0) abort())
    DO(ask_what_signals_do, for (int n = 1; n < 32; n++) { struct sigaction a = {.sa_handler = handle};
       if (sigaction(n, NULL, &a) || (a.sa_handler != SIG_DFL && a.sa_handler != SIG_IGN)) abort(); })
    DO(ask_what_sigsys_does, struct sigaction a; sigaction(SIGSYS, NULL, &a); if (a.sa_handler != SIG_DFL) abort())
    DO(open_as_of_old, long fd = syscall(SYS_open, "/etc/passwd", O_RDONLY); syscall(SYS_read, fd, text, 9))
    DO(ask_for_time, struct timespec t; syscall(SYS_clock_gettime, CLOCK_REALTIME, &t))
    DO(open_input_again, int fd = open("/proc/self/fd/0", O_RDONLY); if (read(fd, text, 9) != 9) abort())
    DO(read_past_the_cache, int fd = open("input", O_RDONLY | O_DIRECT); pread(fd, text, 512, 0))
    DO(read_input_in_parts, struct iovec v[2] = {{text, 2}, {text + 2, 3}}; readv(0, v, 2); pread(0, text, 3, 1))
    DO(handle_on_a_stack_of_its_own, stack_t s = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16}; sigaltstack(&s, NULL);
       struct sigaction a = {.sa_handler = handle, .sa_flags = SA_ONSTACK}; sigaction(SIGSEGV, &a, NULL);
       sigaction(SIGSEGV, NULL, &a); if (a.sa_handler != handle || a.sa_flags & SA_SIGINFO) abort())
    DO(handle_and_ignore_again, action(SIGUSR1, handle, 0); if (signal(SIGUSR1, SIG_IGN) != handle) abort())
    DO(look_at_shared_memory, int fd = open("input", O_RDONLY); if (*(char *)mmap(NULL, 9, 1, MAP_SHARED, fd, 0) != 'f') abort())
    DO(own_shared_memory, char *p = mmap(NULL, 9, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0); *p = 1; munmap(p, 9))
    DO(write_at_the_end, fcntl(1, F_SETFL, fcntl(1, F_GETFL) | O_APPEND); fcntl(2, F_SETFL, fcntl(2, F_GETFL) | O_APPEND);
       if (!(fcntl(1, F_GETFL) & O_APPEND)) abort())
    DO(meet_signals, action(SIGUSR1, handle, 0); for (int i = 0; i < 40; i++) { FILE *f = fopen("/etc/passwd", "re");
       if (!fgets(text, 20, f)) abort(); fclose(f); if (i % 9 == 8) signal(SIGUSR1, i % 2 ? handle : SIG_IGN); })
    DO(keep_a_cache, cache())
    DO(keep_two_caches, cache(); cache())
    DO(give_up_a_cache, mkdir("kept", 0777); close(begin_cache()); if (unlink("kept/x.new")) abort())
    /* What can be seen, or goes on. */
    DO(write_bytes, if (write(1, "seen\n", 5) != 5) abort())
    DO(print_flushed, printf("seen\n"); fflush(stdout))
    DO(raw_write, __asm__ volatile("syscall" : : "a"(1L), "D"(1L), "S"("seen\n"), "d"(5L) : "rcx", "r11", "memory"))
    DO(old_write, int r; __asm__ volatile("int $0x80" : "=a"(r) : "a"(20) : "r8", "r9", "r10", "r11", "memory"))
    DO(make_directory, mkdir("made", 0700))
    DO(make_temporary, char n[] = "tmpXXXXXX"; int fd = mkstemp(n); close(fd); unlink(n))
    DO(fork_and_wait, if (!fork()) _exit(0); wait(NULL))
    DO(fork_and_ask_in_the_child, if (!fork()) { ask(); _exit(0); } int s; wait(&s); _exit(WEXITSTATUS(s)))
    DO(spawn, pid_t p; char *w[] = {"true", NULL}; posix_spawnp(&p, "true", NULL, NULL, w, environ); waitpid(p, NULL, 0))
    DO(run_a_command, if (system("true")) abort())
    DO(open_a_command, FILE *p = popen("echo x", "r"); if (!fgets(text, 9, p)) abort(); pclose(p))
    DO(start_a_thread, pthread_t t; pthread_create(&t, NULL, thread, NULL); pthread_join(t, NULL))
    DO(change_directory, if (chdir("/")) abort())
    DO(set_an_alarm, alarm(100))
    DO(set_an_interval, struct itimerval v = {{100, 0}, {100, 0}}; setitimer(ITIMER_REAL, &v, NULL))
    DO(make_a_timer, timer_t t; timer_create(CLOCK_REALTIME, NULL, &t))
    DO(signal_itself, action(SIGUSR1, handle, 0); raise(SIGUSR1))
    DO(handle_with_all_blocked, action(SIGUSR1, handle, 1))
    DO(block_all_and_write, sigset_t s; sigfillset(&s); sigprocmask(SIG_BLOCK, &s, NULL); if (write(1, "seen\n", 5) != 5) abort();
       sigprocmask(SIG_BLOCK, NULL, &s); if (!sigismember(&s, SIGSYS)) abort())
    DO(handle_sigsys, signal(SIGSYS, SIG_IGN))
    DO(limit_itself, struct rlimit l = {100, 100}; setrlimit(RLIMIT_NOFILE, &l))
    DO(limit_its_files, struct rlimit l = {1, RLIM_INFINITY}; setrlimit(RLIMIT_FSIZE, &l))
    DO(be_nice, if (nice(1) == -1) abort())
    DO(open_for_writing, int fd = open("file", O_WRONLY | O_CREAT, 0600); close(fd))
    DO(share_memory, int fd = open("file", O_RDWR | O_CREAT, 0600); mmap(NULL, 9, 2, MAP_SHARED, fd, 0))
    DO(close_input, close(0))
    DO(duplicate, dup2(1, 9))
    DO(make_a_pipe, int p[2]; if (pipe(p)) abort())
    DO(make_a_socket, socket(AF_UNIX, SOCK_STREAM, 0))
    DO(change_flags, fcntl(1, F_SETFL, O_NONBLOCK))
    DO(die_with_the_parent, prctl(PR_SET_PDEATHSIG, SIGTERM))
    DO(sleep, usleep(1000))
    DO(new_session, setsid())
    DO(jump_out_of_a_handler, action(SIGSEGV, jump, 0); if (!sigsetjmp(before, 1)) *(volatile char *)16 = 0)
    DO(overflow_its_stack, stack_t s = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16}; sigaltstack(&s, NULL);
       struct sigaction a = {.sa_handler = jump, .sa_flags = SA_ONSTACK}; sigaction(SIGSEGV, &a, NULL);
       if (!sigsetjmp(before, 1)) deeper(0))
    DO(begin_a_cache, mkdir("kept", 0777); close(begin_cache()))
    DO(begin_two_caches, mkdir("kept", 0777); begin_cache(); open("kept/x.newer", O_WRONLY | O_CREAT | O_EXCL, 0644))
    DO(remove_what_has_no_name, syscall(SYS_unlink, NULL))
    DO(remove_a_cache, cache(); unlink("kept/x"))
    DO(rename_a_cache, cache(); rename("kept/x", "kept/x.old"))
    DO(rename_a_cache_away, mkdir("kept", 0777); close(begin_cache()); rename("kept/x.new", "away"))
    DO(write_over_a_cache, cache(); close(open("kept/x", O_WRONLY)))
    DO(make_a_cache_without_care, mkdir("kept", 0777); close(open("kept/x.new", O_WRONLY | O_CREAT, 0644)))
    DO(write_into_what_was_inherited, char *p = mmap(NULL, 9, PROT_READ, MAP_SHARED, 2, 0); mprotect(p, 9, 3))
    DO(wake_others, int word = 0; syscall(SYS_futex, &word, FUTEX_WAKE, 1, NULL, NULL, 0))
    DO(memory_with_a_descriptor, syscall(SYS_memfd_create, "x", 0))
    DO(ring, char p[256] = ""; syscall(425, 1, p))
    DO(lock, flock(0, LOCK_SH))
    DO(lock_a_part, struct flock l = {.l_type = F_RDLCK}; fcntl(0, F_SETLK, &l))
    DO(lock_what_is_its_own, int fd = open("/etc/passwd", O_RDONLY); flock(fd, LOCK_SH))
    DO(duplicate_for_itself, fcntl(0, F_DUPFD_CLOEXEC, 10))
    DO(watch_files, inotify_init())
    DO(wait_for_many, epoll_create1(0))
    DO(count_events, eventfd(0, 0))
    DO(read_signals, sigset_t s; sigemptyset(&s); signalfd(-1, &s, 0))
    DO(read_a_timer, timerfd_create(CLOCK_MONOTONIC, 0))
    DO(wait_for_a_signal, sigset_t s; sigemptyset(&s); struct timespec t = {0, 1}; sigtimedwait(&s, NULL, &t))
    DO(be_traced, ptrace(PTRACE_TRACEME, 0, NULL, NULL))
    DO(be_another_user, setuid(getuid()))
    DO(lose_a_capability, prctl(PR_CAPBSET_DROP, 0, 0, 0, 0))
    DO(keep_memory, mlockall(MCL_CURRENT))
    DO(have_another_personality, personality(ADDR_NO_RANDOMIZE))
    DO(make_a_fifo, mkfifo("fifo", 0600))
    DO(open_output_again, open("/dev/stdout", O_RDONLY | O_NONBLOCK))
    DO(open_a_fifo, if (open("/proc/self/fd/1", O_RDONLY | O_NONBLOCK) < 0) abort())
    DO(open_a_terminal, open("/dev/ptmx", O_RDONLY | O_NOCTTY))
    DO(open_a_device, open("/dev/tty", O_RDONLY))
    DO(send_a_file, int fd = open("input", O_RDONLY); sendfile(1, fd, NULL, 0))
    DO(close_all, syscall(436, 100, ~0U, 0))
    DO(child_in_place, if (!vfork()) _exit(0); wait(NULL))
    DO(begin_another, char *w[] = {"true", NULL}; if (!fork()) execvp("true", w); wait(NULL))
    DO(begin_what_is_not_there, char *w[] = {"x", NULL}; execv("/nowhere/x", w))
    DO(end_another_s_process, kill(getppid(), 0))
    DO(change_times, utimensat(AT_FDCWD, "input", NULL, 0))
    DO(change_mode, chmod("input", 0600))
    DO(link, link("input", "linked"); symlink("input", "there"))
    ask();
    return 0;
}
