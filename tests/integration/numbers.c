/* Every operation that can give what is no number, with all pairs of odd operands: a line each, of bits. The same C is
 * compiled for the target and for x86-64; there, encodings that a compiler seldom takes are written by hand. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define APART __attribute__((noinline, noclone))
#define COUNT(list) (int)(sizeof(list) / sizeof *(list))

typedef double doubles __attribute__((vector_size(16)));
typedef float floats __attribute__((vector_size(16)));
typedef int32_t integers __attribute__((vector_size(16)));
typedef int64_t longs __attribute__((vector_size(16)));

static const uint64_t wide[] = {
    0, 0x8000000000000000, 0x3ff0000000000000, 0xbff0000000000000, 0x3ff8000000000000, 0xc004000000000000,
    0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000000, 0xfff8000000000000, 0x7ff8000000001234,
    0xfffc000000abcdef, 0x7ff0000000000001, 0xfff4000000005678, 0x7fefffffffffffff, 1, 0x8010000000000000,
    0x41dfffffffc00000, 0x41e0000000000000, 0xc1e0000000200000, 0x41efffffffe00000, 0x43e0000000000000,
    0xc3e0000000000001, 0x7e37e43c8800759c,
};
static const uint32_t narrow[] = {
    0, 0x80000000, 0x3f800000, 0xbf800000, 0x3fc00000, 0xc0200000, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00000,
    0x7fc01234, 0xffe0abcd, 0x7f800001, 0xffa05678, 0x7f7fffff, 1, 0x80800000, 0x4effffff, 0x4f000000, 0xcf000001,
};

#define BITS(type, whole) \
    static type type##_of(whole bits) { type value; memcpy(&value, &bits, sizeof value); return value; } \
    static whole type##_bits(type value) { whole bits; memcpy(&bits, &value, sizeof bits); return bits; }
BITS(double, uint64_t)
BITS(float, uint32_t)

#define OPERATIONS(type) \
    APART static type type##_add(type a, type b) { return a + b; } \
    APART static type type##_sub(type a, type b) { return a - b; } \
    APART static type type##_mul(type a, type b) { return a * b; } \
    APART static type type##_div(type a, type b) { return a / b; } \
    APART static type type##_less(type a, type b) { return a < b ? a : b; } \
    APART static type type##_greater(type a, type b) { return a > b ? a : b; } \
    APART static type type##_order(type a, type b) \
    { return (a < b) + 2 * (a <= b) + 4 * (a == b) + 8 * (a != b) + 16 * (a > b) + 32 * !(a >= b) + 64 * !(a < b) + \
          128 * __builtin_isunordered(a, b) + 256 * __builtin_isless(a, b); }
OPERATIONS(double)
OPERATIONS(float)

APART static double double_root(double a, double b) { (void)b; return __builtin_sqrt(a); }
APART static float float_root(float a, float b) { (void)b; return __builtin_sqrtf(a); }
APART static double double_other(double a, double b) { return (double)(float)a + 0 * (b == b); }
APART static float float_other(float a, float b) { (void)b; return (float)((double)a * 1); }
APART static double double_whole(double a, double b) { (void)b; return (int32_t)a; }
APART static float float_whole(float a, float b) { (void)b; return (float)(int32_t)a; }
#ifdef TARGET_64
APART static double double_long(double a, double b) { (void)b; return (double)(int64_t)a; }
APART static float float_long(float a, float b) { (void)b; return (float)(int64_t)a; }
#endif

#ifdef __x86_64__
/* Other registers, memory by base and index, by the instruction's own place, and AVX's encodings. */
__attribute__((visibility("hidden"))) double cell;
#define BY_HAND(name, text) APART static double name(double a, double b) \
    { double room[4] = {0, 0, 0, b}; long index = 3; cell = b; __asm__ volatile(text : "+x"(a) \
          : "r"(room), "r"(index), "x"(b), "m"(room) : "xmm12", "xmm9", "r13", "memory"); return a; }
