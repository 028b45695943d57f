/* ONNX Resize (versions 10 to 19) and its predecessor Upsample. The core op takes the shape of the result and
   one scale for each dimension, so what is done here is to find these from scales, sizes, axes, the region
   of interest and the aspect ratio policy: while compiling where the numbers are known, else with ops. */
#include "frontend/onnx.h"

#include <math.h>
#include <string.h>

/* What a node says, spread to all dimensions. */
typedef struct resize {
  int axes[NN_MAX_RANK]; /* those that scales, sizes and roi are about */
  int naxes;
  double scales[NN_MAX_RANK];
  bool has_scales;       /* known while compiling */
  nn_value *scale_input; /* f32[rank], when known only while running */
  double roi[2 * NN_MAX_RANK];
  bool has_roi;        /* known while compiling */
  nn_value *roi_input; /* [2 * rank] */
  nn_dim dims[NN_MAX_RANK];
} resize;

/* Upsample and Resize have their inputs at different places. */
typedef struct places {
  int roi, scales, sizes; /* -1: the version has none */
} places;

static bool has_input(onnx_node *n, int i) {
  return i >= 0 && i < n->nin && n->in[i] && !nn_dim_is(nn_type_count(n->m, n->in[i]->type), 0);
}

static nn_status get_axes(onnx_node *n, int rank, resize *r) {
  const int64_t *given = onnx_ints(n, "axes", &r->naxes);
  bool is_taken[NN_MAX_RANK] = {false};
  if (!given) r->naxes = rank;
  if (r->naxes > rank) return onnx_fail(n, "axes has %d entries, the tensor has rank %d", r->naxes, rank);
  for (int i = 0; i < r->naxes; i++) {
    r->axes[i] = i;
    if (given) NN_TRY(onnx_axis(n, given[i], rank, &r->axes[i]));
    if (is_taken[r->axes[i]]) return onnx_fail(n, "axes names axis %d twice", r->axes[i]);
    is_taken[r->axes[i]] = true;
  }
  return NN_OK;
}

/* [k * naxes] -> [k * rank]: dimensions that are not among the axes get `rest`, block by block. */
static nn_value *spread(onnx_node *n, nn_value *v, const resize *r, int rank, int nblocks, const double *rest) {
  nn_module *m = n->m;
  nn_value *parts[2 * NN_MAX_RANK], *one[NN_MAX_RANK];
  nn_dim unit = nn_dim_const(m, 1);
  for (int k = 0; k < nblocks; k++) {
    for (int d = 0; d < rank; d++) one[d] = nn_b_unsqueeze(n->b, nn_b_scalar(n->b, v->type.dtype, rest[k]), 0);
    for (int i = 0; i < r->naxes; i++)
      one[r->axes[i]] = nn_b_slice(n->b, v, 0, nn_dim_const(m, k * r->naxes + i), unit, unit);
    for (int d = 0; d < rank; d++) parts[k * rank + d] = one[d];
  }
  return nn_b_concat(n->b, parts, nblocks * rank, 0);
}

/* ---- the region of interest ---------------------------------------------------------------------------- */

static nn_status get_roi(onnx_node *n, int place, int rank, resize *r) {
  static const double rest[] = {0, 1};
  const double *values;
  int count;
  if (strcmp(onnx_str(n, "coordinate_transformation_mode", ""), "tf_crop_and_resize") != 0) return NN_OK;
  if (!has_input(n, place)) return onnx_fail(n, "tf_crop_and_resize needs a roi");
  NN_TRY(onnx_need_size(n, place, nn_dim_const(n->m, 2 * r->naxes)));
  if (!onnx_is_const(n, place)) {
    NN_TRY(onnx_need_float(n, place));
    r->roi_input = spread(n, n->in[place], r, rank, 2, rest);
    return r->roi_input ? NN_OK : NN_FAIL;
  }
  NN_TRY(onnx_const_floats(n, place, &values, &count));
  for (int d = 0; d < rank; d++) r->roi[d] = 0, r->roi[rank + d] = 1;
  for (int i = 0; i < r->naxes; i++) {
    r->roi[r->axes[i]] = values[i];
    r->roi[rank + r->axes[i]] = values[r->naxes + i];
  }
  r->has_roi = true;
  return NN_OK;
}

