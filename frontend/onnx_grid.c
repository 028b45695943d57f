/* ONNX GridSample and AffineGrid: values of an image between its pixels, at places that a grid names (-1 to 1 is the
   image), and the grid of an affine map. Any number of spatial dimensions. */
#include "frontend/onnx.h"

#include <string.h>

typedef enum padding { ZEROS, BORDER, REFLECTION } padding;

/* Where one of the pixels that make a sample lies, for all samples, [N, P]. */
typedef struct tap {
  nn_value *index;  /* i64, along the dimensions so far */
  nn_value *weight; /* NULL: 1 */
  nn_value *inside; /* bool; NULL: all are */
} tap;

typedef struct sampler {
  onnx_node *n;
  nn_value *pixels; /* x as [N, C, all pixels], in the type computed in */
  nn_value *grid;   /* [N, P, nsp], f32 or f64 */
  const nn_dim *sizes;
  int nsp, ntaps; /* taps per dimension: 1 nearest, 2 linear, 4 cubic */
  padding padding;
  bool align;
} sampler;

static nn_value *binary(onnx_node *n, nn_opcode code, nn_value *x, nn_value *y) {
  return nn_b_binary(n->b, code, x, y);
}
static nn_value *with(onnx_node *n, nn_opcode code, nn_value *x, double y) { return nn_b_scalar_op(n->b, code, x, y); }

static nn_value *number_of(onnx_node *n, nn_dim d, nn_dtype t) {
  return nn_b_cast(n->b, onnx_as_scalar(n, nn_b_dims(n->b, &d, 1)), t);
}

/* ---- places ---------------------------------------------------------------------------------------------- */

/* The grid's numbers for dimension d (x, the last one, comes first) in pixels: [N, P]. */
static nn_value *place(const sampler *s, int d) {
  onnx_node *n = s->n;
  nn_dim one = nn_dim_const(n->m, 1);
  nn_value *g = nn_b_slice(n->b, s->grid, 2, nn_dim_const(n->m, s->nsp - 1 - d), one, one);
  g = g ? nn_b_reshape(n->b, g, 2, g->type.dims) : NULL;
  nn_value *size = number_of(n, s->sizes[d], s->grid->type.dtype),
           *half = with(n, NN_OP_MUL, with(n, NN_OP_ADD, g, 1), 0.5);
  if (s->align) return binary(n, NN_OP_MUL, half, with(n, NN_OP_SUB, size, 1));
  return with(n, NN_OP_SUB, binary(n, NN_OP_MUL, half, size), 0.5);
}

/* x folded into [low, low + range], as mirrors at both ends do. */
static nn_value *reflect(const sampler *s, nn_value *x, nn_value *size) {
  onnx_node *n = s->n;
  double low = s->align ? 0 : -0.5;
  nn_value *range = s->align ? with(n, NN_OP_SUB, size, 1) : size;
  nn_value *turn = binary(n, NN_OP_MOD, with(n, NN_OP_SUB, x, low), with(n, NN_OP_MUL, range, 2));
  nn_value *back = nn_b_unary(n->b, NN_OP_ABS, binary(n, NN_OP_SUB, turn, range));
  return with(n, NN_OP_ADD, binary(n, NN_OP_SUB, range, back), low);
}

static nn_value *clamp_to(onnx_node *n, nn_value *x, nn_value *size) {
  return with(n, NN_OP_MAX, binary(n, NN_OP_MIN, x, with(n, NN_OP_SUB, size, 1)), 0);
}

/* A place outside of the image, brought inside; ZEROS leaves it. */
static nn_value *bring_inside(const sampler *s, int d, nn_value *x) {
  nn_value *size = number_of(s->n, s->sizes[d], s->grid->type.dtype);
  if (s->padding == BORDER) return clamp_to(s->n, x, size);
  return s->padding == REFLECTION ? reflect(s, x, size) : x;
}

/* ---- weights ---------------------------------------------------------------------------------------------- */

