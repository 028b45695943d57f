/* nncc.h: layers. Each is a few core ops; what a weight is called and how it lies in memory is written at the
   layer, since programs set weights by name. */
#include "frontend/builder.h"
#include "frontend/onnx.h"

/* ---- activations --------------------------------------------------------------------------------------- */

static nn_value *softmax(nn_builder *b, nn_value *x) {
  nn_op *op = x && x->type.rank > 0 ? nn_b_begin(b, NN_OP_SOFTMAX, &x, 1, -1) : NULL;
  if (!op) return NULL;
  nn_set_int(op, "axis", x->type.rank - 1);
  return nn_b_end(b, op);
}

/* x/2 (1 + erf(x / sqrt 2)) */
static nn_value *gelu(nn_builder *b, nn_value *x) {
  nn_value *gate = nn_b_unary(b, NN_OP_ERF, nn_b_scalar_op(b, NN_OP_MUL, x, 0.70710678118654752));
  return nn_b_binary(b, NN_OP_MUL, nn_b_scalar_op(b, NN_OP_MUL, x, 0.5), nn_b_scalar_op(b, NN_OP_ADD, gate, 1));
}

static nn_value *activate(nncc_model *model, nn_value *x, nncc_activation activation) {
  nn_builder *b = &((nn_model_builder *)model->builder)->b;
  if (!x) return NULL;
  switch (activation) {
  case NNCC_LINEAR: return x;
  case NNCC_RELU: return nn_b_unary(b, NN_OP_RELU, x);
  case NNCC_SIGMOID: return nn_b_unary(b, NN_OP_SIGMOID, x);
  case NNCC_TANH: return nn_b_unary(b, NN_OP_TANH, x);
  case NNCC_GELU: return gelu(b, x);
  case NNCC_SILU: return nn_b_binary(b, NN_OP_MUL, x, nn_b_unary(b, NN_OP_SIGMOID, x));
  case NNCC_SOFTMAX:
    if (x->type.rank == 0) nn_builder_fail(model, "softmax of a scalar, expected rank 1 or more");
    return softmax(b, x);
  }
  nn_builder_fail(model, "activation %d is not one of NNCC_LINEAR ..", (int)activation);
  return NULL;
}

nncc_tensor *nncc_activate(nncc_model *model, nncc_tensor *x, nncc_activation activation) {
  if (!nn_builder_of(model, "activation")) return NULL;
  return nn_handle_of(activate(model, nn_value_of(x), activation));
}

/* ---- layers with weights ------------------------------------------------------------------------------- */

/* Dimension d of x as a number; false after a report. */
static bool static_dim(nncc_model *model, const nn_value *x, int d, const char *what, int64_t *size) {
  if (nn_dim_is_const(x->type.dims[d], size)) return true;
  nn_builder_fail(model, "the number of %s is %s, expected a number known while compiling", what,
                  nn_dim_text(model->module->arena, x->type.dims[d]));
  return false;
}

static bool check_rank(nncc_model *model, const nn_value *x, int min, int max, const char *expected) {
  if (x->type.rank >= min && x->type.rank <= max && nn_dtype_is_float(x->type.dtype)) return true;
  nn_builder_fail(model, "the operand is %s, expected %s of floats", nn_type_text(model->module->arena, x->type),
                  expected);
  return false;
}

static bool check_at_least_one(nncc_model *model, int value, const char *what) {
  if (value >= 1) return true;
  nn_builder_fail(model, "%s is %d, expected at least 1", what, value);
  return false;
}

/* [C] -> [C,1,1..] so that it broadcasts along axis 1 of x. */
static nn_value *as_channel(nn_builder *b, nn_value *v, const nn_value *x) {
  nn_module *m = b->graph->module;
  nn_dim dims[NN_MAX_RANK];
  if (!v) return NULL;
  dims[0] = v->type.dims[0];
  for (int d = 1; d < x->type.rank - 1; d++) dims[d] = nn_dim_const(m, 1);
  return nn_b_reshape(b, v, x->type.rank - 1, dims);
}

static void window_pads(nn_module *m, const nn_value *x, int64_t kernel, int64_t stride, nncc_padding padding,
                        nn_dim *pads) {
  for (int d = 0; d < 2; d++) {
    pads[d] = pads[2 + d] = nn_dim_const(m, 0);
    if (padding == NNCC_SAME) onnx_same_pads(m, x->type.dims[2 + d], kernel, stride, 1, true, &pads[d], &pads[2 + d]);
  }
}

