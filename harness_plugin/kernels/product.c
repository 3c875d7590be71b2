/* Products of int16 matrices with exact sums in 32 bits, on x86 with AVX2 or more: twice as many numbers in a register
 * as in fp32. oneDNN and FBGEMM have int8 products only, which on AVX2 add two products in 16 bits: these overflow unless
 * one factor keeps to 7 bits. */
#include "rounding.h"

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
enum { PANEL = 2 * LANES, BLOCK = 48, GROUP = 8 };

/* c (rows, PANEL) = a (rows, 2 * pairs) times a panel b (pairs, PANEL, 2), whose last two are neighbours in the sum.
 * `lda` is the distance of the rows of a. */
INLINE void tile(const int16_t *a, long lda, const int16_t *b, long pairs, int32_t *c, int rows) {
    vec s[ROWS][2];
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) s[r][0] = s[r][1] = ZERO;
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

/* The number of outputs of a panel */
long panel(void) { return PANEL; }

/* w (outs, width) to panels (panels, width / 2, PANEL, 2); the outputs that the last panel has too many are zeros. */
void pack_panels(const int16_t *w, int16_t *out, long outs, long width) {
    long panels = (outs + PANEL - 1) / PANEL;
#pragma omp parallel for schedule(static)
    for (long q = 0; q < panels; q++)
        for (long p = 0; p < width / 2; p++)
            for (long j = 0; j < PANEL; j++) {
                int16_t *to = out + ((q * (width / 2) + p) * PANEL + j) * 2;
                if (q * PANEL + j < outs)
                    memcpy(to, w + (q * PANEL + j) * width + 2 * p, 4);
                else
                    to[0] = to[1] = 0;
            }
}

/* c (m, PANEL) = a (m, width) times one panel */
static void tiles(const int16_t *a, long lda, const int16_t *b, long width, int32_t *c, long m) {
    long r = 0;
    for (; r + ROWS <= m; r += ROWS) tile(a + r * lda, lda, b, width / 2, c + r * PANEL, ROWS);
    for (; r < m; r++) tile(a + r * lda, lda, b, width / 2, c + r * PANEL, 1);
}

/* out (N, outs) = (x (N, width) times the matrix in `panels`) * scale (N,) * weight_scale (outs,) + bias (outs,) or
 * NULL. `stride` is the distance of the rows of x. A task is BLOCK rows and GROUP panels. */
void product(const int16_t *x, long stride, const float *scale, const int16_t *panels, const float *weight_scale,
             const float *bias, float *out, long rows, long width, long outs) {
    long last = (outs + PANEL - 1) / PANEL, groups = (last + GROUP - 1) / GROUP, blocks = (rows + BLOCK - 1) / BLOCK;
#pragma omp parallel for schedule(dynamic) collapse(2)
    for (long i = 0; i < blocks; i++)
        for (long g = 0; g < groups; g++) {
            int32_t c[BLOCK * PANEL];
            long m = rows - i * BLOCK < BLOCK ? rows - i * BLOCK : BLOCK;
            for (long q = g * GROUP; q < last && q < (g + 1) * GROUP; q++) {
                long n = outs - q * PANEL < PANEL ? outs - q * PANEL : PANEL;
                tiles(x + i * BLOCK * stride, stride, panels + q * PANEL * width, width, c, m);
                const float *w = weight_scale + q * PANEL, *plus = bias ? bias + q * PANEL : NULL;
                for (long r = 0; r < m; r++) {
                    float *y = out + (i * BLOCK + r) * outs + q * PANEL, k = scale[i * BLOCK + r];
                    const int32_t *sum = c + r * PANEL;
                    if (plus)
                        for (long j = 0; j < n; j++) y[j] = (float)sum[j] * (w[j] * k) + plus[j];
                    else
                        for (long j = 0; j < n; j++) y[j] = (float)sum[j] * (w[j] * k);
                }
            }
        }
}

/* out (N, I) = gate(gate) * up, rounded to whole numbers, where [gate | up] is the product of x as above, without a bias.
 * The product itself, (N, 2 I), is never in memory. Here outs = I, a multiple of PANEL. Returns 0, or -1 if there is not
 * enough memory. */
int gated_product(const int16_t *x, long stride, const float *scale, const int16_t *panels, const float *weight_scale,
                  Out out, long rows, long width, long outs, float linear, float cubic) {
    long blocks = (rows + BLOCK - 1) / BLOCK;
    int failed = 0;
#pragma omp parallel
    {
        float *z = malloc(sizeof(float) * BLOCK * outs); /* (BLOCK, I), the rows of a task before they are rounded */
        if (!z) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp barrier
#pragma omp for schedule(dynamic)
        for (long i = 0; i < blocks; i++) {
            if (failed) continue;
            int32_t g[BLOCK * PANEL], u[BLOCK * PANEL];
            long m = rows - i * BLOCK < BLOCK ? rows - i * BLOCK : BLOCK;
            const int16_t *a = x + i * BLOCK * stride;
            for (long q = 0; q < outs; q += PANEL) {
                tiles(a, stride, panels + q * width, width, g, m);
                tiles(a, stride, panels + (outs + q) * width, width, u, m);
                const float *v = weight_scale + q, *w = weight_scale + outs + q;
                for (long r = 0; r < m; r++) {
                    float k = scale[i * BLOCK + r];
                    for (long j = 0; j < PANEL; j++)
                        z[r * outs + q + j] = gate((float)g[r * PANEL + j] * (v[j] * k), linear, cubic) *
                                              ((float)u[r * PANEL + j] * (w[j] * k));
                }
            }
            for (long r = 0; r < m; r++) put_row(z + r * outs, &out, i * BLOCK + r, outs, 1);
        }
        free(z);
    }
    return failed ? -1 : 0;
}
#endif
