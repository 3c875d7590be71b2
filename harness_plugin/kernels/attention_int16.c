/* Attention over packed sequences in int16, from fp32 to fp32, with the products of tiles.h. Each query and each key has
 * a scale. The values have one for each block of keys and column, and the weights of the softmax one for each block and
 * query: a weight that is small beside that of another block keeps its precision. */
#include "attention.h"
#include "tiles.h"

#ifdef LOAD
/* A sum of weights times values fits into 32 bits. Rounding adds at most 1/2 to the weight of each key, and
 * (SUM + KEYS / 2) * LARGEST_VALUE < 2^31. */
enum { KEYS = 128, LENGTH = 46000, LARGEST = (1 << 15) - 1, LARGEST_VALUE = (1 << 13) - 1, SUM = (1 << 18) - KEYS };

INLINE int32_t bits(float x) {
    int32_t i;
    memcpy(&i, &x, 4);
    return i;
}

INLINE float number(int32_t i) {
    float x;
    memcpy(&x, &i, 4);
    return x;
}

/* The nearest whole number, in the low 16 bits: where 1.5 * 2^23 is added, the bits of a float count in ones. */
INLINE int32_t rounded(float x) { return bits(x + 12582912.0f); }

/* x (n,) to whole numbers of a length (the root of the sum of squares) of at most LENGTH; returns their scale. The product
 * of two such rows fits into 32 bits: it is at most the product of their lengths (Cauchy and Schwarz), and rounding adds
 * at most sqrt(n) / 2 to each. */
static float round_head(const float *restrict x, int16_t *restrict out, long n) {
    float squares = 0;
    int32_t most = 0; /* in whole numbers, because of NaN: see rounding.h */
    for (long i = 0; i < n; i++) {
        int32_t a = bits(x[i]) & INT32_MAX;
        most = a > most ? a : most;
        squares += x[i] * x[i];
    }
    float s = fmaxf(sqrtf(squares) / LENGTH, number(most) / LARGEST), inverse = s > 0 ? 1.0f / s : 0.0f;
    for (long i = 0; i < n; i++) out[i] = (int16_t)rounded(x[i] * inverse);
    return isfinite(squares) ? s : NAN;
}

/* The columns d to d + PANEL - 1 of the rows x[0] to x[n - 1] to pairs of rows out (KEYS / 2, PANEL, 2), with one scale
 * for each column. There is a row x[n], too. */
INLINE void round_values(const float *const *x, long d, long n, int32_t *restrict out, float *restrict scale) {
    int32_t most[PANEL] = {0};
    float inverse[PANEL];
    for (long j = 0; j < n; j++)
        for (long i = 0; i < PANEL; i++) {
            int32_t a = bits(x[j][d + i]) & INT32_MAX;
            most[i] = a > most[i] ? a : most[i];
        }
    for (long i = 0; i < PANEL; i++) {
        scale[i] = number(most[i]) / LARGEST_VALUE;
        inverse[i] = most[i] ? LARGEST_VALUE / number(most[i]) : 0.0f;
    }
    for (long j = 0; j < n; j += 2)
        for (long i = 0; i < PANEL; i++)
            out[j / 2 * PANEL + i] = (rounded(x[j][d + i] * inverse[i]) & 0xffff) |
                                     (int32_t)((uint32_t)rounded(x[j + 1][d + i] * inverse[i]) << 16);
}

static long k_size(long dim) { return KEYS * (dim * sizeof(int16_t) + sizeof(float)); }
static long v_size(long dim) { return dim * (KEYS * sizeof(int16_t) + sizeof(float)); }

/* A block of keys is panels (KEYS / PANEL, E / 2, PANEL, 2) and scales (KEYS,); a block of values is panels (E / PANEL,
 * KEYS / 2, PANEL, 2) and scales (E,). */
static void pack(const Heads *h, long head, const int32_t *start, const int32_t *length, long runs, long keys,
                 void *k_blocks, void *v_blocks) {
    long dim = h->dim, at = 0, r = 0, i = 0;
    int16_t key[dim];
    const float *values[KEYS + 1];
    for (char *kb = k_blocks, *vb = v_blocks; at < keys; at += KEYS, kb += k_size(dim), vb += v_size(dim)) {
        int16_t *kp = (int16_t *)kb, *vp = (int16_t *)vb;
        float *k_scale = (float *)(kp + KEYS * dim), *v_scale = (float *)(vp + KEYS * dim);
        long n = keys - at < KEYS ? keys - at : KEYS;
        if (n < KEYS) memset(kb, 0, k_size(dim)), memset(vb, 0, v_size(dim));
        for (long j = 0; j < n; j++, i++) {
            for (; i == length[r]; r++) i = 0;
            long row = (start[r] + i) * h->kv_stride + head * dim;
            int16_t *to = kp + j / PANEL * PANEL * dim + j % PANEL * 2;
            k_scale[j] = round_head((const float *)h->k + row, key, dim);
            for (long d = 0; d < dim / 2; d++) memcpy(to + d * 2 * PANEL, key + 2 * d, 4);
            values[j] = values[j + 1] = (const float *)h->v + row;
        }
        for (long d = 0; d < dim; d += PANEL) round_values(values, d, n, (int32_t *)(vp + KEYS * d), v_scale + d);
    }
}

/* The queries of a task and what is known of them after some blocks of keys: row i is query i / groups and query head
 * i % groups of the group. */
