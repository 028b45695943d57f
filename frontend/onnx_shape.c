/* ONNX operators that read, make or change shapes: Shape, Size, Reshape, Flatten, Squeeze, Unsqueeze, Expand,
   and tensors generated from a shape: Constant, ConstantOfShape, Range, EyeLike.

   A size that is an input of the model is bound to a symbol while running (onnx_dims). Where the model
   declares the shape of the result, that shape is what the rest of the graph is compiled for, and a
   run-time check holds the input against it (onnx_settle). */
#include "frontend/onnx.h"

#include <math.h>
#include <string.h>

static const int64_t LEAST = -((int64_t)1 << 40); /* of counts that may be negative: far from overflow */

/* ---- Shape, Size --------------------------------------------------------------------------------------- */

static int64_t clamp(int64_t v, int64_t low, int64_t high) { return v < low ? low : v > high ? high : v; }

nn_status onnx_Shape(onnx_node *n) {
  NN_TRY(onnx_need(n, 1, 1, 1));
  nn_type x = n->in[0]->type;
  int64_t start = onnx_int(n, "start", 0), end = onnx_int(n, "end", x.rank);
  start = clamp(start < 0 ? start + x.rank : start, 0, x.rank);
  end = clamp(end < 0 ? end + x.rank : end, 0, x.rank);
  ONNX_GIVE(n, nn_b_dims(n->b, x.dims + start, end > start ? (int)(end - start) : 0));
}

nn_status onnx_Size(onnx_node *n) {
  NN_TRY(onnx_need(n, 1, 1, 1));
  nn_dim count = nn_type_count(n->m, n->in[0]->type);
  ONNX_GIVE(n, onnx_as_scalar(n, nn_b_dims(n->b, &count, 1)));
}

/* ---- Reshape ------------------------------------------------------------------------------------------- */

/* The new shape: its entries are numbers, or expressions of symbols, which are sizes and never mean -1 or 0. */
typedef struct target {
  int rank;
  const nn_dim *raw;
  nn_dim dims[NN_MAX_RANK];
  int inferred; /* entry that is -1, or -1 */
} target;

static nn_status check_new_rank(onnx_node *n, int rank) {
  if (rank <= NN_MAX_RANK) return NN_OK;
  return onnx_fail(n, "the new shape has rank %d, at most %d is possible", rank, NN_MAX_RANK);
}

static nn_status get_target(onnx_node *n, target *t) {
  if (n->since >= 5) {
    NN_TRY(onnx_dims(n, 1, -1, false, &t->raw, &t->rank));
  } else {
    const int64_t *shape = onnx_ints(n, "shape", &t->rank);
    if (!shape) return onnx_fail(n, "attribute 'shape' is missing");
    nn_dim *raw = NN_NEW_ARRAY(n->m->arena, nn_dim, t->rank + 1);
    for (int i = 0; i < t->rank; i++) raw[i] = nn_dim_const(n->m, shape[i]);
    t->raw = raw;
  }
  return check_new_rank(n, t->rank);
}

static nn_status decide_entry(onnx_node *n, target *t, int i, bool zero_copies) {
  nn_type x = n->in[0]->type;
  nn_dim raw = t->raw[i];
  if (nn_dim_is(raw, -1)) {
    if (t->inferred >= 0) return onnx_fail(n, "the new shape has -1 twice, expected once at most");
    t->inferred = i;
  } else if (nn_dim_is(raw, 0) && zero_copies) {
    if (i >= x.rank) return onnx_fail(n, "entry %d of the new shape is 0 (copy), the input has rank %d", i, x.rank);
    t->dims[i] = x.dims[i];
  } else {
    t->dims[i] = raw;
  }
  return NN_OK;
}

/* What is left for the entry that is -1. */
static nn_dim infer_entry(nn_module *m, nn_type x, const target *t) {
  nn_dim rest = nn_dim_const(m, 1), left = NULL;
  nn_dim count = nn_type_count(m, x);
  for (int i = 0; i < t->rank; i++)
    if (i != t->inferred) rest = nn_dim_mul(m, rest, t->dims[i]);
  if (nn_dim_is(rest, 0)) return nn_dim_const(m, 0);
  return nn_dim_divides(m, count, rest, &left) ? left : nn_dim_floordiv(m, count, rest);
}

/* A shape of which nothing is known: the meaning of -1 and 0 is computed where the shape is, and the result bound
   to symbols, or held against the declared shape. */
