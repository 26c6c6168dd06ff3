/* The first process of the emulated machine: makes the build's file system from disks, runs one command as a sandbox
   would, and hands back how it ended and what it left.

   /spec says what to do: strings `key=value`, each ended by NUL (talk.py writes it). There are disks, told apart by
   their serial numbers: `root` (ext4, whose /root it is), `in` (a tar file), `work` (an empty ext4) and `out` (raw);
   and two ports of a virtio console: `output` takes what the command writes, `control` what we say, in lines:
   `ready`, `beat TICKS` (of CPU used so far, 100 a second), `exit N`, `free BYTES` (of the disk `work`),
   `out BYTES CRC`, `done`; or `error TEXT`. */

#define _GNU_SOURCE
#include <glob.h>
#include <grp.h>
#include <linux/capability.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "init.h"

#define ROOT "/root"
#define WORK "/work"
#define IMAGE "/image"
#define PLACE ROOT "/tmp"       /* where tar, in the root, sees what it packs and unpacks */
#define BEAT 5                  /* seconds between two beats */
#define PATIENCE 60             /* seconds that a device may take to appear */
#define BLOCK 65536
#define DEVICE 80               /* bytes of a path in /dev */

static int output = -1, children = -1;

static void load_modules(const struct spec *spec)
{
    for (int number = 0; number < spec->module_count; number++) {
        int fd = open(spec->modules[number], O_RDONLY | O_CLOEXEC);
        if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST))
            fail(spec->modules[number]);
        close(fd);
    }
}

/* Open the device that has `wanted` in one of the files of sysfs that match `pattern`; `file` gets its path. */
static int device(const char *pattern, const char *wanted, int flags, char file[DEVICE])
{
    for (int tries = 0; tries < PATIENCE * 20; tries++, usleep(50000)) {
        glob_t found = {0};
        int fd = -1;
        glob(pattern, 0, NULL, &found);
        for (size_t number = 0; number < found.gl_pathc && fd < 0; number++) {
            char *path = found.gl_pathv[number], text[64];
            slurp(path, text, sizeof text);
            text[strcspn(text, "\n")] = 0;
            *strrchr(path, '/') = 0;
            snprintf(file, DEVICE, "/dev/%s", strrchr(path, '/') + 1);
            /* The kernel may still be making it. */
            fd = strcmp(text, wanted) ? -1 : open(file, flags | O_CLOEXEC);
        }
        globfree(&found);
        if (fd >= 0)
            return fd;
    }
    errno = ENODEV;
    fail(wanted);
    return -1;
}

static int disk(const char *name, int flags)
{
    char file[DEVICE];
    return device("/sys/block/vd*/serial", name, flags, file);
}

static int port(const char *name)
{
    char file[DEVICE];
    return device("/sys/class/virtio-ports/*/name", name, O_WRONLY, file);
}

static void attach_disk(const char *name, const char *target, unsigned long flags)
{
    char file[DEVICE];
    close(device("/sys/block/vd*/serial", name, O_RDONLY, file));
    attach(file, target, "ext4", flags, "noinit_itable");
}

static void set_clock(long long seconds)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    /* Without a clock it is 1970, and make would take all sources for files of the future. */
    if (now.tv_sec < seconds) {
        now = (struct timespec){.tv_sec = seconds};
        clock_settime(CLOCK_REALTIME, &now);
    }
}

static void loopback_up(void)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request))
        fail("loopback");
    close(fd);
}

/* We are alive, and so busy: what tells an idle command from a long one, and a dead kernel from both. */
static void beat(void)
{
    static time_t last;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (last && now.tv_sec - last < BEAT)
        return;
    last = now.tv_sec;
    /* proc(5), /proc/stat: user, nice, system, idle, iowait, irq, softirq. */
    char text[1024];
    unsigned long long used[7] = {0};
    slurp("/proc/stat", text, sizeof text);
    sscanf(text, "cpu %llu %llu %llu %llu %llu %llu %llu", used, used + 1, used + 2, used + 3, used + 4, used + 5,
           used + 6);
    say("beat %llu", used[0] + used[1] + used[2] + used[5] + used[6]);
}

struct sink {
    int fd;
    uint32_t crc;
    unsigned long long size;
};