typedef struct {
    int16_t *q;                /* (MOST, E) */
    float scale[MOST];         /* of q, times that of the scores */
    float scores[MOST * KEYS]; /* against a block */
    int16_t p[MOST * KEYS];    /* exp(scores - their largest), in whole numbers */
    float share[MOST];         /* with which products with p are to be multiplied */
    float *o;                  /* (MOST, E) sum of exp(scores - top) times the values */
    float top[MOST], sum[MOST]; /* largest score; sum of exp(scores - top) */
    float shrink[MOST];        /* with which o is to be multiplied because top has risen */
} Task;

/* The weights of row i, whose query sees the keys low to last of the block. The first n are computed. */
static void weigh(Task *t, long i, long low, long last, long n) {
    float *restrict row = t->scores + i * KEYS;
    int16_t *restrict p = t->p + i * KEYS;
    int32_t most = INT32_MIN, whole = 0;
    if (last < n - 1 || low > 0)
        for (long j = 0; j < n; j++) row[j] = j <= last && j >= low ? row[j] : -INFINITY;
    for (long j = 0; j < n; j++) { /* whole numbers in the order of the floats */
        int32_t a = bits(row[j]) ^ (bits(row[j]) >> 31 & INT32_MAX);
        most = a > most ? a : most;
    }
    float here = number(most ^ (most >> 31 & INT32_MAX)), total = 0;
    t->shrink[i] = 1, t->share[i] = 0;
    if (here == -INFINITY) { /* it sees no key of the block */
        memset(p, 0, n * sizeof(int16_t));
        return;
    }
    for (long j = 0; j < n; j++) row[j] = exp_fast(row[j] - here), total += row[j];
    float factor = SUM / total > LARGEST ? LARGEST : SUM / total; /* NaN where a score is */
    for (long j = 0; j < n; j++) {
        int32_t a = (int16_t)rounded(row[j] * factor);
        p[j] = (int16_t)a, whole += a;
    }
    float top = here > t->top[i] ? here : t->top[i];
    t->shrink[i] = exp_fast(t->top[i] - top), t->top[i] = top;
    t->share[i] = exp_fast(here - top) / factor;
    t->sum[i] = t->sum[i] * t->shrink[i] + whole * t->share[i];
}

/* Attention of a task, with the running softmax of FlashAttention (Dao et al. 2022) */
static void attend(const Heads *h, long head, long q_row, long first, long count, long queries, long keys,
                   const void *k_blocks, const void *v_blocks) {
    long dim = h->dim, m = count * h->groups;
    int16_t q[MOST * dim];
    float o[MOST * dim];
    int32_t c[MOST * PANEL];
    Task t = {.q = q, .o = o};
    for (long i = 0; i < m; i++) {
        long row = (q_row + first + i / h->groups) * h->q_stride + (head * h->groups + i % h->groups) * dim;
        t.scale[i] = round_head((const float *)h->q + row, q + i * dim, dim) * h->scale;
        t.top[i] = -INFINITY, t.sum[i] = 0;
    }
    memset(o, 0, sizeof(float) * m * dim);
    long from = keys - queries + first, to = from + count; /* positions of the task's queries among the keys */
    for (long b = h->window && from >= h->window ? (from - h->window + 1) / KEYS : 0; b * KEYS < to; b++) {
        const int16_t *kp = (const int16_t *)((const char *)k_blocks + b * k_size(dim));
        const int16_t *vp = (const int16_t *)((const char *)v_blocks + b * v_size(dim));
        const float *k_scale = (const float *)(kp + KEYS * dim), *v_scale = (const float *)(vp + KEYS * dim);
        long seen = to - b * KEYS < KEYS ? to - b * KEYS : KEYS, n = (seen + PANEL - 1) / PANEL * PANEL;
        for (long j = 0; j < n; j += PANEL) {
            tiles(q, dim, kp + j * dim, dim / 2, NULL, c, m);
            for (long i = 0; i < m; i++)
                for (long l = 0; l < PANEL; l++)
                    t.scores[i * KEYS + j + l] = (float)c[i * PANEL + l] * (t.scale[i] * k_scale[j + l]);
        }
        for (long i = 0; i < m; i++) {
            long at = from + i / h->groups - b * KEYS; /* the last key of the block that this query sees */
            weigh(&t, i, h->window ? at - h->window + 1 : 0, at, n);
        }
        for (long d = 0; d < dim; d += PANEL) {
            tiles(t.p, KEYS, vp + d * KEYS, n / 2, NULL, c, m);
            for (long i = 0; i < m; i++)
                for (long l = 0; l < PANEL; l++)
                    o[i * dim + d + l] = o[i * dim + d + l] * t.shrink[i] +
                                         (float)c[i * PANEL + l] * (v_scale[d + l] * t.share[i]);
        }
    }
    for (long i = 0; i < m; i++) {
        long row = (q_row + first + i / h->groups) * h->heads * h->groups + head * h->groups + i % h->groups;
        for (long d = 0; d < dim; d++) ((float *)h->out)[row * dim + d] = o[i * dim + d] / t.sum[i];
    }
}

/* `attend_all` of attention.h in int16 */
int attention_int16(const float *q, long q_stride, const float *k, const float *v, long kv_stride, float *out,
                    long segments, const int32_t *q_start, const int32_t *q_length, const int32_t *ptr,
                    const int32_t *start, const int32_t *length, long q_heads, long kv_heads, long dim, float scale,
                    long window) {
    Heads h = {q, k, v, q_stride, kv_stride, kv_heads, q_heads / kv_heads, dim, out, scale, window};
    Kind kind = {KEYS, k_size(dim), v_size(dim), pack, attend};
    return attend_all(&h, &kind, segments, q_start, q_length, ptr, start, length);
}
#endif