/* ---- by scales ----------------------------------------------------------------------------------------- */

/* floor(size * scale), as runtimes compute it: in f32. A symbol is scaled by the fraction that the scale is. */
static nn_status scale_dim(onnx_node *n, nn_dim size, double scale, nn_dim *out) {
  nn_module *m = n->m;
  int64_t number;
  if (nn_dim_is_const(size, &number)) {
    float scaled = floorf((float)scale * (float)number);
    if (!(scaled >= 0 && scaled < 0x1p40f))
      return onnx_fail(n, "a dimension of %lld scaled by %g", (long long)number, scale);
    *out = nn_dim_const(m, (int64_t)scaled);
    return NN_OK;
  }
  for (int64_t q = 1; q <= 1024 && scale < 0x1p20; q++) {
    double p = nearbyint(scale * (double)q);
    if ((float)(p / (double)q) != (float)scale) continue;
    *out = nn_dim_floordiv(m, nn_dim_mul(m, size, nn_dim_const(m, (int64_t)p)), nn_dim_const(m, q));
    return NN_OK;
  }
  return onnx_unsupported(n, "dimension %s scaled by %.9g, which is no simple fraction", nn_dim_text(m->arena, size),
                          scale);
}

static nn_status use_known_scales(onnx_node *n, nn_type x, const double *values, int count, resize *r) {
  if (count != r->naxes) return onnx_fail(n, "scales has %d entries, expected %d", count, r->naxes);
  for (int d = 0; d < x.rank; d++) {
    r->scales[d] = 1;
    r->dims[d] = x.dims[d];
  }
  for (int i = 0; i < count; i++) {
    int d = r->axes[i];
    double part = r->has_roi ? r->roi[x.rank + d] - r->roi[d] : 1;
    if (!(values[i] > 0)) return onnx_fail(n, "scales has an entry of %g, expected more than 0", values[i]);
    r->scales[d] = values[i];
    if (values[i] * part != 1) NN_TRY(scale_dim(n, x.dims[d], values[i] * part, &r->dims[d]));
  }
  r->has_scales = true;
  return NN_OK;
}

/* Scales, or a roi, known only while running: so are the dims, unless they are declared. */
static nn_status use_running_scales(onnx_node *n, nn_type x, nn_value *scales, resize *r) {
  static const double rest[] = {1};
  nn_builder *b = n->b;
  nn_module *m = n->m;
  nn_dim rank = nn_dim_const(m, x.rank), zero = nn_dim_const(m, 0), unit = nn_dim_const(m, 1);
  const nn_dim *dims;
  int count;
  nn_value *spread_scales = spread(n, nn_b_cast(b, scales, NN_F32), r, x.rank, 1, rest);
  nn_value *factor = spread_scales;
  if (r->roi_input) {
    nn_value *start = nn_b_slice(b, r->roi_input, 0, zero, rank, unit),
             *end = nn_b_slice(b, r->roi_input, 0, rank, rank, unit);
    factor = nn_b_binary(b, NN_OP_MUL, factor, nn_b_cast(b, nn_b_binary(b, NN_OP_SUB, end, start), NN_F32));
  }
  nn_value *sizes = nn_b_cast(b, nn_b_dims(b, x.dims, x.rank), NN_F32);
  nn_value *scaled = nn_b_unary(b, NN_OP_FLOOR, nn_b_binary(b, NN_OP_MUL, sizes, factor));
  NN_TRY(nn_b_elems(b, nn_b_cast(b, scaled, NN_I64), 0, onnx_hints(n, 0, x.rank), &dims, &count));
  for (int d = 0; d < x.rank; d++) r->dims[d] = dims[d];
  r->scale_input = spread_scales;
  return NN_OK;
}

static nn_status use_scales(onnx_node *n, nn_type x, int place, resize *r) {
  const double *values;
  int count;
  NN_TRY(onnx_need_float(n, place));
  NN_TRY(onnx_need_size(n, place, nn_dim_const(n->m, r->naxes)));
  if (!onnx_is_const(n, place)) {
    if (r->has_roi)
      return onnx_unsupported(n, "scales that are known only while running, with a roi that is known before");
    return use_running_scales(n, x, n->in[place], r);
  }
  if (r->roi_input) return use_running_scales(n, x, n->in[place], r);
  NN_TRY(onnx_const_floats(n, place, &values, &count));
  return use_known_scales(n, x, values, count, r);
}

