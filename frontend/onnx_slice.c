/* ONNX operators that cut and join: Slice, Split, Concat, and Pad, CenterCropPad, which cut with a negative
   padding. Sizes may be known only while running; see onnx_shape.c. */
#include "frontend/onnx.h"

#include <string.h>

static const int64_t LEAST = -((int64_t)1 << 40); /* of paddings that may be negative: far from overflow */

/* ---- Slice --------------------------------------------------------------------------------------------- */

/* starts, ends, axes, steps, one entry for each axis that is cut. */
typedef struct cuts {
  int count;
  const nn_dim *starts, *ends, *axes, *steps;
} cuts;

static const nn_dim *const_dims(onnx_node *n, const int64_t *values, int count) {
  nn_dim *dims = NN_NEW_ARRAY(n->m->arena, nn_dim, count + 1);
  for (int i = 0; i < count; i++) dims[i] = nn_dim_const(n->m, values ? values[i] : 1);
  return dims;
}

static const nn_dim *default_axes(onnx_node *n, int count) {
  int64_t *axes = NN_NEW_ARRAY(n->m->arena, int64_t, count + 1);
  for (int i = 0; i < count; i++) axes[i] = i;
  return const_dims(n, axes, count);
}

static nn_status cuts_of_attributes(onnx_node *n, cuts *c) {
  int nends, naxes;
  const int64_t *starts = onnx_ints(n, "starts", &c->count), *ends = onnx_ints(n, "ends", &nends),
                *axes = onnx_ints(n, "axes", &naxes);
  if (!starts || !ends || nends != c->count || (axes && naxes != c->count))
    return onnx_fail(n, "starts has %d entries, ends %d, axes %d: expected as many", c->count, nends, naxes);
  c->starts = const_dims(n, starts, c->count);
  c->ends = const_dims(n, ends, c->count);
  c->axes = axes ? const_dims(n, axes, c->count) : default_axes(n, c->count);
  c->steps = const_dims(n, NULL, c->count);
  return NN_OK;
}

static nn_status cuts_of_inputs(onnx_node *n, cuts *c) {
  int nends, naxes, nsteps;
  NN_TRY(onnx_dims(n, 1, INT64_MIN, false, &c->starts, &c->count));
  NN_TRY(onnx_dims(n, 2, INT64_MIN, false, &c->ends, &nends));
  naxes = nsteps = c->count;
  c->axes = default_axes(n, c->count);
  c->steps = const_dims(n, NULL, c->count);
  if (n->nin > 3 && n->in[3]) NN_TRY(onnx_dims(n, 3, -NN_MAX_RANK, false, &c->axes, &naxes));
  if (n->nin > 4 && n->in[4]) NN_TRY(onnx_dims(n, 4, INT64_MIN, false, &c->steps, &nsteps));
  if (nends == c->count && naxes == c->count && nsteps == c->count) return NN_OK;
  return onnx_fail(n, "starts has %d entries, ends %d, axes %d, steps %d: expected as many", c->count, nends, naxes,
                   nsteps);
}

/* An index as written to low..high: negative ones count from the end. Nothing here may overflow, since "to
   the end" is often written as the largest integer. */
static nn_dim clamp_index(nn_module *m, nn_dim raw, nn_dim size, nn_dim low, nn_dim high) {
  int64_t value;
  nn_dim zero = nn_dim_const(m, 0);
  if (nn_dim_is_const(raw, &value)) {
    if (value >= INT32_MAX && !nn_dim_is_const(size, NULL)) return high;
    if (value <= -INT32_MAX && !nn_dim_is_const(size, NULL)) return low;
    nn_dim from_front = value >= 0 ? raw : nn_dim_add(m, size, raw);
    return nn_dim_max(m, nn_dim_min(m, from_front, high), low);
  }
  nn_dim least = nn_dim_sub(m, nn_dim_const(m, -1), size); /* -1 - size: in front of the first */
  nn_dim bounded = nn_dim_max(m, nn_dim_min(m, raw, size), least);
  nn_dim from_front = nn_dim_add(m, bounded, nn_dim_mul(m, nn_dim_is_lt(m, bounded, zero), size));
  return nn_dim_max(m, nn_dim_min(m, from_front, high), low);
}

