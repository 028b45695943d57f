/* ONNX DFT and STFT: products with matrices of cosines and sines, which are constants where the length is known. */
#include "frontend/onnx.h"

static const double TWO_PI = 6.283185307179586;

typedef struct transform {
  nn_dim length;   /* of the period */
  nn_dim from, to; /* how many numbers go in and come out: half of the spectrum when onesided */
  bool inverse, onesided;
} transform;

static nn_value *input(onnx_node *n, int i) { return i < n->nin ? n->in[i] : NULL; }
static nn_value *binary(onnx_node *n, nn_opcode code, nn_value *x, nn_value *y) {
  return nn_b_binary(n->b, code, x, y);
}
static nn_dim number(onnx_node *n, int64_t value) { return nn_dim_const(n->m, value); }
static nn_value *scalar_of(onnx_node *n, nn_dim d) { return onnx_as_scalar(n, nn_b_dims(n->b, &d, 1)); }

/* ---- the matrix -------------------------------------------------------------------------------------------- */

/* 2 pi j k / length, reduced before it is rounded, as f64[from, to]. */
static nn_value *angles(onnx_node *n, const transform *f) {
  nn_dim rows[2] = {f->from, number(n, 1)}, columns[2] = {number(n, 1), f->to};
  nn_value *jk = binary(n, NN_OP_MUL, nn_b_iota(n->b, NN_I64, 2, rows, 0), nn_b_iota(n->b, NN_I64, 2, columns, 1));
  nn_value *length = scalar_of(n, f->length), *turn = nn_b_cast(n->b, binary(n, NN_OP_MOD, jk, length), NN_F64);
  return nn_b_scalar_op(n->b, NN_OP_MUL, binary(n, NN_OP_DIV, turn, nn_b_cast(n->b, length, NN_F64)), TWO_PI);
}

/* The inverse has 1 / length; that of half a spectrum counts each row twice but those that are their own mirror. */
static nn_value *row_factors(onnx_node *n, const transform *f) {
  nn_value *one = nn_b_scalar(n->b, NN_F64, 1), *length = scalar_of(n, f->length);
  nn_value *factor = binary(n, NN_OP_DIV, one, nn_b_cast(n->b, length, NN_F64));
  if (!f->onesided) return factor;
  nn_value *k = nn_b_iota(n->b, NN_I64, 2, (nn_dim[]){f->from, number(n, 1)}, 0);
  nn_value *is_first = binary(n, NN_OP_EQ, k, nn_b_scalar(n->b, NN_I64, 0));
  nn_value *is_middle = binary(n, NN_OP_EQ, nn_b_scalar_op(n->b, NN_OP_MUL, k, 2), length);
  nn_value *once = binary(n, NN_OP_OR, is_first, is_middle);
  return binary(n, NN_OP_MUL, factor, nn_b_select(n->b, once, one, nn_b_scalar(n->b, NN_F64, 2)));
}

static nn_value *matrix(onnx_node *n, const transform *f, nn_opcode code, nn_dtype t) {
  nn_value *m = nn_b_unary(n->b, code, angles(n, f));
  return nn_b_cast(n->b, f->inverse ? binary(n, NN_OP_MUL, m, row_factors(n, f)) : m, t);
}

/* ---- the product ------------------------------------------------------------------------------------------- */

/* Part 0 (real) or 1 of x[.., from, 1 or 2], as [.., from]; NULL where x is real and the imaginary part is asked for.
 */
static nn_value *part(onnx_node *n, nn_value *x, int which) {
  int last = x->type.rank - 1;
  if (which && nn_dim_is(x->type.dims[last], 1)) return NULL;
  nn_value *v = nn_b_slice(n->b, x, last, number(n, which), number(n, 1), number(n, 1));
  return v ? nn_b_reshape(n->b, v, last, v->type.dims) : NULL;
}