/* ---- by sizes ------------------------------------------------------------------------------------------ */

/* One scale for all axes, so that none becomes larger (or smaller) than its size; the sizes follow. */
static nn_status keep_aspect(onnx_node *n, nn_type x, const nn_dim *sizes, bool is_larger, resize *r) {
  double scale = is_larger ? 0 : INFINITY;
  for (int i = 0; i < r->naxes; i++) {
    int64_t from = nn_dim_value(x.dims[r->axes[i]]);
    if (from == 0) return onnx_fail(n, "dimension %d is empty, its aspect ratio cannot be kept", r->axes[i]);
    double ratio = (double)nn_dim_value(sizes[i]) / (double)from;
    scale = is_larger ? fmax(scale, ratio) : fmin(scale, ratio);
  }
  for (int i = 0; i < r->naxes; i++) {
    int d = r->axes[i];
    r->scales[d] = scale;
    r->dims[d] = nn_dim_const(n->m, (int64_t)floor(scale * (double)nn_dim_value(x.dims[d]) + 0.5));
  }
  r->has_scales = true;
  return NN_OK;
}

/* The same of sizes, or dimensions, known only while running. */
static nn_status keep_running_aspect(onnx_node *n, nn_type x, const nn_dim *sizes, bool is_larger, resize *r) {
  static const double rest[] = {1};
  nn_builder *b = n->b;
  nn_dim from[NN_MAX_RANK], naxes = nn_dim_const(n->m, r->naxes);
  const nn_dim *dims;
  int count;
  for (int i = 0; i < r->naxes; i++) from[i] = x.dims[r->axes[i]];
  nn_value *wanted = nn_b_cast(b, nn_b_dims(b, sizes, r->naxes), NN_F32);
  nn_value *ratios = nn_b_binary(b, NN_OP_DIV, wanted, nn_b_cast(b, nn_b_dims(b, from, r->naxes), NN_F32));
  nn_opcode code = is_larger ? NN_OP_REDUCE_MAX : NN_OP_REDUCE_MIN;
  nn_value *scale = nn_b_reduce(b, code, ratios, (int64_t[]){0}, 1, true);
  nn_value *all = nn_b_broadcast(b, scale, 1, &naxes);
  r->scale_input = all ? spread(n, all, r, x.rank, 1, rest) : NULL;
  nn_value *exact = nn_b_binary(b, NN_OP_MUL, nn_b_cast(b, nn_b_dims(b, x.dims, x.rank), NN_F32), r->scale_input);
  nn_value *rounded = nn_b_unary(b, NN_OP_FLOOR, nn_b_scalar_op(b, NN_OP_ADD, exact, 0.5));
  NN_TRY(nn_b_elems(b, nn_b_cast(b, rounded, NN_I64), 0, onnx_hints(n, 0, x.rank), &dims, &count));
  for (int d = 0; d < x.rank; d++) r->dims[d] = dims[d];
  return NN_OK;
}

static bool is_known(const resize *r, nn_type x, const nn_dim *sizes) {
  for (int i = 0; i < r->naxes; i++)
    if (!nn_dim_is_const(sizes[i], NULL) || !nn_dim_is_const(x.dims[r->axes[i]], NULL)) return false;
  return true;
}

static nn_status use_sizes(onnx_node *n, nn_type x, int place, resize *r) {
  const nn_dim *sizes, *hints = onnx_hints(n, 0, x.rank);
  int count;
  const char *policy = onnx_str(n, "keep_aspect_ratio_policy", "stretch");
  bool is_larger = strcmp(policy, "not_smaller") == 0, is_smaller = strcmp(policy, "not_larger") == 0;
  if (!is_larger && !is_smaller && strcmp(policy, "stretch") != 0)
    return onnx_fail(n, "keep_aspect_ratio_policy is '%s', expected stretch, not_larger or not_smaller", policy);
  NN_TRY(onnx_dims(n, place, 0, false, &sizes, &count));
  if (count != r->naxes) return onnx_fail(n, "sizes has %d entries, expected %d", count, r->naxes);
  for (int d = 0; d < x.rank; d++) {
    r->dims[d] = x.dims[d];
    r->scales[d] = 1;
  }
  if ((is_larger || is_smaller) && r->naxes > 0)
    return (is_known(r, x, sizes) ? keep_aspect : keep_running_aspect)(n, x, sizes, is_larger, r);
  for (int i = 0; i < count; i++) {
    r->dims[r->axes[i]] = onnx_settle(n, sizes[i], hints[r->axes[i]], "resized dimension");
    if (!r->dims[r->axes[i]]) return NN_FAIL;
  }
  return NN_OK;
}

