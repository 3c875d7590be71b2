/* The steps between the matrix products of a decoder, each in one pass over its rows: norms with the residual, rotary
 * embedding, gated activation, quantization to int8, and attention over packed sequences. Inputs and outputs are bf16, the
 * arithmetic is fp32. native.py compiles this file, fused.py calls it, and ops.py does the same in torch.
 *
 * All arrays are row-major; a row is a token. Letters in the comments on shapes, as in ops.py:
 *     N rows    D width of the model    I width of the MLP    H query heads    G key-value heads    E size of a head
 * A pointer to `scale` or `out_scale`, (N,), means int8: the values of row t are to be multiplied by scale[t]; with
 * NULL the values are plain bf16. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <omp.h>

typedef uint16_t bf16;

static inline float widen(bf16 x) {
    uint32_t u = (uint32_t)x << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static inline bf16 narrow(float f) { /* to the nearest, ties to even; a number never becomes NaN */
    uint32_t u;
    memcpy(&u, &f, 4);
    return (bf16)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

static inline float exp_fast(float x) { /* relative error below 2e-7 for x in [-87, 88]; exp(-87) below */
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    float n = nearbyintf(x * 1.44269504f);
    float r = fmaf(n, -0.693359375f, x);
    r = fmaf(n, 2.12194440e-4f, r);
    float p = 1.9875691500e-4f;
    p = fmaf(p, r, 1.3981999507e-3f);
    p = fmaf(p, r, 8.3334519073e-3f);
    p = fmaf(p, r, 4.1665795894e-2f);
    p = fmaf(p, r, 1.6666665459e-1f);
    p = fmaf(p, r, 5.0000001201e-1f);
    p = fmaf(p, r * r, r + 1.0f);
    uint32_t u = (uint32_t)((int32_t)n + 127) << 23;
    float s;
    memcpy(&s, &u, 4);
    return p * s;
}

#ifdef __AVX512F__
#include <immintrin.h>

/* The four stages of a Hadamard transform within 16 lanes: in each, x becomes its partner lane plus or minus x */
static inline __m512 within(__m512 x) {
    const __m512 s1 = _mm512_castsi512_ps(_mm512_set1_epi64(0x8000000000000000));
    const __m512 s2 = _mm512_castsi512_ps(_mm512_set_epi64(0x8000000080000000, 0, 0x8000000080000000, 0,
                                                           0x8000000080000000, 0, 0x8000000080000000, 0));
    const __m512 s4 = _mm512_castsi512_ps(_mm512_set_epi64(0x8000000080000000, 0x8000000080000000, 0, 0,
                                                           0x8000000080000000, 0x8000000080000000, 0, 0));
    const __m512 s8 = _mm512_castsi512_ps(_mm512_set_epi64(0x8000000080000000, 0x8000000080000000, 0x8000000080000000,
                                                           0x8000000080000000, 0, 0, 0, 0));
#define FLIP(x, s) _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(x), _mm512_castps_si512(s)))
    x = _mm512_add_ps(_mm512_permute_ps(x, 0xB1), FLIP(x, s1));
    x = _mm512_add_ps(_mm512_permute_ps(x, 0x4E), FLIP(x, s2));
    x = _mm512_add_ps(_mm512_shuffle_f32x4(x, x, 0xB1), FLIP(x, s4));
    return _mm512_add_ps(_mm512_shuffle_f32x4(x, x, 0x4E), FLIP(x, s8));
#undef FLIP
}
#endif

/* Multiplies each block of the row x (n,) in place with the Hadamard matrix of size `block`, a power of two. The matrix
 * has entries 1 and -1: the factor 1 / sqrt(block) that makes it a rotation is left to the caller. */
