/* ONNX normalisations and softmaxes. Statistics are computed in f32 for narrower floats. */
#include "frontend/onnx.h"

static nn_value *binary(onnx_node *n, nn_opcode code, nn_value *x, nn_value *y) {
  return nn_b_binary(n->b, code, x, y);
}

/* ---- Softmax, LogSoftmax, Hardmax ------------------------------------------------------------- */

typedef nn_value *softmax_fn(onnx_node *n, nn_value *x, int axis);

static nn_value *softmax_op(onnx_node *n, nn_opcode code, nn_value *x, int axis) {
  nn_op *op = nn_b_begin(n->b, code, &x, 1, -1);
  if (!op) return NULL;
  nn_set_int(op, "axis", axis);
  return nn_b_end(n->b, op);
}

static nn_value *make_softmax(onnx_node *n, nn_value *x, int axis) { return softmax_op(n, NN_OP_SOFTMAX, x, axis); }
static nn_value *make_log_softmax(onnx_node *n, nn_value *x, int axis) {
  return softmax_op(n, NN_OP_LOG_SOFTMAX, x, axis);
}

/* One at the first maximum, else 0. */
static nn_value *make_hardmax(onnx_node *n, nn_value *x, int axis) {
  nn_op *op = nn_b_begin(n->b, NN_OP_ARG_MAX, &x, 1, -1);
  if (!op) return NULL;
  nn_set_int(op, "axis", axis);
  return nn_b_cast(n->b, onnx_equals_index(n, nn_b_end(n->b, op), x->type, axis), x->type.dtype);
}

/* Before opset 13 the dims from axis on were one. */
static nn_status give_softmax(onnx_node *n, softmax_fn *make) {
  NN_TRY(onnx_need(n, 1, 1, 1));
  NN_TRY(onnx_need_float(n, 0));
  nn_value *x = n->in[0];
  int axis = 0;
  NN_TRY(onnx_axis(n, onnx_int(n, "axis", n->since < 13 ? 1 : -1), x->type.rank, &axis));
  if (n->since >= 13 || axis + 1 == x->type.rank) return onnx_give(n, 0, make(n, x, axis));
  nn_value *flat = onnx_as_matrix(n, x, axis);
  nn_value *y = flat ? make(n, flat, axis) : NULL;
  return onnx_give(n, 0, nn_b_reshape(n->b, y, x->type.rank, x->type.dims));
}

nn_status onnx_Softmax(onnx_node *n) { return give_softmax(n, make_softmax); }
nn_status onnx_LogSoftmax(onnx_node *n) { return give_softmax(n, make_log_softmax); }
nn_status onnx_Hardmax(onnx_node *n) { return give_softmax(n, make_hardmax); }

/* ---- statistics of one sample: Layer, Group, Instance, RMS ------------------------------------ */

/* (x - mean) * inverse deviation over dims axis.., and the two, for results[0..2]. */
nn_status onnx_normalize(onnx_node *n, nn_value *x, int axis, double epsilon, nn_value **results) {
  nn_op *op = nn_b_begin(n->b, NN_OP_NORMALIZE, &x, 1, -1);
  if (!op) return NN_FAIL;
  nn_set_int(op, "axis", axis);
  nn_set_float(op, "epsilon", epsilon);
  return nn_b_end_all(n->b, op, results);
}

/* y * scale + bias in y's type, given back in type t. bias may be NULL. */
static nn_value *scale_and_shift(onnx_node *n, nn_value *y, nn_value *scale, nn_value *bias, nn_dtype t) {
  if (!y) return NULL;
  y = binary(n, NN_OP_MUL, y, nn_b_cast(n->b, scale, y->type.dtype));
  if (bias && y) y = binary(n, NN_OP_ADD, y, nn_b_cast(n->b, bias, y->type.dtype));
  return nn_b_cast(n->b, y, t);
}

static nn_status read_stash_type(onnx_node *n, nn_dtype *stash) {
  int64_t number = onnx_int(n, "stash_type", 1);
  if (number < 0 || number > 1000 || !nn_dtype_from_onnx((int)number, stash) || !nn_dtype_is_float(*stash))
    return onnx_fail(n, "attribute stash_type is %lld, expected the number of a float type", (long long)number);
  return NN_OK;
}

static nn_status check_norm(onnx_node *n, int nin_min, int nin_max, int nout) {
  NN_TRY(onnx_need(n, nin_min, nin_max, nout));
  for (int i = 0; i < n->nin; i++)
    if (n->in[i]) NN_TRY(onnx_need_float(n, i));
  return NN_OK;
}