static nn_status bind_target(onnx_node *n, bool zero_copies, const nn_dim **dims, int *rank) {
  nn_builder *b = n->b;
  nn_module *m = n->m;
  nn_type x = n->in[0]->type;
  nn_value *raw = onnx_to_i64(n, n->in[1]), *zero = nn_b_scalar(b, NN_I64, 0), *one = nn_b_scalar(b, NN_I64, 1);
  int64_t count;
  if (n->in[1]->type.rank != 1 || !nn_type_static_count(n->in[1]->type, &count))
    return onnx_unsupported(n, "the new shape is %s, expected a vector whose length is known",
                            nn_type_text(m->arena, n->in[1]->type));
  NN_TRY(check_new_rank(n, (int)(count < INT32_MAX ? count : INT32_MAX)));
  nn_dim copied[NN_MAX_RANK], total = nn_type_count(m, x);
  for (int d = 0; d < count; d++) copied[d] = d < x.rank ? x.dims[d] : nn_dim_const(m, 0);
  if (zero_copies) raw = nn_b_select(b, nn_b_binary(b, NN_OP_EQ, raw, zero), nn_b_dims(b, copied, (int)count), raw);
  nn_value *is_rest = nn_b_binary(b, NN_OP_LT, raw, zero);
  nn_value *rest = nn_b_reduce(b, NN_OP_REDUCE_PROD, nn_b_select(b, is_rest, one, raw), (int64_t[]){0}, 1, false);
  nn_value *left = nn_b_binary(b, NN_OP_DIV, onnx_as_scalar(n, nn_b_dims(b, &total, 1)), rest);
  return nn_b_elems(b, nn_b_select(b, is_rest, left, raw), 0, onnx_hints(n, 0, (int)count), dims, rank);
}

nn_status onnx_Reshape(onnx_node *n) {
  NN_TRY(onnx_need(n, n->since >= 5 ? 2 : 1, n->since >= 5 ? 2 : 1, 1));
  bool zero_copies = onnx_int(n, "allowzero", 0) == 0;
  target t = {.inferred = -1};
  const nn_dim *dims;
  if (n->since >= 5 && nn_dtype_is_int(n->in[1]->type.dtype) && !n->in[1]->elems && !onnx_is_const(n, 1)) {
    NN_TRY(bind_target(n, zero_copies, &dims, &t.rank));
    ONNX_GIVE(n, nn_b_reshape(n->b, n->in[0], t.rank, dims));
  }
  NN_TRY(get_target(n, &t));
  for (int i = 0; i < t.rank; i++) NN_TRY(decide_entry(n, &t, i, zero_copies));
  if (t.inferred >= 0) t.dims[t.inferred] = infer_entry(n->m, n->in[0]->type, &t);
  ONNX_GIVE(n, nn_b_reshape(n->b, n->in[0], t.rank, t.dims));
}

nn_status onnx_Flatten(onnx_node *n) {
  NN_TRY(onnx_need(n, 1, 1, 1));
  nn_type x = n->in[0]->type;
  int64_t axis = onnx_int(n, "axis", 1);
  if (axis < -x.rank || axis > x.rank)
    return onnx_fail(n, "axis is %lld, expected %d to %d", (long long)axis, -x.rank, x.rank);
  int at = (int)(axis < 0 ? axis + x.rank : axis);
  nn_dim dims[2] = {nn_dim_product(n->m, x.dims, at), nn_dim_product(n->m, x.dims + at, x.rank - at)};
  ONNX_GIVE(n, nn_b_reshape(n->b, n->in[0], 2, dims));
}

/* ---- Squeeze, Unsqueeze -------------------------------------------------------------------------------- */

/* axes: an attribute before version 13, then an input. Known while compiling (given), or only while running
   (open); neither if there are none. */
typedef struct axis_list {
  const int64_t *given;
  nn_value *open; /* i64[count] */
  int count;
} axis_list;