/* start and count of one axis. Backward, the last index is size-1 and "before the first" is -1. */
static void cut_axis(nn_module *m, nn_dim size, nn_dim raw_start, nn_dim raw_end, nn_dim step, nn_dim *start,
                     nn_dim *count) {
  nn_dim zero = nn_dim_const(m, 0), last = nn_dim_sub(m, size, nn_dim_const(m, 1));
  nn_dim is_back = nn_dim_is_lt(m, step, zero);
  nn_dim end;
  if (nn_dim_is(is_back, 0)) {
    *start = clamp_index(m, raw_start, size, zero, size);
    end = clamp_index(m, raw_end, size, zero, size);
  } else {
    nn_dim high = nn_dim_select(m, is_back, last, size);
    *start = clamp_index(m, raw_start, size, zero, high);
    end = clamp_index(m, raw_end, size, nn_dim_sub(m, zero, is_back), high);
  }
  *count = nn_dim_max(m, nn_dim_ceildiv(m, nn_dim_sub(m, end, *start), step), zero);
}

static nn_status check_axes(onnx_node *n, const cuts *c, int rank) {
  bool is_taken[NN_MAX_RANK] = {false};
  int64_t value;
  for (int i = 0; i < c->count; i++) {
    int axis = 0;
    if (nn_dim_is(c->steps[i], 0)) return onnx_fail(n, "steps has a 0");
    if (!nn_dim_is_const(c->steps[i], NULL))
      NN_TRY(nn_b_check(n->b, "le", nn_dim_const(n->m, 1), nn_dim_mul(n->m, c->steps[i], c->steps[i]),
                        "1, against a step squared,"));
    if (!nn_dim_is_const(c->axes[i], &value)) {
      NN_TRY(onnx_check_open_axis(n, c->axes[i], rank));
      continue;
    }
    NN_TRY(onnx_axis(n, value, rank, &axis));
    if (is_taken[axis]) return onnx_fail(n, "axes names axis %d twice", axis);
    is_taken[axis] = true;
  }
  return NN_OK;
}

/* What is cut from axis d, when an entry's axis may be known only while running: entry by entry, "if it is
   this axis, then its values, else what we had". Clamped values only are selected: those cannot overflow. */
static void cut_by_entries(nn_module *m, const cuts *c, int d, nn_type x, nn_dim *start, nn_dim *step, nn_dim *count) {
  *start = nn_dim_const(m, 0);
  *step = nn_dim_const(m, 1);
  *count = x.dims[d];
  for (int i = 0; i < c->count; i++) {
    nn_dim axis = nn_dim_mod(m, c->axes[i], nn_dim_const(m, x.rank)), from, number;
    nn_dim is_here = nn_dim_is_eq(m, axis, nn_dim_const(m, d));
    if (nn_dim_is(is_here, 0)) continue;
    cut_axis(m, x.dims[d], c->starts[i], c->ends[i], c->steps[i], &from, &number);
    bool is_sure = nn_dim_is(is_here, 1);
    *start = is_sure ? from : nn_dim_select(m, is_here, from, *start);
    *step = is_sure ? c->steps[i] : nn_dim_select(m, is_here, c->steps[i], *step);
    *count = is_sure ? number : nn_dim_select(m, is_here, number, *count);
  }
}