#define INDEXED(op) "movapd %0, %%xmm12\n\t" op "d (%1,%2,8), %%xmm12\n\tmovapd %%xmm12, %0"
#define DISPLACED(op) "lea -1000(%1), %%r13\n\tmovapd %0, %%xmm9\n\t" op "d 1024(%%r13), %%xmm9\n\tmovapd %%xmm9, %0"
#define SHORT(op) "lea -8(%1), %%r13\n\t" op "d 32(%%r13), %0"
#define RELATIVE(op) op "d cell(%%rip), %0"
#define AVX(op) "vmovapd %0, %%xmm9\n\tv" op "d %3, %%xmm9, %%xmm12\n\tvmovapd %%xmm12, %0"
#define AVX_INDEXED(op) "v" op "d (%1,%2,8), %0, %0"
BY_HAND(by_hand_add, INDEXED("adds")) BY_HAND(by_hand_sub, DISPLACED("subs")) BY_HAND(by_hand_mul, SHORT("muls"))
BY_HAND(by_hand_div, RELATIVE("divs")) BY_HAND(by_avx_add, AVX("adds")) BY_HAND(by_avx_div, AVX_INDEXED("divs"))
static double avx_add(double a, double b) { return __builtin_cpu_supports("avx") ? by_avx_add(a, b) : double_add(a, b); }
static double avx_div(double a, double b) { return __builtin_cpu_supports("avx") ? by_avx_div(a, b) : double_div(a, b); }
#else
#define by_hand_add double_add
#define by_hand_sub double_sub
#define by_hand_mul double_mul
#define by_hand_div double_div
#define avx_add double_add
#define avx_div double_div
#endif

#define NAMED(name) {#name, name}
static const struct { const char *name; double (*function)(double, double); } of_doubles[] = {
    NAMED(double_add), NAMED(double_sub), NAMED(double_mul), NAMED(double_div), NAMED(double_less), NAMED(double_greater),
    NAMED(double_order), NAMED(double_root), NAMED(double_other), NAMED(double_whole), NAMED(by_hand_add),
    NAMED(by_hand_sub), NAMED(by_hand_mul), NAMED(by_hand_div), NAMED(avx_add), NAMED(avx_div),
#ifdef TARGET_64
    NAMED(double_long),
#endif
};
static const struct { const char *name; float (*function)(float, float); } of_floats[] = {
    NAMED(float_add), NAMED(float_sub), NAMED(float_mul), NAMED(float_div), NAMED(float_less), NAMED(float_greater),
    NAMED(float_order), NAMED(float_root), NAMED(float_other), NAMED(float_whole),
#ifdef TARGET_64
    NAMED(float_long),
#endif
};

/* Several parts at once, of which some are numbers. */
#define PACKED(type, name, expression) APART static type name(type a, type b) { (void)b; return expression; }
PACKED(doubles, doubles_add, a + b) PACKED(doubles, doubles_sub, a - b)
PACKED(doubles, doubles_mul, a * b) PACKED(doubles, doubles_div, a / b)
PACKED(doubles, doubles_less, (doubles)((a < b) - (longs)(a == b) * 2 + (longs)(a != b) * 4))
PACKED(floats, floats_add, a + b) PACKED(floats, floats_sub, a - b)
PACKED(floats, floats_mul, a * b) PACKED(floats, floats_div, a / b)
PACKED(floats, floats_whole, (floats)__builtin_convertvector(a, integers))
PACKED(floats, floats_less, (floats)((a < b) - (integers)(a == b) * 2 + (integers)(a != b) * 4))

static const struct { const char *name; doubles (*function)(doubles, doubles); } packed[] = {
    NAMED(doubles_add), NAMED(doubles_sub), NAMED(doubles_mul), NAMED(doubles_div), NAMED(doubles_less)};
static const struct { const char *name; floats (*function)(floats, floats); } packed_floats[] = {
    NAMED(floats_add), NAMED(floats_sub), NAMED(floats_mul), NAMED(floats_div), NAMED(floats_whole), NAMED(floats_less)};