/* Keys' cubic with a = -0.75 at distance x: within 1, or from 1 to 2. */
static nn_value *cubic(onnx_node *n, nn_value *x, bool near) {
  static const double coefficients[2][4] = {{-0.75, 3.75, -6, 3}, {1.25, -2.25, 0, 1}};
  const double *c = coefficients[near];
  nn_value *y = with(n, NN_OP_ADD, with(n, NN_OP_MUL, x, c[0]), c[1]);
  for (int i = 2; i < 4; i++) y = with(n, NN_OP_ADD, binary(n, NN_OP_MUL, y, x), c[i]);
  return y;
}

/* Of tap k, where t is how far the place lies behind the pixel before it. */
static nn_value *weight(const sampler *s, int k, nn_value *t) {
  onnx_node *n = s->n;
  nn_value *rest = t ? binary(n, NN_OP_SUB, nn_b_scalar(n->b, t->type.dtype, 1), t) : NULL;
  if (s->ntaps == 2) return k ? t : rest;
  if (k == 0) return cubic(n, with(n, NN_OP_ADD, t, 1), false);
  return k == 3 ? cubic(n, with(n, NN_OP_ADD, rest, 1), false) : cubic(n, k == 1 ? t : rest, true);
}

/* Tap k of dimension d. */
static tap make_tap(const sampler *s, int d, int k) {
  onnx_node *n = s->n;
  nn_value *at = bring_inside(s, d, place(s, d)), *size = number_of(n, s->sizes[d], NN_I64);
  nn_value *first = nn_b_unary(n->b, s->ntaps == 1 ? NN_OP_ROUND : NN_OP_FLOOR, at);
  nn_value *pixel = with(n, NN_OP_ADD, first, s->ntaps == 4 ? k - 1 : k);
  tap t = {.weight = s->ntaps == 1 ? NULL : weight(s, k, binary(n, NN_OP_SUB, at, first))};
  if (s->padding == ZEROS) {
    nn_value *last = with(n, NN_OP_SUB, number_of(n, s->sizes[d], s->grid->type.dtype), 1);
    nn_value *zero = last ? nn_b_scalar(n->b, last->type.dtype, 0) : NULL;
    t.inside = binary(n, NN_OP_AND, binary(n, NN_OP_LE, zero, pixel), binary(n, NN_OP_LE, pixel, last));
  } else {
    pixel = bring_inside(s, d, pixel);
  }
  t.index = clamp_to(n, nn_b_cast(n->b, pixel, NN_I64), size); /* in any case: what is not a number, too */
  return t;
}

/* ---- samples ---------------------------------------------------------------------------------------------- */

/* [N, P] -> [N, 1, P] */
static nn_value *for_channels(onnx_node *n, nn_value *v) { return v ? nn_b_unsqueeze(n->b, v, 1) : NULL; }

static nn_value *read_pixels(const sampler *s, tap t) {
  onnx_node *n = s->n;
  nn_value *index = for_channels(n, t.index);
  if (!index) return NULL;
  nn_dim dims[3] = {s->pixels->type.dims[0], s->pixels->type.dims[1], index->type.dims[2]};
  nn_op *op =
      nn_b_begin(n->b, NN_OP_GATHER_ELEMENTS, (nn_value *[]){s->pixels, nn_b_broadcast(n->b, index, 3, dims)}, 2, -1);
  if (!op) return NULL;
  nn_set_int(op, "axis", 2);
  nn_value *x = nn_b_end(n->b, op);
  if (x && t.inside) x = nn_b_select(n->b, for_channels(n, t.inside), x, nn_b_scalar(n->b, x->type.dtype, 0));
  if (x && t.weight) x = binary(n, NN_OP_MUL, x, nn_b_cast(n->b, for_channels(n, t.weight), x->type.dtype));
  return x;
}

