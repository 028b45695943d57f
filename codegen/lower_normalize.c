/* normalize: (x - mean) / sqrt(variance + epsilon) over the dimensions from `axis` on, in two passes (the mean
   first, then the squares of the differences), which is exact where the one-pass formula cancels.

   One row = all elements from the axis on. A row that comes from a fused producer, or from a narrower type, is
   kept in a worker's memory after the first pass. */
#include "codegen/codegen.h"

enum { ROW_VECTORS = 4, KEPT_BYTES = 1 << 18 };

typedef struct normalize {
  nn_value *x, *y, *mean, *scale; /* results without uses: NULL */
  nn_dtype acc;
  int axis, rank;
  int lanes, vectors;
  nn_buf *values; /* kept row, or NULL */
  nn_x *index[NN_MAX_RANK];
  nn_x *base; /* of the present line in values */
  nn_x *end;  /* of a line */
  nn_buf *sum;
  nn_x *mean_x, *scale_x;
  bool square, write; /* what the present pass does */
} normalize;

static nn_x *element(nn_lower *L, normalize *z, nn_x *at, nn_x *mask) {
  nn_kernel *k = L->kernel;
  bool is_first = !z->square && !z->write;
  if (z->values && !is_first) return nn_let(k, nn_x_load(k, z->values, nn_xi_add(k, z->base, at), mask));
  if (mask) nn_guard_push(L, mask);
  z->index[z->rank - 1] = at;
  nn_x *value = nn_let(k, nn_x_cast(k, nn_read(L, z->x, z->index), z->acc));
  if (mask) nn_guard_pop(L);
  if (z->values) nn_store(k, z->values, nn_xi_add(k, z->base, at), value, mask);
  return value;
}

static void sum_block(nn_lower *L, nn_x *i, nn_x *slot, int lanes, bool is_tail, void *data) {
  normalize *z = data;
  nn_kernel *k = L->kernel;
  nn_x *l = nn_lanes_begin(L, lanes), *at = nn_xi_add(k, i, l);
  nn_x *mask = is_tail ? nn_x_binary(k, NN_X_LT, at, z->end) : NULL;
  nn_x *value = element(L, z, at, mask);
  if (z->square) {
    value = nn_let(k, nn_x_binary(k, NN_X_SUB, value, z->mean_x));
    value = nn_x_binary(k, NN_X_MUL, value, value);
  }
  if (mask) value = nn_x_select(k, mask, value, nn_zero(L, z->acc));
  nn_row_take(L, NN_X_ADD, z->sum, slot, l, z->lanes, value);
  nn_lanes_end(L, lanes);
}

static void write_block(nn_lower *L, nn_x *i, nn_x *slot, int lanes, bool is_tail, void *data) {
  normalize *z = data;
  nn_kernel *k = L->kernel;
  (void)slot;
  nn_x *l = nn_lanes_begin(L, lanes), *at = nn_xi_add(k, i, l);
  nn_x *mask = is_tail ? nn_x_binary(k, NN_X_LT, at, z->end) : NULL;
  nn_x *value = nn_x_binary(k, NN_X_SUB, element(L, z, at, mask), z->mean_x);
  value = nn_x_cast(k, nn_x_binary(k, NN_X_MUL, value, z->scale_x), z->y->type.dtype);
  z->index[z->rank - 1] = at;
  if (mask) nn_guard_push(L, mask);
  nn_write(L, z->y, z->index, value);
  if (mask) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
}

/* All lines of the row. */
static void one_pass(nn_lower *L, normalize *z, nn_row_body *body) {
  nn_kernel *k = L->kernel;
  nn_x *line = nn_x_int(k, 0);
  for (int d = z->axis; d < z->rank - 1; d++) {
    nn_x *n = nn_dim_x(L, z->x->type.dims[d]);
    z->index[d] = nn_loop_begin(k, NN_FOR, "i", nn_x_int(k, 0), n);
    line = nn_xi_add(k, nn_xi_mul(k, line, n), z->index[d]);
  }
  z->base = nn_let(k, nn_xi_mul(k, line, z->end));
  nn_row_loops(L, nn_x_int(k, 0), z->end, z->lanes, z->vectors, body, z);
  for (int d = z->axis; d < z->rank - 1; d++) nn_end(k);
}

