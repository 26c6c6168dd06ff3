/* What `invoke run` is tried with: prints its name; `exit N` and `signal N` end it accordingly. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int count, char **words)
{
    if (count > 2 && !strcmp(words[1], "exit"))
        return atoi(words[2]);
    if (count > 2 && !strcmp(words[1], "signal")) {
        raise(atoi(words[2]));
        pause();
    }
    printf("hello from %s, word size %d\n", words[0], (int)sizeof(long) * 8);
    return 0;
}