static tap combine(const sampler *s, int d, tap outer, tap inner) {
  onnx_node *n = s->n;
  nn_value *row = binary(n, NN_OP_MUL, outer.index, number_of(n, s->sizes[d], NN_I64));
  return (tap){.index = binary(n, NN_OP_ADD, row, inner.index),
               .weight = outer.weight ? binary(n, NN_OP_MUL, outer.weight, inner.weight) : NULL,
               .inside = outer.inside ? binary(n, NN_OP_AND, outer.inside, inner.inside) : NULL};
}

/* The sum over the taps of dimension d and of those behind it. */
static nn_value *sum_taps(const sampler *s, int d, const tap *outer) {
  nn_value *sum = NULL;
  for (int k = 0; k < s->ntaps; k++) {
    tap t = make_tap(s, d, k);
    if (outer) t = combine(s, d, *outer, t);
    nn_value *part = d + 1 == s->nsp ? read_pixels(s, t) : sum_taps(s, d + 1, &t);
    if (!part) return NULL;
    sum = sum ? binary(s->n, NN_OP_ADD, sum, part) : part;
  }
  return sum;
}

/* ---- GridSample -------------------------------------------------------------------------------------------- */

static nn_status read_attributes(onnx_node *n, sampler *s) {
  const char *mode = onnx_str(n, "mode", n->since < 20 ? "bilinear" : "linear"),
             *pad = onnx_str(n, "padding_mode", "zeros");
  s->ntaps = !strcmp(mode, "nearest") ? 1 : !strcmp(mode, "linear") || !strcmp(mode, "bilinear") ? 2 : 4;
  if (s->ntaps == 4 && strcmp(mode, "cubic") && strcmp(mode, "bicubic"))
    return onnx_fail(n, "mode is '%s', expected linear, nearest or cubic", mode);
  s->padding = !strcmp(pad, "zeros") ? ZEROS : !strcmp(pad, "border") ? BORDER : REFLECTION;
  if (s->padding == REFLECTION && strcmp(pad, "reflection"))
    return onnx_fail(n, "padding_mode is '%s', expected zeros, border or reflection", pad);
  s->align = onnx_int(n, "align_corners", 0) != 0;
  return NN_OK;
}

/* Linear and cubic samples of integers are computed in f32. */
static nn_value *to_compute(const sampler *s, nn_value *x) {
  return s->ntaps == 1
             ? x
             : nn_b_cast(s->n->b, x, nn_dtype_is_float(x->type.dtype) ? onnx_compute_dtype(x->type.dtype) : NN_F32);
}

nn_status onnx_GridSample(onnx_node *n) {
  sampler s = {.n = n};
  NN_TRY(onnx_need(n, 2, 2, 1));
  NN_TRY(onnx_need_float(n, 1));
  NN_TRY(onnx_need_rank(n, 0, 3, 5));
  NN_TRY(onnx_need_rank(n, 1, n->in[0]->type.rank, n->in[0]->type.rank));
  NN_TRY(read_attributes(n, &s));
  nn_type x = n->in[0]->type, grid = n->in[1]->type;
  s.nsp = x.rank - 2;
  s.sizes = x.dims + 2;
  NN_TRY(nn_b_check(n->b, "eq", grid.dims[0], x.dims[0], "batch of the grid"));
  NN_TRY(nn_b_check(n->b, "eq", grid.dims[s.nsp + 1], nn_dim_const(n->m, s.nsp), "numbers of a place in the grid"));
  nn_dim samples = nn_dim_product(n->m, grid.dims + 1, s.nsp), dims[NN_MAX_RANK] = {x.dims[0], x.dims[1]};
  s.grid = nn_b_reshape(n->b, onnx_wide(n, n->in[1]), 3, (nn_dim[]){x.dims[0], samples, grid.dims[s.nsp + 1]});
  s.pixels = nn_b_reshape(n->b, to_compute(&s, n->in[0]), 3,
                          (nn_dim[]){x.dims[0], x.dims[1], nn_dim_product(n->m, s.sizes, s.nsp)});
  if (!s.grid || !s.pixels) return NN_FAIL;
  for (int d = 0; d < s.nsp; d++) dims[2 + d] = grid.dims[1 + d];
  ONNX_GIVE(n, nn_b_cast(n->b, nn_b_reshape(n->b, sum_taps(&s, 0, NULL), x.rank, dims), x.dtype));
}

