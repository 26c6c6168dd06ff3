/* What SSE's operations give where an operand is no number, or the result is none, as ARM has it. x86-64 makes such a
 * result with its sign set, ARM without (FPDefaultNaN in the Arm ARM). Of two operands that are none x86-64 takes the
 * first, ARM one that signals before one that is quiet (FPProcessNaNs). All else is done by the processor's own
 * operations, with the rounding of MXCSR, and leaves its flags there.
 */
#include <stdint.h>

typedef double number __attribute__((vector_size(16))); /* an XMM register */

struct width { /* of its parts */
    int bytes;
    uint64_t sign, infinity, quiet;
};

static const struct width single_width = {4, 0x80000000, 0x7f800000, 0x400000};
static const struct width double_width = {8, (uint64_t)1 << 63, (uint64_t)0x7ff << 52, (uint64_t)1 << 51};

enum { LESS = 1, EQUAL = 2, GREATER = 4, UNORDERED = 8 };

static int is_none(const struct width *width, uint64_t bits)
{
    return (bits & ~width->sign) > width->infinity;
}

static number part_of(uint64_t bits)
{
    return (number)(uint64_t __attribute__((vector_size(16)))){bits, 0};
}

static uint64_t bits_of(const struct width *width, number from)
{
    uint64_t bits = ((uint64_t __attribute__((vector_size(16))))from)[0];
    return width->bytes == 8 ? bits : (uint32_t)bits;
}

/* What ARM hands on of these operands, or else the result. */
static uint64_t as_arm(const struct width *width, const uint64_t *operands, int count, number result)
{
    uint64_t found = bits_of(width, result);
    for (int i = 0; i < count; i++)
        if (is_none(width, operands[i]) && !(operands[i] & width->quiet))
            return operands[i] | width->quiet;
    for (int i = 0; i < count; i++)
        if (is_none(width, operands[i]))
            return operands[i];
    return is_none(width, found) ? width->infinity | width->quiet : found;
}

static int compared(const struct width *width, uint64_t a, uint64_t b)
{
    if (is_none(width, a) || is_none(width, b))
        return UNORDERED;
    if (a == b || !((a | b) & ~width->sign))
        return EQUAL;
    if ((a ^ b) & width->sign)
        return a & width->sign ? LESS : GREATER;
    return (a < b) == !(a & width->sign) ? LESS : GREATER;
}

/* By the lowest four bits of CMPPD's predicate: when it holds (Intel SDM, volume 2, table 3-1). */
static const unsigned char predicates[16] = {2, 1, 3, 8, 13, 14, 12, 7, 10, 9, 11, 0, 5, 6, 4, 15};

/* One operation of the processor on the lowest parts. */
#define OPERATION(name, to, from) \
    do { \
        if (width->bytes == 8) \
            __asm__ volatile(name "sd %1, %0" : "+x"(to) : "x"(from)); \
        else \
            __asm__ volatile(name "ss %1, %0" : "+x"(to) : "x"(from)); \
    } while (0)

/* The lowest bit of the opcode of FMA's operations is set for one part, the next ones subtract the addend, or change the
 * sign of the product; the highest ones tell the order of operands. */
static uint64_t fused(int opcode, const struct width *width, const uint64_t *given)
{
    /* 132, 213, 231: the third one is the addend, which ARM hands on first. */
    static const unsigned char orders[3][3] = {{1, 0, 2}, {2, 1, 0}, {0, 1, 2}};
    const unsigned char *order = orders[(opcode >> 4) - 9];
    uint64_t operands[3] = {given[order[0]], given[order[1]], given[order[2]]};
    number a, b, c;
    a = part_of(operands[1] ^ (opcode & 4 ? width->sign : 0));
    b = part_of(operands[2]);
    c = part_of(operands[0] ^ (opcode & 2 ? width->sign : 0));
    if (width->bytes == 8)
        __asm__ volatile("vfmadd213sd %2, %1, %0" : "+x"(a) : "x"(b), "x"(c));
    else
        __asm__ volatile("vfmadd213ss %2, %1, %0" : "+x"(a) : "x"(b), "x"(c));
    return as_arm(width, operands, 3, a);
}

/* A rounding mode of ROUNDSD's own need not be known: what is rounded alone and comes here signals. */
static int part(int operation, const struct width *width, const uint64_t *given, int immediate, uint64_t *result)
{
    number a = part_of(given[0]), b = part_of(given[1]);
    const uint64_t *operands = given;
    int order = compared(width, given[0], given[1]), count = 2;
    switch (operation) {
    case 0x151: case 0x30a: case 0x30b:
        operands++, count = 1;
        OPERATION("sqrt", a, b);
        break;
    case 0x158:
        OPERATION("add", a, b);
        break;
    case 0x159:
        OPERATION("mul", a, b);
        break;
    case 0x15c:
        OPERATION("sub", a, b);
        break;
    case 0x15e:
        OPERATION("div", a, b);
        break;
    case 0x15d: case 0x15f:
        *result = given[order != (operation == 0x15d ? LESS : GREATER)];
        return 1;
    case 0x1c2:
        *result = predicates[immediate & 15] & order ? (uint64_t)-1 : 0;
        return 1;
    default:
        if (operation >> 8 != 2 || (operation & 0x0f) < 8 || (operation & 0xff) < 0x98 || (operation & 0xff) > 0xbf)
            return 0;
        *result = fused(operation & 0xff, width, given);
        return 1;
    }
    *result = as_arm(width, operands, count, a);
    return 1;
}

/* ARM's conversions give the nearest integer that there is, and 0 for what is no number; x86-64's the lowest integer. */
static uint64_t integer(int rounds, const struct width *width, uint64_t given, int bytes)
{
    number a = part_of(given);
    uint64_t found, lowest = (uint64_t)1 << (bytes * 8 - 1);
#define CONVERSION(name) \
    do { \
        if (bytes == 8) \
            __asm__ volatile(name " %1, %0" : "=r"(found) : "x"(a)); \
        else \
            __asm__ volatile(name " %1, %k0" : "=r"(found) : "x"(a)); \
    } while (0)
    if (width->bytes == 8 && rounds)
        CONVERSION("cvtsd2si");
    else if (width->bytes == 8)
        CONVERSION("cvttsd2si");
    else if (rounds)
        CONVERSION("cvtss2si");
    else
        CONVERSION("cvttss2si");
    /* A compiler for x86-64 makes unsigned ones of 32 bits by those of 64, which is no matter where both are so wide. */
    if (found != lowest || bytes > TARGET_WORD)
        return found;
    if (is_none(width, given))
        return 0;
    return given & width->sign ? lowest : lowest - 1;
}