static inline void hadamard(float *x, long n, long block) {
#ifdef __AVX512F__
    if (block == 64) {
        for (long i = 0; i < n; i += 64) {
            __m512 a = within(_mm512_loadu_ps(x + i)), b = within(_mm512_loadu_ps(x + i + 16));
            __m512 c = within(_mm512_loadu_ps(x + i + 32)), d = within(_mm512_loadu_ps(x + i + 48));
            __m512 e = _mm512_add_ps(a, b), f = _mm512_sub_ps(a, b), g = _mm512_add_ps(c, d), h = _mm512_sub_ps(c, d);
            _mm512_storeu_ps(x + i, _mm512_add_ps(e, g)), _mm512_storeu_ps(x + i + 16, _mm512_add_ps(f, h));
            _mm512_storeu_ps(x + i + 32, _mm512_sub_ps(e, g)), _mm512_storeu_ps(x + i + 48, _mm512_sub_ps(f, h));
        }
        return;
    }
#endif
    for (long step = 1; step < block; step *= 2)
        for (long i = 0; i < n; i += 2 * step)
            for (long j = i; j < i + step; j++) {
                float a = x[j], b = x[j + step];
                x[j] = a + b, x[j + step] = a - b;
            }
}

/* Rotates the row x (n,) block by block, and rounds it to u8 around 128 with one scale for the row. A row with a value
 * that is not finite gets the scale NaN. The rotation spreads a large value over its block, so that it does not cost
 * the other values their precision. */
static inline void quantize_row(float *restrict x, uint8_t *restrict out, float *scale, long n, long block) {
    float most = 0, sum = 0;
    hadamard(x, n, block);
    for (long i = 0; i < n; i++) {
        float a = fabsf(x[i]);
        most = a > most ? a : most;
        sum += a;
    }
    float s = most > 0 ? most / 127.0f : 1.0f, inverse = 1.0f / s;
    /* adding 1.5 * 2^23 rounds to the nearest whole number and leaves it in the low bits */
    for (long i = 0; i < n; i++) {
        float f = x[i] * inverse + (12582912.0f + 128.0f);
        uint32_t u;
        memcpy(&u, &f, 4);
        out[i] = (uint8_t)u;
    }
    *scale = isfinite(sum) ? s / sqrtf((float)block) : NAN;
}

static inline float rms(const float *x, long n, float eps) {
    float sum = 0;
    for (long i = 0; i < n; i++) sum += x[i] * x[i];
    return 1.0f / sqrtf(sum / n + eps);
}

/* residual += norm(y) with the weights `after` (or += y, if `after` is NULL); out = norm(residual) with the weights
 * `before`. y (N, D), residual (N, D), out (N, D) as bf16, or as u8 with out_scale (N,). If y is NULL nothing is added;
 * if `before` is NULL nothing is written to out. Here rows = N, width = D. */
void add_norm(const bf16 *y, const float *y_scale, const float *after, float *residual, const float *before, void *out,
              float *out_scale, long rows, long width, long block, float eps) {
#pragma omp parallel for schedule(static)
    for (long t = 0; t < rows; t++) {
        float x[width];
        float *r = residual + t * width;
        if (y) {
            float s = y_scale ? y_scale[t] : 1.0f;
            for (long i = 0; i < width; i++) x[i] = widen(y[t * width + i]) * s;
            if (after) {
                float k = rms(x, width, eps);
                for (long i = 0; i < width; i++) r[i] += x[i] * k * after[i];
            } else
                for (long i = 0; i < width; i++) r[i] += x[i];
        }
        if (!before) continue;
        float k = rms(r, width, eps);
        if (out_scale) {
            for (long i = 0; i < width; i++) x[i] = r[i] * k * before[i];
            quantize_row(x, (uint8_t *)out + t * width, out_scale + t, width, block);
        } else
            for (long i = 0; i < width; i++) ((bf16 *)out)[t * width + i] = narrow(r[i] * k * before[i]);
    }
}

/* On rows qkv (N, (H + 2 G) * E) = [queries | keys | values], in place: the norm of each query head and key head, where
 * norm_q and norm_k (E,) are given, then the rotary embedding, with tables cos and sin (positions, E / 2) and
 * position (N,). With `scale` the values, too, are multiplied by it. */