static nn_status get_axes(onnx_node *n, axis_list *axes) {
  int64_t count;
  *axes = (axis_list){0};
  if (n->since < 13)
    axes->given = onnx_ints(n, "axes", &axes->count);
  else if (n->nin <= 1 || !n->in[1])
    return NN_OK;
  else if (onnx_is_const(n, 1))
    return onnx_const_ints(n, 1, &axes->given, &axes->count);
  else {
    nn_type type = n->in[1]->type;
    NN_TRY(onnx_need_kind(n, 1, ONNX_INT));
    if (type.rank != 1 || !nn_type_static_count(type, &count) || count > NN_MAX_RANK)
      return onnx_unsupported(n, "axes is %s, expected a short vector whose length is known",
                              nn_type_text(n->m->arena, type));
    axes->count = (int)count;
    axes->open = onnx_to_i64(n, n->in[1]);
  }
  return onnx_failed(n) ? NN_FAIL : NN_OK;
}

/* i64[rank]: 1 where a dimension is among axes that are known only while running. */
static nn_value *axes_mask(onnx_node *n, const axis_list *axes, int rank) {
  nn_builder *b = n->b;
  nn_dim count = nn_dim_const(n->m, rank);
  nn_value *is_negative = nn_b_scalar_op(b, NN_OP_LT, axes->open, 0);
  nn_value *axis = nn_b_select(b, is_negative, nn_b_scalar_op(b, NN_OP_ADD, axes->open, rank), axes->open);
  nn_value *is_here = nn_b_binary(b, NN_OP_EQ, nn_b_unsqueeze(b, axis, 1), nn_b_iota(b, NN_I64, 1, &count, 0));
  return nn_b_reduce(b, NN_OP_REDUCE_MAX, nn_b_cast(b, is_here, NN_I64), (int64_t[]){0}, 1, false);
}

/* The longer shape that axes make of the shorter one: 1 where the mask says, else the next dimension of the
   shorter. An axis that does not exist leaves places for more than there are: gather reports it. */
static nn_value *longer_shape(onnx_node *n, nn_value *mask, const nn_dim *shorter, int nshorter) {
  nn_builder *b = n->b;
  nn_value *is_other = nn_b_binary(b, NN_OP_SUB, nn_b_scalar(b, NN_I64, 1), mask);
  nn_op *op = nn_b_begin(b, NN_OP_CUM_SUM, &is_other, 1, -1);
  if (!op) return NULL;
  nn_set_int(op, "exclusive", 1);
  nn_value *place = nn_b_binary(b, NN_OP_MUL, nn_b_end(b, op), is_other); /* 0 where it is not used */
  nn_value *in[2] = {nn_b_dims(b, shorter, nshorter), place};
  nn_value *size = nshorter ? nn_b_op(b, NN_OP_GATHER, in, 2) : mask;
  return nn_b_select(b, nn_b_cast(b, mask, NN_BOOL), nn_b_scalar(b, NN_I64, 1), size);
}

/* By axes known only while running. Unsqueeze's shape is bound then; Squeeze's must be declared, since what it
   drops decides which dimensions stay; that it fits is checked. */
static nn_value *reshape_by_open_axes(onnx_node *n, const axis_list *axes, int rank) {
  nn_type x = n->in[0]->type;
  const nn_dim *result = onnx_hints(n, 0, rank), *dims = result;
  bool grows = rank > x.rank;
  int k;
  for (int d = 0; d < rank && !grows; d++)
    if (!result[d]) {
      onnx_unsupported(n, "axes are known only while running, and the shape of the result is not declared");
      return NULL;
    }
  nn_value *longer =
      longer_shape(n, axes_mask(n, axes, grows ? rank : x.rank), grows ? x.dims : result, grows ? x.rank : rank);
  if (nn_b_elems(n->b, longer, 0, grows ? result : x.dims, &dims, &k) != NN_OK) return NULL;
  return nn_b_reshape(n->b, n->in[0], rank, grows ? dims : result);
}

/* Of how many dimensions only run time tells whether they are 1; the first of them. *open: NULL before. */
static int count_open(onnx_node *n, nn_type x, nn_dim *open) {
  int count = 0;
  for (int d = 0; d < x.rank; d++) {
    if (nn_check_known(n->m, "eq", x.dims[d], nn_dim_const(n->m, 1)) != 0) continue;
    if (!*open) *open = x.dims[d];
    count++;
  }
  return count;
}

/* Without axes every dimension of 1 goes. A symbol may turn out to be 1; the rank must not depend on that, so
   either all symbols stay or all go, which is checked while running: as the declared rank of the result says,
   else as those of the model's outputs say. */