/* x[.., from, 1 or 2] -> [.., to, 2], or of one number where half a spectrum is turned back. */
static nn_value *apply(onnx_node *n, const transform *f, nn_value *x) {
  nn_value *re = part(n, x, 0), *im = part(n, x, 1);
  nn_value *c = matrix(n, f, NN_OP_COS, x->type.dtype), *s = matrix(n, f, NN_OP_SIN, x->type.dtype);
  nn_value *real = nn_b_matmul(n->b, re, c);
  if (im) real = binary(n, f->inverse ? NN_OP_SUB : NN_OP_ADD, real, nn_b_matmul(n->b, im, s));
  if (!real) return NULL;
  int rank = real->type.rank;
  if (f->inverse && f->onesided) return nn_b_unsqueeze(n->b, real, rank);
  nn_value *imaginary = nn_b_matmul(n->b, re, s);
  if (!f->inverse) imaginary = nn_b_unary(n->b, NN_OP_NEG, imaginary);
  if (im) imaginary = binary(n, NN_OP_ADD, imaginary, nn_b_matmul(n->b, im, c));
  if (!imaginary) return NULL;
  return nn_b_concat(n->b, (nn_value *[]){nn_b_unsqueeze(n->b, real, rank), nn_b_unsqueeze(n->b, imaginary, rank)}, 2,
                     rank);
}

/* Cut, or filled up with zeros. */
static nn_value *resize(onnx_node *n, nn_value *x, int axis, nn_dim size) {
  if (!x || x->type.dims[axis] == size) return x;
  nn_dim pads[NN_MAX_RANK];
  nn_op *op = nn_b_begin(n->b, NN_OP_PAD, (nn_value *[]){x, nn_b_scalar(n->b, x->type.dtype, 0)}, 2, -1);
  if (!op) return NULL;
  for (int i = 0; i < x->type.rank; i++) pads[i] = number(n, 0);
  nn_set_dims(op, "before", pads, x->type.rank);
  pads[axis] = nn_dim_sub(n->m, size, x->type.dims[axis]);
  nn_set_dims(op, "after", pads, x->type.rank);
  return nn_b_end(n->b, op);
}

static nn_dim half_spectrum(onnx_node *n, nn_dim length) {
  return nn_dim_add(n->m, nn_dim_floordiv(n->m, length, number(n, 2)), number(n, 1));
}

/* Input i, one number that is a size. */
static nn_status read_size(onnx_node *n, int i, nn_dim *size) {
  const nn_dim *dims;
  int count;
  NN_TRY(onnx_dims(n, i, 1, false, &dims, &count));
  if (count != 1) return onnx_fail(n, "input %d has %d elements, expected 1", i, count);
  *size = dims[0];
  return NN_OK;
}

static nn_status need_complex(onnx_node *n, bool may_be_complex) {
  nn_dim last = n->in[0]->type.dims[n->in[0]->type.rank - 1];
  if (nn_dim_is(last, 1) || (may_be_complex && nn_dim_is(last, 2))) return NN_OK;
  return onnx_fail(n, "the last dimension of input 0 is %s, expected 1%s", nn_dim_text(n->m->arena, last),
                   may_be_complex ? " (real) or 2 (complex)" : ": only real numbers have half a spectrum");
}

/* ---- DFT --------------------------------------------------------------------------------------------------- */

/* Attribute axis (1) below opset 20, then input 2 (-2). */
static nn_status read_axis(onnx_node *n, int rank, int *axis) {
  int64_t value = onnx_int(n, "axis", 1);
  if (n->since >= 20) {
    const int64_t *values;
    int count;
    value = -2;
    if (input(n, 2)) {
      NN_TRY(onnx_const_ints(n, 2, &values, &count));
      if (count != 1) return onnx_fail(n, "axis has %d elements, expected 1", count);
      value = values[0];
    }
  }
  NN_TRY(onnx_axis(n, value, rank, axis));
  return *axis < rank - 1 ? NN_OK : onnx_fail(n, "axis is the last dimension, which holds real and imaginary parts");
}

static nn_status read_transform(onnx_node *n, nn_dim found, transform *f) {
  f->inverse = onnx_int(n, "inverse", 0) != 0;
  f->onesided = onnx_int(n, "onesided", 0) != 0;
  NN_TRY(need_complex(n, !f->onesided || f->inverse));
  bool is_half = f->inverse && f->onesided;
  f->length = is_half ? nn_dim_mul(n->m, nn_dim_sub(n->m, found, number(n, 1)), number(n, 2)) : found;
  if (input(n, 1)) NN_TRY(read_size(n, 1, &f->length));
  f->from = is_half ? half_spectrum(n, f->length) : f->length;
  f->to = f->onesided && !f->inverse ? half_spectrum(n, f->length) : f->length;
  return NN_OK;
}