/* The C library's. */
static double power(double a, double b) { return pow(a, b); }
static double rest(double a, double b) { return fmod(a, b); }
static double ieee_rest(double a, double b) { return remainder(a, b); }
static double angle(double a, double b) { return atan2(a, b); }
#define LIBRARY(name) static double of_##name(double a, double b) { (void)b; return name(a); }
#define LISTED(name) {#name, of_##name},
#ifdef TARGET_64
#define FURTHER(DO) /* inexact there */
#else
#define FURTHER(DO) DO(asinh) DO(acosh) DO(lgamma) DO(exp2)
#endif
#define FUNCTIONS(DO) DO(sin) DO(cos) DO(tan) DO(asin) DO(acos) DO(atan) DO(sinh) DO(cosh) DO(tanh) DO(atanh) DO(exp) \
    DO(expm1) DO(log) DO(log10) DO(log1p) DO(log2) DO(logb) DO(floor) DO(ceil) DO(trunc) DO(round) DO(rint) \
    DO(nearbyint) DO(sqrt) DO(fabs) FURTHER(DO)
FUNCTIONS(LIBRARY)
static const struct { const char *name; double (*function)(double, double); } of_library[] = {
    {"pow", power}, {"fmod", rest}, {"remainder", ieee_rest}, {"atan2", angle}, FUNCTIONS(LISTED)};

int main(void)
{
    for (int f = 0; f < COUNT(of_doubles); f++)
        for (int a = 0; a < COUNT(wide); a++)
            for (int b = 0; b < COUNT(wide); b++)
                printf("%s %d %d %016llx\n", of_doubles[f].name, a, b,
                       (unsigned long long)double_bits(of_doubles[f].function(double_of(wide[a]), double_of(wide[b]))));
    for (int f = 0; f < COUNT(of_floats); f++)
        for (int a = 0; a < COUNT(narrow); a++)
            for (int b = 0; b < COUNT(narrow); b++)
                printf("%s %d %d %08x\n", of_floats[f].name, a, b,
                       float_bits(of_floats[f].function(float_of(narrow[a]), float_of(narrow[b]))));
    for (int f = 0; f < COUNT(packed); f++)
        for (int a = 0; a < COUNT(wide); a++)
            for (int b = 0; b < COUNT(wide); b++) {
                int c = (a * 7 + b) % COUNT(wide), d = (b * 5 + a) % COUNT(wide);
                doubles x = {double_of(wide[a]), double_of(wide[c])}, y = {double_of(wide[b]), double_of(wide[d])};
                doubles z = packed[f].function(x, y);
                printf("%s %d %d %016llx %016llx\n", packed[f].name, a, b, (unsigned long long)double_bits(z[0]),
                       (unsigned long long)double_bits(z[1]));
            }
    for (int f = 0; f < COUNT(packed_floats); f++)
        for (int a = 0; a < COUNT(narrow); a++)
            for (int b = 0; b < COUNT(narrow); b++) {
                floats x, y, z;
                for (int i = 0; i < 4; i++) {
                    x[i] = float_of(narrow[(a * (1 + 2 * i) + b * i) % COUNT(narrow)]);
                    y[i] = float_of(narrow[(b * (1 + 6 * i) + a * i) % COUNT(narrow)]);
                }
                z = packed_floats[f].function(x, y);
                printf("%s %d %d %08x %08x %08x %08x\n", packed_floats[f].name, a, b, float_bits(z[0]), float_bits(z[1]),
                       float_bits(z[2]), float_bits(z[3]));
            }
    for (int f = 0; f < COUNT(of_library); f++)
        for (int a = 0; a < COUNT(wide); a++)
            for (int b = 0; b < (f < 4 ? COUNT(wide) : 1); b++) {
                /* Of two its code takes the one that the compiler has put first. */
                if (of_library[f].function == ieee_rest && isnan(double_of(wide[a])) && isnan(double_of(wide[b])))
                    continue;
                printf("%s %d %d %016llx\n", of_library[f].name, a, b,
                       (unsigned long long)double_bits(of_library[f].function(double_of(wide[a]), double_of(wide[b]))));
            }
    return 0;
}
