/* Runs a command in a container so that target programs come to our dispatcher: `enter PROGRAM ARGS...`.
 *
 * It is the entry point and the shell of an exported image, and native. It unshares a user namespace with the ids that
 * it has, mounts a binfmt_misc of its own there (Linux 6.7), registers the dispatcher, and becomes the command. Where
 * that is refused the command runs all the same, as the machine runs target programs, and a line on stderr says so:
 * XBUILD_ENTER=off does not try, XBUILD_ENTER=require makes it an error; XBUILD_ENTER=emulated registers the emulator
 * without any native tool, to compare with. XBUILD_RECORD names a file to which every exec is written (struct record).
 * `enter --status` tells what runs here now; exit code 0 if that is native.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "table.h"

static long read_at(int fd, char *buffer, size_t size, int64_t offset)
{
    return pread(fd, buffer, size, offset);
}

#include "content.h"

#define PRIVATE "/.xbuild"
#define OWN PRIVATE "/run" /* a file system in memory, of this container's */
#define DISPATCHER OWN "/dispatch"
#define BINFMT OWN "/binfmt"
enum { WORKERS = 8, NOT_RUN = 126, NOT_FOUND = 127 };

static char reason[512];

/* Remember why; for returning. */
static int no(const char *format, ...)
{
    int error = errno;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason - 64, format, arguments);
    va_end(arguments);
    if (error)
        snprintf(reason + strlen(reason), 64, ": %s", strerror(error));
    return -1;
}

static int write_file(const char *path, const void *data, size_t size, int flags)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC | flags, 0755);
    int good = fd >= 0 && write(fd, data, size) == (ssize_t)size;
    if (fd >= 0 && close(fd))
        good = 0;
    return good ? 0 : no("write %s", path);
}

/* A whole small file, with a NUL behind it; NULL if it cannot be read. */
static char *read_file(const char *path, size_t *size)
{
    static const size_t most = TABLE_SIZE + (1 << 20);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *data = mmap(NULL, most, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ssize_t got = 1;
    *size = 0;
    if (fd < 0 || data == MAP_FAILED) {
        no("read %s", path);
        return NULL;
    }
    while (*size < most - 1 && (got = read(fd, data + *size, most - 1 - *size)) > 0)
        *size += (size_t)got;
    close(fd);
    return got == 0 ? data : (no("read %s", path), NULL);
}

/* The map that gives a new namespace the ids of this one, each as itself (user_namespaces(7)). */
static void identity(const char *path, char *map, size_t room)
{
    FILE *file = fopen(path, "re");
    unsigned long inside, outside, count;
    map[0] = 0;
    while (file && fscanf(file, "%lu %lu %lu", &inside, &outside, &count) == 3)
        snprintf(map + strlen(map), room - strlen(map), "%lu %lu %lu\n", inside, inside, count);
    if (file)
        fclose(file);
}

/* Which ids a new namespace gets: all, which only somebody may give who may set ids here; or the caller's alone. */
enum ids { ALL, OWN_ROOT, OWN_USER };

static int write_maps(const char *process, char maps[2][4096])
{
    static const char *const names[2] = {"uid_map", "gid_map"};
    char path[64];
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "/proc/%s/%s", process, names[i]);
        if (write_file(path, maps[i], strlen(maps[i]), 0))
            return -1;
    }
    return 0;
}

/* Into a new user namespace. ALL: each id as itself; OWN_ROOT: the caller, `user`, as root; OWN_USER: and back. */
static int new_user_namespace(enum ids ids, const unsigned *user, int flags)
{
    char maps[2][4096], process[16], x = 0;
    int go[2], status = 1;
    for (int i = 0; i < 2 && ids != ALL; i++)
        snprintf(maps[i], sizeof maps[i], ids == OWN_ROOT ? "0 %u 1\n" : "%u 0 1\n", user[i]);
    if (ids != ALL) {
        if (unshare(CLONE_NEWUSER | flags))
            return no("a user namespace is refused");
        return write_file("/proc/self/setgroups", "deny", 4, 0) || write_maps("self", maps) ? -1 : 0;
    }
    identity("/proc/self/uid_map", maps[0], sizeof maps[0]);
    identity("/proc/self/gid_map", maps[1], sizeof maps[1]);
    snprintf(process, sizeof process, "%d", getpid());
    if (pipe2(go, O_CLOEXEC))
        return no("pipe");
    pid_t helper = fork();
    if (helper == 0) {
        close(go[1]);
        _exit(read(go[0], &x, 1) != 1 || write_maps(process, maps));
    }
    int refused = helper < 0 || unshare(CLONE_NEWUSER | flags) ? no("a user namespace is refused") : 0;
    if (!refused && write(go[1], &x, 1) != 1)
        refused = no("pipe");
    close(go[0]);
    close(go[1]);
    if (helper > 0 && (waitpid(helper, &status, 0) != helper || status) && !refused)
        return errno = 0, no("a user namespace with all ids is refused");
    return refused;
}