void rotate(bf16 *qkv, const float *scale, const float *norm_q, const float *norm_k, const float *cos, const float *sin,
            const int32_t *position, long rows, long q_heads, long kv_heads, long dim, float eps) {
    long width = (q_heads + 2 * kv_heads) * dim, half = dim / 2;
#pragma omp parallel for schedule(static)
    for (long t = 0; t < rows; t++) {
        float x[dim];
        const float *c = cos + (long)position[t] * half, *s = sin + (long)position[t] * half;
        float k = scale ? scale[t] : 1.0f;
        for (long h = 0; h < q_heads + kv_heads; h++) {
            bf16 *row = qkv + t * width + h * dim;
            const float *norm = h < q_heads ? norm_q : norm_k;
            for (long i = 0; i < dim; i++) x[i] = widen(row[i]) * k;
            if (norm) {
                float n = rms(x, dim, eps);
                for (long i = 0; i < dim; i++) x[i] *= n * norm[i];
            }
            for (long i = 0; i < half; i++) {
                row[i] = narrow(x[i] * c[i] - x[i + half] * s[i]);
                row[i + half] = narrow(x[i + half] * c[i] + x[i] * s[i]);
            }
        }
        if (scale) {
            bf16 *row = qkv + t * width + (q_heads + kv_heads) * dim;
            for (long i = 0; i < kv_heads * dim; i++) row[i] = narrow(widen(row[i]) * k);
        }
    }
}

/* gate_up (N, 2 I) = [gate | up] to f(gate) * up (N, I), with f(x) = x * sigmoid(linear * x + cubic * x^3): SiLU, or the
 * tanh form of GELU. Here width = I. */
void gated(const bf16 *gate_up, const float *scale, void *out, float *out_scale, long rows, long width, long block,
           float linear, float cubic) {
#pragma omp parallel for schedule(static)
    for (long t = 0; t < rows; t++) {
        float x[width];
        const bf16 *g = gate_up + t * 2 * width, *u = g + width;
        float k = scale ? scale[t] : 1.0f;
        for (long i = 0; i < width; i++) {
            float a = widen(g[i]) * k;
            float z = a * fmaf(a * a, cubic, linear);
            x[i] = a / (1.0f + exp_fast(-z)) * (widen(u[i]) * k);
        }
        if (out_scale)
            quantize_row(x, (uint8_t *)out + t * width, out_scale + t, width, block);
        else
            for (long i = 0; i < width; i++) ((bf16 *)out)[t * width + i] = narrow(x[i]);
    }
}

/* x (N, width) to out (N, width) in u8 and scale (N,). */
void quantize(const bf16 *x, uint8_t *out, float *scale, long rows, long width, long block) {
#pragma omp parallel for schedule(static)
    for (long t = 0; t < rows; t++) {
        float row[width];
        for (long i = 0; i < width; i++) row[i] = widen(x[t * width + i]);
        quantize_row(row, out + t * width, scale + t, width, block);
    }
}

#ifdef __AVX512BF16__
enum { KEYS = 64, ROWS = 6 };

/* c (rows, 64) = a (rows, 2 * pairs) times b, or += with `add`. b holds a (2 * pairs, 64) matrix with two neighbours of
 * a column side by side, as the instruction wants them: b[p][j] = (element 2 p of column j, element 2 p + 1). Its rows
 * are `ldb` such pairs apart; `lda` and `ldc` are the distances of the rows of a and c. */
