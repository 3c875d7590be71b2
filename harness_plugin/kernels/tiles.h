/* Products of a few rows with a panel in int16, with sums in 32 bits that wrap around. It defines LOAD where the CPU has
 * the instructions: AVX2 or more. */
#include "common.h"

#if defined(__AVX512BW__)
typedef __m512i vec;
enum { LANES = 16, ROWS = 12 };
#define LOAD(p) _mm512_loadu_si512(p)
#define STORE(p, x) _mm512_storeu_si512(p, x)
#define ZERO _mm512_setzero_si512()
#define BOTH(x) _mm512_set1_epi32(x)
#ifdef __AVX512VNNI__
#define DOT(s, a, b) _mm512_dpwssd_epi32(s, a, b)
#else
#define DOT(s, a, b) _mm512_add_epi32(s, _mm512_madd_epi16(a, b))
#endif
#elif defined(__AVX2__)
typedef __m256i vec;
enum { LANES = 8, ROWS = 6 };
#define LOAD(p) _mm256_loadu_si256((const __m256i *)(p))
#define STORE(p, x) _mm256_storeu_si256((__m256i *)(p), x)
#define ZERO _mm256_setzero_si256()
#define BOTH(x) _mm256_set1_epi32(x)
#ifdef __AVXVNNI__
#define DOT(s, a, b) _mm256_dpwssd_avx_epi32(s, a, b)
#else
#define DOT(s, a, b) _mm256_add_epi32(s, _mm256_madd_epi16(a, b))
#endif
#endif

#ifdef LOAD
enum { PANEL = 2 * LANES };

/* c (rows, PANEL) = from (rows, PANEL), or zeros where it is NULL, plus a (rows, 2 * pairs) times a panel
 * b (pairs, PANEL, 2), whose last two are neighbours in the sum. `lda` is the distance of the rows of a. */
INLINE void tile(const int16_t *a, long lda, const int16_t *b, long pairs, const int32_t *from, int32_t *c, int rows) {
    vec s[ROWS][2];
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
        s[r][0] = from ? LOAD(from + r * PANEL) : ZERO, s[r][1] = from ? LOAD(from + r * PANEL + LANES) : ZERO;
    for (long p = 0; p < pairs; p++) {
        vec v0 = LOAD(b + p * 2 * PANEL), v1 = LOAD(b + p * 2 * PANEL + 2 * LANES);
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) {
            int32_t pair;
            memcpy(&pair, a + r * lda + 2 * p, 4);
            vec w = BOTH(pair);
            s[r][0] = DOT(s[r][0], w, v0), s[r][1] = DOT(s[r][1], w, v1);
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) STORE(c + r * PANEL, s[r][0]), STORE(c + r * PANEL + LANES, s[r][1]);
}

/* As `tile`, for m rows of a, from and c. It is not inlined: where gcc knows where the rows are, it loads the numbers of
 * all of them at once, and then has too few registers for the sums, which halves the speed. */
static __attribute__((noinline)) void tiles(const int16_t *a, long lda, const int16_t *b, long pairs,
                                            const int32_t *from, int32_t *c, long m) {
    long r = 0;
#define TILES(n)                                                                                                       \
    for (; r + n <= m; r += n) tile(a + r * lda, lda, b, pairs, from ? from + r * PANEL : NULL, c + r * PANEL, n);
    TILES(ROWS) TILES(4) TILES(2) TILES(1)
#undef TILES
}
#endif