nn_status onnx_Slice(onnx_node *n) {
  cuts c;
  NN_TRY(onnx_need(n, n->since < 10 ? 1 : 3, n->since < 10 ? 1 : 5, 1));
  NN_TRY(n->since < 10 ? cuts_of_attributes(n, &c) : cuts_of_inputs(n, &c));
  nn_type x = n->in[0]->type;
  NN_TRY(check_axes(n, &c, x.rank));
  nn_dim starts[NN_MAX_RANK], steps[NN_MAX_RANK], dims[NN_MAX_RANK];
  const nn_dim *hints = onnx_hints(n, 0, x.rank);
  for (int d = 0; d < x.rank; d++) {
    cut_by_entries(n->m, &c, d, x, &starts[d], &steps[d], &dims[d]);
    dims[d] = onnx_settle(n, dims[d], hints[d], "dimension of the slice");
    if (!dims[d]) return NN_FAIL;
  }
  if (nn_type_same_shape(x, nn_type_make(n->m, x.dtype, x.rank, dims)) && c.count == 0) ONNX_GIVE(n, n->in[0]);
  nn_op *op = nn_b_begin(n->b, NN_OP_SLICE, n->in, 1, -1);
  nn_set_dims(op, "starts", starts, x.rank);
  nn_set_dims(op, "steps", steps, x.rank);
  nn_set_dims(op, "dims", dims, x.rank);
  ONNX_GIVE(n, nn_b_end(n->b, op));
}

/* ---- Split, Concat ------------------------------------------------------------------------------------- */

/* Sizes in the `split` attribute or input; NULL if there are none. */
static nn_status given_sizes(onnx_node *n, const nn_dim **sizes, int *count) {
  *sizes = NULL;
  bool has_input = n->nin > 1 && n->in[1];
  if (has_input) return onnx_dims(n, 1, 0, false, sizes, count);
  const int64_t *values = onnx_ints(n, "split", count);
  if (values) *sizes = const_dims(n, values, *count);
  return onnx_failed(n) ? NN_FAIL : NN_OK;
}

/* Equal parts. From version 18 the last ones may be smaller; before, they must not be. */
static nn_status equal_sizes(onnx_node *n, nn_dim size, int count, nn_dim *sizes) {
  nn_module *m = n->m;
  nn_dim parts = nn_dim_const(m, count), chunk;
  if (n->since >= 18) {
    chunk = nn_dim_ceildiv(m, size, parts);
    for (int i = 0; i < count; i++) {
      nn_dim left = nn_dim_sub(m, size, nn_dim_mul(m, chunk, nn_dim_const(m, i)));
      sizes[i] = i == 0 ? chunk : nn_dim_max(m, nn_dim_min(m, chunk, left), nn_dim_const(m, 0));
    }
    return NN_OK;
  }
  if (!nn_dim_divides(m, size, parts, &chunk)) chunk = nn_dim_floordiv(m, size, parts);
  for (int i = 0; i < count; i++) sizes[i] = chunk;
  return nn_b_check(n->b, "eq", nn_dim_mul(m, chunk, parts), size, "number of equal parts times their size");
}

nn_status onnx_Split(onnx_node *n) {
  NN_TRY(onnx_need(n, 1, 2, -1));
  nn_module *m = n->m;
  nn_type x = n->in[0]->type;
  int axis, count = n->nout;
  const nn_dim *given;
  NN_TRY(onnx_axis(n, onnx_int(n, "axis", 0), x.rank, &axis));
  NN_TRY(given_sizes(n, &given, &count));
  if (!given) count = (int)onnx_int(n, "num_outputs", n->nout);
  if (count < n->nout || count < 1) return onnx_fail(n, "is split in %d, but has %d outputs", count, n->nout);
  nn_dim *sizes = NN_NEW_ARRAY(m->arena, nn_dim, count), end = nn_dim_const(m, 0);
  if (!given) NN_TRY(equal_sizes(n, x.dims[axis], count, sizes));
  for (int i = 0; i < count && given; i++) {
    sizes[i] = onnx_settle(n, given[i], i < n->nout ? onnx_hints(n, i, x.rank)[axis] : NULL, "size of a part");
    if (!sizes[i]) return NN_FAIL;
  }
  for (int i = 0; i < count; i++) {
    nn_dim start = end;
    end = nn_dim_add(m, end, sizes[i]);
    if (onnx_wants(n, i))
      NN_TRY(onnx_give(n, i, nn_b_slice(n->b, n->in[0], axis, start, sizes[i], nn_dim_const(m, 1))));
  }
  return nn_b_check(n->b, "eq", end, x.dims[axis], "the sum of the sizes of the parts");
}

