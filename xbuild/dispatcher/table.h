/* The table of twins as xbuild/dispatcher/table.py writes it into the section .xbuild_table of the finished program.
 * All offsets are bytes from the start of the table; 0 means none. A list is strings one after another, each with its
 * NUL, ended by an empty one. A pattern ends in `*` (matches what starts with the rest) or must match whole. */
#include <stdint.h>

#define TABLE_MAGIC 0x36544258u /* "XBT6" */
#define TABLE_SIZE (2048 * 1024)

/* How argv[0] of the dispatcher begins when preamble.c has started it; the number of the open file follows. */
#define HANDED_ON "xbuild-fd:"

/* What a copy of a program has in its free bytes of e_ident: binfmt_misc gives it to the emulator itself. */
#define COPY_MARK "xbuild\1"
#define COPY_MARK_AT 9

struct table {
    uint32_t magic;
    uint32_t slot_mask; /* number of slots minus one; the number is a power of two */
    uint32_t slots;     /* struct slot[] */
    uint32_t qemu;      /* path of qemu-user */
    uint32_t record;    /* file to which a struct record is appended for each exec */
    uint32_t far_qemu;  /* the same two by way of /proc/1/root, for a root that lacks our directory */
    uint32_t far_record;
    uint32_t marks; /* as `record`, also where execs are not written down: for twins that ask for a library (late.h) */
    uint32_t far_marks;
    uint32_t cache_env;   /* NAME=VALUE: what a cache of calls gets besides */
    uint32_t cache_given; /* a list of NAME=VALUE: without one of them in the environment no call is for the cache */
};

struct slot {
    uint32_t hash; /* FNV-1a of path */
    uint32_t path; /* real path of the target's file */
    uint32_t exec; /* path of its twin; 0: no program, but a module, whose partner is `other`, or a script, without one */
    uint32_t rules;
    int64_t size; /* of the distribution's own file; -1: any file at this path will do */
    int64_t ctime_sec;
    int64_t ctime_nsec;
    uint32_t digest; /* of its contents, for a file with another change time (content.h); aligned to 8 */
    uint32_t other;  /* path of the twin of the target's width */
    uint32_t cache;  /* path of a native program that may answer in its place (cached.h); 0: none */
    uint32_t zero;
};

/* The fields of Rules in xbuild/model/rules.py, in their order; each is a list. */
struct rules {
    uint32_t set_env;           /* NAME=VALUE, replacing what was there */
    uint32_t add_args;          /* words that the twin gets behind argv[0] */
    uint32_t add_args_unless;   /* patterns: with such an argument it gets none of them */
    uint32_t emulate_args;      /* patterns: with such an argument the target's own program runs */
    uint32_t text_args;         /* patterns: such an argument is text, which no emulate_args is held against */
    uint32_t value_options;     /* patterns: options that take the next word with them */
    uint32_t emulate_options;   /* patterns: as emulate_args, before the first word that is no option */
    uint32_t script_options;    /* patterns: with another one, or a script without a slot, the target's own runs */
    uint32_t script_words;      /* what may stand in that script's place: words, parted by blanks; no patterns */
    uint32_t emulate_without;   /* patterns: without any such argument the target's own program runs */
    uint32_t linker_words;      /* patterns: with another option in -Wl, or -Xlinker the target's own program runs */
    uint32_t emulate_env;       /* names, `=` behind those that count only if not empty: with one the target's own runs */
    uint32_t target_width_args; /* patterns: with such an argument `other` is the twin, if there is one */
    uint32_t cache_args;        /* patterns: only with such an argument a cache may answer in its place */
    uint32_t cache_unless;      /* patterns: with such an argument, or variable as NAME=VALUE, it may not */
    uint32_t caches;            /* patterns: such files it may write and still begin again emulated (late.h) */
};

/* One exec, as xbuild/formats/record.py reads it; the real path of the file follows, without a NUL. */
struct record {
    uint16_t length; /* bytes, the path included */
    uint8_t verdict;
    uint8_t zero;
    uint32_t pid;  /* in the sandbox */
    uint64_t time; /* nanoseconds, CLOCK_BOOTTIME: what /proc/PID/stat tells the start of a process in */
};

enum verdict {
    TWIN = 1,       /* the twin runs */
    WIDTH_TWIN = 2, /* the twin of the target's width runs */
    NO_ENTRY = 3,   /* emulated, from here on: the table has no twin */
    CHANGED = 4,    /* the file is no longer the distribution's own */
    ARGUMENT = 5,   /* an argument asks for the target's own program */
    VARIABLE = 6,   /* a variable does */
    FAILED = 7,     /* the twin could not be started: corrects the record before */
    PRELOADED = 8,  /* /etc/ld.so.preload has a library for every program */
    /* Of twins that ask for a library of the target that has no partner (late.h): */
    BEGUN_AGAIN = 9, /* the target's own program runs now: corrects the record before */
    TOO_LATE = 10    /* it could not begin again: what it did is not what the target's own would have done */
};

/* An extended attribute of the record's file: execs are missing. */
#define RECORD_CUT "user.xbuild.cut"
