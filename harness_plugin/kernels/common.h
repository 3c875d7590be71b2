/* What all kernels share. All arrays are row-major; a row is a token. Letters in the comments on shapes, as in
 * engine/ops.py:
 *     N rows    D width of the model    I width of the MLP    H query heads    G key-value heads    E size of a head
 *
 * Activations are bf16, or float where an argument `wide` is 1; the arithmetic between them is fp32. `wide` is a
 * constant wherever these functions are used, so that the compiler makes one version of each loop for each. */
#pragma once
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

typedef uint16_t bf16;

INLINE float widen(bf16 x) {
    uint32_t u = (uint32_t)x << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

INLINE bf16 narrow(float f) { /* to the nearest, ties to even; a number never becomes NaN */
    uint32_t u;
    memcpy(&u, &f, 4);
    return (bf16)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

INLINE float exp_fast(float x) { /* relative error below 2e-7 for x in [-87, 88]; exp(-87) below */
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

/* x * sigmoid(linear * x + cubic * x^3): SiLU, or the tanh form of GELU */
INLINE float gate(float x, float linear, float cubic) {
    return x / (1.0f + exp_fast(-x * fmaf(x * x, cubic, linear)));
}

INLINE float get(const void *x, long i, int wide) {
    return wide ? ((const float *)x)[i] : widen(((const bf16 *)x)[i]);
}

INLINE void put(void *x, long i, float f, int wide) {
    if (wide)
        ((float *)x)[i] = f;
    else
        ((bf16 *)x)[i] = narrow(f);
}
