/* What init.c stands on: to say what is wrong and end, and to read what is to be done. */

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <unistd.h>

#define WORDS 8192              /* of a command, and as many variables */
#define TREES 16
#define MODULES 64
#define SPEC (8 << 20)

struct spec {
    char *args[WORDS], *env[WORDS], *trees[TREES], *modules[MODULES], *cwd, *name;
    int arg_count, env_count, tree_count, module_count, over, keep;
    long uid, gid;
    long long time;
};

static int control = -1;

static int whole(int fd, const void *data, size_t size)
{
    for (const char *at = data; size;) {
        ssize_t done = write(fd, at, size);
        if (done < 0 && errno != EINTR)
            return -1;
        if (done > 0)
            at += done, size -= done;
    }
    return 0;
}

static void say(const char *format, ...)
{
    char line[512];
    va_list values;
    va_start(values, format);
    vsnprintf(line, sizeof line - 1, format, values);
    va_end(values);
    strcat(line, "\n");
    whole(control >= 0 ? control : 2, line, strlen(line));
}

static void power_off(void)
{
    reboot(RB_POWER_OFF);
    for (;;)
        pause();
}

static void fail(const char *what)
{
    say("error %s: %s", what, strerror(errno));
    power_off();
}

static void attach(const char *source, const char *target, const char *type, unsigned long flags, const char *data)
{
    if (mount(source, target, type, flags, data))
        fail(target);
}

static size_t slurp(const char *path, char *text, size_t room)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t size = 0;
    for (ssize_t done; fd >= 0 && size < room - 1 && (done = read(fd, text + size, room - 1 - size)) > 0;)
        size += done;
    text[size] = 0;
    if (fd >= 0)
        close(fd);
    return size;
}

static void add(char **list, int *count, int room, char *value)
{
    if (*count >= room - 1)
        errno = E2BIG, fail("/spec");
    list[(*count)++] = value;
}

static void take(struct spec *spec, const char *key, char *value)
{
    if (!strcmp(key, "arg"))
        add(spec->args, &spec->arg_count, WORDS, value);
    else if (!strcmp(key, "env"))
        add(spec->env, &spec->env_count, WORDS, value);
    else if (!strcmp(key, "tree"))
        add(spec->trees, &spec->tree_count, TREES, value);
    else if (!strcmp(key, "module"))
        add(spec->modules, &spec->module_count, MODULES, value);
    else if (!strcmp(key, "cwd"))
        spec->cwd = value;
    else if (!strcmp(key, "name"))
        spec->name = value;
    else if (!strcmp(key, "uid"))
        spec->uid = atol(value);
    else if (!strcmp(key, "gid"))
        spec->gid = atol(value);
    else if (!strcmp(key, "time"))
        spec->time = atoll(value);
    else if (!strcmp(key, "over"))
        spec->over = atoi(value);
    else if (!strcmp(key, "keep"))
        spec->keep = atoi(value);
    else
        errno = EINVAL, fail(key);
}

static void read_spec(struct spec *spec)
{
    char *text = malloc(SPEC);
    size_t size = slurp("/spec", text, SPEC);
    for (char *at = text, *next; at < text + size; at = next) {
        next = at + strlen(at) + 1;
        char *value = strchr(at, '=');
        if (!value)
            errno = EINVAL, fail("/spec");
        *value = 0;
        take(spec, at, value + 1);
    }
    if (!spec->arg_count || !spec->cwd || !spec->name)
        errno = EINVAL, fail("/spec");
}
