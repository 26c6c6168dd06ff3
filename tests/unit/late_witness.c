/* What a program finds when it is started; it stands in for the emulator, so that its words are those for one. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    char line[256], path[300], to[512];
    FILE *status = fopen("/proc/self/status", "re");
    for (int i = 1; i < argc; i++)
        printf("word %s\n", argv[i]);
    printf("Q %s\n", getenv("Q"));
    while (fgets(line, sizeof line, status))
        if (!strncmp(line, "Sig", 3) || !strncmp(line, "Umask", 5) || !strncmp(line, "Threads", 7))
            if (strncmp(line, "SigQ", 4))
                fputs(line, stdout);
    printf("cwd %s\n", getcwd(to, sizeof to));
    for (int fd = 0; fd < 1024; fd++) {
        ssize_t n;
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        n = readlink(path, to, sizeof to - 1);
        if (n < 0 || fd == fileno(status))
            continue;
        to[n] = 0;
        printf("fd %d %.4s %ld %o\n", fd, to, (long)lseek(fd, 0, SEEK_CUR), fcntl(fd, F_GETFL));
    }
    return 0;
}
