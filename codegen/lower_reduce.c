/* Reductions: sum, product, maximum, minimum over any axes.

   If the innermost dimension is reduced, lanes run along it into a few vector accumulators, which are
   combined in a fixed tree; otherwise lanes run along the innermost kept dimension. When few results are
   left to work on side by side, an outer reduced axis is cut into chunks whose partial results a second
   loop combines in order. All of this is chosen from the shape, so that the result does not depend on the
   number of threads. f16, bf16 and f8 accumulate in f32, bool in i32. */
#include "codegen/codegen.h"

#include <math.h>

enum { ROW_VECTORS = 4, COLUMN_VECTORS = 4, CHUNK_ELEMENTS = 1 << 14, FEW_RESULTS = 16 };

typedef struct reduction {
  nn_value *x, *y;
  nn_type view, result;      /* of x and y, with dimensions merged where both are plain buffers */
  nn_buf *plain_x, *plain_y; /* then they are accessed through these, else NULL */
  nn_opcode code;
  nn_dtype acc;
  bool reduced[NN_MAX_RANK];
  bool keepdims;
  int inner;       /* innermost dimension that is not 1; -1: none */
  bool along_rows; /* lanes run along a reduced dimension */
  int lanes, vectors;
  int kept[NN_MAX_RANK], nkept; /* kept dimensions that are loops of rows (not the one with lanes) */
  nn_dim column_blocks;         /* lanes along a kept dimension: blocks of vectors */
  int split;                    /* chunked axis, -1 none */
  int64_t chunk;                /* its extent in one chunk */
  nn_dim nchunks, nresults;
  nn_buf *partial; /* [chunk][result] */
  nn_x *chunk_x;   /* present chunk */
} reduction;

/* ---- the operation ----------------------------------------------------------------------------------------- */

static nn_x *identity(nn_lower *L, const reduction *r) {
  nn_kernel *k = L->kernel;
  switch (r->code) {
  case NN_OP_REDUCE_PROD: return nn_dtype_is_float(r->acc) ? nn_x_const(k, r->acc, 1) : nn_x_iconst(k, r->acc, 1);
  case NN_OP_REDUCE_MAX: return nn_lowest(L, r->acc);
  case NN_OP_REDUCE_MIN: return nn_highest(L, r->acc);
  default: return nn_zero(L, r->acc);
  }
}

static nn_xop xop_of(const reduction *r) {
  static const nn_xop ops[] = {NN_X_ADD, NN_X_MUL, NN_X_MAX, NN_X_MIN};
  return ops[r->code - NN_OP_REDUCE_SUM];
}

static nn_x *combine(nn_lower *L, const reduction *r, nn_x *a, nn_x *b) {
  return nn_x_binary(L->kernel, xop_of(r), a, b);
}

static nn_x *at_lane(nn_lower *L, nn_x *vector, int lanes, nn_x *l) {
  return nn_xi_add(L->kernel, nn_xi_mulc(L->kernel, vector, lanes), l);
}

/* acc[at] takes the element; where cond is false it takes nothing. */
static void take(nn_lower *L, const reduction *r, nn_buf *acc, nn_x *at, nn_x *const *index, nn_x *cond) {
  nn_kernel *k = L->kernel;
  if (cond) nn_guard_push(L, cond);
  nn_x *value =
      r->plain_x ? nn_x_load(k, r->plain_x, nn_flat_index(L, r->view, index), nn_guard(L)) : nn_read(L, r->x, index);
  value = nn_x_cast(k, value, r->acc);
  if (cond) nn_guard_pop(L);
  if (cond) value = nn_x_select(k, cond, value, identity(L, r)); /* a fused producer need not give 0 there */
  nn_store(k, acc, at, combine(L, r, nn_x_load(k, acc, at, NULL), value), NULL);
}

/* ---- results ------------------------------------------------------------------------------------------------- */

/* index: of x, with the kept dimensions set. */
static void give(nn_lower *L, const reduction *r, nn_x *const *index, nn_x *value) {
  nn_kernel *k = L->kernel;
  nn_x *to[NN_MAX_RANK];
  int n = 0;
  for (int d = 0; d < r->view.rank; d++)
    if (!r->reduced[d])
      to[n++] = index[d];
    else if (r->keepdims)
      to[n++] = nn_x_int(k, 0);
  nn_x *flat = nn_flat_index(L, r->result, to);
  if (r->split >= 0) {
    nn_x *row = nn_xi_mul(k, r->chunk_x, nn_dim_x(L, r->nresults));
    nn_store(k, r->partial, nn_xi_add(k, row, flat), value, nn_guard(L));
    return;
  }
  value = nn_x_cast(k, value, r->y->type.dtype);
  if (r->plain_y)
    nn_store(k, r->plain_y, flat, value, nn_guard(L));
  else
    nn_write(L, r->y, to, value);
}

