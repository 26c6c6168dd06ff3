/* Is an open file, byte for byte, the one whose digest we know? BLAKE2b (RFC 7693) with 32 bytes of output: as strong
 * as SHA-256, and several times as fast in plain C. It needs read_at(fd, buffer, size, offset), like pread(2). */
#include <stddef.h>
#include <stdint.h>

enum { DIGEST_SIZE = 32, BLOCK = 128 };

static const uint64_t blake2b_start[8] = {
    0x6a09e667f3bcc908u, 0xbb67ae8584caa73bu, 0x3c6ef372fe94f82bu, 0xa54ff53a5f1d36f1u,
    0x510e527fade682d1u, 0x9b05688c2b3e6c1fu, 0x1f83d9abfb41bd6bu, 0x5be0cd19137e2179u,
};

static const uint8_t blake2b_order[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
};

static inline uint64_t rotated(uint64_t value, int bits)
{
    return value >> bits | value << (64 - bits);
}

static inline void blake2b_mix(uint64_t *v, int a, int b, int c, int d, uint64_t x, uint64_t y)
{
    v[a] += v[b] + x, v[d] = rotated(v[d] ^ v[a], 32);
    v[c] += v[d], v[b] = rotated(v[b] ^ v[c], 24);
    v[a] += v[b] + y, v[d] = rotated(v[d] ^ v[a], 16);
    v[c] += v[d], v[b] = rotated(v[b] ^ v[c], 63);
}

/* total: bytes so far, those of this block included. */
static void blake2b_block(uint64_t *state, const uint64_t *words, uint64_t total, int last)
{
    uint64_t v[16];
    for (int i = 0; i < 8; i++)
        v[i] = state[i], v[i + 8] = blake2b_start[i];
    v[12] ^= total;
    v[14] ^= last ? ~(uint64_t)0 : 0;
    /* Unrolled, so that the order of the words is known to the compiler. */
#pragma GCC unroll 12
    for (int round = 0; round < 12; round++) {
        const uint8_t *s = blake2b_order[round % 10];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            blake2b_mix(v, i, i + 4, i + 8, i + 12, words[s[2 * i]], words[s[2 * i + 1]]);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            blake2b_mix(v, i, (i + 1) % 4 + 4, (i + 2) % 4 + 8, (i + 3) % 4 + 12, words[s[2 * i + 8]],
                        words[s[2 * i + 9]]);
    }
    for (int i = 0; i < 8; i++)
        state[i] ^= v[i] ^ v[i + 8];
}

/* size: of the file, at least one byte; digest: DIGEST_SIZE bytes. What cannot be read whole has other contents. */
static int has_contents(int fd, int64_t size, const void *digest)
{
    static uint64_t buffer[64 * 1024 / 8];
    uint64_t state[8];
    for (int i = 0; i < 8; i++)
        state[i] = blake2b_start[i];
    state[0] ^= 0x01010000 ^ DIGEST_SIZE; /* no key, one leaf */
    for (int64_t done = 0; done < size;) {
        int64_t wanted = size - done < (int64_t)sizeof buffer ? size - done : (int64_t)sizeof buffer;
        for (int64_t have = 0, got; have < wanted; have += got)
            if ((got = read_at(fd, (char *)buffer + have, (size_t)(wanted - have), done + have)) <= 0)
                return 0;
        for (int64_t i = wanted; i % BLOCK; i++)
            ((volatile char *)buffer)[i] = 0;
        for (int64_t at = 0; at < wanted; at += BLOCK) {
            int64_t end = at + BLOCK < wanted ? at + BLOCK : wanted;
            blake2b_block(state, buffer + at / 8, (uint64_t)(done + end), done + end == size);
        }
        done += wanted;
    }
    for (int i = 0; i < DIGEST_SIZE / 8; i++)
        if (state[i] != ((const uint64_t *)digest)[i])
            return 0;
    return 1;
}
