/* matmul: x[batch.., M, K] y[batch.., K, N] as register-tiled products; matmul_panels: y is stored in the order in
   which the tiles read it; matmul_paired: so, and made for products in pairs.

   If y has no batch of its own, all rows of x form one product. Otherwise many or small products run side
   by side, one task each; few large ones run one after the other, each in parallel. */
#include "codegen/codegen.h"

enum { BATCHES_ENOUGH = 8, SMALL_FLOPS = 1 << 21 };

typedef struct matmul {
  nn_value *x, *y, *r;
  int rank; /* of all three */
  bool trans_a, trans_b, folded;
  int64_t strassen; /* from so many rows on */
  int64_t width; /* of y's panels; 0: y is a matrix */
  nn_dtype acc;
  nn_type rows;             /* folded: dims batch.., M */
  nn_x *batch[NN_MAX_RANK]; /* not folded: where we are */
} matmul;

/* The operand's index for this batch: its dims of 1 repeat. */
static void batch_index(nn_lower *L, const matmul *mm, const nn_value *v, nn_x *const *batch, nn_x **index) {
  nn_kernel *k = L->kernel;
  for (int i = 0; i < mm->rank - 2; i++) {
    nn_dim d = v->type.dims[i];
    if (d == mm->r->type.dims[i])
      index[i] = batch[i];
    else if (nn_dim_is(d, 1))
      index[i] = nn_x_int(k, 0);
    else
      index[i] = nn_xi_min(k, batch[i], nn_xi_addc(k, nn_dim_x(L, d), -1));
  }
}

/* Row m of the product: the matrix row, with the batch in index[0 .. rank-2]. */
static void row_index(nn_lower *L, const matmul *mm, nn_x *m, nn_x **index) {
  if (mm->folded) {
    nn_unflatten(L, mm->rows, m, index);
    return;
  }
  for (int i = 0; i < mm->rank - 2; i++) index[i] = mm->batch[i];
  index[mm->rank - 2] = m;
}

static nn_x *read_x(nn_lower *L, void *data, nn_x *m, nn_x *k) {
  const matmul *mm = data;
  nn_x *row[NN_MAX_RANK], *index[NN_MAX_RANK];
  int last = mm->rank - 1;
  row_index(L, mm, m, row);
  batch_index(L, mm, mm->x, row, index);
  index[mm->trans_a ? last : last - 1] = row[last - 1];
  index[mm->trans_a ? last - 1 : last] = k;
  return nn_x_cast(L->kernel, nn_read(L, mm->x, index), mm->acc);
}

static nn_x *read_y(nn_lower *L, void *data, nn_x *k, nn_x *n) {
  const matmul *mm = data;
  nn_x *index[NN_MAX_RANK];
  int last = mm->rank - 1;
  if (mm->folded)
    for (int i = 0; i < last - 1; i++) index[i] = nn_x_int(L->kernel, 0);
  else
    batch_index(L, mm, mm->y, mm->batch, index);
  index[mm->trans_b ? last : last - 1] = k;
  index[mm->trans_b ? last - 1 : last] = n;
  return nn_x_cast(L->kernel, nn_read(L, mm->y, index), mm->acc);
}

static matmul describe(nn_op *op) {
  return (matmul){.x = op->in[0],
                  .y = op->in[1],
                  .r = op->out[0],
                  .rank = op->out[0]->type.rank,
                  .trans_a = nn_attr_int(op, "trans_a") != 0,
                  .trans_b = nn_attr_int(op, "trans_b") != 0,
                  .strassen = nn_attr_int(op, "strassen"),
                  .acc = nn_acc_dtype(op->out[0]->type.dtype)};
}

nn_x *nn_matmul_a(nn_lower *L, nn_op *op, nn_x *const *batch, nn_x *m, nn_x *k) {
  matmul mm = describe(op);
  for (int i = 0; i < mm.rank - 2; i++) mm.batch[i] = batch[i];
  return read_x(L, &mm, m, k);
}

nn_x *nn_matmul_b(nn_lower *L, nn_op *op, nn_x *const *batch, nn_x *k, nn_x *n) {
  matmul mm = describe(op);
  for (int i = 0; i < mm.rank - 2; i++) mm.batch[i] = batch[i];
  return read_y(L, &mm, k, n);
}

static nn_x *read_panel(nn_lower *L, void *data, nn_x *k, nn_x *n) {
  const matmul *mm = data;
  nn_x *width = nn_x_int(L->kernel, mm->width);
  nn_x *index[] = {nn_xi_floordiv(L->kernel, n, width), k, nn_xi_mod(L->kernel, n, width)};
  return nn_read(L, mm->y, index);
}

static void write_r(nn_lower *L, void *data, nn_x *m, nn_x *n, nn_x *value) {
  const matmul *mm = data;
  nn_x *index[NN_MAX_RANK];
  row_index(L, mm, m, index);
  index[mm->rank - 1] = n;
  nn_write(L, mm->r, index, nn_x_cast(L->kernel, value, mm->r->type.dtype));
}