/* ---- loops over what is reduced ---------------------------------------------------------------------------------- */

/* Opens the loops over reduced dimensions but the one that has lanes; returns how many. */
static int open_reduced(nn_lower *L, const reduction *r, nn_x **index) {
  nn_kernel *k = L->kernel;
  int count = 0;
  for (int d = 0; d < r->view.rank; d++) {
    if (!r->reduced[d] || (r->along_rows && d == r->inner)) continue;
    nn_x *lo = nn_x_int(k, 0), *hi = nn_dim_x(L, r->view.dims[d]);
    if (d == r->split) {
      lo = nn_let(k, nn_xi_mulc(k, r->chunk_x, r->chunk));
      hi = nn_let(k, nn_xi_min(k, hi, nn_xi_addc(k, lo, r->chunk)));
    }
    index[d] = nn_loop_begin(k, NN_FOR, "i", lo, hi);
    count++;
  }
  return count;
}

typedef struct row {
  const reduction *r;
  nn_x **index;
  nn_buf *acc;
  nn_x *first, *end; /* elements along the row */
} row;

static void take_block(nn_lower *L, nn_x *i, nn_x *slot, int lanes, bool is_tail, void *data) {
  const row *w = data;
  const reduction *r = w->r;
  nn_kernel *k = L->kernel;
  nn_x *l = nn_lanes_begin(L, lanes), *at = nn_xi_add(k, i, l);
  w->index[r->inner] = at;
  take(L, r, w->acc, at_lane(L, slot, r->lanes, l), w->index, is_tail ? nn_x_binary(k, NN_X_LT, at, w->end) : NULL);
  nn_lanes_end(L, lanes);
}

static void reduce_rows(nn_lower *L, const reduction *r, nn_x **index) {
  nn_kernel *k = L->kernel;
  nn_buf *acc = nn_row_regs(L, identity(L, r), r->vectors, r->lanes);
  int open = open_reduced(L, r, index);
  row w = {r, index, acc, nn_x_int(k, 0), nn_dim_x(L, r->view.dims[r->inner])};
  if (r->split == r->inner) {
    w.first = nn_let(k, nn_xi_mulc(k, r->chunk_x, r->chunk));
    w.end = nn_let(k, nn_xi_min(k, w.end, nn_xi_addc(k, w.first, r->chunk)));
  }
  nn_row_loops(L, w.first, w.end, r->lanes, r->vectors, take_block, &w);
  while (open--) nn_end(k);
  give(L, r, index, nn_row_fold(L, xop_of(r), acc, r->vectors, r->lanes));
}

/* ---- lanes along a kept dimension ----------------------------------------------------------------------------------
 */

static void reduce_columns(nn_lower *L, const reduction *r, nn_x **index, nn_x *first, int vectors, int lanes,
                           bool is_tail) {
  nn_kernel *k = L->kernel;
  nn_x *end = nn_dim_x(L, r->view.dims[r->inner]);
  nn_buf *acc = nn_row_regs(L, identity(L, r), vectors, lanes);
  int open = open_reduced(L, r, index);
  nn_x *u = nn_loop_range(k, NN_UNROLL, "u", vectors), *l = nn_lanes_begin(L, lanes), *at = at_lane(L, u, lanes, l);
  index[r->inner] = nn_xi_add(k, first, at);
  take(L, r, acc, at, index, is_tail ? nn_x_binary(k, NN_X_LT, index[r->inner], end) : NULL);
  nn_lanes_end(L, lanes);
  nn_end(k);
  while (open--) nn_end(k);
  u = nn_loop_range(k, NN_UNROLL, "u", vectors);
  l = nn_lanes_begin(L, lanes);
  at = at_lane(L, u, lanes, l);
  index[r->inner] = nn_xi_add(k, first, at);
  if (is_tail) nn_guard_push(L, nn_x_binary(k, NN_X_LT, index[r->inner], end));
  give(L, r, index, nn_let(k, nn_x_load(k, acc, at, NULL)));
  if (is_tail) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
  nn_end(k);
}

static void column_block(nn_lower *L, nn_x *i, int lanes, bool is_tail, void *data) {
  row *w = data;
  reduce_columns(L, w->r, w->index, nn_xi_add(L->kernel, w->first, i), 1, lanes, is_tail);
}

