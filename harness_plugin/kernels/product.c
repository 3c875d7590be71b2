/* Products of int16 matrices with exact sums in 32 bits, on x86 with AVX2 or more: twice as many numbers in a register
 * as in fp32. oneDNN and FBGEMM have int8 products only, which on AVX2 add two products in 16 bits: these overflow unless
 * one factor keeps to 7 bits.
 *
 * Both factors are cut into quarters and multiplied by Winograd's form of Strassen's algorithm (Winograd 1971), with seven
 * products of quarters instead of eight. In floating point that costs precision. Here it costs none: sums wrap around at
 * 32 bits, so the result is right whenever it fits into them, whatever lay between. It adds up to four numbers of a
 * factor, which have to stay in 16 bits: therefore no number may be larger than 2^13 - 1. */
#include "rounding.h"
#include "tiles.h"

#ifdef LOAD
enum { BLOCK = 96, HALF = BLOCK / 2, GROUP = 8 };
/* Columns of x that are multiplied at once, so that a quarter of a panel stays in the first cache; and unused columns
 * between rows of sums, because rows that are a power of two apart would share few places of a cache. */
enum { CHUNK = 1024, GAP = 32 };

/* The number of outputs of a panel */
long panel(void) { return PANEL; }

/* w (outs, width) to panels (panels, width / 2, PANEL, 2), an even number of them: outputs that are missing at the end
 * are zeros. */