/* The CRC-32 of zlib and of Ethernet (IEEE 802.3), which Python has as zlib.crc32. */
static uint32_t crc32(uint32_t crc, const unsigned char *data, size_t size)
{
    static uint32_t table[256];
    for (int number = 0; !table[255] && number < 256; number++) {
        uint32_t value = number;
        for (int bit = 0; bit < 8; bit++)
            value = value & 1 ? 0xedb88320u ^ value >> 1 : value >> 1;
        table[number] = value;
    }
    for (crc = ~crc; size--; data++)
        crc = table[(crc ^ *data) & 255] ^ crc >> 8;
    return ~crc;
}

/* Bytes from the pipe `from` into `sink`; 0 at the end of what there is. */
static ssize_t pump(int from, struct sink *sink)
{
    static unsigned char data[BLOCK];
    ssize_t size = read(from, data, sizeof data);
    if (size <= 0)
        return size;
    sink->crc = crc32(sink->crc, data, size);
    sink->size += size;
    return whole(sink->fd, data, size) ? -2 : size;
}

/* Wait for `child` and pump meanwhile; its status as of waitpid. Orphans are reaped on the way. */
static int attend(pid_t child, int from, struct sink *sink)
{
    int status = 0, ended = 0;
    while (!ended) {
        struct pollfd ready[] = {{children, POLLIN, 0}, {from, POLLIN, 0}};
        poll(ready, 2, BEAT * 1000);
        beat();
        struct signalfd_siginfo told;
        if (ready[0].revents)
            read(children, &told, sizeof told);
        if (ready[1].revents) {
            ssize_t size = pump(from, sink);
            if (size == -2)
                fail("cannot write");
            if (size == 0)
                from = -1;
        }
        int one;
        for (pid_t pid; (pid = waitpid(-1, &one, WNOHANG)) > 0;)
            if (pid == child)
                ended = 1, status = one;
    }
    return status;
}

/* What is left in the pipe; nobody writes to it any more. */
static void drain(int from, struct sink *sink)
{
    fcntl(from, F_SETFL, O_NONBLOCK);
    for (ssize_t size; (size = pump(from, sink)) > 0 || size == -2;)
        if (size == -2)
            fail("cannot write");
    close(from);
}

static pid_t start(int in, int out, int error)
{
    pid_t pid = fork();
    if (pid < 0)
        fail("fork");
    if (pid)
        return pid;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    dup2(in, 0);
    dup2(out, 1);
    dup2(error, 2);
    return 0;
}

