/* Attention over packed sequences for one type of numbers. attention.c includes this file once for each type, and says:
 *     VALUE       the type: bf16 or float            WIDE    1 for float
 *     PAIRED      how many neighbours in a sum lie side by side for TILE
 *     TILE        the product of a few rows with 64 columns
 *     NAME(x)     x with the type in its name */

/* As `TILE`, for m rows of a and c */
static void NAME(product)(const VALUE *a, long lda, const VALUE *b, long ldb, long steps, float *c, long ldc, int add,
                          long m) {
    long r = 0;
    for (; r + ROWS <= m; r += ROWS) TILE(a + r * lda, lda, b, ldb, steps, c + r * ldc, ldc, add, ROWS);
    for (; r < m; r++) TILE(a + r * lda, lda, b, ldb, steps, c + r * ldc, ldc, add, 1);
}

/* Copies the keys and values of a segment, for one key-value head, into blocks of 64 keys in the order that `TILE`
 * wants: kp (blocks, E / P, 64, P), where the sum runs over E, and vp (blocks, 64 / P, E, P), where it runs over the
 * keys; P is PAIRED. The end of the last block is filled with zeros. */
static void NAME(pack)(const Heads *h, long head, const int32_t *start, const int32_t *length, long runs, long keys,
                       void *k_blocks, void *v_blocks) {
    long dim = h->dim, blocks = (keys + KEYS - 1) / KEYS, at = 0;
    VALUE *kp = k_blocks, *vp = v_blocks;
    memset(vp + (blocks - 1) * KEYS * dim, 0, KEYS * dim * sizeof(VALUE));
    memset(kp + (blocks - 1) * KEYS * dim, 0, KEYS * dim * sizeof(VALUE));
    for (long r = 0; r < runs; r++)
        for (long i = 0; i < length[r]; i++, at++) {
            const VALUE *k = (const VALUE *)h->k + (start[r] + i) * h->kv_stride + head * dim;
            const VALUE *v = (const VALUE *)h->v + (start[r] + i) * h->kv_stride + head * dim;
            VALUE *kb = kp + at / KEYS * KEYS * dim + at % KEYS * PAIRED;
            VALUE *vb = vp + at / KEYS * KEYS * dim + at % KEYS / PAIRED * PAIRED * dim + at % PAIRED;
            for (long d = 0; d < dim / PAIRED; d++) memcpy(kb + d * PAIRED * KEYS, k + PAIRED * d, 4);
            for (long d = 0; d < dim; d++) vb[PAIRED * d] = v[d];
        }
}

/* Attention of a task, block by block of keys, with the running softmax of FlashAttention (Dao et al. 2022). Row i of it
 * is query i / groups and query head i % groups of the group:
 *     q (m, E) queries        s (m, 64) scores against a block        p (m, 64) exp(scores - top)
 *     o (m, E) sum of p times the values so far        top (m,) largest score so far        sum (m,) sum of p so far
 * When a block raises `top`, the sums so far are multiplied by `shrink`. */
static void NAME(attend)(const Heads *h, long head, long q_row, long first, long count, long queries, long keys,
                         const void *k_blocks, const void *v_blocks) {
    long dim = h->dim, m = count * h->groups;
    const VALUE *kp = k_blocks, *vp = v_blocks;
    VALUE q[MOST * dim], p[MOST * KEYS];
    float s[MOST * KEYS], o[MOST * dim], top[MOST], sum[MOST];
    for (long i = 0; i < m; i++) {
        long t = q_row + first + i / h->groups, g = head * h->groups + i % h->groups;
        memcpy(q + i * dim, (const VALUE *)h->q + t * h->q_stride + g * dim, dim * sizeof(VALUE));
        top[i] = -INFINITY, sum[i] = 0;
    }
    memset(o, 0, sizeof(float) * m * dim);
    long from = keys - queries + first, to = from + count; /* positions of the task's queries among the keys */
    long begin = h->window && from >= h->window ? (from - h->window + 1) / KEYS : 0;
    for (long b = begin; b * KEYS < to; b++) {
        NAME(product)(q, dim, kp + b * KEYS * dim, KEYS, dim / PAIRED, s, KEYS, 0, m);
        for (long i = 0; i < m; i++) {
            float *row = s + i * KEYS, most = top[i];
            long at = from + i / h->groups, last = at - b * KEYS; /* the last key of the block that this query sees */
            long low = h->window ? at - h->window + 1 - b * KEYS : 0;
            if (last < KEYS - 1 || low > 0)
                for (long j = 0; j < KEYS; j++) row[j] = j <= last && j >= low ? row[j] : -INFINITY;
            for (long j = 0; j < KEYS; j++) most = row[j] > most ? row[j] : most;
            if (most == -INFINITY) {
                memset(p + i * KEYS, 0, KEYS * sizeof(VALUE));
                continue;
            }
            float total = 0, shrink = exp_fast((top[i] - most) * h->scale);
            if (top[i] == -INFINITY) shrink = 0;
            for (long j = 0; j < KEYS; j++) {
                float e = row[j] == -INFINITY ? 0.0f : exp_fast((row[j] - most) * h->scale);
                put(p, i * KEYS + j, e, WIDE);
                total += get(p, i * KEYS + j, WIDE);
            }
            if (most > top[i])
                for (long d = 0; d < dim; d++) o[i * dim + d] *= shrink;
            sum[i] = sum[i] * shrink + total, top[i] = most;
        }
        for (long d = 0; d < dim; d += 64)
            NAME(product)(p, KEYS, vp + b * KEYS * dim + PAIRED * d, dim, KEYS / PAIRED, o + d, dim, 1, m);
    }
    for (long i = 0; i < m; i++) {
        long t = q_row + first + i / h->groups, g = head * h->groups + i % h->groups;
        VALUE *row = (VALUE *)h->out + t * h->heads * h->groups * dim + g * dim;
        for (long d = 0; d < dim; d++) put(row, d, o[i * dim + d] / sum[i], WIDE);
    }
}

/* `attend_all` of attention.h for this type */
int NAME(attention)(const VALUE *q, long q_stride, const VALUE *k, const VALUE *v, long kv_stride, VALUE *out,
                    long segments, const int32_t *q_start, const int32_t *q_length, const int32_t *ptr,
                    const int32_t *start, const int32_t *length, long q_heads, long kv_heads, long dim, float scale,
                    long window) {
    Heads h = {q, k, v, q_stride, kv_stride, kv_heads, q_heads / kv_heads, dim, out, scale, window};
    long size = KEYS * dim * sizeof(VALUE);
    Kind kind = {KEYS, size, size, NAME(pack), NAME(attend)};
    return attend_all(&h, &kind, segments, q_start, q_length, ptr, start, length);
}

#undef VALUE
#undef WIDE
#undef PAIRED
#undef TILE
#undef NAME
