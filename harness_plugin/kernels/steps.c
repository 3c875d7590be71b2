/* The steps between the matrix products of a decoder, each in one pass over its rows: norms with the residual, rotary
 * embedding, gated activation, and rounding to whole numbers. engine/fused.py calls them, and engine/ops.py does the same
 * in torch.
 *
 * A pointer to `scale`, (N,), means that the values of row t are to be multiplied by scale[t]; with NULL they are plain. */
#include "rounding.h"

INLINE float rms(const float *x, long n, float eps) {
    float sum = 0;
    for (long i = 0; i < n; i++) sum += x[i] * x[i];
    return 1.0f / sqrtf(sum / n + eps);
}

INLINE void add_norm_of(int wide, const void *y, const float *y_scale, const float *after, float *residual,
                        const float *before, Out out, long rows, long width, float eps) {
#pragma omp parallel for schedule(static)
    for (long t = 0; t < rows; t++) {
        float x[width];
        float *r = residual + t * width;
        if (y) {
            float s = y_scale ? y_scale[t] : 1.0f;
            for (long i = 0; i < width; i++) x[i] = get(y, t * width + i, wide) * s;
            if (after) {
                float k = rms(x, width, eps);
                for (long i = 0; i < width; i++) r[i] += x[i] * k * after[i];
            } else
                for (long i = 0; i < width; i++) r[i] += x[i];
        }
        if (!before) continue;
        float k = rms(r, width, eps);
        for (long i = 0; i < width; i++) x[i] = r[i] * k * before[i];
        put_row(x, &out, t, width, wide);
    }
}

/* residual += norm(y) with the weights `after` (or += y, if `after` is NULL); out = norm(residual) with the weights
 * `before`. y (N, D), residual (N, D), out (N, D). If y is NULL nothing is added; if `before` is NULL nothing is written
 * to out. Here rows = N, width = D. */
void add_norm(int wide, const void *y, const float *y_scale, const float *after, float *residual, const float *before,
              Out out, long rows, long width, float eps) {
    if (wide)
        add_norm_of(1, y, y_scale, after, residual, before, out, rows, width, eps);
    else
        add_norm_of(0, y, y_scale, after, residual, before, out, rows, width, eps);
}

INLINE void rotate_of(int wide, void *qkv, const float *scale, const float *norm_q, const float *norm_k,
                      const float *cos, const float *sin, const int32_t *position, long rows, long q_heads,
                      long kv_heads, long dim, float eps) {
    long width = (q_heads + 2 * kv_heads) * dim, half = dim / 2;
#pragma omp parallel for schedule(static)
    for (long t = 0; t < rows; t++) {
        float x[dim];
        const float *c = cos + (long)position[t] * half, *s = sin + (long)position[t] * half;
        float k = scale ? scale[t] : 1.0f;
        for (long h = 0; h < q_heads + kv_heads; h++) {
            long row = t * width + h * dim;
            const float *norm = h < q_heads ? norm_q : norm_k;
            for (long i = 0; i < dim; i++) x[i] = get(qkv, row + i, wide) * k;
            if (norm) {
                float n = rms(x, dim, eps);
                for (long i = 0; i < dim; i++) x[i] *= n * norm[i];
            }
            for (long i = 0; i < half; i++) {
                put(qkv, row + i, x[i] * c[i] - x[i + half] * s[i], wide);
                put(qkv, row + i + half, x[i + half] * c[i] + x[i] * s[i], wide);
            }
        }
        if (scale) {
            long row = t * width + (q_heads + kv_heads) * dim;
            for (long i = row; i < row + kv_heads * dim; i++) put(qkv, i, get(qkv, i, wide) * k, wide);
        }
    }
}

/* On rows qkv (N, (H + 2 G) * E) = [queries | keys | values], in place: the norm of each query head and key head, where
 * norm_q and norm_k (E,) are given, then the rotary embedding, with tables cos and sin (positions, E / 2) and
 * position (N,). With `scale` the values, too, are multiplied by it. */
void rotate(int wide, void *qkv, const float *scale, const float *norm_q, const float *norm_k, const float *cos,
            const float *sin, const int32_t *position, long rows, long q_heads, long kv_heads, long dim, float eps) {
    if (wide)
        rotate_of(1, qkv, scale, norm_q, norm_k, cos, sin, position, rows, q_heads, kv_heads, dim, eps);
    else
        rotate_of(0, qkv, scale, norm_q, norm_k, cos, sin, position, rows, q_heads, kv_heads, dim, eps);
}

INLINE void gated_of(int wide, const void *gate_up, const float *scale, Out out, long rows, long width, float linear,
                     float cubic) {
#pragma omp parallel for schedule(static)
    for (long t = 0; t < rows; t++) {
        float x[width];
        long g = t * 2 * width, u = g + width;
        float k = scale ? scale[t] : 1.0f;
        for (long i = 0; i < width; i++) {
            x[i] = gate(get(gate_up, g + i, wide) * k, linear, cubic) * (get(gate_up, u + i, wide) * k);
        }
        put_row(x, &out, t, width, wide);
    }
}

/* gate_up (N, 2 I) = [gate | up] to gate(gate) * up (N, I). Here width = I. */
void gated(int wide, const void *gate_up, const float *scale, Out out, long rows, long width, float linear,
           float cubic) {
    if (wide)
        gated_of(1, gate_up, scale, out, rows, width, linear, cubic);
    else
        gated_of(0, gate_up, scale, out, rows, width, linear, cubic);
}

INLINE void quantize_of(int wide, const void *x, Out out, long rows, long width) {
#pragma omp parallel for schedule(static)
    for (long t = 0; t < rows; t++) {
        float row[width];
        for (long i = 0; i < width; i++) row[i] = get(x, t * width + i, wide);
        put_row(row, &out, t, width, wide);
    }
}

/* x (N, width) to whole numbers. */
void quantize(int wide, const void *x, Out out, long rows, long width) {
    if (wide)
        quantize_of(1, x, out, rows, width);
    else
        quantize_of(0, x, out, rows, width);
}
