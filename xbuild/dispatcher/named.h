/* The name of a process, which an exec loses, on its way to named.c. */
#include <stddef.h>

enum { NAME = 16, PR_GET_NAME = 16, FIRST_WORD = 256 }; /* TASK_COMM_LEN, with the NUL; <linux/prctl.h> */

/* Writes what qemu gets as argv[0]: the name, and the path of qemu. */
static inline const char *named(char word[FIRST_WORD], const char *name, const char *qemu)
{
    size_t n = 0;
    while (n < NAME - 1 && name[n])
        word[n] = name[n], n++;
    do {
        if (n == FIRST_WORD)
            return qemu;
        word[n++] = *qemu;
    } while (*qemu++);
    return word;
}
