/* ONNX Resize: nearest, linear and cubic interpolation over any number of dimensions. Formulas and their
   order are those of the ONNX specification and its reference implementation; coordinates are f32.

   Each resized dimension gives a list of taps (index into the operand, weight); the value is the sum over
   the outermost dimension's taps of the same thing for the dimensions within. With antialiasing the number
   of taps depends on the scale: they are loops over accumulators. */
#include "codegen/codegen.h"

#include <assert.h>
#include <string.h>

enum { MAX_TAPS = 4 };

typedef struct axis {
  int dim;
  nn_x *scale; /* f32 */
  nn_x *size;  /* of the operand, i64 */
  nn_x *at;    /* coordinate in the operand, f32 */
  int ntaps;
  nn_x *index[MAX_TAPS];
  nn_x *weight[MAX_TAPS]; /* f32 */
} axis;

typedef struct resize {
  nn_op *op;
  axis axes[NN_MAX_RANK];
  int naxes;
  nn_x *inner[NN_MAX_RANK];
  nn_x *outside; /* tf_crop_and_resize: the coordinate is not in the operand; or NULL */
  nn_dtype acc;
} resize;

/* ---- arithmetic in f32 --------------------------------------------------------------------------- */

static nn_x *number(nn_lower *L, double value) { return nn_x_const(L->kernel, NN_F32, value); }
static nn_x *add(nn_lower *L, nn_x *a, nn_x *b) { return nn_x_binary(L->kernel, NN_X_ADD, a, b); }
static nn_x *sub(nn_lower *L, nn_x *a, nn_x *b) { return nn_x_binary(L->kernel, NN_X_SUB, a, b); }
static nn_x *mul(nn_lower *L, nn_x *a, nn_x *b) { return nn_x_binary(L->kernel, NN_X_MUL, a, b); }
static nn_x *quotient(nn_lower *L, nn_x *a, nn_x *b) { return nn_x_binary(L->kernel, NN_X_DIV, a, b); }
/* Through i32 where the index fits: see to_position. */
static nn_x *to_f32(nn_lower *L, nn_x *i) {
  int64_t min = 0, max = 0;
  nn_x_range(i, &min, &max);
  if (min >= INT32_MIN && max <= INT32_MAX) i = nn_x_cast(L->kernel, i, NN_I32);
  return nn_x_cast(L->kernel, i, NN_F32);
}

/* Positions are i32 until they are clamped: targets without 64-bit vector conversions compute them in lanes. */
static nn_x *to_position(nn_lower *L, nn_x *x) { return nn_x_cast(L->kernel, x, NN_I32); }

static nn_x *move_position(nn_lower *L, nn_x *position, int64_t by) {
  return add(L, position, nn_x_iconst(L->kernel, NN_I32, by));
}

/* A position as it is if it is in the operand, else the nearest one that is. */
static nn_x *clamp_position(nn_lower *L, nn_x *position, nn_x *size) {
  nn_kernel *k = L->kernel;
  nn_x *last = move_position(L, nn_x_cast(k, size, NN_I32), -1);
  nn_x *inner = nn_x_binary(k, NN_X_MIN, position, last);
  return nn_bind(L, nn_x_binary(k, NN_X_MAX, inner, nn_x_iconst(k, NN_I32, 0)));
}

static nn_x *to_index(nn_lower *L, nn_x *position) { return nn_bind(L, nn_x_cast(L->kernel, position, NN_I64)); }

/* ---- scales and coordinates ---------------------------------------------------------------------- */

static nn_x *scale_of(nn_lower *L, nn_op *op, int dim) {
  int count = 0;
  const double *scales = nn_attr_floats(op, "scales", &count);
  if (op->nin > 1 && op->in[1]) {
    nn_x *at = nn_x_int(L->kernel, dim);
    return nn_read(L, op->in[1], &at);
  }
  if (count > dim) return number(L, scales[dim]);
  nn_x *to = to_f32(L, nn_dim_x(L, op->out[0]->type.dims[dim]));
  return quotient(L, to, to_f32(L, nn_dim_x(L, op->in[0]->type.dims[dim])));
}

