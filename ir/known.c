/* Known contents of small integer and bool tensors, as expressions of symbols: what shape arithmetic in a
   model (Shape, Gather, Concat, Reshape ...) comes down to. An element that is not known makes the whole
   tensor unknown. Single elements are computed in known_elem.c; here is which of them meet. */
#include "ir/ir.h"

/* Row-major position in a static shape; -1 if an index is out of range or the shape is not static. */
static int64_t flatten(nn_type type, const int64_t *index) {
  int64_t flat = 0, dim;
  for (int d = 0; d < type.rank; d++) {
    if (!nn_dim_is_const(type.dims[d], &dim) || index[d] < 0 || index[d] >= dim) return -1;
    flat = flat * dim + index[d];
  }
  return flat;
}

static void unflatten(nn_type type, int64_t flat, int64_t *index) {
  for (int d = type.rank - 1; d >= 0; d--) {
    int64_t dim = nn_dim_value(type.dims[d]);
    index[d] = flat % dim;
    flat /= dim;
  }
}

/* Element of operand i at these indices, or NULL. */
static nn_dim elem_at(const nn_op *op, int i, const int64_t *index) {
  const nn_value *v = op->in[i];
  int64_t flat = v->elems ? flatten(v->type, index) : -1;
  return flat >= 0 ? v->elems[flat] : NULL;
}

static bool elem_number(const nn_op *op, int i, const int64_t *index, int64_t *number) {
  nn_dim d = elem_at(op, i, index);
  return d && nn_dim_is_const(d, number);
}

/* ---- movement: which element of which operand is the result's at `index` --------------------------- */

static nn_dim known_broadcast(const nn_op *op, const int64_t *index) {
  nn_type x = op->in[0]->type;
  int64_t at[NN_MAX_RANK];
  int lead = op->out[0]->type.rank - x.rank;
  for (int d = 0; d < x.rank; d++) at[d] = nn_dim_is(x.dims[d], 1) ? 0 : index[lead + d];
  return elem_at(op, 0, at);
}

static nn_dim known_transpose(const nn_op *op, const int64_t *index) {
  const int64_t *perm = nn_attr_ints(op, "perm", NULL);
  int64_t at[NN_MAX_RANK];
  for (int d = 0; d < op->in[0]->type.rank; d++) at[perm[d]] = index[d];
  return elem_at(op, 0, at);
}

static nn_dim known_slice(const nn_op *op, const int64_t *index) {
  const nn_dim *starts = nn_attr_dims(op, "starts", NULL), *steps = nn_attr_dims(op, "steps", NULL);
  int64_t at[NN_MAX_RANK];
  for (int d = 0; d < op->in[0]->type.rank; d++) {
    int64_t start, step, offset;
    if (!nn_dim_is_const(starts[d], &start) || !nn_dim_is_const(steps[d], &step)) return NULL;
    if (__builtin_mul_overflow(step, index[d], &offset) || __builtin_add_overflow(start, offset, &at[d])) return NULL;
  }
  return elem_at(op, 0, at);
}

static nn_dim known_pad(const nn_op *op, const int64_t *index) {
  const nn_dim *before = nn_attr_dims(op, "before", NULL);
  nn_type x = op->in[0]->type;
  int64_t at[NN_MAX_RANK];
  bool is_inside = true;
  if (nn_attr_str(op, "mode")[0] != 'c') return NULL;
  for (int d = 0; d < x.rank; d++) {
    int64_t lead, dim;
    if (!nn_dim_is_const(before[d], &lead) || !nn_dim_is_const(x.dims[d], &dim)) return NULL;
    if (__builtin_sub_overflow(index[d], lead, &at[d])) return NULL;
    is_inside = is_inside && at[d] >= 0 && at[d] < dim;
  }
  return is_inside ? elem_at(op, 0, at) : elem_at(op, 1, NULL);
}

static nn_dim known_concat(const nn_op *op, const int64_t *index) {
  int rank = op->out[0]->type.rank;
  int64_t axis = nn_attr_int(op, "axis"), at[NN_MAX_RANK];
  if (axis < 0) axis += rank;
  for (int d = 0; d < rank; d++) at[d] = index[d];
  for (int i = 0; i < op->nin; i++) {
    int64_t dim;
    if (!nn_dim_is_const(op->in[i]->type.dims[axis], &dim)) return NULL;
    if (at[axis] < dim) return elem_at(op, i, at);
    at[axis] -= dim;
  }
  return NULL;
}