static void reduce_block(nn_lower *L, const reduction *r, nn_x **index, nn_x *block) {
  nn_kernel *k = L->kernel;
  int wide = r->lanes * r->vectors;
  int64_t n;
  row w = {r, index, NULL, nn_let(k, nn_xi_mulc(k, block, wide)), nn_dim_x(L, r->view.dims[r->inner])};
  bool rest = !nn_x_is_const(w.end, &n) || n % wide;
  if (rest) nn_if_begin(k, nn_x_binary(k, NN_X_LE, nn_xi_addc(k, w.first, wide), w.end));
  reduce_columns(L, r, index, w.first, r->vectors, r->lanes, false);
  if (!rest) return;
  nn_else(k);
  nn_block_loops(L, nn_let(k, nn_xi_sub(k, w.end, w.first)), r->lanes, column_block, &w);
  nn_end(k);
}

/* ---- the whole
 * --------------------------------------------------------------------------------------------------------- */

static void reduce_task(nn_lower *L, nn_x *const *at, void *data) {
  reduction *r = data;
  nn_x *index[NN_MAX_RANK];
  int n = 0;
  for (int d = 0; d < r->view.rank; d++) index[d] = nn_x_int(L->kernel, 0);
  if (r->split >= 0) r->chunk_x = at[n++];
  for (int i = 0; i < r->nkept; i++) index[r->kept[i]] = at[n++];
  if (r->along_rows)
    reduce_rows(L, r, index);
  else
    reduce_block(L, r, index, at[n]);
}

/* Results i .. i + lanes from their partial ones, in the order of the chunks. */
static void combine_chunks(nn_lower *L, nn_x *i, int lanes, bool is_tail, void *data) {
  reduction *r = data;
  nn_kernel *k = L->kernel;
  nn_x *nresults = nn_dim_x(L, r->nresults), *index[NN_MAX_RANK];
  nn_buf *acc = nn_row_regs(L, identity(L, r), 1, lanes);
  nn_x *chunk = nn_loop_begin(k, NN_FOR, "chunk", nn_x_int(k, 0), nn_dim_x(L, r->nchunks));
  nn_x *l = nn_lanes_begin(L, lanes), *flat = nn_xi_add(k, i, l);
  nn_x *mask = is_tail ? nn_x_binary(k, NN_X_LT, flat, nresults) : NULL;
  nn_x *part = nn_x_load(k, r->partial, nn_xi_add(k, nn_xi_mul(k, chunk, nresults), flat), mask);
  nn_store(k, acc, l, combine(L, r, nn_x_load(k, acc, l, NULL), part), NULL);
  nn_lanes_end(L, lanes);
  nn_end(k);
  l = nn_lanes_begin(L, lanes);
  flat = nn_xi_add(k, i, l);
  if (is_tail) nn_guard_push(L, nn_x_binary(k, NN_X_LT, flat, nresults));
  nn_unflatten(L, r->y->type, flat, index);
  nn_write(L, r->y, index, nn_x_cast(k, nn_let(k, nn_x_load(k, acc, l, NULL)), r->y->type.dtype));
  if (is_tail) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
}

/* Neighbours that are both reduced or both kept are one dimension, if nothing is fused on either side. */
static void merge_dims(nn_lower *L, reduction *r) {
  nn_module *m = L->module;
  nn_dim dims[NN_MAX_RANK], kept[NN_MAX_RANK];
  int rank = 0, nkept = 0;
  r->view = r->x->type;
  r->result = r->y->type;
  if (!nn_read_is_plain(L, r->x, &r->plain_x) || !nn_write_is_plain(L, r->y, &r->plain_y)) {
    r->plain_x = r->plain_y = NULL;
    return;
  }
  for (int d = 0; d < r->view.rank; d++) {
    bool reduced = r->reduced[d];
    bool merges = rank > 0 && r->reduced[rank - 1] == reduced;
    dims[merges ? rank - 1 : rank] = merges ? nn_dim_mul(m, dims[rank - 1], r->view.dims[d]) : r->view.dims[d];
    r->reduced[merges ? rank - 1 : rank] = reduced;
    if (!merges) rank++;
  }
  for (int d = 0; d < rank; d++)
    if (!r->reduced[d]) kept[nkept++] = dims[d];
  r->view = nn_type_make(m, r->x->type.dtype, rank, dims);
  r->result = nn_type_make(m, r->y->type.dtype, nkept, kept);
  r->keepdims = false;
}

static void set_axes(nn_lower *L, nn_op *op, reduction *r) {
  int naxes;
  const int64_t *axes = nn_attr_ints(op, "axes", &naxes);
  for (int i = 0; i < naxes; i++) r->reduced[axes[i]] = true;
  merge_dims(L, r);
  r->inner = -1;
  for (int d = 0; d < r->view.rank; d++)
    if (!nn_dim_is(r->view.dims[d], 1)) r->inner = d;
  if (r->inner < 0) r->inner = r->view.rank - 1;
  r->along_rows = r->reduced[r->inner];
  for (int d = 0; d < r->view.rank; d++)
    if (!r->reduced[d] && (r->along_rows || d != r->inner)) r->kept[r->nkept++] = d;
}