/* Start (end: which = 1) of the region of interest along dim. */
static nn_x *roi_of(nn_lower *L, nn_op *op, int dim, int which) {
  int count = 0, rank = op->out[0]->type.rank;
  const double *roi = nn_attr_floats(op, "roi", &count);
  if (op->nin > 2 && op->in[2]) {
    nn_x *at = nn_x_int(L->kernel, which * rank + dim);
    return nn_x_cast(L->kernel, nn_read(L, op->in[2], &at), NN_F32);
  }
  return number(L, count == 2 * rank ? roi[which * rank + dim] : which);
}

/* (x + 0.5) / scale - 0.5 */
static nn_x *half_pixel(nn_lower *L, const axis *a, nn_x *x) {
  return sub(L, quotient(L, add(L, x, number(L, 0.5)), a->scale), number(L, 0.5));
}

static nn_x *is_single(nn_lower *L, nn_x *length) { return nn_x_binary(L->kernel, NN_X_EQ, length, number(L, 1)); }

static nn_x *align_corners(nn_lower *L, const axis *a, nn_x *x, nn_x *length) {
  nn_x *last = sub(L, to_f32(L, a->size), number(L, 1));
  nn_x *moved = quotient(L, mul(L, x, last), sub(L, length, number(L, 1)));
  return nn_x_select(L->kernel, is_single(L, length), number(L, 0), moved);
}

static nn_x *symmetric(nn_lower *L, const axis *a, nn_x *x, nn_x *length, nn_x *whole_length) {
  nn_x *adjustment = quotient(L, whole_length, length);
  nn_x *center = mul(L, to_f32(L, a->size), number(L, 0.5));
  return add(L, mul(L, center, sub(L, number(L, 1), adjustment)), half_pixel(L, a, x));
}

static nn_x *crop_and_resize(nn_lower *L, nn_op *op, const axis *a, nn_x *x, nn_x *length) {
  nn_x *start = roi_of(L, op, a->dim, 0), *end = roi_of(L, op, a->dim, 1);
  nn_x *last = sub(L, to_f32(L, a->size), number(L, 1)), *extent = mul(L, sub(L, end, start), last);
  nn_x *moved = quotient(L, mul(L, x, extent), sub(L, length, number(L, 1)));
  nn_x *from_start = nn_x_select(L->kernel, is_single(L, length), mul(L, extent, number(L, 0.5)), moved);
  return add(L, mul(L, start, last), from_start);
}

static nn_x *coordinate(nn_lower *L, nn_op *op, const axis *a, nn_x *index) {
  const char *mode = nn_attr_str(op, "coords");
  nn_x *x = to_f32(L, index), *length = mul(L, a->scale, to_f32(L, a->size));
  nn_x *whole_length = to_f32(L, nn_dim_x(L, op->out[0]->type.dims[a->dim]));
  if (strcmp(mode, "align_corners") == 0) return align_corners(L, a, x, length);
  if (strcmp(mode, "asymmetric") == 0) return quotient(L, x, a->scale);
  if (strcmp(mode, "half_pixel_symmetric") == 0) return symmetric(L, a, x, length, whole_length);
  if (strcmp(mode, "pytorch_half_pixel") == 0)
    return nn_x_select(L->kernel, is_single(L, whole_length), number(L, 0), half_pixel(L, a, x));
  if (strcmp(mode, "tf_half_pixel_for_nn") == 0) return quotient(L, add(L, x, number(L, 0.5)), a->scale);
  if (strcmp(mode, "tf_crop_and_resize") == 0) return crop_and_resize(L, op, a, x, length);
  return half_pixel(L, a, x);
}

/* ---- taps ---------------------------------------------------------------------------------------- */

static nn_x *floor_of(nn_lower *L, nn_x *x) { return nn_x_unary(L->kernel, NN_X_FLOOR, x); }
static nn_x *ceil_of(nn_lower *L, nn_x *x) { return nn_x_unary(L->kernel, NN_X_CEIL, x); }

static nn_x *nearest(nn_lower *L, const char *mode, nn_x *at) {
  if (strcmp(mode, "floor") == 0) return floor_of(L, at);
  if (strcmp(mode, "ceil") == 0) return ceil_of(L, at);
  if (strcmp(mode, "round_prefer_ceil") == 0) return floor_of(L, add(L, at, number(L, 0.5)));
  return ceil_of(L, sub(L, at, number(L, 0.5)));
}

