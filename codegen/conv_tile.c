/* A register tile of a convolution in blocked layout: a few places (pixels, or tiles of Winograd's form) by nv vectors of
   output channels. Each step of k loads nv vectors of weights and broadcasts one number of each place. */
#include "codegen/codegen.h"

static nn_x *vector_at(nn_kernel *k, nn_x *index, int lanes, nn_x *l) {
  return nn_xi_add(k, nn_xi_mulc(k, index, lanes), l);
}

/* Registers: nv for weights, one for a broadcast and one to spare; without fused multiply-add also a product. */
int nn_conv_tile_rows(const nn_target *t, int nv) {
  int spare = t->has_fma ? 2 : 3, rows = (t->vector_registers - nv - spare) / nv;
  return rows < 1 ? 1 : rows;
}

nn_buf *nn_conv_tile_clear(nn_lower *L, const nn_conv_tile *t, int rows) {
  nn_kernel *k = L->kernel;
  nn_buf *acc = nn_regs(L, NN_F32, (int64_t)rows * t->nv * t->lanes);
  nn_x *i = nn_loop_range(k, NN_UNROLL, "i", (int64_t)rows * t->nv), *l = nn_lanes_begin(L, t->lanes);
  nn_store(k, acc, vector_at(k, i, t->lanes, l), nn_zero(L, NN_F32), NULL);
  nn_lanes_end(L, t->lanes);
  nn_end(k);
  return acc;
}

static void open_k_loops(nn_lower *L, const nn_conv_tile *t, nn_x **ks) {
  nn_kernel *k = L->kernel;
  for (int i = 0; i < t->nk; i++) {
    if (t->unroll_by[i] == NN_TILE_COPIED) {
      ks[i] = nn_loop_begin(k, NN_UNROLL, "k", nn_x_int(k, 0), t->count[i]);
      continue;
    }
    ks[i] = nn_loop_begin(k, NN_FOR, "k", nn_x_int(k, 0), t->count[i]);
    if (t->unroll_by[i]) nn_loop_unroll_by(k, t->unroll_by[i]);
  }
}

void nn_conv_tile_add(nn_lower *L, const nn_conv_tile *t, int rows, nn_buf *acc) {
  nn_kernel *k = L->kernel;
  nn_x *ks[NN_TILE_LOOPS];
  nn_buf *w = nn_regs(L, NN_F32, (int64_t)t->nv * t->lanes);
  open_k_loops(L, t, ks);
  if (t->ahead) t->ahead(L, t->data, ks);
  nn_x *c = nn_loop_range(k, NN_UNROLL, "c", t->nv), *l = nn_lanes_begin(L, t->lanes);
  nn_x *at = vector_at(k, c, t->lanes, l);
  nn_store(k, w, at, t->weight(L, t->data, ks, at), NULL);
  nn_lanes_end(L, t->lanes);
  nn_end(k);
  nn_x *r = nn_loop_range(k, NN_UNROLL, "r", rows);
  nn_x *x = nn_let(k, t->place(L, t->data, r, ks));
  c = nn_loop_range(k, NN_UNROLL, "c", t->nv);
  l = nn_lanes_begin(L, t->lanes);
  nn_x *to = vector_at(k, nn_xi_add(k, nn_xi_mulc(k, r, t->nv), c), t->lanes, l);
  nn_x *wv = nn_x_load(k, w, vector_at(k, c, t->lanes, l), NULL);
  nn_store(k, acc, to, nn_mul_add(L, x, wv, nn_x_load(k, acc, to, NULL)), NULL);
  nn_lanes_end(L, t->lanes);
  nn_end(k);
  nn_end(k);
  for (int i = 0; i < t->nk; i++) nn_end(k);
}

void nn_conv_tile_move(nn_lower *L, const nn_conv_tile *t, int rows, nn_buf *from, nn_buf *to) {
  nn_kernel *k = L->kernel;
  nn_x *i = nn_loop_range(k, NN_UNROLL, "i", (int64_t)rows * t->nv), *l = nn_lanes_begin(L, t->lanes);
  nn_x *at = vector_at(k, i, t->lanes, l);
  nn_store(k, to, at, nn_x_load(k, from, at, NULL), NULL);
  nn_lanes_end(L, t->lanes);
  nn_end(k);
}

nn_tile_cut nn_tile_cut_rows(int64_t count, int most) {
  int64_t tiles = count / most + (count % most != 0);
  return tiles ? (nn_tile_cut){tiles, count / tiles, count % tiles} : (nn_tile_cut){0, 0, 0};
}

void nn_tile_cut_loops(nn_lower *L, nn_tile_cut cut, void (*body)(nn_lower *L, nn_x *pass, nn_x *first, int rows, void *data), void *data) {
  nn_kernel *k = L->kernel;
  if (cut.extra) {
    nn_x *i = nn_loop_range(k, NN_FOR, "tile", cut.extra);
    body(L, i, nn_let(k, nn_xi_mulc(k, i, cut.rows + 1)), (int)cut.rows + 1, data);
    nn_end(k);
  }
  if (cut.tiles == cut.extra) return;
  nn_x *i = nn_loop_range(k, NN_FOR, "tile", cut.tiles - cut.extra);
  nn_x *first = nn_let(k, nn_xi_addc(k, nn_xi_mulc(k, i, cut.rows), cut.extra * (cut.rows + 1)));
  body(L, nn_xi_addc(k, i, cut.extra), first, (int)cut.rows, data);
  nn_end(k);
}

enum { LINE_ELEMENTS = 16 };

/* Of every pass its part, a step of k taking whole lines. */
void nn_conv_tile_prefetch(nn_lower *L, nn_buf *w, nn_x *panel, int64_t size, nn_x *at, nn_x *pass, int64_t passes, int64_t width) {
  nn_kernel *k = L->kernel;
  int64_t part = (size / passes + LINE_ELEMENTS - 1) / LINE_ELEMENTS * LINE_ELEMENTS;
  int64_t lines = (width / passes + LINE_ELEMENTS - 1) / LINE_ELEMENTS;
  nn_x *next = nn_xi_add(k, nn_xi_mulc(k, nn_xi_addc(k, panel, 1), size), nn_xi_mulc(k, pass, part));
  next = nn_let(k, nn_xi_add(k, next, nn_xi_mulc(k, nn_xi_floordiv(k, at, nn_x_int(k, width)), lines * LINE_ELEMENTS)));
  for (int64_t i = 0; i < lines; i++) nn_prefetch(k, w, nn_xi_addc(k, next, i * LINE_ELEMENTS));
}