static void set_lanes(nn_lower *L, reduction *r) {
  nn_dim extent = r->view.dims[r->inner];
  r->lanes = nn_row_lanes(L, r->acc, extent);
  r->vectors = nn_row_vectors(r->along_rows ? ROW_VECTORS : COLUMN_VECTORS, r->lanes, extent);
}

static int64_t guess_product(const reduction *r, bool reduced, int skip) {
  int64_t n = 1;
  for (int d = 0; d < r->view.rank; d++)
    if (r->reduced[d] == reduced && d != skip && n < (1 << 30)) n *= nn_dim_guess(r->view.dims[d], 1 << 10) + 1;
  return n;
}

/* Cuts the outermost reduced axis when rows (or blocks of columns) alone are few and long. */
static void set_chunks(nn_lower *L, reduction *r) {
  nn_module *m = L->module;
  r->split = -1;
  r->nresults = nn_type_count(m, r->y->type);
  int64_t tasks = guess_product(r, false, r->along_rows ? -1 : r->inner);
  int64_t width = r->along_rows ? 1 : (int64_t)r->lanes * r->vectors;
  if (!r->along_rows && tasks < FEW_RESULTS) tasks *= nn_dim_guess(r->view.dims[r->inner], 1) / width + 1;
  if (tasks >= FEW_RESULTS || guess_product(r, true, -1) * width < 2 * CHUNK_ELEMENTS) return;
  for (int d = r->view.rank - 1; d >= 0; d--)
    if (r->reduced[d] && !nn_dim_is(r->view.dims[d], 1)) r->split = d;
  int64_t rest = guess_product(r, true, r->split) * width;
  r->chunk = rest >= CHUNK_ELEMENTS ? 1 : CHUNK_ELEMENTS / rest;
  r->nchunks = nn_dim_ceildiv(m, r->view.dims[r->split], nn_dim_const(m, r->chunk));
  r->partial = nn_temp(L, NN_BUF_WORKSPACE, r->acc, nn_dim_mul(m, r->nchunks, r->nresults));
}

static void copy_element(nn_lower *L, nn_x *const *index, void *data) {
  reduction *r = data;
  nn_write(L, r->y, index, nn_read(L, r->x, index));
}

static void emit_reduction(nn_lower *L, reduction *r) {
  nn_module *m = L->module;
  const nn_dim *dims = r->view.dims;
  nn_dim rows[NN_MAX_RANK + 1];
  int n = 0;
  if (r->split >= 0) rows[n++] = r->nchunks;
  for (int i = 0; i < r->nkept; i++) rows[n++] = dims[r->kept[i]];
  if (!r->along_rows) rows[n++] = nn_dim_ceildiv(m, dims[r->inner], nn_dim_const(m, (int64_t)r->lanes * r->vectors));
  int64_t cost = r->split >= 0 ? CHUNK_ELEMENTS : guess_product(r, true, -1);
  if (!r->along_rows && r->split < 0) cost *= (int64_t)r->lanes * r->vectors;
  if (n == 0)
    reduce_task(L, NULL, r);
  else
    nn_parallel_rows(L, rows, n, cost, reduce_task, r);
  if (r->split < 0) return;
  nn_block_loops(L, nn_let(L->kernel, nn_dim_x(L, r->nresults)), r->lanes, combine_chunks, r);
}

static nn_status lower_reduction(nn_lower *L, nn_op *op) {
  reduction r = {.x = op->in[0], .y = op->out[0], .code = op->code, .keepdims = nn_attr_int(op, "keepdims") != 0};
  nn_dtype t = r.x->type.dtype;
  r.acc = t == NN_BOOL ? NN_I32 : nn_acc_dtype(t);
  if (nn_op_attr(op, "axes")->count == 0) {
    nn_box_loops(L, r.x->type.dims, r.x->type.rank, nn_target_lanes(L->target, t), 1, copy_element, &r);
    return NN_OK;
  }
  set_axes(L, op, &r);
  set_lanes(L, &r);
  set_chunks(L, &r);
  emit_reduction(L, &r);
  return NN_OK;
}

nn_status lower_reduce_sum(nn_lower *L, nn_op *op) { return lower_reduction(L, op); }
nn_status lower_reduce_prod(nn_lower *L, nn_op *op) { return lower_reduction(L, op); }
nn_status lower_reduce_max(nn_lower *L, nn_op *op) { return lower_reduction(L, op); }
nn_status lower_reduce_min(nn_lower *L, nn_op *op) { return lower_reduction(L, op); }