/* Enlarging by a whole number, each operand element becomes a block: index / scale, without floats. */
static bool is_block_copy(const nn_op *op, const nn_x *scale) {
  if (scale->op != NN_X_CONST || scale->f < 1 || scale->f != (double)(int64_t)scale->f) return false;
  const char *coords = nn_attr_str((nn_op *)(uintptr_t)op, "coords"),
             *mode = nn_attr_str((nn_op *)(uintptr_t)op, "nearest");
  if (strcmp(coords, "asymmetric") == 0) return strcmp(mode, "floor") == 0;
  return strcmp(coords, "half_pixel") == 0 && strncmp(mode, "round", 5) == 0;
}

static void nearest_tap(nn_lower *L, nn_op *op, axis *a, nn_x *index) {
  a->ntaps = 1;
  if (is_block_copy(op, a->scale)) {
    nn_x *block = nn_xi_floordiv(L->kernel, index, nn_x_int(L->kernel, (int64_t)a->scale->f));
    a->index[0] = nn_xi_min(L->kernel, block, nn_xi_addc(L->kernel, a->size, -1));
    return;
  }
  nn_x *position = to_position(L, nearest(L, nn_attr_str(op, "nearest"), a->at));
  a->index[0] = to_index(L, clamp_position(L, position, a->size));
}

/* ((p*t + q)*t + r)*t + s */
static nn_x *cubic(nn_lower *L, nn_x *t, double p, double q, double r, double s) {
  nn_x *x = add(L, mul(L, number(L, p), t), number(L, q));
  x = add(L, mul(L, x, t), number(L, r));
  return add(L, mul(L, x, t), number(L, s));
}

static nn_x *cubic_near(nn_lower *L, nn_x *t, double c) { return cubic(L, t, c + 2, -(c + 3), 0, 1); }   /* t in 0..1 */
static nn_x *cubic_far(nn_lower *L, nn_x *t, double c) { return cubic(L, t, c, -5 * c, 8 * c, -4 * c); } /* t in 1..2 */

static void set_weights(nn_lower *L, nn_op *op, axis *a, nn_x *ratio) {
  double c = nn_attr_float(op, "cubic_a");
  nn_x *one = number(L, 1), *rest = nn_bind(L, sub(L, one, ratio));
  if (a->ntaps == 2) {
    a->weight[0] = rest;
    a->weight[1] = ratio;
    return;
  }
  a->weight[0] = cubic_far(L, nn_bind(L, add(L, ratio, one)), c);
  a->weight[1] = cubic_near(L, ratio, c);
  a->weight[2] = cubic_near(L, rest, c);
  a->weight[3] = cubic_far(L, nn_bind(L, add(L, rest, one)), c);
}

/* Taps outside of the operand count for nothing, and the others for as much more. */
static void exclude_outside(nn_lower *L, axis *a, nn_x *const *inside) {
  nn_x *sum = NULL;
  for (int t = 0; t < a->ntaps; t++) {
    a->weight[t] = nn_bind(L, nn_x_select(L->kernel, inside[t], a->weight[t], number(L, 0)));
    sum = sum ? add(L, sum, a->weight[t]) : a->weight[t];
  }
  for (int t = 0; t < a->ntaps; t++) a->weight[t] = quotient(L, a->weight[t], sum);
}

static void interpolation_taps(nn_lower *L, nn_op *op, axis *a, int ntaps) {
  nn_x *base = nn_bind(L, floor_of(L, a->at)), *ratio = nn_bind(L, sub(L, a->at, base));
  nn_x *first = nn_bind(L, move_position(L, to_position(L, base), 1 - ntaps / 2));
  nn_x *inside[MAX_TAPS];
  a->ntaps = ntaps;
  for (int t = 0; t < ntaps; t++) {
    nn_x *position = move_position(L, first, t), *clamped = clamp_position(L, position, a->size);
    inside[t] = nn_x_binary(L->kernel, NN_X_EQ, position, clamped);
    a->index[t] = to_index(L, clamped);
  }
  set_weights(L, op, a, ratio);
  if (nn_attr_int(op, "exclude_outside")) exclude_outside(L, a, inside);
  for (int t = 0; t < ntaps; t++) a->weight[t] = nn_bind(L, a->weight[t]);
}

