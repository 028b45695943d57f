/* Products in pairs while they are lowered: what gemm_paired.c (tiles and tasks) and gemm_paired_rows.c (rows of A, and the weights) share. */
#ifndef NN_CODEGEN_GEMM_PAIRED_H
#define NN_CODEGEN_GEMM_PAIRED_H

#include "codegen/codegen.h"

/* Steps of the depth go in units: numbers i and i + NN_PAIR_HALF of a unit, i < NN_PAIRS, are pairs; the others, and what is left after the last
   unit, are multiplied as they are. */
enum { NN_PAIR_UNIT = 16, NN_PAIR_HALF = 8, NN_PAIRS = 5 };
enum { NN_PAIR_ROWS = 2 }; /* of a panel of weights, behind those of the depth: minus its pairs' own products, and its factor */

typedef struct nn_paired {
  const nn_gemm *g;
  int lanes, nv, most_rows;      /* of a tile: vectors of a panel and rows, at most */
  int read_lanes, pair_lanes;    /* of a vector of A: as it is read, of half a unit */
  int64_t depth, units, rest;    /* whole units, and steps beyond them */
  int64_t run;                   /* units of a run of A's rows, of which whole ones are all there are */
  int64_t width, panels, pitch;  /* of a panel; elements of a row in a */
  nn_x *m;                       /* rows of A */
  bool has_surplus;              /* the last task may have rows beyond them */
  bool has_tail;                 /* the last panel has columns beyond N */
  int64_t rows;                  /* of a task; all tasks have as many */
  nn_tile_cut cut;               /* of them into tiles */
  int64_t groups;                /* of panels: tasks that have the same rows */
  nn_x *blocks;                  /* of rows */
  nn_buf *a, *own, *factor;      /* of a task's rows: [tile][unit][row][NN_PAIR_UNIT] of the tile's rows; sums of their pairs' own products; what undoes their scales */
  int64_t chunks, chunk_units;   /* parts of the depth, and units of one */
  int64_t together;              /* panels whose results go to their places together */
  nn_buf *stage;                 /* [row][panel][column] sums of those, where they do not go to their places from the registers */
  /* of the present task, part and panel */
  nn_x *row0, *panel, *first_panel, *end_panel, *chunk;
} nn_paired;

/* gemm_paired_rows.c */
nn_x *nn_pair_at(nn_kernel *k, const nn_paired *p, const nn_tile_span *span, nn_x *row, nn_x *ki); /* element of a, of a row of the tile */
void nn_pair_rows(nn_lower *L, nn_paired *p); /* the present task's rows: makes a, own and factor */
int nn_pair_lanes(const nn_lower *L, int64_t count);  /* of a vector; `count` elements are whole ones */

#endif
