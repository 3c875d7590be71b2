/* The rotation of activations and their rounding to whole numbers, where a step writes its rows. */
#pragma once
#include "common.h"

#ifdef __AVX512F__
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
#elif defined(__AVX2__)
/* The three stages within 8 lanes */
static inline __m256 within(__m256 x) {
    const __m256 s1 = _mm256_castsi256_ps(_mm256_set1_epi64x(0x8000000000000000));
    const __m256 s2 = _mm256_castsi256_ps(_mm256_set_epi64x(0x8000000080000000, 0, 0x8000000080000000, 0));
    const __m256 s4 = _mm256_castsi256_ps(_mm256_set_epi64x(0x8000000080000000, 0x8000000080000000, 0, 0));
    x = _mm256_add_ps(_mm256_permute_ps(x, 0xB1), _mm256_xor_ps(x, s1));
    x = _mm256_add_ps(_mm256_permute_ps(x, 0x4E), _mm256_xor_ps(x, s2));
    return _mm256_add_ps(_mm256_permute2f128_ps(x, x, 1), _mm256_xor_ps(x, s4));
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
#elif defined(__AVX2__)
    if (block == 64) {
        for (long i = 0; i < n; i += 64) {
            __m256 v[8];
#pragma GCC unroll 8
            for (int j = 0; j < 8; j++) v[j] = within(_mm256_loadu_ps(x + i + 8 * j));
#pragma GCC unroll 3
            for (int step = 1; step < 8; step *= 2)
#pragma GCC unroll 8
                for (int j = 0; j < 8; j++)
                    if (!(j & step)) {
                        __m256 a = v[j], b = v[j + step];
                        v[j] = _mm256_add_ps(a, b), v[j + step] = _mm256_sub_ps(a, b);
                    }
#pragma GCC unroll 8
            for (int j = 0; j < 8; j++) _mm256_storeu_ps(x + i + 8 * j, v[j]);
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

/* Rotates the row x (n,) block by block, and rounds it to whole numbers with one scale for the row: u8 around 128 where
 * the largest is 127, else int16. A row with a value that is not finite gets zeros and the scale NaN. The rotation
 * spreads a large value over its block, so that it does not cost the other values their precision. */
INLINE void quantize_row(float *restrict x, void *restrict out, float *scale, long n, long block, long largest) {
    int32_t bits = 0;
    float most;
    hadamard(x, n, block);
    /* The bits of |x| are in the order of |x|, infinity and NaN above all. A maximum of whole numbers is computed in
     * registers, one of floats is not, because of NaN. */
    for (long i = 0; i < n; i++) {
        int32_t a;
        memcpy(&a, x + i, 4);
        a &= INT32_MAX;
        bits = a > bits ? a : bits;
    }
    memcpy(&most, &bits, 4);
    int finite = isfinite(most);
    /* Zeros where a value is not finite: product.c adds rows up before it multiplies them, so numbers above `largest`
     * would change the other rows too. */
    float s = most > 0 ? most / (float)largest : 1.0f, inverse = finite ? 1.0f / s : 0.0f;
    /* adding 1.5 * 2^23 rounds to the nearest whole number and leaves it in the low bits */
    float magic = 12582912.0f + (largest == 127 ? 128.0f : 0.0f);
    for (long i = 0; i < n; i++) {
        float f = x[i] * inverse + magic;
        uint32_t u;
        memcpy(&u, &f, 4);
        if (largest == 127)
            ((uint8_t *)out)[i] = (uint8_t)u;
        else
            ((int16_t *)out)[i] = (int16_t)u;
    }
    *scale = finite ? s / sqrtf((float)block) : NAN;
}

/* Where a step writes its rows: values (N, stride), of which the first n of a row are written. If `scale` (N,) is NULL
 * they have the type of the activations, else they are whole numbers up to `largest`, after a rotation in blocks. */
typedef struct {
    void *values;
    float *scale;
    long stride, block, largest;
} Out;

/* Writes the row x (n,), whose values are lost, as row t of `out`. */
INLINE void put_row(float *restrict x, const Out *out, long t, long n, int wide) {
    if (!out->scale)
        for (long i = 0; i < n; i++) put(out->values, t * out->stride + i, x[i], wide);
    else if (out->largest == 127)
        quantize_row(x, (uint8_t *)out->values + t * out->stride, out->scale + t, n, out->block, 127);
    else
        quantize_row(x, (int16_t *)out->values + t * out->stride, out->scale + t, n, out->block, out->largest);
}