nn_status onnx_LayerNormalization(onnx_node *n) {
  NN_TRY(check_norm(n, 2, 3, 3));
  nn_value *x = n->in[0], *results[3];
  int axis = 0;
  nn_dtype stash;
  NN_TRY(onnx_axis(n, onnx_int(n, "axis", -1), x->type.rank, &axis));
  NN_TRY(read_stash_type(n, &stash));
  NN_TRY(onnx_normalize(n, onnx_wide(n, x), axis, onnx_float(n, "epsilon", 1e-5), results));
  for (int i = 1; i < 3; i++)
    if (onnx_wants(n, i)) NN_TRY(onnx_give(n, i, nn_b_cast(n->b, results[i], stash)));
  ONNX_GIVE(n, scale_and_shift(n, results[0], n->in[1], n->nin > 2 ? n->in[2] : NULL, x->type.dtype));
}

nn_status onnx_RMSNormalization(onnx_node *n) {
  NN_TRY(check_norm(n, 2, 2, 1));
  nn_value *x = onnx_wide(n, n->in[0]);
  if (!x) return NN_FAIL;
  int axis, naxes = 0;
  NN_TRY(onnx_axis(n, onnx_int(n, "axis", -1), x->type.rank, &axis));
  int64_t axes[NN_MAX_RANK];
  for (int i = axis; i < x->type.rank; i++) axes[naxes++] = i;
  nn_value *mean = onnx_mean(n, onnx_square(n, x), axes, naxes, true);
  nn_value *rms = nn_b_unary(n->b, NN_OP_SQRT, nn_b_scalar_op(n->b, NN_OP_ADD, mean, onnx_float(n, "epsilon", 1e-5)));
  nn_value *y = binary(n, NN_OP_MUL, x, nn_b_unary(n->b, NN_OP_RECIP, rms));
  ONNX_GIVE(n, scale_and_shift(n, y, n->in[1], NULL, n->in[0]->type.dtype));
}

nn_status onnx_InstanceNormalization(onnx_node *n) {
  NN_TRY(check_norm(n, 3, 3, 1));
  nn_value *x = n->in[0], *results[3];
  NN_TRY(onnx_need_rank(n, 0, 3, -1));
  NN_TRY(onnx_need_size(n, 1, x->type.dims[1]));
  NN_TRY(onnx_need_size(n, 2, x->type.dims[1]));
  NN_TRY(onnx_normalize(n, onnx_wide(n, x), 2, onnx_float(n, "epsilon", 1e-5), results));
  nn_value *scale = onnx_as_channel(n, n->in[1], x->type.rank, 1);
  ONNX_GIVE(n, scale_and_shift(n, results[0], scale, onnx_as_channel(n, n->in[2], x->type.rank, 1), x->type.dtype));
}

/* x as [N, groups, the rest]. */
static nn_status split_groups(onnx_node *n, nn_value *x, int64_t groups, nn_value **grouped) {
  nn_module *m = n->m;
  nn_dim size;
  if (groups < 1) return onnx_fail(n, "attribute num_groups is %lld, expected at least 1", (long long)groups);
  nn_dim channels = x->type.dims[1], g = nn_dim_const(m, groups);
  NN_TRY(nn_b_check(n->b, "eq", nn_dim_mod(m, channels, g), nn_dim_const(m, 0), "channels modulo num_groups"));
  if (!nn_dim_divides(m, channels, g, &size)) size = nn_dim_floordiv(m, channels, g);
  for (int i = 2; i < x->type.rank; i++) size = nn_dim_mul(m, size, x->type.dims[i]);
  *grouped = nn_b_reshape(n->b, x, 3, (nn_dim[]){x->type.dims[0], g, size});
  return *grouped ? NN_OK : NN_FAIL;
}

/* Opset 18 has a scale and bias for each group, 21 for each channel. */
nn_status onnx_GroupNormalization(onnx_node *n) {
  NN_TRY(check_norm(n, 3, 3, 1));
  NN_TRY(onnx_need_rank(n, 0, 2, -1));
  nn_value *x = n->in[0], *grouped = NULL, *results[3];
  nn_type t = x->type;
  int64_t groups = onnx_int(n, "num_groups", 0);
  bool by_group = n->since < 21;
  NN_TRY(split_groups(n, x, groups, &grouped));
  nn_dim nparams = by_group ? nn_dim_const(n->m, groups) : t.dims[1];
  NN_TRY(onnx_need_size(n, 1, nparams));
  NN_TRY(onnx_need_size(n, 2, nparams));
  NN_TRY(onnx_normalize(n, onnx_wide(n, grouped), 2, onnx_float(n, "epsilon", 1e-5), results));
  nn_value *y = by_group ? results[0] : nn_b_reshape(n->b, results[0], t.rank, t.dims);
  int rank = by_group ? 3 : t.rank;
  y = scale_and_shift(n, y, onnx_as_channel(n, n->in[1], rank, 1), onnx_as_channel(n, n->in[2], rank, 1), t.dtype);
  ONNX_GIVE(n, nn_b_reshape(n->b, y, t.rank, t.dims));
}

