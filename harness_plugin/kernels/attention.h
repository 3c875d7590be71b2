/* How attention over packed sequences is divided into tasks, for any type of numbers. */
#pragma once
#include "common.h"

enum { MOST = 48 }; /* rows in a task: its queries times the H / G query heads of a group */

/* q (T, H, E), k and v (N, G, E), with `q_stride` and `kv_stride` values from one row to the next, and out (T, H * E) */
typedef struct {
    const void *q, *k, *v;
    long q_stride, kv_stride, heads, groups, dim; /* heads = G, groups = H / G, dim = E */
    void *out;
    float scale;
    long window;
} Heads;

/* What a type of numbers does. `pack` copies the keys and values of a segment, for one key-value head, into blocks of
 * `keys` keys, of k_size and v_size bytes, whose end is filled with zeros. `attend` computes the queries `first` to
 * first + count - 1 of a segment, for one key-value head; the last of its `queries` queries has the position of the last
 * of its `keys` keys. */
typedef struct {
    long keys, k_size, v_size;
    void (*pack)(const Heads *h, long head, const int32_t *start, const int32_t *length, long runs, long keys, void *kp,
                 void *vp);
    void (*attend)(const Heads *h, long head, long q_row, long first, long count, long queries, long keys,
                   const void *kp, const void *vp);
} Kind;

/* Attention as a `packing.Layout` says: the queries of segment s are the rows q_start[s] to q_start[s] + q_length[s] - 1;
 * its keys are the runs ptr[s] to ptr[s + 1] - 1. Returns 0, or -1 if there is not enough memory. */
int attend_all(const Heads *h, const Kind *kind, long segments, const int32_t *q_start, const int32_t *q_length,
               const int32_t *ptr, const int32_t *start, const int32_t *length);