static inline __attribute__((always_inline)) void tile(const bf16 *a, long lda, const bf16 *b, long ldb, long pairs,
                                                       float *c, long ldc, int add, int rows) {
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

/* As `tile`, for m rows of a and c */
static void product(const bf16 *a, long lda, const bf16 *b, long ldb, long pairs, float *c, long ldc, int add, long m) {
    long r = 0;
    for (; r + ROWS <= m; r += ROWS) tile(a + r * lda, lda, b, ldb, pairs, c + r * ldc, ldc, add, ROWS);
    for (; r < m; r++) tile(a + r * lda, lda, b, ldb, pairs, c + r * ldc, ldc, add, 1);
}

typedef struct {
    const bf16 *q, *k, *v;
    long q_stride, kv_stride, heads, groups, dim;
    bf16 *out;
    float scale;
    long window;
} Heads;

/* Copies the keys and values of a segment, for one key-value head, into blocks of 64 keys in the order that `tile`
 * wants: kp (blocks, E / 2, 64, 2), where the sum runs over E, and vp (blocks, 32, E, 2), where it runs over the keys.
 * The end of the last block is filled with zeros. */
static void pack(const Heads *h, long head, const int32_t *start, const int32_t *length, long runs, long keys, bf16 *kp,
                 bf16 *vp) {
    long dim = h->dim, blocks = (keys + KEYS - 1) / KEYS, at = 0;
    memset(vp + (blocks - 1) * KEYS * dim, 0, KEYS * dim * sizeof(bf16));
    memset(kp + (blocks - 1) * KEYS * dim, 0, KEYS * dim * sizeof(bf16));
    for (long r = 0; r < runs; r++)
        for (long i = 0; i < length[r]; i++, at++) {
            const bf16 *k = h->k + (start[r] + i) * h->kv_stride + head * dim;
            const bf16 *v = h->v + (start[r] + i) * h->kv_stride + head * dim;
            bf16 *kb = kp + at / KEYS * KEYS * dim + at % KEYS * 2;
            bf16 *vb = vp + at / KEYS * KEYS * dim + at % KEYS / 2 * 2 * dim + at % 2;
            for (long d = 0; d < dim / 2; d++) memcpy(kb + d * 2 * KEYS, k + 2 * d, 4);
            for (long d = 0; d < dim; d++) vb[2 * d] = v[d];
        }
}

enum { MOST = 48 }; /* rows of a task: its queries times the H / G query heads of a group */

/* Attention of the queries first to first + count - 1 of a segment, for one key-value head, block by block of keys,
 * with the running softmax of FlashAttention (Dao et al. 2022). The last of the `queries` queries has the position of
 * the last of the `keys` keys. Row i of the task is query i / groups and query head i % groups of the group:
 *     q (m, E) queries        s (m, 64) scores against a block        p (m, 64) exp(scores - top)
 *     o (m, E) sum of p times the values so far        top (m,) largest score so far        sum (m,) sum of p so far
 * When a block raises `top`, the sums so far are multiplied by `shrink`. */
static void attend(const Heads *h, long head, long q_row, long first, long count, long queries, long keys,
                   const bf16 *kp, const bf16 *vp) {
    long dim = h->dim, m = count * h->groups;
    bf16 q[MOST * dim], p[MOST * KEYS];
    float s[MOST * KEYS], o[MOST * dim], top[MOST], sum[MOST];
    for (long i = 0; i < m; i++) {
        long t = q_row + first + i / h->groups, g = head * h->groups + i % h->groups;
        memcpy(q + i * dim, h->q + t * h->q_stride + g * dim, dim * sizeof(bf16));
        top[i] = -INFINITY, sum[i] = 0;
    }
    memset(o, 0, sizeof(float) * m * dim);
    long from = keys - queries + first, to = from + count; /* positions of the task's queries among the keys */
    long begin = h->window && from >= h->window ? (from - h->window + 1) / KEYS : 0;
    for (long b = begin; b * KEYS < to; b++) {
        product(q, dim, kp + b * KEYS * dim, KEYS, dim / 2, s, KEYS, 0, m);
        for (long i = 0; i < m; i++) {
            float *row = s + i * KEYS, most = top[i];
            long at = from + i / h->groups, last = at - b * KEYS; /* the last key of the block that this query sees */
            long low = h->window ? at - h->window + 1 - b * KEYS : 0;
            if (last < KEYS - 1 || low > 0)
                for (long j = 0; j < KEYS; j++) row[j] = j <= last && j >= low ? row[j] : -INFINITY;
            for (long j = 0; j < KEYS; j++) most = row[j] > most ? row[j] : most;
            if (most == -INFINITY) {
                memset(p + i * KEYS, 0, KEYS * sizeof(bf16));
                continue;
            }
            float total = 0, shrink = exp_fast((top[i] - most) * h->scale);
            if (top[i] == -INFINITY) shrink = 0;
            for (long j = 0; j < KEYS; j++) {
                float e = row[j] == -INFINITY ? 0.0f : exp_fast((row[j] - most) * h->scale);
                bf16 half = narrow(e);
                p[i * KEYS + j] = half;
                total += widen(half);
            }
            if (most > top[i])
                for (long d = 0; d < dim; d++) o[i * dim + d] *= shrink;
            sum[i] = sum[i] * shrink + total, top[i] = most;
        }
        for (long d = 0; d < dim; d += 64)
            product(p, KEYS, vp + b * KEYS * dim + 2 * d, dim, KEYS / 2, o + d, dim, 1, m);
    }
    for (long i = 0; i < m; i++) {
        long t = q_row + first + i / h->groups, g = head * h->groups + i % h->groups;
        bf16 *row = h->out + t * h->heads * h->groups * dim + g * dim;
        for (long d = 0; d < dim; d++) row[d] = narrow(o[i * dim + d] / sum[i]);
    }
}

/* Attention as a `packing.Layout` says: q (T, H, E), k and v (N, G, E), with `q_stride` and `kv_stride` values from one
 * row to the next, to out (T, H * E). The queries of segment s are the rows q_start[s] to q_start[s] + q_length[s] - 1;
 * its keys are the runs ptr[s] to ptr[s + 1] - 1. Returns 0, or -1 if there is not enough memory. */
int attention(const bf16 *q, long q_stride, const bf16 *k, const bf16 *v, long kv_stride, bf16 *out, long segments,
              const int32_t *q_start, const int32_t *q_length, const int32_t *ptr, const int32_t *start,
              const int32_t *length, long q_heads, long kv_heads, long dim, float scale, long window) {
    Heads h = {q, k, v, q_stride, kv_stride, kv_heads, q_heads / kv_heads, dim, out, scale, window};
    long step = MOST / h.groups, tasks = 0, blocks = 0;
    long *where = malloc(sizeof(long) * (segments + 1)), *keys = malloc(sizeof(long) * (segments + 1));
    for (long s = 0; where && keys && s < segments; s++) {
        where[s] = blocks, keys[s] = 0;
        for (long r = ptr[s]; r < ptr[s + 1]; r++) keys[s] += length[r];
        blocks += (keys[s] + KEYS - 1) / KEYS;
        tasks += (q_length[s] + step - 1) / step;
    }
    long size = KEYS * dim, *todo = malloc(sizeof(long) * 2 * (tasks + 1));
    bf16 *kp = aligned_alloc(64, sizeof(bf16) * size * (blocks + 1) * kv_heads);
    bf16 *vp = aligned_alloc(64, sizeof(bf16) * size * (blocks + 1) * kv_heads);
    int failed = !where || !keys || !todo || !kp || !vp;
    if (!failed) {
        long at = 0;
        for (long s = 0; s < segments; s++)
            for (long f = 0; f < q_length[s]; f += step) todo[2 * at] = s, todo[2 * at++ + 1] = f;
#pragma omp parallel
        {
#pragma omp for schedule(dynamic) collapse(2)
            for (long s = 0; s < segments; s++)
                for (long head = 0; head < kv_heads; head++)
                    pack(&h, head, start + ptr[s], length + ptr[s], ptr[s + 1] - ptr[s], keys[s],
                         kp + (where[s] + head * blocks) * size, vp + (where[s] + head * blocks) * size);
#pragma omp for schedule(dynamic) collapse(2)
            for (long i = 0; i < tasks; i++)
                for (long head = 0; head < kv_heads; head++) {
                    long s = todo[2 * i], f = todo[2 * i + 1], n = q_length[s] - f < step ? q_length[s] - f : step;
                    attend(&h, head, q_start[s], f, n, q_length[s], keys[s], kp + (where[s] + head * blocks) * size,
                           vp + (where[s] + head * blocks) * size);
                }
        }
    }
    free(where), free(keys), free(todo), free(kp), free(vp);
    return failed ? -1 : 0;
}
#endif