static nn_value *conv2d(nncc_model *model, nn_value *x, nn_value *w, int kernel, int stride, nncc_padding padding) {
  nn_builder *b = &((nn_model_builder *)model->builder)->b;
  nn_dim pads[4];
  nn_value *in[2] = {x, w};
  nn_op *op = nn_b_begin(b, NN_OP_CONV, in, 2, -1);
  if (!op) return NULL;
  window_pads(model->module, x, kernel, stride, padding, pads);
  nn_set_ints(op, "strides", (int64_t[]){stride, stride}, 2);
  nn_set_dims(op, "pads", pads, 4);
  return nn_b_end(b, op);
}

/* weight [filters, channels, kernel, kernel], bias [filters]. */
nncc_tensor *nncc_conv2d(nncc_model *model, nncc_tensor *tensor, const char *name, int filters, int kernel, int stride,
                         nncc_padding padding, nncc_activation activation) {
  nn_model_builder *s = nn_builder_of(model, "conv2d");
  nn_value *x = nn_value_of(tensor);
  int64_t channels;
  if (!s || !x || !(name = nn_builder_layer(model, name, "conv2d"))) return NULL;
  if (!check_rank(model, x, 4, 4, "[N,C,H,W]") || !static_dim(model, x, 1, "channels", &channels)) return NULL;
  if (!check_at_least_one(model, filters, "filters") || !check_at_least_one(model, kernel, "kernel") ||
      !check_at_least_one(model, stride, "stride"))
    return NULL;
  int64_t dims[4] = {filters, channels, kernel, kernel};
  nn_value *w = nn_builder_weight(model, name, "weight", 4, dims, channels * kernel * kernel, 0);
  nn_value *bias = nn_builder_weight(model, name, "bias", 1, dims, 0, 0);
  nn_value *y = conv2d(model, x, w, kernel, stride, padding);
  return nn_handle_of(activate(model, nn_b_binary(&s->b, NN_OP_ADD, y, as_channel(&s->b, bias, x)), activation));
}

/* weight [in, units], bias [units]. */
nncc_tensor *nncc_dense(nncc_model *model, nncc_tensor *tensor, const char *name, int units,
                        nncc_activation activation) {
  nn_model_builder *s = nn_builder_of(model, "dense");
  nn_value *x = nn_value_of(tensor);
  int64_t features;
  if (!s || !x || !(name = nn_builder_layer(model, name, "dense"))) return NULL;
  if (!check_rank(model, x, 2, NN_MAX_RANK, "[N,F]") ||
      !static_dim(model, x, x->type.rank - 1, "features", &features) || !check_at_least_one(model, units, "units"))
    return NULL;
  int64_t dims[2] = {features, units};
  nn_value *w = nn_builder_weight(model, name, "weight", 2, dims, features, 0);
  nn_value *bias = nn_builder_weight(model, name, "bias", 1, dims + 1, 0, 0);
  return nn_handle_of(activate(model, nn_b_binary(&s->b, NN_OP_ADD, nn_b_matmul(&s->b, x, w), bias), activation));
}

/* weight (gamma), bias (beta), mean, variance: [channels], axis 1. (x - mean) / sqrt(variance + epsilon) * weight +
 * bias */
nncc_tensor *nncc_batch_norm(nncc_model *model, nncc_tensor *tensor, const char *name, double epsilon) {
  nn_model_builder *s = nn_builder_of(model, "batch_norm");
  nn_value *x = nn_value_of(tensor), *v[4];
  static const struct {
    const char *part;
    double fill;
  } parts[4] = {{"weight", 1}, {"bias", 0}, {"mean", 0}, {"variance", 1}};
  int64_t channels;
  if (!s || !x || !(name = nn_builder_layer(model, name, "batch_norm"))) return NULL;
  if (!check_rank(model, x, 2, NN_MAX_RANK, "[N,C,..]") || !static_dim(model, x, 1, "channels", &channels)) return NULL;
  nn_builder *b = &s->b;
  for (int i = 0; i < 4; i++) v[i] = nn_builder_weight(model, name, parts[i].part, 1, &channels, 0, parts[i].fill);
  nn_value *deviation = nn_b_unary(b, NN_OP_SQRT, nn_b_scalar_op(b, NN_OP_ADD, v[3], epsilon));
  nn_value *scale = as_channel(b, nn_b_binary(b, NN_OP_DIV, v[0], deviation), x);
  nn_value *centered = nn_b_binary(b, NN_OP_SUB, x, as_channel(b, v[2], x));
  return nn_handle_of(nn_b_binary(b, NN_OP_ADD, nn_b_binary(b, NN_OP_MUL, centered, scale), as_channel(b, v[1], x)));
}

