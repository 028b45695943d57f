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

void nn_tile_move(nn_lower *L, int vectors, int lanes, nn_buf *from, nn_buf *to) {
  nn_kernel *k = L->kernel;
  nn_x *i = nn_loop_range(k, NN_UNROLL, "i", vectors), *l = nn_lanes_begin(L, lanes);
  nn_x *at = nn_tile_vector(k, i, lanes, l);
  nn_store(k, to, at, nn_x_load(k, from, at, NULL), NULL);
  nn_lanes_end(L, lanes);
  nn_end(k);
}

void nn_tile_add(nn_lower *L, const nn_tile_step *s, nn_buf *b, nn_buf *sums) {
  nn_kernel *k = L->kernel;
  nn_x *c = nn_loop_range(k, NN_UNROLL, "c", s->nv), *l = nn_lanes_begin(L, s->lanes);
  nn_x *j = nn_tile_vector(k, c, s->lanes, l);
  nn_store(k, b, j, s->b(L, s->data, j), NULL);
  nn_lanes_end(L, s->lanes);
  nn_end(k);
  nn_x *r = nn_loop_range(k, NN_UNROLL, "r", s->rows);
  nn_x *a = nn_let(k, s->a(L, s->data, r));
  c = nn_loop_range(k, NN_UNROLL, "c", s->nv);
  l = nn_lanes_begin(L, s->lanes);
  nn_x *at = nn_tile_vector(k, nn_xi_add(k, nn_xi_mulc(k, r, s->nv), c), s->lanes, l);
  nn_x *bv = nn_x_load(k, b, nn_tile_vector(k, c, s->lanes, l), NULL);
  nn_store(k, sums, at, nn_mul_add(L, a, bv, nn_x_load(k, sums, at, NULL)), NULL);
  nn_lanes_end(L, s->lanes);
  nn_end(k);
  nn_end(k);
}