static nn_dim known_tile(const nn_op *op, const int64_t *index) {
  nn_type x = op->in[0]->type;
  int64_t at[NN_MAX_RANK];
  for (int d = 0; d < x.rank; d++) {
    int64_t dim;
    if (!nn_dim_is_const(x.dims[d], &dim) || dim == 0) return NULL;
    at[d] = index[d] % dim;
  }
  return elem_at(op, 0, at);
}

static nn_dim known_gather(const nn_op *op, const int64_t *index) {
  nn_type x = op->in[0]->type;
  int64_t axis = nn_attr_int(op, "axis"), at[NN_MAX_RANK], chosen, dim;
  int nindices = op->in[1]->type.rank;
  if (axis < 0) axis += x.rank;
  if (!elem_number(op, 1, index + axis, &chosen) || !nn_dim_is_const(x.dims[axis], &dim)) return NULL;
  for (int d = 0; d < x.rank; d++) at[d] = d < axis ? index[d] : d > axis ? index[d - 1 + nindices] : chosen;
  if (chosen < 0) at[axis] += dim;
  return elem_at(op, 0, at);
}

static nn_dim known_gather_elements(const nn_op *op, const int64_t *index) {
  nn_type x = op->in[0]->type;
  int64_t axis = nn_attr_int(op, "axis"), at[NN_MAX_RANK], dim;
  if (axis < 0) axis += x.rank;
  for (int d = 0; d < x.rank; d++) at[d] = index[d];
  if (!elem_number(op, 1, index, &at[axis]) || !nn_dim_is_const(x.dims[axis], &dim)) return NULL;
  if (at[axis] < 0) at[axis] += dim;
  return elem_at(op, 0, at);
}

/* ---- sums and the like ---------------------------------------------------------------------------- */

/* acc combined with next; either may be NULL for "unknown". */
static nn_dim combine(const nn_op *op, nn_opcode code, nn_dim acc, nn_dim next) {
  nn_dim both[2] = {acc, next};
  return acc && next ? nn_known_elem(op->graph->module, code, op->out[0]->type.dtype, both, 2) : NULL;
}

/* The operand's shape with the kept dims of the result's index fixed; the others count through. */
typedef struct reduction {
  nn_opcode code;
  bool is_reduced[NN_MAX_RANK];
  int64_t at[NN_MAX_RANK];
} reduction;

static nn_opcode combining_op(nn_opcode code) {
  switch (code) {
  case NN_OP_REDUCE_SUM: return NN_OP_ADD;
  case NN_OP_REDUCE_PROD: return NN_OP_MUL;
  case NN_OP_REDUCE_MAX: return NN_OP_MAX;
  default: return NN_OP_MIN;
  }
}

static void start_reduction(const nn_op *op, const int64_t *index, reduction *r) {
  int naxes, kept = 0;
  const int64_t *axes = nn_attr_ints(op, "axes", &naxes);
  bool keepdims = nn_attr_int(op, "keepdims") != 0;
  *r = (reduction){.code = combining_op(op->code)};
  for (int i = 0; i < naxes; i++) r->is_reduced[axes[i]] = true;
  for (int d = 0; d < op->in[0]->type.rank; d++) {
    if (!r->is_reduced[d]) r->at[d] = index[kept];
    if (!r->is_reduced[d] || keepdims) kept++;
  }
}

/* The next element of the reduction; false after the last. */
static bool step_reduction(nn_type x, reduction *r) {
  for (int d = x.rank - 1; d >= 0; d--) {
    if (!r->is_reduced[d]) continue;
    if (++r->at[d] < nn_dim_value(x.dims[d])) return true;
    r->at[d] = 0;
  }
  return false;
}

static nn_dim known_reduce(const nn_op *op, const int64_t *index) {
  nn_type x = op->in[0]->type;
  int64_t count;
  reduction r;
  if (!op->in[0]->elems || !nn_type_static_count(x, &count)) return NULL;
  start_reduction(op, index, &r);
  if (count == 0) { /* nothing: 0 or 1; the least value of a type is not a size */
    bool has_neutral = r.code == NN_OP_ADD || r.code == NN_OP_MUL;
    return has_neutral ? nn_dim_const(op->graph->module, r.code == NN_OP_MUL) : NULL;
  }
  nn_dim acc = elem_at(op, 0, r.at);
  while (step_reduction(x, &r)) acc = combine(op, r.code, acc, elem_at(op, 0, r.at));
  return acc;
}