nn_status onnx_Concat(onnx_node *n) {
  NN_TRY(onnx_need(n, 1, -1, 1));
  NN_TRY(onnx_need(n, n->nin, n->nin, 1));
  NN_TRY(onnx_same_dtype(n, 0, n->nin - 1));
  int axis, rank = n->in[0]->type.rank;
  if (n->since >= 4 && !onnx_has(n, "axis")) return onnx_fail(n, "attribute 'axis' is missing");
  NN_TRY(onnx_axis(n, onnx_int(n, "axis", 1), rank, &axis));
  ONNX_GIVE(n, nn_b_concat(n->b, n->in, n->nin, axis));
}

/* ---- Pad ----------------------------------------------------------------------------------------------- */

static nn_value *make_pad(onnx_node *n, nn_value *value, const nn_dim *before, const nn_dim *after, const char *mode) {
  nn_value *in[2] = {n->in[0], value};
  nn_op *op = nn_b_begin(n->b, NN_OP_PAD, in, 2, -1);
  if (!op) return NULL;
  nn_set_dims(op, "before", before, n->in[0]->type.rank);
  nn_set_dims(op, "after", after, n->in[0]->type.rank);
  nn_set_str(op, "mode", mode);
  return nn_b_end(n->b, op);
}

/* pads: begin.. end.., one pair for each axis in question. */
static nn_status get_pads(onnx_node *n, const nn_dim **pads, int *count) {
  if (n->since >= 11) return onnx_dims(n, 1, LEAST, false, pads, count);
  const int64_t *values = onnx_ints(n, n->since == 1 ? "paddings" : "pads", count);
  if (!values)
    return onnx_failed(n) ? NN_FAIL : onnx_fail(n, "attribute '%s' is missing", n->since == 1 ? "paddings" : "pads");
  *pads = const_dims(n, values, *count);
  return NN_OK;
}

/* The axes that pads is about: all, or those of input 3, which may be known only while running. */
static nn_status get_pad_axes(onnx_node *n, int rank, const nn_dim **axes, int *count) {
  bool is_taken[NN_MAX_RANK] = {false};
  int64_t value;
  *count = rank;
  *axes = default_axes(n, rank);
  if (n->nin <= 3 || !n->in[3]) return NN_OK;
  NN_TRY(onnx_dims(n, 3, -NN_MAX_RANK, false, axes, count));
  for (int i = 0; i < *count; i++) {
    int axis;
    if (!nn_dim_is_const((*axes)[i], &value)) {
      NN_TRY(onnx_check_open_axis(n, (*axes)[i], rank));
      continue;
    }
    NN_TRY(onnx_axis(n, value, rank, &axis));
    if (is_taken[axis]) return onnx_fail(n, "axes names axis %d twice", axis);
    is_taken[axis] = true;
  }
  return NN_OK;
}

/* The padding of axis d: that of the entry whose axis it is, or 0. */
static nn_dim pad_of_axis(nn_module *m, const nn_dim *pads, const nn_dim *axes, int naxes, int d, int rank) {
  nn_dim sum = nn_dim_const(m, 0);
  for (int i = 0; i < naxes; i++) {
    nn_dim axis = nn_dim_mod(m, axes[i], nn_dim_const(m, rank));
    sum = nn_dim_add(m, sum, nn_dim_mul(m, nn_dim_is_eq(m, axis, nn_dim_const(m, d)), pads[i]));
  }
  return sum;
}

static nn_value *pad_value(onnx_node *n) {
  nn_dtype t = n->in[0]->type.dtype;
  if (n->since < 11) return nn_b_scalar(n->b, t, onnx_float(n, "value", 0));
  if (n->nin > 2 && n->in[2]) return onnx_cast_like(n, onnx_as_scalar(n, n->in[2]), n->in[0]);
  return nn_b_scalar(n->b, t, 0);
}

