/* ai.onnx.ml: linear models and the scalings around them. Everything is computed and given in f32. */
#include "frontend/onnx.h"

#include <string.h>

/* An attribute's floats as an f32 constant. */
static nn_value *float_const(onnx_node *n, const double *values, int rank, const int64_t *dims) {
  nn_tensor *t = nn_tensor_new(n->m, nn_type_static(n->m, NN_F32, rank, dims));
  if (!t) return NULL;
  int64_t count = 1;
  for (int i = 0; i < rank; i++) count *= dims[i];
  for (int64_t i = 0; i < count; i++) nn_store_f64(NN_F32, t->owned, (size_t)i, values[i]);
  return nn_b_const(n->b, t);
}

/* Input 0 in f32, as rows: [C] becomes [1, C]. */
static nn_status read_rows(onnx_node *n, nn_value **x) {
  NN_TRY(onnx_need_kind(n, 0, ONNX_NUMBER));
  NN_TRY(onnx_need_rank(n, 0, 1, 2));
  *x = nn_b_cast(n->b, n->in[0], NN_F32);
  if (*x && (*x)->type.rank == 1) *x = nn_b_unsqueeze(n->b, *x, 0);
  return *x ? NN_OK : NN_FAIL;
}

/* ---- linear models ---------------------------------------------------------------------------- */

/* x coefficients^T + intercepts: [rows, targets]. */
static nn_status make_scores(onnx_node *n, nn_value *x, int64_t targets, nn_value **scores) {
  int ncoefficients = 0, nintercepts = 0;
  const double *coefficients = onnx_floats(n, "coefficients", &ncoefficients);
  const double *intercepts = onnx_floats(n, "intercepts", &nintercepts);
  if (targets < 1 || ncoefficients < targets || ncoefficients % targets)
    return onnx_fail(n, "attribute coefficients has %d values, expected a multiple of %lld, the number of targets",
                     ncoefficients, (long long)targets);
  if (nintercepts != 0 && nintercepts != targets)
    return onnx_fail(n, "attribute intercepts has %d values, expected %lld, the number of targets", nintercepts,
                     (long long)targets);
  int64_t features = ncoefficients / targets;
  NN_TRY(nn_b_check(n->b, "eq", x->type.dims[1], nn_dim_const(n->m, features), "features, against the coefficients"));
  nn_value *weight = float_const(n, coefficients, 2, (int64_t[]){targets, features});
  *scores = onnx_matmul_trans(n, x, weight, false, true);
  if (nintercepts) *scores = nn_b_binary(n->b, NN_OP_ADD, *scores, float_const(n, intercepts, 1, &targets));
  return *scores ? NN_OK : NN_FAIL;
}

static nn_value *softmax_rows(onnx_node *n, nn_value *x) {
  nn_op *op = x ? nn_b_begin(n->b, NN_OP_SOFTMAX, &x, 1, -1) : NULL;
  if (!op) return NULL;
  nn_set_int(op, "axis", 1);
  return nn_b_end(n->b, op);
}

/* Softmax over the scores that are not 0 (to within 1e-7, as in ONNX Runtime); those stay 0. */
static nn_value *softmax_nonzero(onnx_node *n, nn_value *x) {
  nn_builder *b = n->b;
  nn_value *max = nn_b_reduce(b, NN_OP_REDUCE_MAX, x, (int64_t[]){1}, 1, true), *zero = nn_b_scalar(b, NN_F32, 0);
  nn_value *counts = nn_b_binary(b, NN_OP_LT, nn_b_scalar(b, NN_F32, 1e-7), nn_b_unary(b, NN_OP_ABS, x));
  nn_value *e = nn_b_unary(b, NN_OP_EXP, nn_b_binary(b, NN_OP_SUB, x, max));
  e = nn_b_select(b, counts, e, zero);
  nn_value *sum = nn_b_reduce(b, NN_OP_REDUCE_SUM, e, (int64_t[]){1}, 1, true);
  return nn_b_select(b, counts, nn_b_binary(b, NN_OP_DIV, e, sum), zero);
}

