/* Attention over packed sequences, in bf16 where the CPU has AVX512-BF16, and in fp32 on any CPU. */
#include "attention.h"

enum { KEYS = 64, ROWS = 6 };

int attend_all(const Heads *h, const Kind *kind, long segments, const int32_t *q_start, const int32_t *q_length,
               const int32_t *ptr, const int32_t *start, const int32_t *length) {
    long step = MOST / h->groups, tasks = 0, blocks = 0;
    long *where = malloc(sizeof(long) * (segments + 1)), *keys = malloc(sizeof(long) * (segments + 1));
    for (long s = 0; where && keys && s < segments; s++) {
        where[s] = blocks, keys[s] = 0;
        for (long r = ptr[s]; r < ptr[s + 1]; r++) keys[s] += length[r];
        blocks += (keys[s] + kind->keys - 1) / kind->keys;
        tasks += (q_length[s] + step - 1) / step;
    }
    long *todo = malloc(sizeof(long) * 2 * (tasks + 1));
    char *kp = aligned_alloc(64, kind->k_size * (blocks + 1) * h->heads);
    char *vp = aligned_alloc(64, kind->v_size * (blocks + 1) * h->heads);
    int failed = !where || !keys || !todo || !kp || !vp;
    if (!failed) {
        long at = 0;
        for (long s = 0; s < segments; s++)
            for (long f = 0; f < q_length[s]; f += step) todo[2 * at] = s, todo[2 * at++ + 1] = f;
#pragma omp parallel
        {
#pragma omp for schedule(dynamic) collapse(2)
            for (long s = 0; s < segments; s++)
                for (long head = 0; head < h->heads; head++) {
                    long block = where[s] + head * blocks;
                    kind->pack(h, head, start + ptr[s], length + ptr[s], ptr[s + 1] - ptr[s], keys[s],
                               kp + block * kind->k_size, vp + block * kind->v_size);
                }
#pragma omp for schedule(dynamic) collapse(2)
            for (long i = 0; i < tasks; i++)
                for (long head = 0; head < h->heads; head++) {
                    long s = todo[2 * i], f = todo[2 * i + 1], n = q_length[s] - f < step ? q_length[s] - f : step;
                    long block = where[s] + head * blocks;
                    kind->attend(h, head, q_start[s], f, n, q_length[s], keys[s], kp + block * kind->k_size,
                                 vp + block * kind->v_size);
                }
        }
    }
    free(where), free(keys), free(todo), free(kp), free(vp);
    return failed ? -1 : 0;
}

#ifdef __AVX512BF16__
/* c (rows, 64) = a (rows, 2 * pairs) times b, or += with `add`. b holds a (2 * pairs, 64) matrix with two neighbours of
 * a column side by side, as the instruction wants them: b[p][j] = (element 2 p of column j, element 2 p + 1). Its rows
 * are `ldb` such pairs apart; `lda` and `ldc` are the distances of the rows of a and c. */
INLINE void tile_bf16(const bf16 *a, long lda, const bf16 *b, long ldb, long pairs, float *c, long ldc, int add,
                      int rows) {
    __m512 s[ROWS][4];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) s[r][j] = add ? _mm512_loadu_ps(c + r * ldc + 16 * j) : _mm512_setzero_ps();
    for (long p = 0; p < pairs; p++) {
        __m512bh v[4];
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) v[j] = (__m512bh)_mm512_loadu_si512(b + p * 2 * ldb + 32 * j);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            int32_t pair;
            memcpy(&pair, a + r * lda + 2 * p, 4);
            __m512bh w = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) s[r][j] = _mm512_dpbf16_ps(s[r][j], w, v[j]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) _mm512_storeu_ps(c + r * ldc + 16 * j, s[r][j]);
}

#define VALUE bf16
#define WIDE 0
#define PAIRED 2
#define TILE tile_bf16
#define NAME(x) x##_bf16
#include "attention_of.h"
#endif

/* A register of floats, with which the compiler computes element by element. */
#if defined(__AVX512F__)
enum { LANES = 16, VECTORS = 4 };
#elif defined(__AVX2__)
enum { LANES = 8, VECTORS = 2 };
#else
enum { LANES = 4, VECTORS = 4 };
#endif
typedef float vec __attribute__((vector_size(LANES * sizeof(float)), aligned(4)));

/* c (rows, 64) = a (rows, steps) times b (steps, 64), or += with `add`. `lda`, `ldb` and `ldc` are the distances of the
 * rows of a, b and c. */
INLINE void tile_float(const float *a, long lda, const float *b, long ldb, long steps, float *c, long ldc, int add,
                       int rows) {
    for (long from = 0; from < KEYS; from += VECTORS * LANES) {
        vec s[ROWS][VECTORS];
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (int j = 0; j < VECTORS; j++)
                s[r][j] = add ? *(const vec *)(c + r * ldc + from + LANES * j) : (vec){0};
        for (long p = 0; p < steps; p++) {
            vec v[VECTORS];
#pragma GCC unroll 4
            for (int j = 0; j < VECTORS; j++) v[j] = *(const vec *)(b + p * ldb + from + LANES * j);
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
                float w = a[r * lda + p];
#pragma GCC unroll 4
                for (int j = 0; j < VECTORS; j++) s[r][j] += w * v[j];
            }
        }
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (int j = 0; j < VECTORS; j++) *(vec *)(c + r * ldc + from + LANES * j) = s[r][j];
    }
}

#define VALUE float
#define WIDE 1
#define PAIRED 1
#define TILE tile_float
#define NAME(x) x##_float
#include "attention_of.h"