/* ---- AffineGrid -------------------------------------------------------------------------------------------- */

/* Places -1 to 1 along dimension d of nsp + 1: pixel centres, or with align_corners the ends are -1 and 1. */
static nn_value *line(onnx_node *n, nn_dtype t, const nn_dim *space, int nsp, int d, bool align) {
  nn_dim dims[NN_MAX_RANK];
  for (int i = 0; i <= nsp; i++) dims[i] = i == d ? space[i] : nn_dim_const(n->m, 1);
  nn_value *i = nn_b_iota(n->b, t, nsp + 1, dims, d), *size = number_of(n, space[d], t);
  if (!align) return with(n, NN_OP_SUB, binary(n, NN_OP_DIV, with(n, NN_OP_ADD, with(n, NN_OP_MUL, i, 2), 1), size), 1);
  nn_value *steps = with(n, NN_OP_MAX, with(n, NN_OP_SUB, size, 1), 1);
  return with(n, NN_OP_SUB, binary(n, NN_OP_DIV, with(n, NN_OP_MUL, i, 2), steps), 1);
}

/* All places of the image as homogeneous coordinates, x first: [places, nsp + 1]. */
static nn_value *places(onnx_node *n, nn_dtype t, const nn_dim *space, int nsp, bool align) {
  nn_value *parts[4];
  nn_dim dims[NN_MAX_RANK];
  for (int i = 0; i < nsp; i++) dims[i] = space[i];
  dims[nsp] = nn_dim_const(n->m, 1);
  for (int k = 0; k < nsp; k++)
    parts[k] = nn_b_broadcast(n->b, line(n, t, dims, nsp, nsp - 1 - k, align), nsp + 1, dims);
  parts[nsp] = nn_b_fill(n->b, t, 1, nsp + 1, dims);
  nn_value *all = nn_b_concat(n->b, parts, nsp + 1, nsp);
  return nn_b_reshape(n->b, all, 2, (nn_dim[]){nn_dim_product(n->m, space, nsp), nn_dim_const(n->m, nsp + 1)});
}

/* theta [N, nsp, nsp + 1], size (N, C, space) -> grid [N, space, nsp] */
nn_status onnx_AffineGrid(onnx_node *n) {
  const nn_dim *size;
  int count;
  NN_TRY(onnx_need(n, 2, 2, 1));
  NN_TRY(onnx_need_float(n, 0));
  NN_TRY(onnx_need_rank(n, 0, 3, 3));
  NN_TRY(onnx_dims(n, 1, 0, false, &size, &count));
  if (count != 4 && count != 5) return onnx_fail(n, "size has %d entries, expected 4 or 5", count);
  int nsp = count - 2;
  nn_type theta = n->in[0]->type;
  NN_TRY(nn_b_check(n->b, "eq", theta.dims[0], size[0], "batch of theta"));
  NN_TRY(nn_b_check(n->b, "eq", theta.dims[1], nn_dim_const(n->m, nsp), "rows of theta"));
  NN_TRY(nn_b_check(n->b, "eq", theta.dims[2], nn_dim_const(n->m, nsp + 1), "columns of theta"));
  nn_value *wide = onnx_wide(n, n->in[0]);
  nn_value *all = places(n, wide->type.dtype, size + 2, nsp, onnx_int(n, "align_corners", 0) != 0);
  nn_value *grid = onnx_matmul_trans(n, all ? nn_b_unsqueeze(n->b, all, 0) : NULL, wide, false, true);
  nn_dim dims[NN_MAX_RANK] = {size[0]};
  for (int d = 0; d < nsp; d++) dims[1 + d] = size[2 + d];
  dims[nsp + 1] = nn_dim_const(n->m, nsp);
  ONNX_GIVE(n, nn_b_cast(n->b, nn_b_reshape(n->b, grid, nsp + 2, dims), theta.dtype));
}
