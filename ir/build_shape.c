/* Builders of shapes: checks, broadcast, reshape and other movement, matmul with numpy's ranks, and the
   contents of shape tensors. What symbols leave open is checked while running: the ops' shape rules note
   it (nn_need_check), nn_b_end emits it. */
#include "ir/ir.h"

#include <string.h>

static const char *dim_text(nn_builder *b, nn_dim d) { return nn_dim_text(b->graph->module->arena, d); }

static bool same_dims(nn_type type, int rank, const nn_dim *dims) {
  return type.rank == rank && (rank == 0 || memcmp(type.dims, dims, (size_t)rank * sizeof *dims) == 0);
}

nn_status nn_b_check(nn_builder *b, const char *kind, nn_dim found, nn_dim expected, const char *what) {
  if (nn_dim_is_overflow(found) || nn_dim_is_overflow(expected))
    return nn_b_fail(b, "%s: a size overflows 64 bits", what);
  int known = nn_check_known(b->graph->module, kind, found, expected);
  if (known == 0) nn_b_emit_check(b, (nn_open_check){kind, found, expected, what});
  if (known >= 0) return NN_OK;
  const char *relation = kind[0] == 'l' ? "at most " : kind[0] == 'b' ? "1 or " : "";
  return nn_b_fail(b, "%s is %s, expected %s%s", what, dim_text(b, found), relation, dim_text(b, expected));
}

nn_value *nn_b_dims(nn_builder *b, const nn_dim *dims, int count) {
  bool is_const = true;
  int64_t *values = NN_NEW_ARRAY(b->graph->module->arena, int64_t, count);
  for (int i = 0; i < count; i++) is_const = nn_dim_is_const(dims[i], &values[i]) && is_const;
  if (is_const) return nn_b_ints(b, NN_I64, values, count);
  nn_op *op = nn_b_begin(b, NN_OP_SHAPE_OF, NULL, 0, -1);
  nn_set_dims(op, "dims", dims, count);
  return nn_b_end(b, op);
}

/* ---- broadcast ------------------------------------------------------------------------------------ */

nn_value *nn_b_broadcast(nn_builder *b, nn_value *x, int rank, const nn_dim *dims) {
  if (!x || same_dims(x->type, rank, dims)) return x;
  nn_op *op = nn_b_begin(b, NN_OP_BROADCAST, &x, 1, -1);
  nn_set_dims(op, "dims", dims, rank);
  return nn_b_end(b, op);
}

static int common_rank(nn_value *const *values, int count) {
  int rank = 0;
  for (int i = 0; i < count; i++) {
    if (values[i] && values[i]->type.rank > rank) rank = values[i]->type.rank;
  }
  return rank;
}

static const char *shapes_text(nn_builder *b, nn_value *const *values, int count) {
  nn_arena *arena = b->graph->module->arena;
  const char *text = NULL;
  for (int i = 0; i < count; i++) {
    if (!values[i]) continue;
    const char *type = nn_type_text(arena, values[i]->type);
    text = text ? nn_sprintf(arena, "%s, %s", text, type) : type;
  }
  return text ? text : "";
}

/* *dim and other as one dim, by numpy's rule; values are what to name in the report. */
static nn_status merge_dim(nn_builder *b, nn_dim *dim, nn_dim other, nn_value *const *values, int count) {
  nn_module *m = b->graph->module;
  nn_dim a = *dim, one = nn_dim_const(m, 1);
  if (a == other) return NN_OK;
  bool is_never_one = nn_check_known(m, "eq", a, one) < 0 && nn_check_known(m, "eq", other, one) < 0;
  *dim = is_never_one ? nn_dim_prefer(m, a, other) : nn_dim_broadcast(m, a, other);
  if (!is_never_one || nn_check_known(m, "eq", a, other) >= 0) return NN_OK;
  return nn_b_fail(b, "shapes %s do not broadcast: found %s and %s, expected equal dimensions or 1",
                   shapes_text(b, values, count), dim_text(b, a), dim_text(b, other));
}