/* Flat index of the operand's matrix for the present batch. */
static nn_x *matrix_base(nn_lower *L, const matmul *mm, const nn_value *v) {
  nn_kernel *k = L->kernel;
  nn_x *index[NN_MAX_RANK];
  if (mm->folded) return nn_x_int(k, 0);
  batch_index(L, mm, v, mm->batch, index);
  index[mm->rank - 2] = index[mm->rank - 1] = nn_x_int(k, 0);
  return nn_let(k, nn_flat_index(L, v->type, index));
}

static void set_plain_x(nn_lower *L, const matmul *mm, nn_gemm *g) {
  nn_kernel *k = L->kernel;
  int last = mm->rank - 1;
  nn_x *one = nn_x_int(k, 1);
  if (nn_read_is_plain(L, mm->x, &g->a_plain)) {
    nn_x *pitch = nn_let(k, nn_dim_x(L, mm->x->type.dims[last]));
    g->a_base = matrix_base(L, mm, mm->x);
    g->a_stride_m = mm->trans_a ? one : pitch;
    g->a_stride_k = mm->trans_a ? pitch : one;
  } else {
    g->a_plain = NULL;
  }
  g->a_unit_k = nn_read_is_unit(L, mm->x, mm->trans_a ? last - 1 : last);
}

static void set_plain_y(nn_lower *L, const matmul *mm, nn_gemm *g) {
  nn_kernel *k = L->kernel;
  int last = mm->rank - 1;
  nn_x *one = nn_x_int(k, 1);
  if (nn_read_is_plain(L, mm->y, &g->b_plain)) {
    nn_x *pitch = nn_let(k, nn_dim_x(L, mm->y->type.dims[last]));
    g->b_base = matrix_base(L, mm, mm->y);
    g->b_stride_n = mm->trans_b ? pitch : one;
    g->b_stride_k = mm->trans_b ? one : pitch;
  } else {
    g->b_plain = NULL;
  }
  g->b_unit_k = !nn_read_is_unit(L, mm->y, mm->trans_b ? last - 1 : last) &&
                nn_read_is_unit(L, mm->y, mm->trans_b ? last : last - 1);
}

static int64_t count_products(const matmul *mm) {
  enum { MANY = 1 << 16 };
  int64_t count = 1;
  for (int i = 0; i < mm->rank - 2 && count > 0 && count < MANY; i++) {
    int64_t dim = nn_dim_guess(mm->y->type.dims[i], 1);
    count *= dim < MANY ? dim : MANY;
  }
  return count;
}

static void emit_product(nn_lower *L, matmul *mm, nn_dim m, bool in_parallel) {
  int last = mm->rank - 1;
  nn_buf *out;
  nn_gemm g = {.m = m,
               .n = mm->r->type.dims[last],
               .k = mm->x->type.dims[mm->trans_a ? last - 1 : last],
               .acc = mm->acc,
               .a = read_x,
               .b = read_y,
               .store = write_r,
               .data = mm,
               .products = mm->width ? 1 : count_products(mm),
               .strassen = mm->strassen,
               .in_parallel = in_parallel};
  g.store_direct = nn_write_is_plain(L, mm->r, &out);
  set_plain_x(L, mm, &g);
  if (!mm->width) {
    set_plain_y(L, mm, &g);
  } else {
    g.b = read_panel;
    g.panel_width = mm->width;
    if (!nn_read_is_plain(L, mm->y, &g.b_panels)) g.b_panels = NULL;
  }
  nn_gemm_emit(L, &g);
}

/* The batch is a dimension of rows: y is the same for all, and x has every element of it. */
static bool can_fold(const matmul *mm) {
  if (mm->trans_a) return false;
  for (int i = 0; i < mm->rank - 2; i++)
    if (!nn_dim_is(mm->y->type.dims[i], 1) || mm->x->type.dims[i] != mm->r->type.dims[i]) return false;
  return true;
}

static bool batches_are_tasks(const matmul *mm) {
  int64_t count = 1, flops = 2, n = 0;
  const nn_dim *d = mm->r->type.dims;
  for (int i = 0; i < mm->rank - 2; i++)
    if (!nn_dim_is_const(d[i], &n))
      return true;
    else if (count < BATCHES_ENOUGH)
      count *= n;
  if (count >= BATCHES_ENOUGH) return true;
  nn_dim inner[3] = {d[mm->rank - 2], d[mm->rank - 1], mm->x->type.dims[mm->rank - (mm->trans_a ? 2 : 1)]};
  for (int i = 0; i < 3; i++)
    if (flops < SMALL_FLOPS) flops *= nn_dim_guess(inner[i], 64);
  return flops < SMALL_FLOPS;
}

