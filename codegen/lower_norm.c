/* softmax and log_softmax along one axis: the largest value, the sum of exp(x - largest), the results.

   Along the innermost axis lanes run along the row; else along the innermost dimension, for each lane a row
   of its own. The exponentials are kept in a worker's memory between the passes, so that each is computed
   once; likewise the values themselves where they come from a fused producer. Rows too long to keep
   are computed again. */
#include "codegen/codegen.h"

enum { ROW_VECTORS = 4, KEPT_BYTES = 1 << 18 };

typedef struct softmax {
  nn_op *op;
  nn_value *x, *y;
  bool is_log;
  nn_dtype acc;
  int axis, inner; /* inner: dimension that has lanes; the axis itself: a row */
  int outer[NN_MAX_RANK], nouter;
  int lanes, vectors;
  nn_buf *values, *exps;    /* kept [axis][lanes], or NULL */
  nn_x *index[NN_MAX_RANK]; /* outer dimensions set */
  nn_x *first;              /* of the lanes */
  nn_x *end;                /* of the row, or of the lanes */
  nn_buf *largest, *sum;    /* registers */
  nn_x *largest_x, *sum_x;  /* of the row */
} softmax;

static nn_x *exp_of(nn_lower *L, nn_x *x) { return nn_math(L, NN_OP_EXP, nn_let(L->kernel, x)); }

/* ---- along a row ------------------------------------------------------------------------------------------------ */

static nn_x *row_mask(nn_lower *L, const softmax *s, nn_x *at, bool is_tail) {
  return is_tail ? nn_x_binary(L->kernel, NN_X_LT, at, s->end) : NULL;
}

static nn_x *read_at(nn_lower *L, const softmax *s, nn_x *const *index, nn_x *mask) {
  if (mask) nn_guard_push(L, mask);
  nn_x *value = nn_x_cast(L->kernel, nn_read(L, s->x, index), s->acc);
  if (mask) nn_guard_pop(L);
  return nn_let(L->kernel, value);
}

static nn_x *row_value(nn_lower *L, softmax *s, nn_x *at, nn_x *mask) {
  if (s->values) return nn_let(L->kernel, nn_x_load(L->kernel, s->values, at, mask));
  s->index[s->axis] = at;
  return read_at(L, s, s->index, mask);
}

static void largest_block(nn_lower *L, nn_x *i, nn_x *slot, int lanes, bool is_tail, void *data) {
  softmax *s = data;
  nn_kernel *k = L->kernel;
  nn_x *l = nn_lanes_begin(L, lanes), *at = nn_xi_add(k, i, l), *mask = row_mask(L, s, at, is_tail);
  s->index[s->axis] = at;
  nn_x *value = read_at(L, s, s->index, mask);
  if (s->values) nn_store(k, s->values, at, value, mask);
  if (mask) value = nn_x_select(k, mask, value, nn_lowest(L, s->acc));
  nn_row_take(L, NN_X_MAX, s->largest, slot, l, s->lanes, value);
  nn_lanes_end(L, lanes);
}

static void exp_block(nn_lower *L, nn_x *i, nn_x *slot, int lanes, bool is_tail, void *data) {
  softmax *s = data;
  nn_kernel *k = L->kernel;
  nn_x *l = nn_lanes_begin(L, lanes), *at = nn_xi_add(k, i, l), *mask = row_mask(L, s, at, is_tail);
  nn_x *e = nn_let(k, exp_of(L, nn_x_binary(k, NN_X_SUB, row_value(L, s, at, mask), s->largest_x)));
  if (s->exps) nn_store(k, s->exps, at, e, mask);
  if (mask) e = nn_x_select(k, mask, e, nn_zero(L, s->acc));
  nn_row_take(L, NN_X_ADD, s->sum, slot, l, s->lanes, e);
  nn_lanes_end(L, lanes);
}

/* scale: 1 / sum, or for log_softmax log(sum). */
static nn_x *result_of(nn_lower *L, const softmax *s, nn_x *value_or_exp, nn_x *largest, nn_x *scale) {
  nn_kernel *k = L->kernel;
  nn_x *y = s->is_log ? nn_x_binary(k, NN_X_SUB, nn_x_binary(k, NN_X_SUB, value_or_exp, largest), scale)
                      : nn_x_binary(k, NN_X_MUL, value_or_exp, scale);
  return nn_x_cast(k, y, s->y->type.dtype);
}

static void write_block(nn_lower *L, nn_x *i, nn_x *slot, int lanes, bool is_tail, void *data) {
  softmax *s = data;
  nn_kernel *k = L->kernel;
  (void)slot;
  nn_x *l = nn_lanes_begin(L, lanes), *at = nn_xi_add(k, i, l), *mask = row_mask(L, s, at, is_tail), *value;
  if (s->is_log)
    value = row_value(L, s, at, mask);
  else if (s->exps)
    value = nn_let(k, nn_x_load(k, s->exps, at, mask));
  else
    value = exp_of(L, nn_x_binary(k, NN_X_SUB, row_value(L, s, at, mask), s->largest_x));
  s->index[s->axis] = at;
  if (mask) nn_guard_push(L, mask);
  nn_write(L, s->y, s->index, result_of(L, s, value, s->largest_x, s->sum_x));
  if (mask) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
}

