/* Products in pairs while they are lowered: what gemm_paired.c (tiles and tasks), gemm_paired_rows.c (rows of A, and the weights) and lower_winograd.c
   share. */
#ifndef NN_CODEGEN_GEMM_PAIRED_H
#define NN_CODEGEN_GEMM_PAIRED_H

#include "codegen/codegen.h"

/* Steps of the depth go in units: numbers i and i + NN_PAIR_HALF of a unit, i < NN_PAIRS, are pairs; the others, and what is left after the last
   unit, are multiplied as they are. */
enum { NN_PAIR_UNIT = 16, NN_PAIR_HALF = 8, NN_PAIRS = 5 };
enum { NN_PAIR_ROWS = 2 }; /* of a panel of weights, behind those of the depth: minus its pairs' own products, and its factor */

typedef struct nn_paired {
  const nn_gemm *g;              /* NULL: rows are in a already, and results stay sums */
  nn_buf *weights;               /* panels of paired_weights */
  int lanes, nv, most_rows;      /* of a tile: vectors of a panel and rows, at most */
  int read_lanes, pair_lanes;    /* of a vector of A: as it is read, of half a unit */
  int64_t depth, units, rest;    /* whole units, and steps beyond them */
  int64_t run;                   /* units of a run of A's rows, of which whole ones are all there are */
  int64_t width, panels, pitch;  /* of a panel, as tiles have them; elements of a row in a */
  int64_t line;                  /* of weights: those of one such panel, or of several side by side */
  nn_x *m;                       /* rows of A */
  bool has_surplus;              /* the last task may have rows beyond them */
  bool has_tail;                 /* the last panel has columns beyond N */
  int64_t rows;                  /* of a task: all tasks have as many, or, where `task_rows` says how many now, at most so many */
  nn_x *task_rows;
  nn_tile_cut cut;               /* of them into tiles; of rows that are known while running, about */
  nn_x *groups;                  /* of panels: tasks that have the same rows */
  nn_x *blocks;                  /* of rows */
  nn_buf *a, *own, *factor;      /* of a task's rows: [tile][unit][row][NN_PAIR_UNIT] of the tile's rows; sums of their pairs' own products; what undoes their scales */
  int64_t chunks, chunk_units;   /* parts of the depth, and units of one */
  int64_t together;              /* panels whose results go to their places together */
  nn_buf *stage;                 /* [row][panel][column] sums of those, where they do not go to their places from the registers */
  /* of the present task, part and panel */
  nn_x *row0, *present_rows, *panel, *first_panel, *end_panel, *chunk;
} nn_paired;

/* Rows that lie together in a: a tile's, for instance. */
typedef struct nn_pair_span {
  int rows;
  nn_x *pass, *row;              /* number of the tile; the first row's, in own and factor */
  nn_x *at;                      /* its first element in a */
  int64_t line;                  /* elements from unit to unit */
} nn_pair_span;

/* gemm_paired_rows.c */
nn_x *nn_pair_at(nn_kernel *k, const nn_pair_span *span, nn_x *row, nn_x *ki); /* element of a, of a row of the span */
void nn_pair_rows(nn_lower *L, const nn_paired *p, const nn_pair_span *span, nn_x *count); /* makes a, own and factor of so many rows (not span->rows) */
int nn_pair_lanes(const nn_lower *L, int64_t count);  /* of a vector; `count` elements are whole ones */

/* gemm_paired.c */
void nn_pair_set_depth(const nn_lower *L, nn_paired *p, int64_t depth, int64_t width, int64_t block); /* block: elements of A that lie together */
nn_buf *nn_pair_sums(nn_lower *L, const nn_paired *p, const nn_pair_span *span);      /* of a tile, in registers: [row][vector] */
void nn_pair_tile_loops(nn_lower *L, nn_x *count, int most, nn_tile_body *body, void *data); /* any number of rows: the last tile may have some beyond it */
nn_x *nn_pair_sum_at(nn_kernel *k, const nn_paired *p, nn_x *row, nn_x *vector, nn_x *l);
nn_x *nn_pair_unscale(nn_lower *L, const nn_paired *p, nn_x *row, nn_x *j, nn_x *sum); /* the result: row in factor, column of the panel */

#endif
