/* An instruction of SSE2, or AVX's with 128 bits and FMA's, that was stopped since it had to give what is no number: done
 * here, with operations.h, and gone past. Encodings: Intel SDM, volume 2, chapter 2 and appendix A. */
#include <stddef.h>
#include <stdint.h>

enum { MXCSR_AT = 24, XMM_AT = 160, MAGIC_AT = 464, FEATURES_AT = 512, UPPER_AT = 576 }; /* struct _fpstate, XSAVE's area */
enum { XSAVE_MAGIC = 0x46505853, AVX_STATE = 4 };
enum { MXCSR_FLAGS = 0x3f, INVALID_MASKED = 0x80, ALL_MASKED = 0x1f80 };
enum { PACKED = 0, PACKED_DOUBLE = 1, SCALAR = 2 }; /* prefixes: none, 66, F3, F2 */
enum { ZERO_PARITY_CARRY = 0x45, OVERFLOW_SIGN_ADJUST = 0x890 };

struct instruction {
    const unsigned char *at; /* what was not read yet */
    int prefix, map, opcode, immediate, vex, wide;
    int to, first, second; /* registers; second: -1 if it is in memory */
    uintptr_t address;
};

static uint64_t *general(struct context *c, int number)
{
#define PLACE(name) __builtin_offsetof(struct context, name)
    static const unsigned char places[16] = {
        PLACE(ax), PLACE(cx), PLACE(dx), PLACE(bx), PLACE(sp), PLACE(bp), PLACE(si), PLACE(di),
        PLACE(r8), PLACE(r9), PLACE(r10), PLACE(r11), PLACE(r12), PLACE(r13), PLACE(r14), PLACE(r15)};
    return (uint64_t *)(void *)((char *)c + places[number]);
}

static char *vector(const struct context *c, int number)
{
    return (char *)(uintptr_t)c->state + XMM_AT + 16 * number;
}

static int32_t displacement(struct instruction *i, int bytes)
{
    int32_t value = (signed char)*i->at;
    if (bytes == 4)
        memmove(&value, i->at, sizeof value);
    i->at += bytes;
    return value;
}

/* extended: the bits R, X and B of a REX prefix. */
static void operands(struct instruction *i, struct context *c, int extended)
{
    int modrm = *i->at++, mod = modrm >> 6, low = modrm & 7, base = low | (extended & 1) << 3, relative = 0;
    int has_immediate = i->map == 3 || (i->map == 1 && i->opcode == 0xc2);
    i->to = (modrm >> 3 & 7) | (extended & 4) << 1;
    i->second = mod == 3 ? base : -1;
    if (mod != 3) {
        int none = 0;
        if (low == 4) {
            int sib = *i->at++, index = (sib >> 3 & 7) | (extended & 2) << 2;
            base = (sib & 7) | (extended & 1) << 3;
            none = !mod && (sib & 7) == 5;
            if (index != 4)
                i->address = *general(c, index) << (sib >> 6);
        } else {
            relative = !mod && low == 5;
        }
        if (!none && !relative)
            i->address += *general(c, base);
        if (mod || none || relative)
            i->address += (uintptr_t)(intptr_t)displacement(i, mod == 1 ? 1 : 4);
    }
    if (has_immediate)
        i->immediate = *i->at++;
    if (relative)
        i->address += (uintptr_t)i->at;
}