/* ---- the op -------------------------------------------------------------------------------------------- */

static nn_status give_resize(onnx_node *n, const resize *r, const char *mode, const char *coords, const char *nearest) {
  int rank = n->in[0]->type.rank;
  nn_value *in[3] = {n->in[0], r->scale_input, r->roi_input};
  nn_op *op = nn_b_begin(n->b, NN_OP_RESIZE, in, 3, -1);
  if (!op) return NN_FAIL;
  nn_set_dims(op, "dims", r->dims, rank);
  if (r->has_scales) nn_set_floats(op, "scales", r->scales, rank);
  if (r->has_roi) nn_set_floats(op, "roi", r->roi, 2 * rank);
  nn_set_str(op, "mode", mode);
  nn_set_str(op, "coords", coords);
  nn_set_str(op, "nearest", nearest);
  nn_set_float(op, "cubic_a", onnx_float(n, "cubic_coeff_a", -0.75));
  nn_set_float(op, "extrapolation", onnx_float(n, "extrapolation_value", 0));
  nn_set_int(op, "exclude_outside", onnx_int(n, "exclude_outside", 0) != 0);
  nn_set_int(op, "antialias", onnx_int(n, "antialias", 0) != 0);
  ONNX_GIVE(n, nn_b_end(n->b, op));
}

static nn_status resize_by(onnx_node *n, places p, resize *r) {
  nn_type x = n->in[0]->type;
  NN_TRY(get_axes(n, x.rank, r));
  NN_TRY(get_roi(n, p.roi, x.rank, r));
  if (has_input(n, p.scales) && has_input(n, p.sizes))
    return onnx_fail(n, "both scales and sizes are given, expected one of them");
  if (has_input(n, p.scales)) return use_scales(n, x, p.scales, r);
  if (has_input(n, p.sizes)) return use_sizes(n, x, p.sizes, r);
  if (x.rank == 0) return NN_OK;
  return onnx_fail(n, "neither scales nor sizes are given");
}

nn_status onnx_Resize(onnx_node *n) {
  NN_TRY(onnx_need(n, 1, n->since < 11 ? 2 : 4, 1));
  resize r = {0};
  const char *mode = onnx_str(n, "mode", "nearest");
  if (n->since < 11) {
    NN_TRY(resize_by(n, (places){-1, 1, -1}, &r));
    return give_resize(n, &r, mode, "asymmetric", "floor");
  }
  const char *coords = onnx_str(n, "coordinate_transformation_mode", "half_pixel");
  NN_TRY(resize_by(n, (places){1, 2, 3}, &r));
  return give_resize(n, &r, mode, coords, onnx_str(n, "nearest_mode", "round_prefer_floor"));
}

nn_status onnx_Upsample(onnx_node *n) {
  NN_TRY(onnx_need(n, n->since < 9 ? 1 : 2, n->since < 9 ? 1 : 2, 1));
  resize r = {0};
  int count;
  nn_type x = n->in[0]->type;
  if (n->since < 7) return onnx_unsupported(n, "Upsample before opset 7");
  if (n->since >= 9) {
    NN_TRY(resize_by(n, (places){-1, 1, -1}, &r));
  } else {
    const double *scales = onnx_floats(n, "scales", &count);
    if (!scales) return onnx_fail(n, "attribute 'scales' is missing");
    NN_TRY(get_axes(n, x.rank, &r));
    NN_TRY(use_known_scales(n, x, scales, count, &r));
  }
  return give_resize(n, &r, onnx_str(n, "mode", "nearest"), "asymmetric", "floor");
}