/* ---- sums over taps ------------------------------------------------------------------------------ */

static nn_x *read_point(nn_lower *L, const resize *r) {
  return nn_x_cast(L->kernel, nn_read(L, r->op->in[0], r->inner), r->acc);
}

static nn_x *sum_taps(nn_lower *L, resize *r, int i) {
  if (i == r->naxes) return read_point(L, r);
  const axis *a = &r->axes[i];
  nn_x *sum = NULL;
  for (int t = 0; t < a->ntaps; t++) {
    r->inner[a->dim] = a->index[t];
    nn_x *x = sum_taps(L, r, i + 1);
    if (a->ntaps > 1) x = nn_x_binary(L->kernel, NN_X_MUL, x, nn_x_cast(L->kernel, a->weight[t], r->acc));
    sum = sum ? nn_bind(L, nn_x_binary(L->kernel, NN_X_ADD, sum, x)) : x;
  }
  return sum;
}

/* ---- antialiasing -------------------------------------------------------------------------------- */

typedef struct smooth {
  nn_buf *sums; /* per lane: weighted values, weights */
  nn_x *value_at, *weight_at;
  nn_x *weight; /* product over the open dimensions */
} smooth;

static nn_x *filter_weight(nn_lower *L, nn_op *op, nn_x *distance) {
  nn_kernel *k = L->kernel;
  nn_x *d = nn_bind(L, nn_x_unary(k, NN_X_ABS, distance)), *zero = number(L, 0);
  if (nn_attr_str(op, "mode")[0] == 'l') return nn_x_binary(k, NN_X_MAX, sub(L, number(L, 1), d), zero);
  double c = nn_attr_float(op, "cubic_a");
  nn_x *outer = nn_x_select(k, nn_x_binary(k, NN_X_LT, d, number(L, 2)), cubic_far(L, d, c), zero);
  return nn_x_select(k, nn_x_binary(k, NN_X_LE, d, number(L, 1)), cubic_near(L, d, c), outer);
}

static void add_point(nn_lower *L, const resize *r, const smooth *s) {
  nn_kernel *k = L->kernel;
  nn_x *x = nn_x_binary(k, NN_X_MUL, read_point(L, r), s->weight);
  nn_store(k, s->sums, s->value_at, nn_x_binary(k, NN_X_ADD, nn_x_load(k, s->sums, s->value_at, NULL), x), NULL);
  nn_store(k, s->sums, s->weight_at, nn_x_binary(k, NN_X_ADD, nn_x_load(k, s->sums, s->weight_at, NULL), s->weight),
           NULL);
}

/* The filter is stretched by 1 / scale where that shrinks: it reaches `support` of those to both sides. */
static void add_taps(nn_lower *L, resize *r, smooth *s, int i) {
  if (i == r->naxes) {
    add_point(L, r, s);
    return;
  }
  nn_kernel *k = L->kernel;
  axis *a = &r->axes[i];
  nn_x *outer = s->weight;
  double support = nn_attr_str(r->op, "mode")[0] == 'l' ? 1 : 2;
  nn_x *scale = nn_bind(L, nn_x_binary(k, NN_X_MIN, a->scale, number(L, 1)));
  nn_x *stretch = floor_of(L, quotient(L, number(L, -support), scale));
  nn_x *start = nn_xi_addc(k, nn_x_cast(k, stretch, NN_I64), 1);
  nn_x *base = nn_bind(L, sub(L, ceil_of(L, a->at), number(L, 1))), *ratio = nn_bind(L, sub(L, a->at, base));
  nn_x *tap = nn_loop_begin(k, NN_FOR, "tap", start, nn_xi_sub(k, nn_x_int(k, 2), start));
  nn_x *position = nn_bind(L, add(L, to_position(L, base), nn_x_cast(k, tap, NN_I32)));
  nn_x *clamped = clamp_position(L, position, a->size);
  nn_x *weight = filter_weight(L, r->op, mul(L, sub(L, to_f32(L, tap), ratio), scale));
  r->inner[a->dim] = to_index(L, clamped);
  if (nn_attr_int(r->op, "exclude_outside"))
    weight = nn_x_select(k, nn_x_binary(k, NN_X_EQ, position, clamped), weight, number(L, 0));
  weight = nn_x_cast(k, weight, r->acc);
  s->weight = nn_bind(L, outer ? nn_x_binary(k, NN_X_MUL, outer, weight) : weight);
  add_taps(L, r, s, i + 1);
  s->weight = outer;
  nn_end(k);
}