/* dims[0..rank) of the common shape. */
static nn_status common_dims(nn_builder *b, nn_value *const *values, int count, int rank, nn_dim *dims) {
  for (int d = 0; d < rank; d++) dims[d] = nn_dim_const(b->graph->module, 1);
  for (int i = 0; i < count; i++) {
    int lead = values[i] ? rank - values[i]->type.rank : rank;
    for (int d = lead; d < rank; d++) {
      NN_TRY(merge_dim(b, &dims[d], values[i]->type.dims[d - lead], values, count));
    }
  }
  return NN_OK;
}

nn_status nn_b_broadcast_all(nn_builder *b, nn_value **values, int count) {
  nn_dim dims[NN_MAX_RANK];
  int rank = common_rank(values, count);
  NN_TRY(common_dims(b, values, count, rank, dims));
  for (int i = 0; i < count; i++) {
    if (!values[i]) continue;
    values[i] = nn_b_broadcast(b, values[i], rank, dims);
    if (!values[i]) return NN_FAIL;
  }
  return NN_OK;
}

/* ---- movement ------------------------------------------------------------------------------------- */

/* A constant of another shape reads the same bytes: no op, so that weights stay constants. */
static nn_value *reshape_const(nn_builder *b, nn_value *x, int rank, const nn_dim *dims) {
  nn_module *m = b->graph->module;
  int64_t count, wanted;
  nn_type type = nn_type_make(m, x->type.dtype, rank, dims);
  if (!nn_type_static_count(type, &wanted) || !nn_type_static_count(x->type, &count) || count != wanted) return NULL;
  for (int d = 0; d < rank; d++) {
    if (nn_dim_value(dims[d]) < 0) return NULL;
  }
  return nn_b_const(b, nn_tensor_borrow(m, type, x->tensor->data, x->tensor->file, x->tensor->offset));
}

nn_value *nn_b_reshape(nn_builder *b, nn_value *x, int rank, const nn_dim *dims) {
  if (!x || same_dims(x->type, rank, dims)) return x;
  if (x->kind == NN_CONST && rank <= NN_MAX_RANK) {
    nn_value *constant = reshape_const(b, x, rank, dims);
    if (constant) return constant;
  }
  nn_op *op = nn_b_begin(b, NN_OP_RESHAPE, &x, 1, -1);
  nn_set_dims(op, "dims", dims, rank);
  return nn_b_end(b, op);
}

nn_value *nn_b_transpose(nn_builder *b, nn_value *x, const int64_t *perm) {
  if (!x) return NULL;
  bool is_identity = true;
  for (int d = 0; d < x->type.rank; d++) is_identity = is_identity && perm[d] == d;
  if (is_identity) return x;
  nn_op *op = nn_b_begin(b, NN_OP_TRANSPOSE, &x, 1, -1);
  nn_set_ints(op, "perm", perm, x->type.rank);
  return nn_b_end(b, op);
}

nn_value *nn_b_unsqueeze(nn_builder *b, nn_value *x, int axis) {
  if (!x) return NULL;
  int rank = x->type.rank;
  nn_dim dims[NN_MAX_RANK];
  if (axis < 0) axis += rank + 1;
  if (axis < 0 || axis > rank || rank == NN_MAX_RANK) {
    nn_b_fail(b, "a new axis at %d of rank %d, expected 0 to %d and a rank of at most %d", axis, rank, rank,
              NN_MAX_RANK);
    return NULL;
  }
  for (int d = 0; d <= rank; d++) {
    dims[d] = d < axis ? x->type.dims[d] : d == axis ? nn_dim_const(b->graph->module, 1) : x->type.dims[d - 1];
  }
  return nn_b_reshape(b, x, rank + 1, dims);
}