static nn_x *scale_of(nn_lower *L, const softmax *s, nn_x *sum) {
  nn_kernel *k = L->kernel;
  return nn_let(k, s->is_log ? nn_math(L, NN_OP_LOG, sum) : nn_x_binary(k, NN_X_DIV, nn_x_const(k, s->acc, 1), sum));
}

static void softmax_row(nn_lower *L, nn_x *const *outer, void *data) {
  softmax *s = data;
  nn_x *zero = nn_x_int(L->kernel, 0);
  for (int i = 0; i < s->nouter; i++) s->index[s->outer[i]] = outer[i];
  s->end = nn_dim_x(L, s->x->type.dims[s->axis]);
  s->largest = nn_row_regs(L, nn_lowest(L, s->acc), s->vectors, s->lanes);
  nn_row_loops(L, zero, s->end, s->lanes, s->vectors, largest_block, s);
  s->largest_x = nn_row_fold(L, NN_X_MAX, s->largest, s->vectors, s->lanes);
  s->sum = nn_row_regs(L, nn_zero(L, s->acc), s->vectors, s->lanes);
  nn_row_loops(L, zero, s->end, s->lanes, s->vectors, exp_block, s);
  s->sum_x = scale_of(L, s, nn_row_fold(L, NN_X_ADD, s->sum, s->vectors, s->lanes));
  nn_row_loops(L, zero, s->end, s->lanes, s->vectors, write_block, s);
}

/* ---- a row for each lane ------------------------------------------------------------------------------------------
 */

typedef enum pass { FIND_LARGEST, SUM_EXPS, WRITE } pass;

static nn_x *column_value(nn_lower *L, softmax *s, nn_x *at, nn_x *l, nn_x *mask, nn_buf *kept) {
  nn_kernel *k = L->kernel;
  if (kept) return nn_let(k, nn_x_load(k, kept, nn_xi_add(k, nn_xi_mulc(k, at, s->lanes), l), NULL));
  s->index[s->axis] = at;
  return read_at(L, s, s->index, mask);
}

static void largest_of_lanes(nn_lower *L, softmax *s, nn_x *at, nn_x *l, nn_x *mask) {
  nn_kernel *k = L->kernel;
  nn_x *value = column_value(L, s, at, l, mask, NULL), *old = nn_x_load(k, s->largest, l, NULL);
  if (s->values) nn_store(k, s->values, nn_xi_add(k, nn_xi_mulc(k, at, s->lanes), l), value, NULL);
  nn_store(k, s->largest, l, nn_x_binary(k, NN_X_MAX, old, value), NULL);
}

static void sum_of_lanes(nn_lower *L, softmax *s, nn_x *at, nn_x *l, nn_x *mask) {
  nn_kernel *k = L->kernel;
  nn_x *value = column_value(L, s, at, l, mask, s->values), *largest = nn_let(k, nn_x_load(k, s->largest, l, NULL));
  nn_x *e = nn_let(k, exp_of(L, nn_x_binary(k, NN_X_SUB, value, largest)));
  if (s->exps) nn_store(k, s->exps, nn_xi_add(k, nn_xi_mulc(k, at, s->lanes), l), e, NULL);
  nn_store(k, s->sum, l, nn_x_binary(k, NN_X_ADD, nn_x_load(k, s->sum, l, NULL), e), NULL);
}

static void write_lanes(nn_lower *L, softmax *s, nn_x *at, nn_x *l, nn_x *mask) {
  nn_kernel *k = L->kernel;
  nn_x *largest = nn_let(k, nn_x_load(k, s->largest, l, NULL)), *scale = nn_let(k, nn_x_load(k, s->sum, l, NULL));
  bool has_exp = s->exps && !s->is_log;
  nn_x *value = column_value(L, s, at, l, mask, has_exp ? s->exps : s->values);
  if (!s->is_log && !has_exp) value = exp_of(L, nn_x_binary(k, NN_X_SUB, value, largest));
  s->index[s->axis] = at;
  if (mask) nn_guard_push(L, mask);
  nn_write(L, s->y, s->index, result_of(L, s, value, largest, scale));
  if (mask) nn_guard_pop(L);
}

static void column_pass(nn_lower *L, softmax *s, pass p, nn_x *i, int lanes, bool is_tail) {
  static void (*const steps[])(nn_lower *, softmax *, nn_x *, nn_x *, nn_x *) = {largest_of_lanes, sum_of_lanes,
                                                                                 write_lanes};
  nn_kernel *k = L->kernel;
  nn_x *at = nn_loop_begin(k, NN_FOR, "at", nn_x_int(k, 0), nn_dim_x(L, s->x->type.dims[s->axis]));
  nn_x *l = nn_lanes_begin(L, lanes);
  s->index[s->inner] = nn_xi_add(k, s->first, nn_xi_add(k, i, l));
  steps[p](L, s, at, l, row_mask(L, s, s->index[s->inner], is_tail));
  nn_lanes_end(L, lanes);
  nn_end(k);
}