static nn_status transform(onnx_node *n, nn_value **scores) {
  const char *how = onnx_str(n, "post_transform", "NONE");
  if (!strcmp(how, "SOFTMAX"))
    *scores = softmax_rows(n, *scores);
  else if (!strcmp(how, "LOGISTIC"))
    *scores = nn_b_unary(n->b, NN_OP_SIGMOID, *scores);
  else if (!strcmp(how, "SOFTMAX_ZERO"))
    *scores = softmax_nonzero(n, *scores);
  else if (!strcmp(how, "PROBIT"))
    return onnx_unsupported(n, "attribute post_transform PROBIT");
  else if (strcmp(how, "NONE"))
    return onnx_fail(n, "attribute post_transform is '%s', expected NONE, SOFTMAX, LOGISTIC, SOFTMAX_ZERO or PROBIT",
                     how);
  return *scores ? NN_OK : NN_FAIL;
}

nn_status onnx_LinearRegressor(onnx_node *n) {
  nn_value *x, *y;
  NN_TRY(onnx_need(n, 1, 1, 1));
  NN_TRY(read_rows(n, &x));
  NN_TRY(make_scores(n, x, onnx_int(n, "targets", 1), &y));
  NN_TRY(transform(n, &y));
  ONNX_GIVE(n, y);
}

/* labels[index]. */
static nn_value *pick_label(onnx_node *n, const int64_t *labels, int count, nn_value *index) {
  nn_op *op = index
                  ? nn_b_begin(n->b, NN_OP_GATHER, (nn_value *[]){nn_b_ints(n->b, NN_I64, labels, count), index}, 2, -1)
                  : NULL;
  if (!op) return NULL;
  nn_set_int(op, "axis", 0);
  return nn_b_end(n->b, op);
}

/* Output 0: the label of the highest score; of a lone score, the second label where it is above 0. */
static nn_status give_label(onnx_node *n, nn_value *scores, bool is_binary) {
  if (!onnx_wants(n, 0)) return NN_OK;
  int count = 0;
  const int64_t *labels = onnx_ints(n, "classlabels_ints", &count);
  if (count == 0)
    return onnx_unsupported(n, "string labels: output 0 can only give integer labels (attribute classlabels_ints)");
  nn_value *index = NULL;
  if (is_binary) {
    nn_value *is_second = nn_b_cast(n->b, nn_b_binary(n->b, NN_OP_LT, nn_b_scalar(n->b, NN_F32, 0), scores), NN_I64);
    index = nn_b_reshape(n->b, is_second, 1, scores->type.dims);
  } else {
    nn_op *op = nn_b_begin(n->b, NN_OP_ARG_MAX, &scores, 1, -1);
    if (!op) return NN_FAIL;
    nn_set_int(op, "axis", 1);
    nn_set_int(op, "keepdims", 0);
    index = nn_b_end(n->b, op);
  }
  return onnx_give(n, 0, pick_label(n, labels, count, index));
}

/* A lone score s stands for two classes: the logistic of -s and s, or 1 - s and s, to which no softmax is
   applied (as in ONNX Runtime). */
static nn_status spread_score(onnx_node *n, nn_value **s) {
  nn_builder *b = n->b;
  const char *how = onnx_str(n, "post_transform", "NONE");
  bool is_logistic = !strcmp(how, "LOGISTIC"), is_softmax = !strcmp(how, "SOFTMAX") || !strcmp(how, "SOFTMAX_ZERO");
  nn_value *first =
      is_logistic ? nn_b_unary(b, NN_OP_NEG, *s) : nn_b_binary(b, NN_OP_SUB, nn_b_scalar(b, NN_F32, 1), *s);
  if (!first) return NN_FAIL;
  *s = nn_b_concat(b, (nn_value *[]){first, *s}, 2, 1);
  return is_softmax ? NN_OK : transform(n, s);
}