/* A prefix that names a segment, or another one that such instructions seldom have, makes it unknown. */
static int decoded(struct instruction *i, struct context *c)
{
    int extended = 0, byte;
    i->at = (const unsigned char *)c->ip;
    i->map = 1;
    for (; *i->at == 0x66 || *i->at == 0xf2 || *i->at == 0xf3; i->at++)
        i->prefix = *i->at == 0xf3 ? 2 : *i->at == 0xf2 ? 3 : i->prefix ? i->prefix : 1;
    i->vex = *i->at == 0xc4 || *i->at == 0xc5;
    if (i->vex) {
        byte = *i->at++ == 0xc4 ? *i->at++ : -1;
        extended = byte < 0 ? ~*i->at >> 5 & 4 : ~byte >> 5 & 7;
        i->map = byte < 0 ? 1 : byte & 31;
        i->wide = byte >= 0 && *i->at >> 7;
        if (*i->at & 4)
            return 0; /* 256 bits */
        i->prefix = *i->at & 3;
        i->first = ~*i->at++ >> 3 & 15;
    } else {
        if (*i->at >> 4 == 4)
            extended = *i->at & 7, i->wide = *i->at++ >> 3 & 1;
        if (*i->at++ != 0x0f)
            return 0;
        if (*i->at == 0x3a)
            i->map = 3, i->at++;
    }
    i->opcode = *i->at++;
    operands(i, c, extended);
    if (!i->vex)
        i->first = i->to;
    return i->map == 1 || i->prefix == 1;
}

/* Parts of the same width for all operands. */
static int arithmetic(const struct instruction *i, const struct context *c, const char *source, char *result)
{
    int scalar = i->map == 1 ? i->prefix >= SCALAR : i->map == 2 ? i->opcode & 1 : 1;
    int wide = i->map == 1 ? i->prefix & 1 : i->map == 2 ? i->wide : i->opcode & 1;
    const struct width *width = wide ? &double_width : &single_width;
    const char *own = vector(c, i->to), *first = i->map == 2 ? own : vector(c, i->first);
    memmove(result, first, 16);
    for (int at = 0; at < (scalar ? width->bytes : 16); at += width->bytes) {
        uint64_t given[3] = {0, 0, 0}, found;
        memmove(&given[0], first + at, (size_t)width->bytes);
        memmove(&given[1], i->map == 2 ? vector(c, i->first) + at : source + at, (size_t)width->bytes);
        memmove(&given[2], source + at, (size_t)width->bytes);
        if (!part(i->map << 8 | i->opcode, width, given, i->immediate, &found))
            return 0;
        memmove(result + at, &found, (size_t)width->bytes);
    }
    return 1;
}

/* What signals becomes quiet, and keeps its sign. */
static void other_width(const struct instruction *i, const struct context *c, const char *source, char *result)
{
    int from = i->prefix & 1 ? 8 : 4, to = 12 - from, scalar = i->prefix >= SCALAR;
    if (scalar)
        memmove(result, vector(c, i->first), 16);
    for (int at = 0; at < (scalar ? 1 : 2); at++) {
        number a = part_of(0), b = part_of(0);
        memmove(&b, source + at * from, (size_t)from);
        if (from == 8)
            __asm__ volatile("cvtsd2ss %1, %0" : "+x"(a) : "x"(b));
        else
            __asm__ volatile("cvtss2sd %1, %0" : "+x"(a) : "x"(b));
        memmove(result + at * to, &a, (size_t)to);
    }
}

static void integers(int rounds, const struct width *width, const char *source, char *result)
{
    for (int at = 0; at < 16 / width->bytes; at++) {
        uint64_t given = 0, found;
        memmove(&given, source + at * width->bytes, (size_t)width->bytes);
        found = integer(rounds, width, given, 4);
        memmove(result + at * 4, &found, 4);
    }
}

/* How many bytes it reads of what may be in memory. */
static size_t read_by(const struct instruction *i)
{
    if (i->map == 2)
        return !(i->opcode & 1) ? 16 : i->wide ? 8 : 4;
    if (i->map == 3)
        return i->opcode & 1 ? 8 : 4;
    if ((i->opcode & ~1) == 0x2e)
        return i->prefix & 1 ? 8 : 4;
    if (i->opcode == 0x5b || i->opcode == 0xe6)
        return 16;
    return i->prefix == 3 ? 8 : i->prefix == SCALAR ? 4 : i->prefix == PACKED && i->opcode == 0x5a ? 8 : 16;
}