/* weight (gamma), bias (beta): [last dimension]. */
nncc_tensor *nncc_layer_norm(nncc_model *model, nncc_tensor *tensor, const char *name, double epsilon) {
  nn_model_builder *s = nn_builder_of(model, "layer_norm");
  nn_value *x = nn_value_of(tensor);
  int64_t features;
  if (!s || !x || !(name = nn_builder_layer(model, name, "layer_norm"))) return NULL;
  if (!check_rank(model, x, 1, NN_MAX_RANK, "rank 1 or more") ||
      !static_dim(model, x, x->type.rank - 1, "features", &features))
    return NULL;
  nn_value *weight = nn_builder_weight(model, name, "weight", 1, &features, 0, 1);
  nn_value *bias = nn_builder_weight(model, name, "bias", 1, &features, 0, 0);
  nn_op *op = nn_b_begin(&s->b, NN_OP_NORMALIZE, &x, 1, -1);
  if (!op) return NULL;
  nn_set_int(op, "axis", x->type.rank - 1);
  nn_set_float(op, "epsilon", epsilon);
  nn_value *y = nn_b_binary(&s->b, NN_OP_MUL, nn_b_end(&s->b, op), weight);
  return nn_handle_of(nn_b_binary(&s->b, NN_OP_ADD, y, bias));
}

/* ---- pools --------------------------------------------------------------------------------------------- */

static nncc_tensor *pool2d(nncc_model *model, nncc_tensor *tensor, nn_opcode code, int kernel, int stride) {
  nn_model_builder *s = nn_builder_of(model, nn_op_infos[code].text);
  nn_value *x = nn_value_of(tensor);
  nn_dim pads[4];
  if (!s || !x || !nn_builder_layer(model, NULL, nn_op_infos[code].text) || !check_rank(model, x, 4, 4, "[N,C,H,W]") ||
      !check_at_least_one(model, kernel, "kernel") || !check_at_least_one(model, stride, "stride"))
    return NULL;
  nn_op *op = nn_b_begin(&s->b, code, &x, 1, -1);
  if (!op) return NULL;
  window_pads(model->module, x, kernel, stride, NNCC_VALID, pads);
  nn_set_ints(op, "kernel", (int64_t[]){kernel, kernel}, 2);
  nn_set_ints(op, "strides", (int64_t[]){stride, stride}, 2);
  nn_set_dims(op, "pads", pads, 4);
  return nn_handle_of(nn_b_end(&s->b, op));
}

nncc_tensor *nncc_max_pool2d(nncc_model *model, nncc_tensor *x, int kernel, int stride) {
  return pool2d(model, x, NN_OP_MAX_POOL, kernel, stride);
}

nncc_tensor *nncc_avg_pool2d(nncc_model *model, nncc_tensor *x, int kernel, int stride) {
  return pool2d(model, x, NN_OP_AVG_POOL, kernel, stride);
}

nncc_tensor *nncc_global_avg_pool(nncc_model *model, nncc_tensor *tensor) {
  nn_model_builder *s = nn_builder_of(model, "global_avg_pool");
  nn_value *x = nn_value_of(tensor);
  int64_t axes[NN_MAX_RANK];
  if (!s || !x || !nn_builder_layer(model, NULL, "global_avg_pool") ||
      !check_rank(model, x, 3, NN_MAX_RANK, "[N,C,..]"))
    return NULL;
  int naxes = x->type.rank - 2;
  for (int i = 0; i < naxes; i++) axes[i] = 2 + i;
  nn_dim count = nn_dim_product(model->module, x->type.dims + 2, naxes);
  nn_value *number = nn_b_cast(&s->b, nn_b_reshape(&s->b, nn_b_dims(&s->b, &count, 1), 0, NULL), x->type.dtype);
  return nn_handle_of(
      nn_b_binary(&s->b, NN_OP_DIV, nn_b_reduce(&s->b, NN_OP_REDUCE_SUM, x, axes, naxes, false), number));
}

/* ---- shapes and arithmetic ----------------------------------------------------------------------------- */

nncc_tensor *nncc_flatten(nncc_model *model, nncc_tensor *tensor) {
  nn_model_builder *s = nn_builder_of(model, "flatten");
  nn_value *x = nn_value_of(tensor);
  if (!s || !x) return NULL;
  if (x->type.rank < 1) {
    nn_builder_fail(model, "the operand is a scalar, expected [N,..]");
    return NULL;
  }
  nn_dim dims[2] = {x->type.dims[0], nn_dim_product(model->module, x->type.dims + 1, x->type.rank - 1)};
  return nn_handle_of(nn_b_reshape(&s->b, x, 2, dims));
}