static nn_status find_ones(onnx_node *n, nn_type x, int64_t *axes, int *count) {
  const nn_dim *dims;
  nn_dim open = NULL;
  int declared = onnx_hint(n, 0, &dims), nopen = count_open(n, x, &open), nones = 0;
  for (int d = 0; d < x.rank; d++) nones += nn_dim_is(x.dims[d], 1);
  const char *text = nn_type_text(n->m->arena, x);
  if (nopen && declared >= 0 && declared != x.rank - nones && declared != x.rank - nones - nopen)
    return onnx_unsupported(
        n, "without axes it drops the dimensions of %s that are 1, which is known only while running", text);
  bool drops = nopen && (declared < 0 ? onnx_drops_symbols(n) : declared < x.rank - nones);
  if (nopen && (declared < 0 || drops))
    onnx_warn(n, "without axes it drops the dimensions of %s that are 1: %s %s", text, nn_dim_text(n->m->arena, open),
              drops ? "must be 1, by the declared ranks" : "stays, also when it is 1");
  *count = 0;
  for (int d = 0; d < x.rank; d++) {
    int is_one = nn_check_known(n->m, "eq", x.dims[d], nn_dim_const(n->m, 1));
    if (is_one == 1 || (is_one == 0 && drops)) axes[(*count)++] = d;
  }
  return NN_OK;
}

nn_status onnx_Squeeze(onnx_node *n) {
  NN_TRY(onnx_need(n, 1, n->since < 13 ? 1 : 2, 1));
  nn_type x = n->in[0]->type;
  axis_list list;
  int64_t axes[NN_MAX_RANK];
  nn_dim dims[NN_MAX_RANK];
  int rank = 0;
  NN_TRY(get_axes(n, &list));
  if (list.count > x.rank) return onnx_fail(n, "axes has %d entries, the tensor has rank %d", list.count, x.rank);
  if (list.open) ONNX_GIVE(n, reshape_by_open_axes(n, &list, x.rank - list.count));
  if (list.given)
    NN_TRY(onnx_axes(n, list.given, list.count, x.rank, axes));
  else
    NN_TRY(find_ones(n, x, axes, &list.count));
  for (int d = 0, k = 0; d < x.rank; d++) {
    if (k < list.count && axes[k] == d) {
      k++;
      NN_TRY(nn_b_check(n->b, "eq", x.dims[d], nn_dim_const(n->m, 1),
                        nn_sprintf(n->m->arena, "dimension %d, which is squeezed,", d)));
    } else {
      dims[rank++] = x.dims[d];
    }
  }
  ONNX_GIVE(n, nn_b_reshape(n->b, n->in[0], rank, dims));
}

nn_status onnx_Unsqueeze(onnx_node *n) {
  NN_TRY(onnx_need(n, n->since < 13 ? 1 : 2, n->since < 13 ? 1 : 2, 1));
  nn_type x = n->in[0]->type;
  axis_list list;
  int64_t axes[NN_MAX_RANK];
  nn_dim dims[NN_MAX_RANK];
  NN_TRY(get_axes(n, &list));
  if (!list.given && !list.open) return onnx_fail(n, "attribute 'axes' is missing");
  int rank = x.rank + list.count;
  if (rank > NN_MAX_RANK) return onnx_fail(n, "the result has rank %d, at most %d is possible", rank, NN_MAX_RANK);
  if (list.open) ONNX_GIVE(n, reshape_by_open_axes(n, &list, rank));
  NN_TRY(onnx_axes(n, list.given, list.count, rank, axes));
  for (int d = 0, k = 0; d < rank; d++) {
    bool is_new = k < list.count && axes[k] == d;
    dims[d] = is_new ? nn_dim_const(n->m, 1) : x.dims[d - k];
    k += is_new;
  }
  ONNX_GIVE(n, nn_b_reshape(n->b, n->in[0], rank, dims));
}

/* ---- Expand -------------------------------------------------------------------------------------------- */

