/* The table of twins as xbuild/dispatcher/table.py writes it into the section .xbuild_table of the finished program.
 * All offsets are bytes from the start of the table; 0 means none. A list is strings one after another, each with its
 * NUL, ended by an empty one. A pattern ends in `*` (matches what starts with the rest) or must match whole. */
#include <stdint.h>

#define TABLE_MAGIC 0x31544258u /* "XBT1" */
#define TABLE_SIZE (256 * 1024)

struct table {
    uint32_t magic;
    uint32_t slot_mask; /* number of slots minus one; the number is a power of two */
    uint32_t slots;     /* struct slot[] */
    uint32_t qemu;      /* path of qemu-user */
    uint32_t trace;     /* file to which the path of each emulated program is appended */
    uint32_t far_qemu;  /* the same qemu by way of /proc/1/root, for a root that lacks our directory */
};

struct slot {
    uint32_t hash; /* FNV-1a of path */
    uint32_t path; /* real path of the target's file */
    uint32_t exec; /* path of its twin */
    uint32_t rules;
    int64_t size; /* of the distribution's own file; -1: any file at this path will do */
    int64_t ctime_sec;
    int64_t ctime_nsec;
};

struct rules {
    uint32_t emulate_args; /* patterns: with such an argument the target's own program runs */
    uint32_t emulate_env;  /* names: with such a variable the target's own program runs */
    uint32_t other_args;   /* patterns: with such an argument `other` is the twin */
    uint32_t other;
    uint32_t set_env;     /* NAME=VALUE, replacing what was there */
    uint32_t default_env; /* NAME=VALUE, where NAME is not there */
};