static nn_status check_pad_mode(onnx_node *n, const char *mode) {
  static const char *const modes[] = {"constant", "reflect", "edge", "wrap"};
  for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
    if (strcmp(mode, modes[i]) == 0) return NN_OK;
  return onnx_fail(n, "mode is '%s', expected constant, reflect, edge or wrap", mode);
}

nn_status onnx_Pad(onnx_node *n) {
  NN_TRY(onnx_need(n, n->since < 11 ? 1 : 2, n->since < 11 ? 1 : n->since < 18 ? 3 : 4, 1));
  nn_module *m = n->m;
  nn_type x = n->in[0]->type;
  const char *mode = onnx_str(n, "mode", "constant");
  const nn_dim *pads, *axes, *hints = onnx_hints(n, 0, x.rank);
  int npads, naxes;
  nn_dim before[NN_MAX_RANK], after[NN_MAX_RANK];
  NN_TRY(check_pad_mode(n, mode));
  NN_TRY(get_pads(n, &pads, &npads));
  NN_TRY(get_pad_axes(n, x.rank, &axes, &naxes));
  if (npads != 2 * naxes) return onnx_fail(n, "pads has %d entries, expected %d", npads, 2 * naxes);
  for (int d = 0; d < x.rank; d++) {
    before[d] = pad_of_axis(m, pads, axes, naxes, d, x.rank);
    nn_dim unpadded = nn_dim_add(m, before[d], x.dims[d]);
    nn_dim padded = nn_dim_add(m, unpadded, pad_of_axis(m, pads + naxes, axes, naxes, d, x.rank));
    nn_dim size = onnx_settle(n, padded, hints[d], "dimension of the padded shape");
    if (!size) return NN_FAIL;
    after[d] = nn_dim_sub(m, size, unpadded);
  }
  ONNX_GIVE(n, make_pad(n, pad_value(n), before, after, mode));
}

/* Half of the difference in front, towards zero: what is cut from 5 to 2 starts at 1, not at 2. */
static nn_dim half_towards_zero(nn_module *m, nn_dim d) {
  nn_dim zero = nn_dim_const(m, 0), two = nn_dim_const(m, 2);
  nn_dim down = nn_dim_floordiv(m, d, two), up = nn_dim_sub(m, zero, nn_dim_floordiv(m, nn_dim_sub(m, zero, d), two));
  return nn_dim_select(m, nn_dim_is_lt(m, d, zero), up, down);
}

nn_status onnx_CenterCropPad(onnx_node *n) {
  NN_TRY(onnx_need(n, 2, 2, 1));
  nn_module *m = n->m;
  nn_type x = n->in[0]->type;
  const nn_dim *wanted, *hints = onnx_hints(n, 0, x.rank);
  nn_dim before[NN_MAX_RANK], after[NN_MAX_RANK];
  int count, naxes;
  const int64_t *given = onnx_ints(n, "axes", &naxes);
  NN_TRY(onnx_dims(n, 1, 0, false, &wanted, &count));
  if (count != (given ? naxes : x.rank))
    return onnx_fail(n, "shape has %d entries, expected %d", count, given ? naxes : x.rank);
  for (int d = 0; d < x.rank; d++) before[d] = after[d] = nn_dim_const(m, 0);
  for (int i = 0; i < count; i++) {
    int d = i;
    if (given) NN_TRY(onnx_axis(n, given[i], x.rank, &d));
    nn_dim size = onnx_settle(n, wanted[i], hints[d], "dimension of the cropped or padded shape");
    if (!size) return NN_FAIL;
    nn_dim more = nn_dim_sub(m, size, x.dims[d]);
    before[d] = half_towards_zero(m, more);
    after[d] = nn_dim_sub(m, more, before[d]);
  }
  ONNX_GIVE(n, make_pad(n, nn_b_scalar(n->b, x.dtype, 0), before, after, "constant"));
}