nn_status onnx_Expand(onnx_node *n) {
  NN_TRY(onnx_need(n, 2, 2, 1));
  nn_type x = n->in[0]->type;
  const nn_dim *wanted;
  nn_dim dims[NN_MAX_RANK];
  int count;
  NN_TRY(onnx_dims(n, 1, 0, false, &wanted, &count));
  int rank = count > x.rank ? count : x.rank;
  if (rank > NN_MAX_RANK) return onnx_fail(n, "the result has rank %d, at most %d is possible", rank, NN_MAX_RANK);
  const nn_dim *hints = onnx_hints(n, 0, rank);
  for (int d = 0; d < rank; d++) {
    nn_dim own = d >= rank - x.rank ? x.dims[d - (rank - x.rank)] : nn_dim_const(n->m, 1);
    nn_dim want = d >= rank - count ? wanted[d - (rank - count)] : nn_dim_const(n->m, 1);
    dims[d] = onnx_settle(n, nn_dim_broadcast(n->m, own, want), hints[d], "dimension of the expanded shape");
    if (!dims[d]) return NN_FAIL;
    /* the wanted size must itself broadcast to the result: 3 to 2 is no expansion */
    NN_TRY(nn_b_check(n->b, "broadcast", want, dims[d], "dimension of the wanted shape"));
  }
  ONNX_GIVE(n, nn_b_broadcast(n->b, n->in[0], rank, dims));
}

/* ---- generated tensors --------------------------------------------------------------------------------- */

/* A constant of one element as a scalar. */
static nn_value *scalar_const(onnx_node *n, nn_tensor *t) {
  int64_t count = 1;
  for (int i = 0; i < t->rank; i++) count *= t->dims[i];
  if (count == 1) return onnx_as_scalar(n, nn_b_const(n->b, t));
  onnx_fail(n, "attribute 'value' has %lld elements, expected 1", (long long)count);
  return NULL;
}

nn_status onnx_ConstantOfShape(onnx_node *n) {
  NN_TRY(onnx_need(n, 1, 1, 1));
  const nn_dim *dims;
  int rank;
  NN_TRY(onnx_dims(n, 0, 0, true, &dims, &rank));
  if (rank > NN_MAX_RANK) return onnx_fail(n, "the result has rank %d, at most %d is possible", rank, NN_MAX_RANK);
  nn_tensor *t = onnx_tensor(n, "value");
  if (onnx_failed(n)) return NN_FAIL;
  ONNX_GIVE(n, nn_b_broadcast(n->b, t ? scalar_const(n, t) : nn_b_scalar(n->b, NN_F32, 0), rank, dims));
}

static nn_tensor *tensor_of(onnx_node *n, nn_dtype dtype, int rank, int count) {
  int64_t dim = count;
  return nn_tensor_new(n->m, nn_type_static(n->m, dtype, rank, &dim));
}

/* Constant's attributes but for `value`: the kind of the attribute is the type of the tensor. */
static nn_tensor *constant_of_numbers(onnx_node *n) {
  int count = 1;
  bool one_int = onnx_has(n, "value_int"), one_float = onnx_has(n, "value_float");
  if (one_int || onnx_has(n, "value_ints")) {
    int64_t single = onnx_int(n, "value_int", 0);
    const int64_t *values = one_int ? &single : onnx_ints(n, "value_ints", &count);
    nn_tensor *t = values ? tensor_of(n, NN_I64, one_int ? 0 : 1, count) : NULL;
    for (int i = 0; t && i < count; i++) nn_store_i64(NN_I64, t->owned, (size_t)i, values[i]);
    return t;
  }
  if (!one_float && !onnx_has(n, "value_floats")) return NULL;
  double single = onnx_float(n, "value_float", 0);
  const double *values = one_float ? &single : onnx_floats(n, "value_floats", &count);
  nn_tensor *t = values ? tensor_of(n, NN_F32, one_float ? 0 : 1, count) : NULL;
  for (int i = 0; t && i < count; i++) nn_store_f64(NN_F32, t->owned, (size_t)i, values[i]);
  return t;
}

nn_status onnx_Constant(onnx_node *n) {
  NN_TRY(onnx_need(n, 0, 0, 1));
  if (onnx_has(n, "value_string") || onnx_has(n, "value_strings")) return onnx_unsupported(n, "a constant of strings");
  nn_tensor *t = onnx_has(n, "value")          ? onnx_tensor(n, "value")
                 : onnx_has(n, "sparse_value") ? onnx_tensor(n, "sparse_value")
                                               : constant_of_numbers(n);
  if (!t && !onnx_failed(n)) return onnx_fail(n, "none of the attributes value, sparse_value, value_int .. is there");
  ONNX_GIVE(n, onnx_wants(n, 0) ? onnx_named_const(n, 0, t) : nn_b_const(n->b, t));
}

/* ---- Range --------------------------------------------------------------------------------------------- */