nn_value *nn_b_slice(nn_builder *b, nn_value *x, int axis, nn_dim start, nn_dim count, nn_dim step) {
  if (!x) return NULL;
  int rank = x->type.rank;
  nn_dim starts[NN_MAX_RANK], steps[NN_MAX_RANK], dims[NN_MAX_RANK];
  if (axis < -rank || axis >= rank) {
    nn_b_fail(b, "slice along axis %d, expected %d to %d", axis, -rank, rank - 1);
    return NULL;
  }
  if (axis < 0) axis += rank;
  if (nn_dim_is(start, 0) && nn_dim_is(step, 1) && count == x->type.dims[axis]) return x;
  for (int d = 0; d < rank; d++) {
    starts[d] = d == axis ? start : nn_dim_const(b->graph->module, 0);
    steps[d] = d == axis ? step : nn_dim_const(b->graph->module, 1);
    dims[d] = d == axis ? count : x->type.dims[d];
  }
  nn_op *op = nn_b_begin(b, NN_OP_SLICE, &x, 1, -1);
  nn_set_dims(op, "starts", starts, rank);
  nn_set_dims(op, "steps", steps, rank);
  nn_set_dims(op, "dims", dims, rank);
  return nn_b_end(b, op);
}

nn_value *nn_b_concat(nn_builder *b, nn_value *const *parts, int count, int axis) {
  if (count == 1) return parts[0];
  nn_op *op = nn_b_begin(b, NN_OP_CONCAT, parts, count, -1);
  if (!op) return NULL;
  int rank = count ? parts[0]->type.rank : 0;
  nn_set_int(op, "axis", axis < 0 ? axis + rank : axis);
  return nn_b_end(b, op);
}

/* ---- matmul --------------------------------------------------------------------------------------- */

/* x with `rank` dims, new ones of 1 in front. */
static nn_value *with_rank(nn_builder *b, nn_value *x, int rank) {
  nn_dim dims[NN_MAX_RANK];
  if (!x || x->type.rank >= rank) return x;
  int lead = rank - x->type.rank;
  for (int d = 0; d < rank; d++) dims[d] = d < lead ? nn_dim_const(b->graph->module, 1) : x->type.dims[d - lead];
  return nn_b_reshape(b, x, rank, dims);
}

/* Batch dims that are neither 1 nor the result's are broadcast, so that matmul sees only those two. */
static nn_value *with_batch(nn_builder *b, nn_value *x, const nn_dim *batch) {
  nn_dim dims[NN_MAX_RANK];
  bool is_same = true;
  int nbatch = x->type.rank - 2;
  for (int d = 0; d < x->type.rank; d++) {
    nn_dim dim = x->type.dims[d];
    bool is_open = d < nbatch && dim != batch[d] && !nn_dim_is(dim, 1);
    dims[d] = is_open ? batch[d] : dim;
    is_same = is_same && !is_open;
  }
  return is_same ? x : nn_b_broadcast(b, x, x->type.rank, dims);
}

static nn_status align_batches(nn_builder *b, nn_value **x, nn_value **y) {
  nn_dim batch[NN_MAX_RANK];
  nn_value *both[2] = {*x, *y};
  for (int d = 0; d < (*x)->type.rank - 2; d++) {
    batch[d] = (*x)->type.dims[d];
    NN_TRY(merge_dim(b, &batch[d], (*y)->type.dims[d], both, 2));
  }
  *x = with_batch(b, *x, batch);
  *y = with_batch(b, *y, batch);
  return *x && *y ? NN_OK : NN_FAIL;
}

/* Takes out the axes that rank-1 operands lent: row M of x, column N of y. */
static nn_value *drop_lent_axes(nn_builder *b, nn_value *z, bool drop_row, bool drop_column) {
  nn_dim dims[NN_MAX_RANK];
  if (!z) return NULL;
  int rank = 0, last = z->type.rank - 1;
  for (int d = 0; d <= last; d++) {
    if (!(drop_row && d == last - 1) && !(drop_column && d == last)) dims[rank++] = z->type.dims[d];
  }
  return nn_b_reshape(b, z, rank, dims);
}

nn_value *nn_b_matmul(nn_builder *b, nn_value *x, nn_value *y) {
  if (!x || !y) return NULL;
  bool x_is_vector = x->type.rank == 1, y_is_vector = y->type.rank == 1;
  if (x->type.rank == 0 || y->type.rank == 0) {
    nn_b_fail(b, "matmul of ranks %d and %d, expected 1 or more", x->type.rank, y->type.rank);
    return NULL;
  }
  if (x_is_vector) x = nn_b_unsqueeze(b, x, 0);
  if (y_is_vector) y = nn_b_unsqueeze(b, y, 1);
  if (!x || !y) return NULL;
  int rank = x->type.rank > y->type.rank ? x->type.rank : y->type.rank;
  x = with_rank(b, x, rank);
  y = with_rank(b, y, rank);
  if (!x || !y || align_batches(b, &x, &y) != NN_OK) return NULL;
  nn_value *in[2] = {x, y};
  return drop_lent_axes(b, nn_b_op(b, NN_OP_MATMUL, in, 2), x_is_vector, y_is_vector);
}

