/* Strassen's products while they are lowered: what gemm_strassen.c (tiles, tasks and chunks) and gemm_strassen_sums.c (sums of A) share. */
#ifndef NN_CODEGEN_GEMM_STRASSEN_H
#define NN_CODEGEN_GEMM_STRASSEN_H

#include "codegen/codegen.h"

enum { NN_STRASSEN_PRODUCTS = 7, NN_STRASSEN_QUADRANTS = 4 };
enum { NN_A11, NN_A12, NN_A21, NN_A22, NN_NOWHERE }; /* also of B and C: bit 1 the row half, bit 0 the column half. A block that nobody reads */

typedef struct nn_strassen_term {
  int a[2], a_sign; /* of the second; 0: there is none */
  int b[2], b_sign;
  int c[2], c_sign[2];
  int ahead; /* quadrant of B that later products need; + NN_STRASSEN_QUADRANTS: of the next pair of panels */
} nn_strassen_term;

extern const nn_strassen_term nn_strassen_terms[NN_STRASSEN_PRODUCTS];

typedef struct nn_strassen {
  const nn_gemm *g;
  nn_tile tile;
  int64_t half;                  /* of the depth */
  int64_t panels;                /* pairs of them */
  int lanes, width;
  nn_x *m, *pairs;               /* rows of A; pairs of them, the last one maybe of one row */
  bool is_even;                  /* it is known that it is of two */
  int64_t room;                  /* pairs of a chunk, at most */
  int64_t halved;                /* pairs of a chunk from which on its tasks have rows of one half */
  int64_t groups;                /* of pairs of panels, one for each task of the same rows; where is_own */
  bool has_odd;                  /* of an odd number of pairs of panels the last one is two tasks, of half the rows; where is_own */
  bool is_own;                   /* a is the worker's, of a task's rows, and all rows are one chunk; else a has those of a chunk */
  nn_x *nchunks, *chunk_pairs;   /* chunk_pairs: of all but the last */
  int64_t static_rows, most_rows; /* pairs of a task; static_rows -1: known while running */
  nn_x *rows, *blocks;           /* the same; tasks of a chunk that share panels */
  nn_x *parts;                   /* 2 if they go in halves, else 1 */
  int64_t pitch, a_rows, a_size; /* of a: elements of a row, rows and elements of a product */
  nn_buf *a, *b, *c, *line;      /* sums of A; of B, [half][width]; products, [product][row][width]; results of a pair, [quadrant][width] */
  nn_buf *panels_b;              /* B: its panels; or those of the task, */
  bool packs, own_pair;          /* which it packs; if there is one chunk only, into a buffer for one pair */
  bool reads_matrix;             /* or not at all: first tiles read B in its own order, and keep what they read */
  nn_buf *squares;               /* of a transposed A: [half][row][k], as many of both as a vector has lanes; else NULL */
  /* of the present chunk, task and product */
  nn_x *chunk, *left;            /* first pair of the chunk, and the number of its pairs */
  nn_x *row, *panel, *product;   /* first pair of the task in the chunk; its panel in the left half */
  nn_x *next;                    /* the panel after it; NULL: that */
  nn_x *own_row;                 /* the pair that a begins with, where is_own */
  nn_x *from[2], *from_k[2], *from_n[2]; /* of the panels, or of B's rows and columns: what b is the sum of */
  nn_x *first_row;               /* of the tiles, in the task's rows */
  int sign;                      /* of the second of `from`, while b is made */
  nn_x *asks_matrix, *next_k, *next_n; /* whether what is asked for is not packed yet; the quadrant's first element then. NULL: never */
  nn_x *ahead;                   /* element of the panels that is the first of the quadrant to prefetch */
} nn_strassen;

nn_x *nn_signed_sum(nn_kernel *k, nn_x *a, nn_x *b, int sign); /* sign 0: a */

/* gemm_strassen_sums.c */
nn_x *nn_strassen_sum_at(nn_kernel *k, const nn_strassen *s, nn_x *product, nn_x *pair, nn_x *ki); /* element of a */
void nn_strassen_sum_chunk(nn_lower *L, nn_strassen *s);     /* of the present chunk's rows */
void nn_strassen_sum_own(nn_lower *L, const nn_strassen *s); /* of the task's rows */

#endif