/* max(ceil((limit - start) / delta), 0) of integers. */
static nn_status count_ints(onnx_node *n, nn_dim *count) {
  nn_module *m = n->m;
  const nn_dim *start, *limit, *delta;
  int k;
  NN_TRY(onnx_dims(n, 0, LEAST, false, &start, &k));
  NN_TRY(onnx_dims(n, 1, LEAST, false, &limit, &k));
  NN_TRY(onnx_dims(n, 2, LEAST, false, &delta, &k));
  if (nn_dim_is(delta[0], 0)) return onnx_fail(n, "delta is 0");
  nn_dim raw = nn_dim_ceildiv(m, nn_dim_sub(m, limit[0], start[0]), delta[0]);
  *count =
      onnx_settle(n, nn_dim_max(m, raw, nn_dim_const(m, 0)), onnx_hints(n, 0, 1)[0], "number of elements of the range");
  return *count ? NN_OK : NN_FAIL;
}

/* The same of floats: computed at once when known, else while running. */
static nn_status count_floats(onnx_node *n, nn_dim *count) {
  const double *start, *limit, *delta;
  int k;
  if (onnx_is_const(n, 0) && onnx_is_const(n, 1) && onnx_is_const(n, 2)) {
    NN_TRY(onnx_const_floats(n, 0, &start, &k));
    NN_TRY(onnx_const_floats(n, 1, &limit, &k));
    NN_TRY(onnx_const_floats(n, 2, &delta, &k));
    double number = ceil((*limit - *start) / *delta);
    if (!(fabs(number) < 0x1p40)) return onnx_fail(n, "a range from %g to %g by %g", *start, *limit, *delta);
    *count = nn_dim_const(n->m, number < 0 ? 0 : (int64_t)number);
    return NN_OK;
  }
  nn_value *v[3];
  for (int i = 0; i < 3; i++) v[i] = nn_b_cast(n->b, onnx_as_scalar(n, n->in[i]), NN_F64);
  nn_value *steps = nn_b_binary(n->b, NN_OP_DIV, nn_b_binary(n->b, NN_OP_SUB, v[1], v[0]), v[2]);
  nn_value *number = nn_b_scalar_op(n->b, NN_OP_MAX, nn_b_unary(n->b, NN_OP_CEIL, steps), 0);
  const nn_dim *dims;
  NN_TRY(nn_b_elems(n->b, nn_b_cast(n->b, number, NN_I64), 0, onnx_hints(n, 0, 1), &dims, &k));
  *count = dims[0];
  return NN_OK;
}

nn_status onnx_Range(onnx_node *n) {
  NN_TRY(onnx_need(n, 3, 3, 1));
  NN_TRY(onnx_same_dtype(n, 0, 2));
  nn_dtype t = n->in[0]->type.dtype;
  nn_dim count;
  for (int i = 0; i < 3; i++) {
    NN_TRY(onnx_need_kind(n, i, ONNX_NUMBER));
    NN_TRY(onnx_need_rank(n, i, 0, 1));
    if (!nn_dim_is(nn_type_count(n->m, n->in[i]->type), 1))
      return onnx_fail(n, "input %d has more than one element", i);
  }
  NN_TRY(nn_dtype_is_float(t) ? count_floats(n, &count) : count_ints(n, &count));
  nn_value *steps = nn_b_binary(n->b, NN_OP_MUL, nn_b_iota(n->b, t, 1, &count, 0), onnx_as_scalar(n, n->in[2]));
  ONNX_GIVE(n, nn_b_binary(n->b, NN_OP_ADD, steps, onnx_as_scalar(n, n->in[0])));
}

nn_status onnx_EyeLike(onnx_node *n) {
  NN_TRY(onnx_need(n, 1, 1, 1));
  NN_TRY(onnx_need_rank(n, 0, 2, 2));
  nn_type x = n->in[0]->type;
  nn_dtype t = x.dtype;
  if (onnx_has(n, "dtype") && !nn_dtype_from_onnx((int)onnx_int(n, "dtype", 0), &t))
    return onnx_fail(n, "attribute 'dtype' is no element type");
  nn_value *row = nn_b_iota(n->b, NN_I64, 2, x.dims, 0), *column = nn_b_iota(n->b, NN_I64, 2, x.dims, 1);
  nn_value *diagonal = nn_b_scalar_op(n->b, NN_OP_ADD, row, (double)onnx_int(n, "k", 0));
  ONNX_GIVE(n, nn_b_cast(n->b, nn_b_binary(n->b, NN_OP_EQ, diagonal, column), t));
}