/* (x - mean) / (deviation + 1e-9) over the axes. */
nn_status onnx_MeanVarianceNormalization(onnx_node *n) {
  NN_TRY(check_norm(n, 1, 1, 1));
  static const int64_t nchw[] = {0, 2, 3};
  int count = 0;
  const int64_t *given = onnx_ints(n, "axes", &count);
  int64_t axes[NN_MAX_RANK];
  if (!onnx_has(n, "axes")) given = nchw, count = 3;
  int rank = n->in[0]->type.rank;
  if (count > rank) return onnx_fail(n, "%d axes, expected at most %d, the rank of the input", count, rank);
  NN_TRY(onnx_axes(n, given, count, rank, axes));
  nn_value *x = onnx_wide(n, n->in[0]);
  nn_value *centred = binary(n, NN_OP_SUB, x, onnx_mean(n, x, axes, count, true));
  nn_value *deviation = nn_b_unary(n->b, NN_OP_SQRT, onnx_mean(n, onnx_square(n, centred), axes, count, true));
  nn_value *y = binary(n, NN_OP_DIV, centred, nn_b_scalar_op(n->b, NN_OP_ADD, deviation, 1e-9));
  ONNX_GIVE(n, nn_b_cast(n->b, y, n->in[0]->type.dtype));
}

/* ---- LpNormalization, LRN --------------------------------------------------------------------- */

/* x / norm, and 0 where the norm is 0. */
nn_status onnx_LpNormalization(onnx_node *n) {
  NN_TRY(check_norm(n, 1, 1, 1));
  nn_value *x = onnx_wide(n, n->in[0]);
  int axis = 0;
  int64_t p = onnx_int(n, "p", 2);
  NN_TRY(onnx_axis(n, onnx_int(n, "axis", -1), n->in[0]->type.rank, &axis));
  if (p != 1 && p != 2) return onnx_fail(n, "attribute p is %lld, expected 1 or 2", (long long)p);
  nn_value *terms = p == 1 ? nn_b_unary(n->b, NN_OP_ABS, x) : onnx_square(n, x);
  nn_value *norm = nn_b_reduce(n->b, NN_OP_REDUCE_SUM, terms, (int64_t[]){axis}, 1, true);
  if (p == 2) norm = nn_b_unary(n->b, NN_OP_SQRT, norm);
  if (!norm) return NN_FAIL;
  nn_value *safe =
      nn_b_select(n->b, nn_b_scalar_op(n->b, NN_OP_EQ, norm, 0), nn_b_scalar(n->b, norm->type.dtype, 1), norm);
  ONNX_GIVE(n, nn_b_cast(n->b, binary(n, NN_OP_DIV, x, safe), n->in[0]->type.dtype));
}

/* The sum of squares over `size` neighbouring channels, as a sum pool over [N, 1, C, rest]. */
static nn_value *sum_channels(onnx_node *n, nn_value *squares, int64_t size) {
  if (!squares) return NULL;
  nn_module *m = n->m;
  nn_type t = squares->type;
  nn_dim one = nn_dim_const(m, 1), zero = nn_dim_const(m, 0);
  nn_dim rest = nn_dim_product(m, t.dims + 2, t.rank - 2);
  nn_value *planes = nn_b_reshape(n->b, squares, 4, (nn_dim[]){t.dims[0], one, t.dims[1], rest});
  nn_op *op = nn_b_begin(n->b, NN_OP_AVG_POOL, &planes, 1, -1);
  if (!op) return NULL;
  nn_set_ints(op, "kernel", (int64_t[]){size, 1}, 2);
  nn_set_ints(op, "strides", (int64_t[]){1, 1}, 2);
  nn_set_ints(op, "dilations", (int64_t[]){1, 1}, 2);
  nn_dim before = nn_dim_const(m, (size - 1) / 2), after = nn_dim_const(m, size / 2);
  nn_set_dims(op, "pads", (nn_dim[]){before, zero, after, zero}, 4);
  nn_set_int(op, "sum", 1);
  return nn_b_reshape(n->b, nn_b_end(n->b, op), t.rank, t.dims);
}

/* x / (bias + alpha / size * sum of squares)^beta */
nn_status onnx_LRN(onnx_node *n) {
  NN_TRY(check_norm(n, 1, 1, 1));
  NN_TRY(onnx_need_rank(n, 0, 2, -1));
  int64_t size = onnx_int(n, "size", 0);
  if (size < 1 || size > INT32_MAX) return onnx_fail(n, "attribute size is %lld, expected at least 1", (long long)size);
  nn_builder *b = n->b;
  nn_value *x = onnx_wide(n, n->in[0]);
  nn_value *sum = sum_channels(n, onnx_square(n, x), size);
  nn_value *scaled = nn_b_scalar_op(b, NN_OP_MUL, sum, onnx_float(n, "alpha", 1e-4) / (double)size);
  nn_value *base = nn_b_scalar_op(b, NN_OP_ADD, scaled, onnx_float(n, "bias", 1));
  nn_value *y = binary(n, NN_OP_MUL, x, nn_b_scalar_op(b, NN_OP_POW, base, -onnx_float(n, "beta", 0.75)));
  ONNX_GIVE(n, nn_b_cast(b, y, n->in[0]->type.dtype));
}