void pack_panels(const int16_t *w, int16_t *out, long outs, long width) {
    long panels = (outs + 2 * PANEL - 1) / (2 * PANEL) * 2;
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

/* A block of rows of x, of which a thread multiplies the `top` first and the `bottom` last rows with the two panels of
 * a pair, and the memory for it. */
typedef struct {
    const int16_t *x;
    long stride, width, top, bottom;
    int16_t *sums;    /* (4, HALF, width / 2 + GAP), of quarters of x */
    int16_t *weights; /* (4, CHUNK / 4, PANEL, 2), sums of quarters of the two panels */
    int32_t *parts;   /* (7, HALF, PANEL), sums of products of quarters */
    int32_t *c;       /* (2, BLOCK, PANEL): x times each of the panels */
    int16_t zeros[CHUNK];
} Block;

static long chunk_at(long k, long width) { return width - k < CHUNK ? width - k : CHUNK; }

/* A block that is not any yet. Its memory is `parts`, NULL if there is not enough. */
static Block new_block(long stride, long width) {
    long parts = 7 * HALF * PANEL, c = 2 * BLOCK * PANEL, weights = CHUNK * PANEL * 2, sums = 4 * HALF * (width / 2 + GAP);
    Block b = {.stride = stride, .width = width};
    b.parts = aligned_alloc(64, sizeof(int32_t) * (parts + c) + sizeof(int16_t) * (weights + sums));
    b.c = b.parts + parts, b.weights = (int16_t *)(b.c + c), b.sums = b.weights + weights;
    return b;
}

/* S1 = A21 + A22, S2 = S1 - A11, S3 = A11 - A21, S4 = A12 - S2, for n numbers of each quarter of x */
INLINE void add_rows(const int16_t *a11, const int16_t *a12, const int16_t *a21, const int16_t *a22, int16_t *restrict s1,
                     int16_t *restrict s2, int16_t *restrict s3, int16_t *restrict s4, long n) {
    for (long i = 0; i < n; i++) {
        int16_t s = a21[i] + a22[i], t = s - a11[i];
        s1[i] = s, s2[i] = t, s3[i] = a11[i] - a21[i], s4[i] = a12[i] - t;
    }
}

/* T1 = B12 - B11, T2 = B22 - T1, T3 = B22 - B12, T4 = B21 - T2, for n numbers of each quarter of two panels */
INLINE void add_weights(const int16_t *b11, const int16_t *b12, const int16_t *b21, const int16_t *b22,
                        int16_t *restrict t1, int16_t *restrict t2, int16_t *restrict t3, int16_t *restrict t4, long n) {
    for (long i = 0; i < n; i++) {
        int16_t t = b12[i] - b11[i], u = b22[i] - t;
        t1[i] = t, t2[i] = u, t3[i] = b22[i] - b12[i], t4[i] = b21[i] - u;
    }
}

/* Takes these rows of x as the block. Where their number is odd, a row of zeros is added to the last ones. */
static void take(Block *b, const int16_t *x, long rows) {
    long lds = b->width / 2 + GAP, size = HALF * lds;
    b->x = x, b->top = (rows + 1) / 2, b->bottom = rows / 2;
    for (long r = 0; r < b->top; r++)
        for (long k = 0, n; k < b->width; k += n) {
            n = chunk_at(k, b->width);
            const int16_t *high = x + r * b->stride + k, *low = r < b->bottom ? high + b->top * b->stride : b->zeros;
            int16_t *s = b->sums + r * lds + k / 2;
            add_rows(high, high + n / 2, low, low + n / 2, s, s + size, s + 2 * size, s + 3 * size, n / 2);
        }
}

/* c = or += the product of n columns of x, from column k on, with the same rows of two panels */
static void multiply_chunk(Block *b, const int16_t *b1, const int16_t *b2, long k, long n) {
    long lds = b->width / 2 + GAP, size = HALF * lds, part = HALF * PANEL, h = b->top, m = b->bottom;
    long quarter = n / 2 * PANEL, most = CHUNK / 2 * PANEL, pairs = n / 4;
    const int16_t *a11 = b->x + k, *a12 = a11 + n / 2, *a22 = a12 + h * b->stride, *s = b->sums + k / 2;
    const int16_t *b11 = b1 + k * PANEL, *b21 = b11 + quarter, *b12 = b2 + k * PANEL, *b22 = b12 + quarter;
    int16_t *t1 = b->weights, *t2 = t1 + most, *t3 = t2 + most, *t4 = t3 + most;
    add_weights(b11, b12, b21, b22, t1, t2, t3, t4, quarter);
    int32_t *p = b->parts, *c11 = p + part, *c12 = c11 + part, *c21 = c12 + part, *u2 = c21 + part, *u3 = u2 + part,
            *u4 = u3 + part;
    tiles(a11, b->stride, b11, pairs, NULL, p, h);
    tiles(a12, b->stride, b21, pairs, p, c11, h);
    tiles(s + size, lds, t2, pairs, p, u2, h);
    tiles(s, lds, t1, pairs, u2, u4, h);
    tiles(s + 3 * size, lds, b22, pairs, u4, c12, h);
    tiles(s + 2 * size, lds, t3, pairs, u2, u3, h);
    tiles(a22, b->stride, t4, pairs, u3, c21, m);
    if (k == 0) memset(b->c, 0, sizeof(int32_t) * 2 * BLOCK * PANEL);
    uint32_t *left = (uint32_t *)b->c, *right = left + BLOCK * PANEL;
    for (long i = 0; i < h * PANEL; i++) left[i] += (uint32_t)c11[i], right[i] += (uint32_t)c12[i];
    left += h * PANEL, right += h * PANEL;
    for (long i = 0; i < m * PANEL; i++)
        left[i] += (uint32_t)c21[i], right[i] += (uint32_t)u3[i] + (uint32_t)u4[i] - (uint32_t)u2[i];
}

/* c = the block times each of the panels b1 and b2 */
static void multiply(Block *b, const int16_t *b1, const int16_t *b2) {
    for (long k = 0, n; k < b->width; k += n) {
        n = chunk_at(k, b->width);
        multiply_chunk(b, b1, b2, k, n);
    }
}

/* How many rows the blocks have: at most BLOCK, and so few that each thread has work. At least one step where there are
 * no rows, so that the loops over blocks advance. */
static long block_rows(long rows) {
    rows = rows > 0 ? rows : 1;
    long threads = omp_get_max_threads(), blocks = (rows + BLOCK - 1) / BLOCK;
    blocks = (blocks + threads - 1) / threads * threads;
    long size = (rows + blocks - 1) / blocks, step = 2 * ROWS;
    return (size + step - 1) / step * step;
}

/* Writes sums c (m, PANEL) * scale (m,) * weight_scale (PANEL,) + bias (PANEL,) or NULL into n columns of out (m, outs). */
static void put_sums(const int32_t *c, const float *scale, const float *weight_scale, const float *bias, float *out,
                     long m, long n, long outs) {
    for (long r = 0; r < m; r++) {
        const int32_t *sum = c + r * PANEL;
        float *y = out + r * outs, k = scale[r];
        if (bias)
            for (long j = 0; j < n; j++) y[j] = (float)sum[j] * (weight_scale[j] * k) + bias[j];
        else
            for (long j = 0; j < n; j++) y[j] = (float)sum[j] * (weight_scale[j] * k);
    }
}

/* out (N, outs) = (x (N, width) times the matrix in `panels`) * scale (N,) * weight_scale (outs,) + bias (outs,) or
 * NULL. `stride` is the distance of the rows of x; width is a multiple of 4. A task is a block of rows and GROUP pairs of
 * panels. Returns 0, or -1 if there is not enough memory. */
int product(const int16_t *x, long stride, const float *scale, const int16_t *panels, const float *weight_scale,
            const float *bias, float *out, long rows, long width, long outs) {
    long half = (outs + 2 * PANEL - 1) / (2 * PANEL), groups = (half + GROUP - 1) / GROUP, size = block_rows(rows);
    int failed = 0;
#pragma omp parallel
    {
        Block b = new_block(stride, width);
        if (!b.parts) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp barrier
#pragma omp for schedule(dynamic) collapse(2)
        for (long i = 0; i < rows; i += size)
            for (long g = 0; g < groups; g++) {
                if (failed) continue;
                long m = rows - i < size ? rows - i : size;
                if (b.x != x + i * stride) take(&b, x + i * stride, m);
                for (long q = g * GROUP; q < half && q < (g + 1) * GROUP; q++) {
                    multiply(&b, panels + q * PANEL * width, panels + (half + q) * PANEL * width);
                    for (long side = 0; side < 2; side++) {
                        long o = (side * half + q) * PANEL, n = outs - o < PANEL ? outs - o : PANEL;
                        if (n > 0)
                            put_sums(b.c + side * BLOCK * PANEL, scale + i, weight_scale + o, bias ? bias + o : NULL,
                                     out + i * outs + o, m, n, outs);
                    }
                }
            }
        free(b.parts);
    }
    return failed ? -1 : 0;
}

/* out (N, I) = gate(gate) * up, rounded to whole numbers, where [gate | up] is the product of x as above, without a bias.
 * The product itself, (N, 2 I), is never in memory. Here outs = I, a multiple of PANEL. Returns 0, or -1 if there is not
 * enough memory. */
int gated_product(const int16_t *x, long stride, const float *scale, const int16_t *panels, const float *weight_scale,
                  Out out, long rows, long width, long outs, float linear, float cubic) {
    long size = block_rows(rows);
    int failed = 0;
#pragma omp parallel
    {
        Block b = new_block(stride, width);
        float *z = malloc(sizeof(float) * size * outs); /* (size, I), the rows of a task before they are rounded */
        if (!b.parts || !z) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp barrier
#pragma omp for schedule(dynamic)
        for (long i = 0; i < rows; i += size) {
            if (failed) continue;
            long m = rows - i < size ? rows - i : size;
            take(&b, x + i * stride, m);
            for (long q = 0; q < outs; q += PANEL) {
                multiply(&b, panels + q * width, panels + (outs + q) * width);
                const float *v = weight_scale + q, *w = weight_scale + outs + q;
                const int32_t *g = b.c, *u = g + BLOCK * PANEL;
                for (long r = 0; r < m; r++) {
                    float k = scale[i + r];
                    for (long j = 0; j < PANEL; j++)
                        z[r * outs + q + j] = gate((float)g[r * PANEL + j] * (v[j] * k), linear, cubic) *
                                              ((float)u[r * PANEL + j] * (w[j] * k));
                }
            }
            for (long r = 0; r < m; r++) put_row(z + r * outs, &out, i + r, outs, 1);
        }
        free(b.parts), free(z);
    }
    return failed ? -1 : 0;
}
#endif