nn_status onnx_DFT(onnx_node *n) {
  transform f = {0};
  int axis = 0;
  NN_TRY(onnx_need(n, 1, n->since >= 20 ? 3 : 2, 1));
  NN_TRY(onnx_need_float(n, 0));
  NN_TRY(onnx_need_rank(n, 0, 2, -1));
  int rank = n->in[0]->type.rank;
  NN_TRY(read_axis(n, rank, &axis));
  NN_TRY(read_transform(n, n->in[0]->type.dims[axis], &f));
  int64_t perm[NN_MAX_RANK];
  for (int i = 0; i < rank; i++) perm[i] = i;
  perm[axis] = rank - 2; /* its own inverse */
  perm[rank - 2] = axis;
  nn_value *x = resize(n, onnx_wide(n, n->in[0]), axis, f.from);
  x = x ? nn_b_transpose(n->b, x, perm) : NULL;
  nn_value *y = x ? apply(n, &f, x) : NULL;
  ONNX_GIVE(n, nn_b_cast(n->b, y ? nn_b_transpose(n->b, y, perm) : NULL, n->in[0]->type.dtype));
}

/* ---- STFT -------------------------------------------------------------------------------------------------- */

/* Windows of the signal [B, L, c], one every `step`: [B, frames, size, c]. */
static nn_value *cut_frames(onnx_node *n, nn_dim step, nn_dim size) {
  nn_dim length = n->in[0]->type.dims[1], one = number(n, 1);
  nn_dim frames = nn_dim_add(n->m, nn_dim_floordiv(n->m, nn_dim_sub(n->m, length, size), step), one);
  nn_value *start = binary(n, NN_OP_MUL, nn_b_iota(n->b, NN_I64, 2, (nn_dim[]){frames, one}, 0), scalar_of(n, step));
  nn_value *index = binary(n, NN_OP_ADD, start, nn_b_iota(n->b, NN_I64, 2, (nn_dim[]){one, size}, 1));
  nn_op *op = nn_b_begin(n->b, NN_OP_GATHER, (nn_value *[]){onnx_wide(n, n->in[0]), index}, 2, -1);
  if (!op) return NULL;
  nn_set_int(op, "axis", 1);
  return nn_b_end(n->b, op);
}

nn_status onnx_STFT(onnx_node *n) {
  nn_dim step = NULL, size = NULL;
  NN_TRY(onnx_need(n, 2, 4, 1));
  NN_TRY(onnx_need_float(n, 0));
  NN_TRY(onnx_need_rank(n, 0, 3, 3));
  NN_TRY(read_size(n, 1, &step));
  if (input(n, 2)) NN_TRY(onnx_need_float(n, 2));
  if (input(n, 2)) NN_TRY(onnx_need_rank(n, 2, 1, 1));
  if (input(n, 2)) size = n->in[2]->type.dims[0];
  if (input(n, 3)) NN_TRY(read_size(n, 3, &size));
  if (!size) return onnx_fail(n, "both window and frame_length are missing");
  if (input(n, 2)) NN_TRY(onnx_need_size(n, 2, size));
  NN_TRY(nn_b_check(n->b, "le", size, n->in[0]->type.dims[1], "a frame against the signal"));
  transform f = {.length = size, .from = size, .to = size, .onesided = onnx_int(n, "onesided", 1) != 0};
  NN_TRY(need_complex(n, !f.onesided));
  if (f.onesided) f.to = half_spectrum(n, size);
  nn_value *frames = cut_frames(n, step, size);
  if (frames && input(n, 2))
    frames = binary(n, NN_OP_MUL, frames, nn_b_unsqueeze(n->b, nn_b_cast(n->b, n->in[2], frames->type.dtype), 1));
  ONNX_GIVE(n, nn_b_cast(n->b, frames ? apply(n, &f, frames) : NULL, n->in[0]->type.dtype));
}