nn_status onnx_LinearClassifier(onnx_node *n) {
  nn_value *x, *scores;
  int nints = 0, nstrings = 0, nintercepts = 0;
  NN_TRY(onnx_need(n, 1, 1, 2));
  NN_TRY(read_rows(n, &x));
  onnx_ints(n, "classlabels_ints", &nints);
  onnx_strs(n, "classlabels_strings", &nstrings);
  onnx_floats(n, "intercepts", &nintercepts);
  int nlabels = nints ? nints : nstrings;
  int64_t targets = nintercepts ? nintercepts : nlabels;
  bool is_binary = targets == 1 && nlabels == 2;
  if (targets != nlabels && !is_binary)
    return onnx_fail(n, "%d class labels for %lld scores, expected the same number", nlabels, (long long)targets);
  NN_TRY(make_scores(n, x, targets, &scores));
  NN_TRY(give_label(n, scores, is_binary));
  if (!onnx_wants(n, 1)) return NN_OK;
  NN_TRY(is_binary ? spread_score(n, &scores) : transform(n, &scores));
  return onnx_give(n, 1, scores);
}

/* ---- Normalizer, Scaler ----------------------------------------------------------------------- */

/* x divided by the largest, the sum of sizes, or the length of its row; x itself where that is 0. */
nn_status onnx_Normalizer(onnx_node *n) {
  nn_builder *b = n->b;
  NN_TRY(onnx_need(n, 1, 1, 1));
  NN_TRY(onnx_need_kind(n, 0, ONNX_NUMBER));
  NN_TRY(onnx_need_rank(n, 0, 1, 2));
  nn_value *x = nn_b_cast(b, n->in[0], NN_F32), *norm = NULL;
  int64_t axis = n->in[0]->type.rank - 1;
  const char *how = onnx_str(n, "norm", "MAX");
  if (!strcmp(how, "MAX"))
    norm = nn_b_reduce(b, NN_OP_REDUCE_MAX, x, &axis, 1, true);
  else if (!strcmp(how, "L1"))
    norm = nn_b_reduce(b, NN_OP_REDUCE_SUM, nn_b_unary(b, NN_OP_ABS, x), &axis, 1, true);
  else if (!strcmp(how, "L2"))
    norm = nn_b_unary(b, NN_OP_SQRT, nn_b_reduce(b, NN_OP_REDUCE_SUM, onnx_square(n, x), &axis, 1, true));
  else
    return onnx_fail(n, "attribute norm is '%s', expected MAX, L1 or L2", how);
  nn_value *safe = nn_b_select(b, nn_b_scalar_op(b, NN_OP_EQ, norm, 0), nn_b_scalar(b, NN_F32, 1), norm);
  ONNX_GIVE(n, nn_b_binary(b, NN_OP_DIV, x, safe));
}

/* One value for all features, or one for each. */
static nn_status read_feature_floats(onnx_node *n, const char *name, nn_value **v) {
  int count = 0;
  const double *values = onnx_floats(n, name, &count);
  nn_type x = n->in[0]->type;
  int64_t dims[1] = {count};
  *v = NULL;
  if (count == 0) return NN_OK;
  if (count > 1)
    NN_TRY(nn_b_check(n->b, "eq", x.dims[x.rank - 1], nn_dim_const(n->m, count),
                      nn_sprintf(n->m->arena, "features, against attribute %s", name)));
  *v = float_const(n, values, 1, dims);
  return *v ? NN_OK : NN_FAIL;
}

/* (x - offset) * scale */
nn_status onnx_Scaler(onnx_node *n) {
  nn_value *offset, *scale;
  NN_TRY(onnx_need(n, 1, 1, 1));
  NN_TRY(onnx_need_kind(n, 0, ONNX_NUMBER));
  NN_TRY(onnx_need_rank(n, 0, 1, -1));
  NN_TRY(read_feature_floats(n, "offset", &offset));
  NN_TRY(read_feature_floats(n, "scale", &scale));
  nn_value *y = nn_b_cast(n->b, n->in[0], NN_F32);
  if (offset) y = nn_b_binary(n->b, NN_OP_SUB, y, offset);
  if (scale) y = nn_b_binary(n->b, NN_OP_MUL, y, scale);
  ONNX_GIVE(n, y);
}