static int private_binfmt(enum ids ids, const unsigned *user)
{
    if (new_user_namespace(ids, user, CLONE_NEWNS))
        return -1;
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
        return no("mounts cannot be made private");
    if (mount("tmpfs", OWN, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=8m"))
        return no("mount " OWN);
    if (mkdir(BINFMT, 0755) || mount("binfmt_misc", BINFMT, "binfmt_misc", 0, NULL))
        return no("a binfmt_misc of its own is refused (it needs Linux 6.7)");
    return access(BINFMT "/register", W_OK) ? no("a binfmt_misc of its own cannot be written") : 0;
}

static struct table *find_table(char *program, size_t size)
{
    for (size_t at = 0; at + TABLE_SIZE <= size; at += 4096)
        if (((struct table *)(program + at))->magic == TABLE_MAGIC)
            return (struct table *)(program + at);
    return NULL;
}

/* Let the table know files that are as they should be by their change time here, so that the dispatcher need not read
 * them at every exec. What it does not know by that it compares by contents itself. */
static void recognise(struct table *table)
{
    char *base = (char *)table;
    struct slot *slots = (struct slot *)(base + table->slots);
    uint32_t *next = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    cpu_set_t cpus;
    int workers = sched_getaffinity(0, sizeof cpus, &cpus) ? 1 : CPU_COUNT(&cpus);
    pid_t started[WORKERS];
    if (next == MAP_FAILED)
        return;
    if (workers > WORKERS)
        workers = WORKERS;
    for (int i = 0; i < workers; i++) {
        if ((started[i] = fork()))
            continue;
        uint32_t n;
        while ((n = __atomic_fetch_add(next, 1, __ATOMIC_RELAXED)) <= table->slot_mask) {
            struct stat before, after;
            int fd = slots[n].digest ? open(base + slots[n].path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
            if (fd < 0)
                continue;
            if (!fstat(fd, &before) && S_ISREG(before.st_mode) && before.st_size == slots[n].size &&
                has_contents(fd, before.st_size, base + slots[n].digest) && !fstat(fd, &after) &&
                !memcmp(&before.st_ctim, &after.st_ctim, sizeof before.st_ctim)) {
                slots[n].ctime_sec = before.st_ctim.tv_sec;
                slots[n].ctime_nsec = before.st_ctim.tv_nsec;
            }
            close(fd);
        }
        _exit(0);
    }
    /* Not for any child: whoever started us by exec may have left some that never end. */
    for (int i = 0; i < workers; i++)
        while (started[i] > 0 && waitpid(started[i], NULL, 0) < 0 && errno == EINTR)
            ;
    munmap(next, 4096);
}

/* What the emulator shows as /proc/cpuinfo to target programs, native ones see too. */
static void show_cpuinfo(void)
{
    static const char file[] = OWN "/cpuinfo";
    char *command[] = {PRIVATE "/qemu", "/usr/bin/cat", "/proc/cpuinfo", NULL}, *nothing[] = {NULL};
    int status = 1, fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0444);
    pid_t child = fd < 0 || access(command[1], X_OK) ? -1 : fork();
    if (child == 0) {
        dup2(fd, 1);
        fd = open("/dev/null", O_RDWR);
        dup2(fd, 0);
        dup2(fd, 2);
        execve(command[0], command, nothing);
        _exit(NOT_RUN);
    }
    close(fd);
    if (child > 0 && waitpid(child, &status, 0) == child && !status)
        mount(file, "/proc/cpuinfo", NULL, MS_BIND, NULL);
}

static int set_up(enum ids ids, int emulated)
{
    size_t size, length;
    unsigned user[2] = {geteuid(), getegid()};
    char *program = read_file(PRIVATE "/dispatch", &size);
    char *line = program ? read_file(PRIVATE "/registration", &length) : NULL;
    const char *record = getenv("XBUILD_RECORD");
    struct table *table = line ? find_table(program, size) : NULL;
    struct statvfs file_system;
    int fd;
    if (!table)
        return line ? (errno = 0, no(PRIVATE "/dispatch holds no table")) : -1;
    if (emulated)
        memset((char *)table + table->slots, 0, (table->slot_mask + 1) * sizeof(struct slot));
    else
        recognise(table);
    if (private_binfmt(ids, user))
        return -1;
    if (mount(PRIVATE, PRIVATE, NULL, MS_BIND | MS_REC, NULL) || statvfs(PRIVATE, &file_system))
        return no("mount " PRIVATE);
    if (!record || !*record)
        table->record = table->far_record = 0;
    else if ((fd = open(record, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) < 0 || close(fd) ||
             mount(record, PRIVATE "/record", NULL, MS_BIND, NULL))
        return no("the record %s", record);
    if (write_file(DISPATCHER, program, size, O_CREAT) ||
        write_file(BINFMT "/register", line, length, 0))
        return -1;
    show_cpuinfo();
    /* A build that writes over native tools would be told so. Flags that the container has set may not be dropped. */
    unsigned long kept = file_system.f_flag & (ST_NOSUID | ST_NODEV | ST_NOEXEC);
    if (mount("none", PRIVATE, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | kept, NULL))
        return no("mount " PRIVATE);
    /* One namespace further the command has no rights over these mounts, and is again who it was. */
    return new_user_namespace(ids == ALL ? ALL : OWN_USER, user, 0);
}

/* What the kernel starts for this container's shell, in `runs`. 0: a native tool, 1: an emulator, -1: nothing. */
static int look(char *runs, size_t room)
{
    char *command[] = {"/bin/sh", "-c", "echo; read x", NULL}, path[64];
    int to[2], from[2], verdict = -1;
    ssize_t got;
    if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC))
        return -1;
    pid_t child = fork();
    if (child == 0) {
        dup2(to[0], 0);
        dup2(from[1], 1);
        execv(command[0], command);
        _exit(NOT_RUN);
    }
    close(to[0]);
    close(from[1]);
    snprintf(path, sizeof path, "/proc/%d/exe", child);
    if (child > 0 && read(from[0], runs, 1) == 1 && (got = readlink(path, runs, room - 1)) > 0) {
        runs[got] = 0;
        verdict = strncmp(runs, PRIVATE "/", sizeof PRIVATE) || !strcmp(runs, PRIVATE "/qemu");
    }
    close(to[1]);
    close(from[0]);
    if (child > 0)
        waitpid(child, NULL, 0);
    return verdict;
}

static int tell_status(void)
{
    static const char *const words[] = {"does not run", "native", "emulated"};
    char runs[4096] = "";
    int verdict = look(runs, sizeof runs);
    printf("registration: %s\n", access(DISPATCHER, F_OK) ? "the machine's" : "this container's own");
    printf("/bin/sh: %s%s%s\n", words[verdict + 1], *runs ? ", by " : "", runs);
    return verdict ? 1 : 0;
}

/* Can it be had? Tried in a process of its own, so that a refusal leaves this one as it was. */
static int allowed(enum ids ids)
{
    unsigned user[2] = {geteuid(), getegid()};
    int said[2], status = 1;
    if (pipe2(said, O_CLOEXEC))
        return 0;
    pid_t child = fork();
    if (child == 0) {
        int refused = private_binfmt(ids, user);
        _exit(refused && write(said[1], reason, strlen(reason)) > 0);
    }
    close(said[1]);
    ssize_t got = read(said[0], reason, sizeof reason - 1);
    reason[got > 0 ? got : 0] = 0;
    close(said[0]);
    return child > 0 && waitpid(child, &status, 0) == child && !status;
}

/* 0, or the exit code with which to give up. wish: of XBUILD_ENTER. */
static int prepare(const char *wish)
{
    char runs[4096];
    int all = allowed(ALL), emulated = !strcmp(wish, "emulated"), required = emulated || !strcmp(wish, "require");
    if (all || allowed(OWN_ROOT)) {
        if (!set_up(all ? ALL : OWN_ROOT, emulated))
            return 0;
        fprintf(stderr, "xbuild: the container's native tools cannot be set up: %s\n", reason);
        return NOT_RUN;
    }
    /* A dispatcher of the machine's may do it all the same. */
    if (!required && !look(runs, sizeof runs))
        return 0;
    fprintf(stderr, "xbuild: no native tools here: %s\n", reason);
    return required ? NOT_RUN : 0;
}

int main(int count, char **argv)
{
    const char *wish = getenv("XBUILD_ENTER") ? getenv("XBUILD_ENTER") : "";
    int code = 0;
    if (count == 2 && !strcmp(argv[1], "--status"))
        return tell_status();
    if (count < 2) {
        fprintf(stderr, "usage: %s PROGRAM [ARGS...], or %s --status\n", argv[0], argv[0]);
        return 2;
    }
    /* If the dispatcher is there, this is a shell in a shell. */
    if (strcmp(wish, "off") && access(DISPATCHER, F_OK))
        code = prepare(wish);
    if (code)
        return code;
    execvp(argv[1], argv + 1);
    int error = errno;
    const char *why = error == ENOEXEC ? "the machine runs no programs of this architecture" : strerror(error);
    fprintf(stderr, "xbuild: cannot run %s: %s\n", argv[1], why);
    return error == ENOENT ? NOT_FOUND : NOT_RUN;
}