static nn_dim known_cum_sum(const nn_op *op, const int64_t *index) {
  nn_type x = op->in[0]->type;
  int64_t axis = nn_attr_int(op, "axis"), at[NN_MAX_RANK], dim;
  if (axis < 0) axis += x.rank;
  if (!nn_dim_is_const(x.dims[axis], &dim)) return NULL;
  for (int d = 0; d < x.rank; d++) at[d] = index[d];
  bool reverse = nn_attr_int(op, "reverse") != 0;
  int64_t skip = nn_attr_int(op, "exclusive") != 0;
  int64_t first = reverse ? index[axis] + skip : 0, end = reverse ? dim : index[axis] + 1 - skip;
  nn_dim acc = nn_dim_const(op->graph->module, 0);
  for (at[axis] = first; at[axis] < end; at[axis]++) acc = combine(op, NN_OP_ADD, acc, elem_at(op, 0, at));
  return acc;
}

static nn_dim known_iota(const nn_op *op, const int64_t *index) {
  int64_t axis = nn_attr_int(op, "axis");
  nn_dim number = nn_dim_const(op->graph->module, index[axis < 0 ? axis + op->out[0]->type.rank : axis]);
  return nn_known_elem(op->graph->module, NN_OP_CAST, op->out[0]->type.dtype, &number, 1);
}

/* ---- whole tensors -------------------------------------------------------------------------------- */

static nn_dim known_pointwise(const nn_op *op, int64_t flat) {
  nn_dim in[3];
  if (op->nin > 3) return NULL;
  for (int i = 0; i < op->nin; i++) {
    int64_t count;
    if (!op->in[i]->elems || !nn_type_static_count(op->in[i]->type, &count) || flat >= count) return NULL;
    in[i] = op->in[i]->elems[flat];
  }
  return nn_known_elem(op->graph->module, op->code, op->out[0]->type.dtype, in, op->nin);
}

static nn_dim known_reshape(const nn_op *op, int64_t flat) {
  int64_t count;
  const nn_value *x = op->in[0];
  return x->elems && nn_type_static_count(x->type, &count) && flat < count ? x->elems[flat] : NULL;
}

typedef nn_dim known_fn(const nn_op *op, const int64_t *index);

static known_fn *known_fn_of(nn_opcode code) {
  switch (code) {
  case NN_OP_BROADCAST: return known_broadcast;
  case NN_OP_TRANSPOSE: return known_transpose;
  case NN_OP_SLICE: return known_slice;
  case NN_OP_PAD: return known_pad;
  case NN_OP_CONCAT: return known_concat;
  case NN_OP_TILE: return known_tile;
  case NN_OP_IOTA: return known_iota;
  case NN_OP_GATHER: return known_gather;
  case NN_OP_GATHER_ELEMENTS: return known_gather_elements;
  case NN_OP_REDUCE_SUM:
  case NN_OP_REDUCE_PROD:
  case NN_OP_REDUCE_MAX:
  case NN_OP_REDUCE_MIN: return known_reduce;
  case NN_OP_CUM_SUM: return known_cum_sum;
  default: return NULL;
  }
}

static nn_dim known_at(const nn_op *op, known_fn *fn, int64_t flat) {
  int64_t index[NN_MAX_RANK];
  if (op->code == NN_OP_SHAPE_OF) return nn_attr_dims(op, "dims", NULL)[flat];
  if (op->code == NN_OP_RESHAPE) return known_reshape(op, flat);
  if (!fn) return known_pointwise(op, flat);
  unflatten(op->out[0]->type, flat, index);
  return fn(op, index);
}

/* What is known of a result stays known when its op says nothing: nn_b_elems may have bound it. */
void nn_op_known_elems(nn_op *op) {
  int64_t count;
  if (op->nout == 0) return;
  nn_value *y = op->out[0];
  known_fn *fn = known_fn_of(op->code);
  bool is_handled =
      fn || op->code == NN_OP_SHAPE_OF || op->code == NN_OP_RESHAPE || (nn_op_infos[op->code].flags & NN_POINTWISE);
  if (!is_handled || (!nn_dtype_is_int(y->type.dtype) && y->type.dtype != NN_BOOL)) return;
  if (!nn_type_static_count(y->type, &count) || count > NN_MAX_ELEMS) return;
  nn_dim *elems = NN_NEW_ARRAY(op->graph->module->arena, nn_dim, count ? count : 1);
  for (int64_t i = 0; i < count; i++) {
    elems[i] = known_at(op, fn, i);
    if (!elems[i]) return;
  }
  y->elems = elems;
}
