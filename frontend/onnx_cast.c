/* ONNX Cast, CastLike, BitCast. */
#include "frontend/onnx.h"

#include <string.h>

/* Opset 1 spelled the type as a string, like "FLOAT". */
static bool dtype_from_onnx_name(const char *name, nn_dtype *out) {
  static const struct {
    const char *name;
    nn_dtype dtype;
  } names[] = {{"FLOAT", NN_F32},     {"FLOAT16", NN_F16},   {"DOUBLE", NN_F64},     {"INT8", NN_I8},
               {"INT16", NN_I16},     {"INT32", NN_I32},     {"INT64", NN_I64},      {"UINT8", NN_U8},
               {"UINT16", NN_U16},    {"UINT32", NN_U32},    {"UINT64", NN_U64},     {"BOOL", NN_BOOL},
               {"STRING", NN_STRING}, {"COMPLEX64", NN_C64}, {"COMPLEX128", NN_C128}};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    if (strcmp(names[i].name, name)) continue;
    *out = names[i].dtype;
    return true;
  }
  return false;
}

static nn_status read_target(onnx_node *n, nn_dtype *to) {
  if (!onnx_has(n, "to")) return onnx_fail(n, "attribute to is missing");
  if (n->since < 6) {
    const char *name = onnx_str(n, "to", "");
    return dtype_from_onnx_name(name, to)
               ? NN_OK
               : onnx_fail(n, "attribute to is '%s', expected the name of an element type", name);
  }
  int64_t number = onnx_int(n, "to", 0);
  if (number < 0 || number > 1000 || !nn_dtype_from_onnx((int)number, to))
    return onnx_fail(n, "attribute to is %lld, expected the number of an element type", (long long)number);
  return NN_OK;
}

static nn_value *bits_op(onnx_node *n, nn_opcode code, nn_value *x, double y) {
  return nn_b_scalar_op(n->b, code, x, y);
}

static nn_value *bitcast(onnx_node *n, nn_value *x, nn_dtype to) {
  nn_op *op = nn_b_begin(n->b, NN_OP_BITCAST, &x, 1, -1);
  if (!op) return NULL;
  nn_set_int(op, "to", to);
  return nn_b_end(n->b, op);
}

/* f8e8m0 is the exponent field of f32. round_mode says when a fraction raises it: "up" for any, "nearest"
   from a half on (from above a half for f32 subnormals), "down" never. Infinity and NaN are 255. */
static nn_value *cast_to_exponent(onnx_node *n, nn_value *x, const char *mode, bool saturate) {
  nn_builder *b = n->b;
  nn_value *bits = bitcast(n, nn_b_cast(b, x, NN_F32), NN_I32);
  nn_value *exponent = bits_op(n, NN_OP_BITAND, bits_op(n, NN_OP_SHR, bits, 23), 255);
  nn_value *fraction = bits_op(n, NN_OP_BITAND, bits, 0x7fffff);
  nn_value *last = nn_b_scalar(b, NN_I32, saturate ? 254 : 255);
  nn_value *limit = nn_b_scalar(b, NN_I32, 0);
  if (!strcmp(mode, "nearest"))
    limit = nn_b_select(b, bits_op(n, NN_OP_EQ, exponent, 0), nn_b_scalar(b, NN_I32, 0x400000),
                        nn_b_scalar(b, NN_I32, 0x3fffff));
  if (strcmp(mode, "down")) {
    nn_value *raise =
        nn_b_binary(b, NN_OP_AND, nn_b_binary(b, NN_OP_LT, limit, fraction), nn_b_binary(b, NN_OP_LT, exponent, last));
    exponent = nn_b_binary(b, NN_OP_ADD, exponent, nn_b_cast(b, raise, NN_I32));
  }
  return bitcast(n, nn_b_cast(b, exponent, NN_U8), NN_F8E8M0);
}

nn_value *onnx_cast_saturate(onnx_node *n, nn_value *x, nn_dtype to, bool saturate) {
  if (!x || x->type.dtype == to) return x;
  nn_op *op = nn_b_begin(n->b, NN_OP_CAST, &x, 1, -1);
  if (!op) return NULL;
  nn_set_int(op, "to", to);
  nn_set_int(op, "saturate", saturate);
  return nn_b_end(n->b, op);
}

/* What float types do with numbers that the target lacks: integers of less than 32 bits (and u32) take the
   low bits of a wider one, as numpy and ONNX Runtime do, and f4e2m1, which has no NaN, gets -0. */
static nn_value *prepare_float(onnx_node *n, nn_value *x, nn_dtype to) {
  if (!x || !nn_dtype_is_float(x->type.dtype)) return x;
  if (to == NN_F4E2M1) {
    nn_value *is_nan = nn_b_unary(n->b, NN_OP_IS_NAN, x);
    return nn_b_select(n->b, is_nan, nn_b_scalar(n->b, x->type.dtype, -0.0), x);
  }
  if (nn_dtype_is_int(to) && nn_dtype_bits(to) < 32) return nn_b_cast(n->b, x, NN_I32);
  return to == NN_U32 ? nn_b_cast(n->b, x, NN_I64) : x;
}

static nn_status give_cast(onnx_node *n, nn_dtype to) {
  nn_value *x = n->in[0];
  if (x->type.dtype != to && (x->type.dtype == NN_STRING || to == NN_STRING))
    return onnx_unsupported(n, "cast from %s to %s: nncc does not convert strings", nn_dtype_name(x->type.dtype),
                            nn_dtype_name(to));
  const char *mode = onnx_str(n, "round_mode", "up");
  if (strcmp(mode, "up") && strcmp(mode, "down") && strcmp(mode, "nearest"))
    return onnx_fail(n, "attribute round_mode is '%s', expected up, down or nearest", mode);
  bool saturate = onnx_int(n, "saturate", 1) != 0;
  if (to == NN_F8E8M0 && x->type.dtype != to) return onnx_give(n, 0, cast_to_exponent(n, x, mode, saturate));
  /* the model says itself that the constant is to be rounded */
  return onnx_give(n, 0, nn_b_settle(n->b, onnx_cast_saturate(n, prepare_float(n, x, to), to, saturate)));
}

nn_status onnx_Cast(onnx_node *n) {
  NN_TRY(onnx_need(n, 1, 1, 1));
  nn_dtype to;
  NN_TRY(read_target(n, &to));
  return give_cast(n, to);
}

nn_status onnx_CastLike(onnx_node *n) {
  NN_TRY(onnx_need(n, 2, 2, 1));
  return give_cast(n, n->in[1]->type.dtype);
}

nn_status onnx_BitCast(onnx_node *n) {
  NN_TRY(onnx_need(n, 1, 1, 1));
  nn_dtype to, from = n->in[0]->type.dtype;
  NN_TRY(read_target(n, &to));
  if (to == NN_STRING || from == NN_STRING || nn_dtype_bits(to) != nn_dtype_bits(from))
    return onnx_fail(n, "bit cast from %s to %s, expected types of equal width", nn_dtype_name(from),
                     nn_dtype_name(to));
  if (to == from) return onnx_give(n, 0, n->in[0]);
  ONNX_GIVE(n, bitcast(n, n->in[0], to));
}
