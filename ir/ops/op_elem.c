/* Shape rules of the pointwise ops: all operands and results have the same shape. */
#include "ir/ir.h"

/* The common shape; of dims that only run time can tell to be equal, the one that says most. */
static nn_status give_common_shape(nn_op *op, nn_dtype dtype) {
  nn_module *m = op->graph->module;
  nn_type first = op->in[0]->type;
  nn_dim dims[NN_MAX_RANK];
  for (int d = 0; d < first.rank; d++) dims[d] = first.dims[d];
  for (int i = 1; i < op->nin; i++) {
    NN_TRY(nn_need_rank(op, i, first.rank, first.rank));
    for (int d = 0; d < first.rank; d++) {
      NN_TRY(nn_need_dim(op, i, d, dims[d]));
      dims[d] = nn_dim_prefer(m, dims[d], op->in[i]->type.dims[d]);
    }
  }
  return nn_give(op, 0, dtype, first.rank, dims);
}

static nn_status shape_unary(nn_op *op, unsigned set) {
  NN_TRY(nn_need_kind(op, 0, set));
  return give_common_shape(op, op->in[0]->type.dtype);
}

static nn_status shape_binary(nn_op *op, unsigned set) {
  NN_TRY(nn_need_kind(op, 0, set));
  NN_TRY(nn_need_same_dtype(op, 0, 1));
  return give_common_shape(op, op->in[0]->type.dtype);
}

static nn_status shape_compare(nn_op *op, unsigned set) {
  NN_TRY(nn_need_kind(op, 0, set));
  NN_TRY(nn_need_same_dtype(op, 0, 1));
  return give_common_shape(op, NN_BOOL);
}

static nn_status shape_float_test(nn_op *op) {
  NN_TRY(nn_need_kind(op, 0, NN_SET_FLOAT));
  return give_common_shape(op, NN_BOOL);
}

#define UNARY(text, set)                                                                                               \
  nn_status shape_##text(nn_op *op) { return shape_unary(op, set); }
#define BINARY(text, set)                                                                                              \
  nn_status shape_##text(nn_op *op) { return shape_binary(op, set); }
#define COMPARE(text, set)                                                                                             \
  nn_status shape_##text(nn_op *op) { return shape_compare(op, set); }

UNARY(copy, NN_SET_ANY)
UNARY(neg, NN_SET_NUMBER)
UNARY(abs, NN_SET_NUMBER)
UNARY(sign, NN_SET_NUMBER)
UNARY(floor, NN_SET_FLOAT)
UNARY(ceil, NN_SET_FLOAT)
UNARY(round, NN_SET_FLOAT)
UNARY(trunc, NN_SET_FLOAT)
UNARY(sqrt, NN_SET_FLOAT)
UNARY(recip, NN_SET_FLOAT)
UNARY(exp, NN_SET_FLOAT)
UNARY(log, NN_SET_FLOAT)
UNARY(expm1, NN_SET_FLOAT)
UNARY(log1p, NN_SET_FLOAT)
UNARY(sin, NN_SET_FLOAT)
UNARY(cos, NN_SET_FLOAT)
UNARY(tan, NN_SET_FLOAT)
UNARY(asin, NN_SET_FLOAT)
UNARY(acos, NN_SET_FLOAT)
UNARY(atan, NN_SET_FLOAT)
UNARY(sinh, NN_SET_FLOAT)
UNARY(cosh, NN_SET_FLOAT)
UNARY(tanh, NN_SET_FLOAT)
UNARY(asinh, NN_SET_FLOAT)
UNARY(acosh, NN_SET_FLOAT)
UNARY(atanh, NN_SET_FLOAT)
UNARY(erf, NN_SET_FLOAT)
UNARY(sigmoid, NN_SET_FLOAT)
UNARY(silu2, NN_SET_FLOAT)
UNARY(relu, NN_SET_NUMBER)
UNARY(softplus, NN_SET_FLOAT)
UNARY(not, NN_SET_BOOL)
UNARY(bitnot, NN_SET_INT)

BINARY(add, NN_SET_NUMBER)
BINARY(sub, NN_SET_NUMBER)
BINARY(mul, NN_SET_NUMBER)
BINARY(div, NN_SET_NUMBER)
BINARY(mod, NN_SET_NUMBER)
BINARY(fmod, NN_SET_NUMBER)
BINARY(pow, NN_SET_NUMBER)
BINARY(min, NN_SET_NUMBER)
BINARY(max, NN_SET_NUMBER)
BINARY(and, NN_SET_BOOL)
BINARY(or, NN_SET_BOOL)
BINARY(xor, NN_SET_BOOL)
BINARY(bitand, NN_SET_INT)
BINARY(bitor, NN_SET_INT)
BINARY(bitxor, NN_SET_INT)
BINARY(shl, NN_SET_INT)
BINARY(shr, NN_SET_INT)

COMPARE(eq, NN_SET_NUMBER | NN_SET_BOOL)
COMPARE(ne, NN_SET_NUMBER | NN_SET_BOOL)
COMPARE(lt, NN_SET_NUMBER)
COMPARE(le, NN_SET_NUMBER)

nn_status shape_is_nan(nn_op *op) { return shape_float_test(op); }

nn_status shape_is_inf(nn_op *op) {
  NN_TRY(nn_need_range(op, "positive", 0, 1));
  NN_TRY(nn_need_range(op, "negative", 0, 1));
  return shape_float_test(op);
}

/* Complex numbers and strings are only moved, never converted. */
nn_status shape_cast(nn_op *op) {
  NN_TRY(nn_need_range(op, "to", 0, NN_DTYPE_COUNT - 1));
  NN_TRY(nn_need_range(op, "saturate", 0, 1));
  nn_dtype from = op->in[0]->type.dtype, to = (nn_dtype)nn_attr_int(op, "to");
  unsigned convertible = NN_SET_NUMBER | NN_SET_BOOL;
  bool is_convertible = (convertible >> nn_dtype_kind_of(from) & 1) && (convertible >> nn_dtype_kind_of(to) & 1);
  if (from != to && !is_convertible) {
    return nn_fail(op, "no conversion from %s to %s, expected number or bool types", nn_dtype_name(from),
                   nn_dtype_name(to));
  }
  return give_common_shape(op, to);
}

nn_status shape_bitcast(nn_op *op) {
  NN_TRY(nn_need_range(op, "to", 0, NN_DTYPE_COUNT - 1));
  NN_TRY(nn_need_kind(op, 0, NN_SET_ANY & ~(1u << NN_KIND_STRING)));
  nn_dtype from = op->in[0]->type.dtype, to = (nn_dtype)nn_attr_int(op, "to");
  if (nn_dtype_bits(from) != nn_dtype_bits(to) || nn_dtype_kind_of(to) == NN_KIND_STRING) {
    return nn_fail(op, "bits of %s (%d) read as %s (%d), expected types of one width", nn_dtype_name(from),
                   nn_dtype_bits(from), nn_dtype_name(to), nn_dtype_bits(to));
  }
  return give_common_shape(op, to);
}

nn_status shape_select(nn_op *op) {
  NN_TRY(nn_need_dtype(op, 0, NN_BOOL));
  NN_TRY(nn_need_same_dtype(op, 1, 2));
  return give_common_shape(op, op->in[1]->type.dtype);
}