nncc_tensor *nncc_dropout(nncc_model *model, nncc_tensor *x, double rate) {
  if (!nn_builder_of(model, "dropout")) return NULL;
  if (rate >= 0 && rate < 1) return x;
  nn_builder_fail(model, "rate is %g, expected 0 or more, less than 1", rate);
  return NULL;
}

static nncc_tensor *binary(nncc_model *model, nn_opcode code, nncc_tensor *x, nncc_tensor *y) {
  nn_model_builder *s = nn_builder_of(model, nn_op_infos[code].text);
  return s ? nn_handle_of(nn_b_binary(&s->b, code, nn_value_of(x), nn_value_of(y))) : NULL;
}

nncc_tensor *nncc_add(nncc_model *model, nncc_tensor *a, nncc_tensor *b) { return binary(model, NN_OP_ADD, a, b); }
nncc_tensor *nncc_sub(nncc_model *model, nncc_tensor *a, nncc_tensor *b) { return binary(model, NN_OP_SUB, a, b); }
nncc_tensor *nncc_mul(nncc_model *model, nncc_tensor *a, nncc_tensor *b) { return binary(model, NN_OP_MUL, a, b); }
nncc_tensor *nncc_div(nncc_model *model, nncc_tensor *a, nncc_tensor *b) { return binary(model, NN_OP_DIV, a, b); }

nncc_tensor *nncc_matmul(nncc_model *model, nncc_tensor *a, nncc_tensor *b) {
  nn_model_builder *s = nn_builder_of(model, "matmul");
  return s ? nn_handle_of(nn_b_matmul(&s->b, nn_value_of(a), nn_value_of(b))) : NULL;
}

nncc_tensor *nncc_concat(nncc_model *model, nncc_tensor *const *parts, int count, int axis) {
  nn_model_builder *s = nn_builder_of(model, "concat");
  if (!s) return NULL;
  if (count < 1 || !parts) {
    nn_builder_fail(model, "%d parts, expected at least 1", count);
    return NULL;
  }
  nn_value **values = NN_NEW_ARRAY(model->module->arena, nn_value *, count);
  for (int i = 0; i < count; i++)
    if (!(values[i] = nn_value_of(parts[i]))) return NULL;
  return nn_handle_of(nn_b_concat(&s->b, values, count, axis));
}

nncc_tensor *nncc_reshape(nncc_model *model, nncc_tensor *tensor, int rank, const int64_t *dims) {
  nn_model_builder *s = nn_builder_of(model, "reshape");
  nn_value *x = nn_value_of(tensor);
  nn_dim list[NN_MAX_RANK];
  int inferred = -1;
  if (!s || !x) return NULL;
  nn_module *m = model->module;
  nn_dim rest = nn_dim_const(m, 1), count = nn_type_count(m, x->type);
  if (rank < 0 || rank > NN_MAX_RANK || (rank && !dims)) {
    nn_builder_fail(model, "rank %d, expected 0 to %d", rank, NN_MAX_RANK);
    return NULL;
  }
  for (int d = 0; d < rank; d++) {
    if (dims[d] < -1 || (dims[d] == -1 && inferred >= 0)) {
      nn_builder_fail(model, "dimension %d is %lld, expected 0 or more, and -1 once at most", d, (long long)dims[d]);
      return NULL;
    }
    list[d] = nn_dim_const(m, dims[d]);
    if (dims[d] == -1)
      inferred = d;
    else
      rest = nn_dim_mul(m, rest, list[d]);
  }
  if (inferred >= 0 && !nn_dim_divides(m, count, rest, &list[inferred]))
    list[inferred] = nn_dim_floordiv(m, count, rest);
  return nn_handle_of(nn_b_reshape(&s->b, x, rank, list));
}

nncc_tensor *nncc_transpose(nncc_model *model, nncc_tensor *tensor, const int *perm) {
  nn_model_builder *s = nn_builder_of(model, "transpose");
  nn_value *x = nn_value_of(tensor);
  int64_t list[NN_MAX_RANK];
  if (!s || !x || !perm) return NULL;
  for (int d = 0; d < x->type.rank; d++) list[d] = perm[d];
  return nn_handle_of(nn_b_transpose(&s->b, x, list));
}