static void emit_batches(nn_lower *L, matmul *mm) {
  nn_kernel *k = L->kernel;
  nn_dim m = mm->r->type.dims[mm->rank - 2];
  bool tasks = batches_are_tasks(mm);
  nn_type batch = nn_type_make(L->module, NN_I64, mm->rank - 2, mm->r->type.dims);
  nn_x *count = nn_dim_x(L, nn_type_count(L->module, batch));
  nn_x *i = nn_loop_begin(k, tasks ? NN_PARALLEL : NN_FOR, "batch", nn_x_int(k, 0), count);
  nn_unflatten(L, batch, i, mm->batch);
  emit_product(L, mm, m, tasks);
  nn_end(k);
}

nn_status lower_matmul(nn_lower *L, nn_op *op) {
  matmul mm = describe(op);
  int64_t count;
  nn_type batch = nn_type_make(L->module, NN_I64, mm.rank - 2, mm.r->type.dims);
  mm.folded = can_fold(&mm);
  if (mm.folded) {
    mm.rows = nn_type_make(L->module, NN_I64, mm.rank - 1, mm.r->type.dims);
    emit_product(L, &mm, nn_type_count(L->module, mm.rows), false);
  } else if (nn_type_static_count(batch, &count) && count == 1) {
    for (int i = 0; i < mm.rank - 2; i++) mm.batch[i] = nn_x_int(L->kernel, 0);
    emit_product(L, &mm, mm.r->type.dims[mm.rank - 2], false);
  } else {
    emit_batches(L, &mm);
  }
  return NN_OK;
}

static matmul describe_panels(nn_lower *L, nn_op *op) {
  matmul mm = {
      .x = op->in[0], .y = op->in[1], .r = op->out[0], .rank = op->out[0]->type.rank, .folded = true, .acc = NN_F32};
  mm.width = nn_dim_value(mm.y->type.dims[2]);
  mm.rows = nn_type_make(L->module, NN_I64, mm.rank - 1, mm.r->type.dims);
  return mm;
}

nn_status lower_matmul_panels(nn_lower *L, nn_op *op) {
  matmul mm = describe_panels(L, op);
  mm.strassen = nn_attr_int(op, "strassen");
  emit_product(L, &mm, nn_type_count(L->module, mm.rows), false);
  return NN_OK;
}

/* Of weights for products in pairs: their scales are undone. */
static void write_scaled(nn_lower *L, void *data, nn_x *m, nn_x *n, nn_x *value) {
  const matmul *mm = data;
  nn_kernel *k = L->kernel;
  nn_x *width = nn_x_int(k, mm->width), *line = nn_xi_addc(k, nn_dim_x(L, mm->y->type.dims[1]), -1);
  nn_x *index[] = {nn_xi_floordiv(k, n, width), line, nn_xi_mod(k, n, width)};
  write_r(L, data, m, n, nn_let(k, nn_x_binary(k, NN_X_MUL, value, nn_read(L, mm->y, index))));
}

static void emit_unpaired(nn_lower *L, matmul *mm, const nn_gemm *pairs) {
  nn_buf *out;
  nn_gemm g = *pairs;
  g.b = read_panel;
  g.store = write_scaled;
  g.store_direct = nn_write_is_plain(L, mm->r, &out);
  g.panel_more = nn_dim_value(mm->y->type.dims[1]) - nn_dim_value(g.k);
  g.products = 1;
  nn_gemm_emit(L, &g);
}

nn_status lower_matmul_paired(nn_lower *L, nn_op *op) {
  nn_kernel *k = L->kernel;
  matmul mm = describe_panels(L, op);
  int64_t count, fewest, most, least = nn_attr_int(op, "least");
  if (nn_type_static_count(mm.r->type, &count) && count == 0) return NN_OK;
  nn_gemm g = {.m = nn_type_count(L->module, mm.rows),
               .n = mm.r->type.dims[mm.rank - 1],
               .k = mm.x->type.dims[mm.rank - 1],
               .acc = NN_F32,
               .a = read_x,
               .store = write_r,
               .data = &mm,
               .panel_width = mm.width,
               .store_direct = nn_epilogue_is_short(L)};
  set_plain_x(L, &mm, &g);
  if (!nn_read_is_plain(L, mm.y, &g.b_panels)) return nn_fail(op, "its weights are not in memory");
  nn_dim_range(g.m, &fewest, &most);
  bool may_be_few = fewest < least, may_be_many = least <= most;
  if (may_be_few && may_be_many) nn_if_begin(k, nn_x_binary(k, NN_X_LT, nn_dim_x(L, g.m), nn_x_int(k, least)));
  if (may_be_few) emit_unpaired(L, &mm, &g);
  if (may_be_few && may_be_many) nn_else(k);
  if (may_be_many) nn_gemm_paired(L, &g);
  if (may_be_few && may_be_many) nn_end(k);
  return NN_OK;
}