static nn_x *average(nn_lower *L, normalize *z, nn_x *count) {
  nn_kernel *k = L->kernel;
  z->sum = nn_row_regs(L, nn_zero(L, z->acc), z->vectors, z->lanes);
  one_pass(L, z, sum_block);
  return nn_let(k, nn_x_binary(k, NN_X_DIV, nn_row_fold(L, NN_X_ADD, z->sum, z->vectors, z->lanes), count));
}

static void write_statistic(nn_lower *L, const normalize *z, nn_value *to, nn_x *value) {
  nn_x *index[NN_MAX_RANK];
  if (!to) return;
  for (int d = 0; d < z->rank; d++) index[d] = d < z->axis ? z->index[d] : nn_x_int(L->kernel, 0);
  nn_write(L, to, index, nn_x_cast(L->kernel, value, to->type.dtype));
}

typedef struct row_task {
  normalize *z;
  nn_x *count, *epsilon;
} row_task;

static void normalize_row(nn_lower *L, nn_x *const *outer, void *data) {
  const row_task *task = data;
  normalize *z = task->z;
  nn_kernel *k = L->kernel;
  for (int d = 0; d < z->axis; d++) z->index[d] = outer[d];
  z->end = nn_dim_x(L, z->x->type.dims[z->rank - 1]);
  z->square = z->write = false;
  z->mean_x = average(L, z, task->count);
  z->square = true;
  nn_x *variance = average(L, z, task->count);
  nn_x *root = nn_x_unary(k, NN_X_SQRT, nn_x_binary(k, NN_X_ADD, variance, task->epsilon));
  z->scale_x = nn_let(k, nn_x_binary(k, NN_X_DIV, nn_x_const(k, z->acc, 1), root));
  write_statistic(L, z, z->mean, z->mean_x);
  write_statistic(L, z, z->scale, z->scale_x);
  if (!z->y) return;
  z->write = true;
  one_pass(L, z, write_block);
}

static nn_value *used(nn_op *op, int i) { return nn_value_nuses(op->out[i]) ? op->out[i] : NULL; }

nn_status lower_normalize(nn_lower *L, nn_op *op) {
  nn_kernel *k = L->kernel;
  nn_module *m = L->module;
  normalize z = {.x = op->in[0], .y = used(op, 0), .mean = used(op, 1), .scale = used(op, 2)};
  z.rank = z.x->type.rank;
  z.axis = (int)nn_attr_int(op, "axis");
  if (z.axis < 0) z.axis += z.rank;
  z.acc = nn_acc_dtype(z.x->type.dtype);
  nn_dim line = z.x->type.dims[z.rank - 1];
  z.lanes = nn_row_lanes(L, z.acc, line);
  z.vectors = nn_row_vectors(ROW_VECTORS, z.lanes, line);
  nn_dim count = nn_dim_product(m, z.x->type.dims + z.axis, z.rank - z.axis);
  bool fits = nn_dim_guess(count, 1) <= KEPT_BYTES * 8 / nn_dtype_bits(z.acc);
  if (fits && (!nn_read_is_plain(L, z.x, NULL) || z.acc != z.x->type.dtype))
    z.values = nn_temp(L, NN_BUF_WORKER, z.acc, count);
  row_task task = {&z, nn_let(k, nn_x_cast(k, nn_dim_x(L, count), z.acc)),
                   nn_x_const(k, z.acc, nn_attr_float(op, "epsilon"))};
  for (int d = 0; d < z.rank; d++) z.index[d] = nn_x_int(k, 0);
  int64_t cost = nn_dim_guess(count, 256) + 1;
  if (z.axis == 0)
    normalize_row(L, NULL, &task);
  else
    nn_parallel_rows(L, z.x->type.dims, z.axis, (cost < (1 << 28) ? cost : 1 << 28) * 4, normalize_row, &task);
  return NN_OK;
}