static void softmax_lanes(nn_lower *L, nn_x *i, int lanes, bool is_tail, void *data) {
  softmax *s = data;
  nn_kernel *k = L->kernel;
  s->largest = nn_row_regs(L, nn_lowest(L, s->acc), 1, lanes);
  s->sum = nn_row_regs(L, nn_zero(L, s->acc), 1, lanes);
  column_pass(L, s, FIND_LARGEST, i, lanes, is_tail);
  column_pass(L, s, SUM_EXPS, i, lanes, is_tail);
  nn_x *l = nn_lanes_begin(L, lanes);
  nn_store(k, s->sum, l, scale_of(L, s, nn_let(k, nn_x_load(k, s->sum, l, NULL))), NULL);
  nn_lanes_end(L, lanes);
  column_pass(L, s, WRITE, i, lanes, is_tail);
}

static void softmax_columns(nn_lower *L, nn_x *const *outer, void *data) {
  softmax *s = data;
  nn_kernel *k = L->kernel;
  for (int i = 0; i < s->nouter; i++) s->index[s->outer[i]] = outer[i];
  s->end = nn_dim_x(L, s->x->type.dims[s->inner]);
  s->first = nn_let(k, nn_xi_mulc(k, outer[s->nouter], s->lanes));
  nn_x *left = nn_let(k, nn_xi_min(k, nn_x_int(k, s->lanes), nn_xi_sub(k, s->end, s->first)));
  nn_block_loops(L, left, s->lanes, softmax_lanes, s);
}

/* ---- both
 * ------------------------------------------------------------------------------------------------------------ */

static void set_dims(nn_lower *L, softmax *s) {
  const nn_type x = s->x->type;
  s->axis = (int)nn_attr_int(s->op, "axis");
  if (s->axis < 0) s->axis += x.rank;
  s->inner = s->axis;
  for (int d = s->axis; d < x.rank; d++)
    if (!nn_dim_is(x.dims[d], 1)) s->inner = d;
  for (int d = 0; d < x.rank; d++)
    if (d != s->axis && d != s->inner) s->outer[s->nouter++] = d;
  s->lanes = nn_row_lanes(L, s->acc, x.dims[s->inner]);
  s->vectors = nn_row_vectors(s->inner == s->axis ? ROW_VECTORS : 1, s->lanes, x.dims[s->inner]);
}

/* A buffer for what the passes share, if it fits. */
static nn_buf *keep(nn_lower *L, const softmax *s) {
  nn_module *m = L->module;
  nn_dim count = s->x->type.dims[s->axis];
  if (s->inner != s->axis) count = nn_dim_mul(m, count, nn_dim_const(m, s->lanes));
  if (nn_dim_guess(count, 1) > KEPT_BYTES * 8 / nn_dtype_bits(s->acc)) return NULL;
  return nn_temp(L, NN_BUF_WORKER, s->acc, count);
}

static nn_status emit_softmax(nn_lower *L, nn_op *op) {
  softmax s = {.op = op, .x = op->in[0], .y = op->out[0], .is_log = op->code == NN_OP_LOG_SOFTMAX};
  nn_dim dims[NN_MAX_RANK];
  s.acc = nn_acc_dtype(s.x->type.dtype);
  if (s.x->type.rank == 0) return nn_fail(op, "operand 0 has no dimensions, expected at least one");
  set_dims(L, &s);
  for (int i = 0; i < s.nouter; i++) dims[i] = s.x->type.dims[s.outer[i]];
  if (!nn_read_is_plain(L, s.x, NULL)) s.values = keep(L, &s);
  if (!s.is_log) s.exps = keep(L, &s);
  for (int d = 0; d < s.x->type.rank; d++) s.index[d] = nn_x_int(L->kernel, 0);
  int64_t cost = 16 * (nn_dim_guess(s.x->type.dims[s.axis], 256) + 1);
  if (s.inner != s.axis) {
    dims[s.nouter] = nn_dim_ceildiv(L->module, s.x->type.dims[s.inner], nn_dim_const(L->module, s.lanes));
    nn_parallel_rows(L, dims, s.nouter + 1, cost * s.lanes, softmax_columns, &s);
  } else if (s.nouter) {
    nn_parallel_rows(L, dims, s.nouter, cost, softmax_row, &s);
  } else {
    softmax_row(L, NULL, &s);
  }
  return NN_OK;
}

nn_status lower_softmax(nn_lower *L, nn_op *op) { return emit_softmax(L, op); }
nn_status lower_log_softmax(nn_lower *L, nn_op *op) { return emit_softmax(L, op); }
