/* The register tile of matrix products and of convolutions in blocked layout: `rows` by nv vectors of sums. For each k
   it loads nv vectors of B and broadcasts `rows` numbers of A. */
#include "codegen/codegen.h"

nn_x *nn_tile_vector(nn_kernel *k, nn_x *index, int lanes, nn_x *l) {
  return nn_xi_add(k, nn_xi_mulc(k, index, lanes), l);
}

nn_buf *nn_tile_clear(nn_lower *L, nn_dtype acc, int vectors, int lanes) {
  nn_kernel *k = L->kernel;
  nn_buf *sums = nn_regs(L, acc, (int64_t)vectors * lanes);
  nn_x *i = nn_loop_range(k, NN_UNROLL, "i", vectors), *l = nn_lanes_begin(L, lanes);
  nn_store(k, sums, nn_tile_vector(k, i, lanes, l), nn_zero(L, acc), NULL);
  nn_lanes_end(L, lanes);
  nn_end(k);
  return sums;
}

void nn_tile_rows(nn_lower *L, int rows, nn_x *rows_now, nn_tile_row_body *body, void *data) {
  nn_kernel *k = L->kernel;
  if (!rows_now) {
    body(L, nn_loop_range(k, NN_UNROLL, "r", rows), data);
    nn_end(k);
    return;
  }
  for (int r = 0; r < rows; r++) {
    if (r > 0) nn_if_begin(k, nn_x_binary(k, NN_X_LT, nn_x_int(k, r), rows_now));
    body(L, nn_x_int(k, r), data);
  }
  for (int r = 1; r < rows; r++) nn_end(k);
}

typedef struct move {
  int nv, lanes;
  nn_buf *from, *to;
} move;

static void move_row(nn_lower *L, nn_x *r, void *data) {
  const move *m = data;
  nn_kernel *k = L->kernel;
  nn_x *c = nn_loop_range(k, NN_UNROLL, "c", m->nv), *l = nn_lanes_begin(L, m->lanes);
  nn_x *at = nn_tile_vector(k, nn_xi_add(k, nn_xi_mulc(k, r, m->nv), c), m->lanes, l);
  nn_store(k, m->to, at, nn_x_load(k, m->from, at, NULL), NULL);
  nn_lanes_end(L, m->lanes);
  nn_end(k);
}

void nn_tile_move(nn_lower *L, const nn_tile_step *tile, nn_buf *from, nn_buf *to) {
  nn_tile_rows(L, tile->rows, tile->rows_now, move_row, &(move){tile->nv, tile->lanes, from, to});
}

int nn_tile_unroll(int vectors) {
  enum { ENOUGH = 24, MOST = 4 }; /* multiply-adds */
  int steps = (ENOUGH + vectors - 1) / vectors;
  return steps < MOST ? steps : MOST;
}

/* Where there is one cache at most, it does not pay to choose what is in it. */
void nn_tile_ahead(nn_lower *L, int lines) {
  if (L->target->l3_bytes > L->target->l2_bytes) nn_ahead(L->kernel, lines);
}

typedef struct addition {
  const nn_tile_step *s;
  nn_buf *b, *sums;
} addition;

static void add_row(nn_lower *L, nn_x *r, void *data) {
  const addition *add = data;
  const nn_tile_step *s = add->s;
  nn_kernel *k = L->kernel;
  nn_x *a = nn_let(k, s->a(L, s->data, r));
  nn_x *c = nn_loop_range(k, NN_UNROLL, "c", s->nv), *l = nn_lanes_begin(L, s->lanes);
  nn_x *at = nn_tile_vector(k, nn_xi_add(k, nn_xi_mulc(k, r, s->nv), c), s->lanes, l);
  nn_x *bv = nn_x_load(k, add->b, nn_tile_vector(k, c, s->lanes, l), NULL);
  nn_store(k, add->sums, at, nn_mul_add(L, a, bv, nn_x_load(k, add->sums, at, NULL)), NULL);
  nn_lanes_end(L, s->lanes);
  nn_end(k);
}

void nn_tile_add(nn_lower *L, const nn_tile_step *s, nn_buf *b, nn_buf *sums) {
  nn_kernel *k = L->kernel;
  nn_x *c = nn_loop_range(k, NN_UNROLL, "c", s->nv), *l = nn_lanes_begin(L, s->lanes);
  nn_x *j = nn_tile_vector(k, c, s->lanes, l);
  nn_store(k, b, j, s->b(L, s->data, j), NULL);
  nn_lanes_end(L, s->lanes);
  nn_end(k);
  nn_tile_rows(L, s->rows, s->rows_now, add_row, &(addition){s, b, sums});
}