static int exit_code(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* The root's own tar, which keeps what xbuild's does: owners, modes, links, times to the nanosecond. */
static void tar(int in, struct sink *sink, char **words, const char *what)
{
    static char *env[] = {"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", NULL};
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        fail("pipe");
    pid_t pid = start(in, ends[1], output);
    if (!pid) {
        if (!chroot(ROOT) && !chdir("/tmp"))
            execvpe("tar", words, env);
        dprintf(2, "xbuild: cannot run tar: %s\n", strerror(errno));
        _exit(127);
    }
    close(ends[1]);
    int code = exit_code(attend(pid, ends[0], sink));
    drain(ends[0], sink);
    if (code) {
        say("error %s: tar ended with %d", what, code);
        power_off();
    }
}

static void bring_in(void)
{
    char *words[] = {"tar", "--numeric-owner", "-xpf", "-", NULL};
    struct sink talk = {.fd = output};
    attach_disk("work", WORK, 0);
    attach(WORK, PLACE, NULL, MS_BIND, NULL);
    tar(disk("in", O_RDONLY), &talk, words, "unpacking");
    umount(PLACE);
}

static void bring_out(struct spec *spec)
{
    char *words[TREES + 8] = {"tar", "--numeric-owner", "--format=posix", "--pax-option=delete=atime,delete=ctime",
                              "-cf", "-"};
    for (int number = 0, at = 6; number < spec->tree_count; number++)
        words[at++] = spec->trees[number];
    struct sink out = {.fd = disk("out", O_WRONLY)};
    attach(WORK, PLACE, NULL, MS_BIND, NULL);
    tar(open("/dev/null", O_RDONLY | O_CLOEXEC), &out, words, "packing");
    if (fsync(out.fd))
        fail("out");
    say("out %llu %u", out.size, out.crc);
}

static void link_to(const char *target, const char *name)
{
    if (symlink(target, name))
        fail(name);
}

static void make_devices(void)
{
    static const struct {
        const char *name;
        int major, minor;
    } known[] = {{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};
    attach("tmpfs", ROOT "/dev", "tmpfs", MS_NOSUID, "mode=0755");
    if (chdir(ROOT "/dev"))
        fail("/dev");
    umask(0);
    for (size_t number = 0; number < sizeof known / sizeof *known; number++)
        /* major and minor as in makedev(3), for numbers below 256. */
        if (mknod(known[number].name, S_IFCHR | 0666, known[number].major << 8 | known[number].minor))
            fail(known[number].name);
    umask(022);
    mkdir("pts", 0755);
    mkdir("shm", 0755);
    attach("devpts", "pts", "devpts", MS_NOSUID, "newinstance,ptmxmode=0666,mode=620");
    attach("tmpfs", "shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
    link_to("pts/ptmx", "ptmx");
    link_to("/proc/self/fd", "fd");
    link_to("/proc/self/fd/0", "stdin");
    link_to("/proc/self/fd/1", "stdout");
    link_to("/proc/self/fd/2", "stderr");
    chdir("/");
}

static void assemble(const struct spec *spec)
{
    if (spec->over)
        attach("overlay", ROOT, "overlay", MS_RDONLY, "lowerdir=" WORK "/over:" ROOT);
    for (int number = 0; number < spec->tree_count; number++) {
        char inside[256], outside[256];
        snprintf(inside, sizeof inside, ROOT "/%s", spec->trees[number]);
        snprintf(outside, sizeof outside, WORK "/%s", spec->trees[number]);
        attach(outside, inside, NULL, MS_BIND, NULL);
    }
    attach("proc", ROOT "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    make_devices();
}

/* Root of a phase has the capabilities over files, their owners and processes only, as in a sandbox (syscalls.py). */
static void narrow(void)
{
    for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
        if (capability > CAP_SETUID || capability == CAP_DAC_READ_SEARCH)
            prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
}

static void become(struct spec *spec)
{
    if (!spec->uid)
        narrow();
    /* Not only chroot(2): that would show, for example by unshare(CLONE_NEWUSER) refused. */
    if (unshare(CLONE_NEWNS) || chdir(ROOT) || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") ||
        setgroups(0, NULL) || setresgid(spec->gid, spec->gid, spec->gid) ||
        setresuid(spec->uid, spec->uid, spec->uid) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || chdir(spec->cwd))
        dprintf(2, "xbuild: cannot enter %s: %s\n", spec->cwd, strerror(errno));
    else {
        execvpe(spec->args[0], spec->args, spec->env);
        dprintf(2, "xbuild: cannot run %s: %s\n", spec->args[0], strerror(errno));
    }
    _exit(127);
}

static void run(struct spec *spec)
{
    struct sink talk = {.fd = output};
    int ends[2];
    /* A pipe of the user's own: only he can open /dev/stdout, and a port can be opened but once. */
    if (pipe2(ends, O_CLOEXEC) || fchown(ends[1], spec->uid, spec->gid))
        fail("pipe");
    pid_t pid = start(open("/dev/null", O_RDONLY | O_CLOEXEC), ends[1], ends[1]);
    if (!pid) {
        /* execvpe(3) takes PATH from our own environment. */
        environ = spec->env;
        become(spec);
    }
    close(ends[1]);
    int code = exit_code(attend(pid, ends[0], &talk));
    kill(-1, SIGKILL);
    while (waitpid(-1, NULL, 0) > 0)
        ;
    drain(ends[0], &talk);
    struct statvfs left = {0};
    statvfs(WORK, &left);
    say("exit %d", code);
    say("free %llu", (unsigned long long)left.f_bavail * left.f_frsize);
}

int main(void)
{
    static struct spec spec;
    sigset_t child;
    umask(022);
    mkdir("/dev", 0755), mkdir("/proc", 0755), mkdir("/sys", 0755), mkdir(ROOT, 0755), mkdir(WORK, 0755);
    mkdir(IMAGE, 0755);
    attach("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    attach("proc", "/proc", "proc", 0, NULL);
    attach("sysfs", "/sys", "sysfs", 0, NULL);
    read_spec(&spec);
    load_modules(&spec);
    control = port("control");
    output = port("output");
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    children = signalfd(-1, &child, SFD_CLOEXEC);
    set_clock(spec.time);
    sethostname(spec.name, strlen(spec.name));
    loopback_up();
    attach_disk("root", IMAGE, MS_RDONLY);
    /* Not the disk's own /, which has a lost+found that no root has. */
    attach(IMAGE "/root", ROOT, NULL, MS_BIND, NULL);
    say("ready");
    bring_in();
    assemble(&spec);
    run(&spec);
    if (spec.keep)
        bring_out(&spec);
    say("done");
    power_off();
}