/* ---- contents of shape tensors -------------------------------------------------------------------- */

static nn_status check_elems_type(nn_builder *b, nn_type type, int64_t *count) {
  const char *text = nn_type_text(b->graph->module->arena, type);
  if (!nn_dtype_is_int(type.dtype)) return nn_b_fail(b, "sizes are given as %s, expected integers", text);
  if (type.rank > 1) return nn_b_fail(b, "sizes are given as %s of rank %d, expected rank 0 or 1", text, type.rank);
  if (!nn_type_static_count(type, count)) {
    return nn_b_fail(b, "the number of sizes in %s is only known while running, expected a constant", text);
  }
  if (*count <= NN_MAX_ELEMS) return NN_OK;
  return nn_b_fail(b, "%lld sizes are given as %s, expected at most %d", (long long)*count, text, NN_MAX_ELEMS);
}

static nn_status check_known_elems(nn_builder *b, const nn_dim *elems, int count, int64_t min) {
  nn_module *m = b->graph->module;
  for (int i = 0; i < count && min > INT64_MIN; i++) {
    const char *what = nn_sprintf(m->arena, "%lld, the least value that size %d may have,", (long long)min, i);
    int64_t value;
    if (nn_dim_is_const(elems[i], &value) && value < min) {
      return nn_b_fail(b, "size %d is %lld, expected at least %lld", i, (long long)value, (long long)min);
    }
    NN_TRY(nn_b_check(b, "le", nn_dim_const(m, min), elems[i], what));
  }
  return NN_OK;
}

/* A symbol that is bound while running; min is its bound at once, since simplification uses it. */
static nn_dim bound_symbol(nn_module *m, int64_t min) {
  nn_dim d = nn_dim_fresh(m, NULL);
  m->symbols[d->terms[0].atoms[0]->symbol]->min = min;
  return d;
}

/* Right after v is made, so that every later op may use the symbols. */
static nn_builder after_value(const nn_builder *b, const nn_value *v) {
  nn_builder at = *b;
  if (v->kind == NN_RESULT && v->def->graph == b->graph)
    at.before = v->def->next;
  else
    at.before = b->graph->first;
  return at;
}

static nn_status bind_elems(nn_builder *b, nn_value *v, int64_t min, const nn_dim *dims, int count) {
  nn_builder at = after_value(b, v);
  nn_dim dim = nn_dim_const(b->graph->module, count);
  nn_value *ints = nn_b_reshape(&at, nn_b_cast(&at, v, NN_I64), 1, &dim);
  nn_op *op = nn_b_begin(&at, NN_OP_BIND_DIMS, &ints, 1, 0);
  if (!op) return NN_FAIL;
  nn_set_dims(op, "dims", dims, count);
  nn_set_int(op, "min", min);
  return nn_b_end_all(&at, op, NULL);
}

nn_status nn_b_elems(nn_builder *b, nn_value *v, int64_t min, const nn_dim *hints, const nn_dim **dims, int *count) {
  if (!v) return NN_FAIL;
  nn_module *m = b->graph->module;
  int64_t number;
  NN_TRY(check_elems_type(b, v->type, &number));
  *count = (int)number;
  *dims = v->elems;
  if (v->elems) return check_known_elems(b, v->elems, *count, min);
  nn_dim *fresh = NN_NEW_ARRAY(m->arena, nn_dim, *count);
  for (int i = 0; i < *count; i++) fresh[i] = hints && hints[i] ? hints[i] : bound_symbol(m, min);
  NN_TRY(bind_elems(b, v, min, fresh, *count));
  v->elems = fresh;
  *dims = fresh;
  return NN_OK;
}