static int performed(const struct instruction *i, struct context *c, const char *source)
{
    const struct width *width = i->prefix & 1 ? &double_width : &single_width;
    char result[16] = "";
    uint64_t given = 0;
    memmove(&given, source, (size_t)width->bytes);
    if (i->map != 1) {
        if (!arithmetic(i, c, source, result))
            return 0;
    } else if ((i->opcode & ~1) == 0x2e) {
        c->rflags = (c->rflags & ~(uint64_t)OVERFLOW_SIGN_ADJUST) | ZERO_PARITY_CARRY;
        return i->prefix < SCALAR;
    } else if ((i->opcode & ~1) == 0x2c) {
        if (i->prefix < SCALAR)
            return 0; /* to registers of MMX */
        *general(c, i->to) = integer(i->opcode & 1, width, given, i->wide ? 8 : 4);
        return 1;
    } else if (i->opcode == 0x5a) {
        other_width(i, c, source, result);
    } else if (i->opcode == 0x5b && (i->prefix == 1 || i->prefix == 2)) {
        integers(i->prefix == 1, &single_width, source, result);
    } else if (i->opcode == 0xe6 && i->prefix & 1) {
        integers(i->prefix == 3, &double_width, source, result);
    } else if (!arithmetic(i, c, source, result)) {
        return 0;
    }
    memmove(vector(c, i->to), result, sizeof result);
    return 1;
}

/* The other half of AVX's registers is no longer what it was. */
static void clear_upper(const struct context *c, int number)
{
    char *state = (char *)(uintptr_t)c->state;
    uint64_t features = 0;
    uint32_t magic;
    memmove(&magic, state + MAGIC_AT, sizeof magic);
    if (magic == XSAVE_MAGIC)
        memmove(&features, state + FEATURES_AT, sizeof features);
    if (features & AVX_STATE)
        for (int at = 0; at < 16; at++)
            state[UPPER_AT + 16 * number + at] = 0;
}

static uint32_t *control(const struct context *c)
{
    return (uint32_t *)(uintptr_t)(c->state + MXCSR_AT);
}

/* Does the instruction that stopped; 0: it is not known. */
static int done_as_arm(struct context *c)
{
    struct instruction i = {0};
    char source[16] = "";
    uint32_t own, all, after;
    int known;
    if (!decoded(&i, c))
        return 0;
    memmove(source, i.second < 0 ? (const char *)i.address : vector(c, i.second), read_by(&i));
    all = (*control(c) & ~(uint32_t)MXCSR_FLAGS) | ALL_MASKED;
    __asm__ volatile("stmxcsr %0" : "=m"(own));
    __asm__ volatile("ldmxcsr %0" ::"m"(all));
    known = performed(&i, c, source);
    __asm__ volatile("stmxcsr %0" : "=m"(after));
    __asm__ volatile("ldmxcsr %0" ::"m"(own));
    *control(c) |= after & MXCSR_FLAGS;
    if (!known)
        return 0;
    if (i.vex && (i.map != 1 || (i.opcode & ~3) != 0x2c))
        clear_upper(c, i.to);
    c->ip = (uint64_t)(uintptr_t)i.at;
    return 1;
}

/* x87's exceptions come when the next instruction waits for it; the processor knows where the one was that had it. Of x87
 * compilers use, for `double`, what fmod(3) and remainder(3) need (FPREM, FPREM1). */
static int remainder_as_arm(const struct context *c)
{
    enum { STATUS = 2, INSTRUCTION = 8, TOP = 32, INVALID_PENDING = 0x8081, INCOMPLETE = 0x400 }; /* FXSAVE's area */
    static const unsigned char none[10] = {0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0x7f};
    char *state = (char *)(uintptr_t)c->state;
    const unsigned char *instruction;
    uint16_t status;
    memmove(&instruction, state + INSTRUCTION, sizeof instruction);
    if (instruction[0] != 0xd9 || (instruction[1] != 0xf8 && instruction[1] != 0xf5))
        return 0;
    memmove(&status, state + STATUS, sizeof status);
    status &= (uint16_t)~(INVALID_PENDING | INCOMPLETE);
    memmove(state + STATUS, &status, sizeof status);
    memmove(state + TOP, none, sizeof none);
    *control(c) |= 1;
    return 1;
}