static nn_x *smooth_value(nn_lower *L, resize *r) {
  nn_kernel *k = L->kernel;
  nn_var *lane = nn_current_vector_var(k);
  int64_t lanes = lane ? lane->max + 1 : 1;
  smooth s = {.value_at = lane ? nn_varinfo_of(lane)->node : nn_x_int(k, 0)};
  s.weight_at = nn_xi_addc(k, s.value_at, lanes);
  s.sums = nn_regs(L, r->acc, 2 * lanes);
  nn_store(k, s.sums, s.value_at, nn_number(L, r->acc, 0), NULL);
  nn_store(k, s.sums, s.weight_at, nn_number(L, r->acc, 0), NULL);
  add_taps(L, r, &s, 0);
  nn_x *sum = nn_x_load(k, s.sums, s.value_at, NULL), *weight = nn_x_load(k, s.sums, s.weight_at, NULL);
  return nn_let(k, nn_x_binary(k, NN_X_DIV, sum, weight));
}

/* ---- the op -------------------------------------------------------------------------------------- */

static bool is_kept(nn_op *op, const nn_x *scale, int dim) {
  if (strcmp(nn_attr_str(op, "coords"), "tf_crop_and_resize") == 0) return false;
  return op->in[0]->type.dims[dim] == op->out[0]->type.dims[dim] && scale->op == NN_X_CONST && scale->f == 1;
}

static void note_outside(nn_lower *L, resize *r, const axis *a) {
  nn_kernel *k = L->kernel;
  nn_x *last = sub(L, to_f32(L, a->size), number(L, 1));
  nn_x *before = nn_x_binary(k, NN_X_LT, a->at, number(L, 0)), *behind = nn_x_binary(k, NN_X_LT, last, a->at);
  nn_x *outside = nn_x_binary(k, NN_X_OR, before, behind);
  r->outside = r->outside ? nn_x_binary(k, NN_X_OR, r->outside, outside) : outside;
}

static void add_axis(nn_lower *L, resize *r, int dim, nn_x *index) {
  nn_op *op = r->op;
  r->inner[dim] = index;
  nn_x *scale = scale_of(L, op, dim);
  if (is_kept(op, scale, dim)) return;
  axis *a = &r->axes[r->naxes++];
  a->dim = dim;
  a->scale = scale;
  a->size = nn_dim_x(L, op->in[0]->type.dims[dim]);
  a->at = nn_bind(L, coordinate(L, op, a, index));
  if (strcmp(nn_attr_str(op, "coords"), "tf_crop_and_resize") == 0) note_outside(L, r, a);
  char mode = nn_attr_str(op, "mode")[0];
  if (mode == 'n')
    nearest_tap(L, op, a, index);
  else if (!nn_attr_int(op, "antialias"))
    interpolation_taps(L, op, a, mode == 'l' ? 2 : 4);
}

/* What interpolation computes in: nearest only copies. */
static nn_dtype accumulator(nn_op *op) {
  nn_dtype t = op->out[0]->type.dtype;
  return nn_attr_str(op, "mode")[0] == 'n' || t == NN_F64 ? t : NN_F32;
}

nn_x *elem_resize(nn_lower *L, nn_op *op, nn_x *const *index) {
  nn_dtype dtype = op->out[0]->type.dtype;
  resize r = {.op = op, .acc = accumulator(op)};
  for (int i = 0; i < op->out[0]->type.rank; i++) add_axis(L, &r, i, index[i]);
  bool is_smooth = nn_attr_int(op, "antialias") && nn_attr_str(op, "mode")[0] != 'n' && r.naxes > 0;
  nn_x *x = is_smooth ? smooth_value(L, &r) : sum_taps(L, &r, 0);
  x = nn_x_cast(L->kernel, x, dtype);
  if (!r.outside) return x;
  return nn_x_select(L->kernel, r.outside, nn_number(L, dtype, nn_attr_float(op, "extrapolation")), x);
}
