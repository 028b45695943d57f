/* Ops that move elements: the result at some indices is the operand at others. */
#include "codegen/codegen.h"

#include <string.h>

static bool is_zero(nn_dim d) { return nn_dim_is(d, 0); }

static nn_x *zero_of(nn_lower *L, const nn_op *op) { return nn_number(L, op->out[0]->type.dtype, 0); }

/* ---- broadcast, transpose, slice, tile ----------------------------------------------------------- */

/* Where one of the dimensions is symbolic, it is not known before the run whether it is repeated: the
   index min(i, dim - 1) is right in both cases. */
nn_x *elem_broadcast(nn_lower *L, nn_op *op, nn_x *const *index) {
  nn_type from = op->in[0]->type, to = op->out[0]->type;
  nn_x *inner[NN_MAX_RANK];
  for (int i = 0; i < from.rank; i++) {
    nn_x *at = index[to.rank - from.rank + i];
    nn_dim dim = from.dims[i];
    if (nn_dim_is(dim, 1))
      inner[i] = nn_x_int(L->kernel, 0);
    else if (dim == to.dims[to.rank - from.rank + i] || nn_dim_is_const(dim, NULL))
      inner[i] = at;
    else
      inner[i] = nn_xi_min(L->kernel, at, nn_xi_addc(L->kernel, nn_dim_x(L, dim), -1));
  }
  return nn_read(L, op->in[0], inner);
}

nn_x *elem_transpose(nn_lower *L, nn_op *op, nn_x *const *index) {
  const int64_t *perm = nn_attr_ints(op, "perm", NULL);
  nn_x *inner[NN_MAX_RANK];
  for (int i = 0; i < op->out[0]->type.rank; i++) inner[perm[i]] = index[i];
  return nn_read(L, op->in[0], inner);
}

nn_x *elem_slice(nn_lower *L, nn_op *op, nn_x *const *index) {
  const nn_dim *starts = nn_attr_dims(op, "starts", NULL), *steps = nn_attr_dims(op, "steps", NULL);
  nn_x *inner[NN_MAX_RANK];
  for (int i = 0; i < op->out[0]->type.rank; i++) {
    nn_x *moved = nn_xi_mul(L->kernel, index[i], nn_dim_x(L, steps[i]));
    inner[i] = nn_xi_add(L->kernel, moved, nn_dim_x(L, starts[i]));
  }
  return nn_read(L, op->in[0], inner);
}

nn_x *elem_tile(nn_lower *L, nn_op *op, nn_x *const *index) {
  nn_type from = op->in[0]->type, to = op->out[0]->type;
  nn_x *inner[NN_MAX_RANK];
  for (int i = 0; i < to.rank; i++)
    inner[i] = from.dims[i] == to.dims[i] ? index[i] : nn_xi_mod(L->kernel, index[i], nn_dim_x(L, from.dims[i]));
  return nn_read(L, op->in[0], inner);
}

/* ---- reshape ------------------------------------------------------------------------------------- */

/* The dimensions from[*i..] and to[*j..] up to where their products agree; everything that is left if they
   never can be told to. */
void nn_reshape_run(nn_module *m, nn_type from, nn_type to, int *i, int *j) {
  nn_dim one = nn_dim_const(m, 1), a = *i < from.rank ? from.dims[(*i)++] : one,
         b = *j < to.rank ? to.dims[(*j)++] : one;
  while (a != b) {
    nn_dim quotient = NULL;
    bool more_a = *i < from.rank, more_b = *j < to.rank;
    if (more_a && nn_dim_divides(m, b, a, &quotient))
      a = nn_dim_mul(m, a, from.dims[(*i)++]);
    else if (more_b && nn_dim_divides(m, a, b, &quotient))
      b = nn_dim_mul(m, b, to.dims[(*j)++]);
    else if (more_a && (!more_b || *i <= *j))
      a = nn_dim_mul(m, a, from.dims[(*i)++]);
    else if (more_b)
      b = nn_dim_mul(m, b, to.dims[(*j)++]);
    else
      return;
  }
}

static nn_type run_of(nn_type type, int begin, int end) {
  nn_type run = {.dtype = type.dtype, .rank = end - begin, .dims = type.dims + begin};
  return run;
}

static void reshape_index(nn_lower *L, nn_type from, nn_type to, nn_x *const *index, nn_x **inner) {
  int i = 0, j = 0;
  while (i < from.rank || j < to.rank) {
    int i0 = i, j0 = j;
    nn_reshape_run(L->module, from, to, &i, &j);
    if (i == i0) continue; /* ones of the result */
    nn_x *flat = nn_flat_index(L, run_of(to, j0, j), index + j0);
    nn_unflatten(L, run_of(from, i0, i), flat, inner + i0);
  }
}

nn_x *elem_reshape(nn_lower *L, nn_op *op, nn_x *const *index) {
  nn_x *inner[NN_MAX_RANK];
  reshape_index(L, op->in[0]->type, op->out[0]->type, index, inner);
  return nn_read(L, op->in[0], inner);
}

/* ---- pad, dilate --------------------------------------------------------------------------------- */

typedef struct padding {
  nn_x *cond; /* conjunction of what must hold for the operand to be read; NULL: always */
  nn_x *inner[NN_MAX_RANK];
} padding;

static void require(nn_lower *L, padding *p, nn_x *cond) {
  p->cond = p->cond ? nn_x_binary(L->kernel, NN_X_AND, p->cond, cond) : cond;
}

static bool is_never_padded(nn_dim pad) {
  int64_t min = 0, max = 0;
  nn_dim_range(pad, &min, &max);
  return max <= 0;
}

static void pad_constant(nn_lower *L, padding *p, int i, nn_x *at, nn_x *dim, nn_dim before, nn_dim after) {
  p->inner[i] = at;
  if (!is_never_padded(before)) require(L, p, nn_x_binary(L->kernel, NN_X_LE, nn_x_int(L->kernel, 0), at));
  if (!is_never_padded(after)) require(L, p, nn_x_binary(L->kernel, NN_X_LT, at, dim));
}

/* Back and forth with period 2 * (dim - 1), the ends not repeated. */
static nn_x *reflect(nn_lower *L, nn_x *at, nn_x *dim) {
  nn_kernel *k = L->kernel;
  nn_x *period = nn_xi_mulc(k, nn_xi_addc(k, dim, -1), 2);
  nn_x *phase = nn_xi_mod(k, at, period);
  return nn_xi_min(k, phase, nn_xi_sub(k, period, phase));
}

static nn_x *clamp(nn_lower *L, nn_x *at, nn_x *dim) {
  nn_kernel *k = L->kernel;
  return nn_xi_min(k, nn_xi_max(k, at, nn_x_int(k, 0)), nn_xi_addc(k, dim, -1));
}

static nn_x *read_or(nn_lower *L, nn_value *v, const padding *p, nn_x *otherwise) {
  if (!p->cond) return nn_read(L, v, p->inner);
  nn_x *cond = nn_bind(L, p->cond);
  nn_guard_push(L, cond);
  nn_x *x = nn_read(L, v, p->inner);
  nn_guard_pop(L);
  return nn_x_select(L->kernel, cond, x, otherwise);
}

nn_x *elem_pad(nn_lower *L, nn_op *op, nn_x *const *index) {
  nn_type from = op->in[0]->type;
  const nn_dim *before = nn_attr_dims(op, "before", NULL), *after = nn_attr_dims(op, "after", NULL);
  char mode = nn_attr_str(op, "mode")[0];
  padding p = {0};
  for (int i = 0; i < from.rank; i++) {
    nn_x *dim = nn_dim_x(L, from.dims[i]), *at = nn_xi_sub(L->kernel, index[i], nn_dim_x(L, before[i]));
    if (is_zero(before[i]) && is_zero(after[i]))
      p.inner[i] = at;
    else if (mode == 'r')
      p.inner[i] = reflect(L, at, dim);
    else if (mode == 'e')
      p.inner[i] = clamp(L, at, dim);
    else if (mode == 'w')
      p.inner[i] = nn_xi_mod(L->kernel, at, dim);
    else
      pad_constant(L, &p, i, at, dim, before[i], after[i]);
  }
  return read_or(L, op->in[0], &p, p.cond ? nn_read(L, op->in[1], NULL) : NULL);
}

nn_x *elem_dilate(nn_lower *L, nn_op *op, nn_x *const *index) {
  const int64_t *steps = nn_attr_ints(op, "steps", NULL);
  nn_kernel *k = L->kernel;
  padding p = {0};
  for (int i = 0; i < op->out[0]->type.rank; i++) {
    nn_x *step = nn_x_int(k, steps[i]);
    p.inner[i] = nn_xi_floordiv(k, index[i], step);
    if (steps[i] != 1) require(L, &p, nn_x_binary(k, NN_X_EQ, nn_xi_mod(k, index[i], step), nn_x_int(k, 0)));
  }
  return read_or(L, op->in[0], &p, zero_of(L, op));
}

/* ---- concat -------------------------------------------------------------------------------------- */

/* Operand `part`, whose first element along the axis is `offset` of the result. */
static nn_x *read_part(nn_lower *L, nn_op *op, int part, nn_dim offset, nn_x *const *index) {
  int axis = (int)nn_attr_int(op, "axis");
  nn_x *inner[NN_MAX_RANK];
  memcpy(inner, index, (size_t)op->out[0]->type.rank * sizeof *index);
  inner[axis] = nn_xi_sub(L->kernel, index[axis], nn_dim_x(L, offset));
  return nn_read(L, op->in[part], inner);
}

static nn_x *read_guarded_part(nn_lower *L, nn_op *op, int part, nn_dim begin, nn_dim end, nn_x *const *index) {
  nn_x *at = index[nn_attr_int(op, "axis")];
  nn_x *cond = nn_x_binary(L->kernel, NN_X_LT, at, nn_dim_x(L, end));
  if (part > 0) {
    nn_x *reached = nn_x_binary(L->kernel, NN_X_LE, nn_dim_x(L, begin), at);
    cond = part + 1 < op->nin ? nn_x_binary(L->kernel, NN_X_AND, reached, cond) : reached;
  }
  nn_guard_push(L, cond);
  nn_x *x = read_part(L, op, part, begin, index);
  nn_guard_pop(L);
  return x;
}

static nn_dim offset_of(nn_module *m, const nn_op *op, int part) {
  int axis = (int)nn_attr_int(op, "axis");
  nn_dim offset = nn_dim_const(m, 0);
  for (int i = 0; i < part; i++) offset = nn_dim_add(m, offset, op->in[i]->type.dims[axis]);
  return offset;
}

/* The only part that can hold this index, by the index's bounds; -1 if there are several. */
static int part_by_range(const nn_op *op, const nn_x *at) {
  int axis = (int)nn_attr_int(op, "axis");
  int64_t min = 0, max = 0, begin = 0, size = 0;
  nn_x_range(at, &min, &max);
  for (int i = 0; i < op->nin; i++, begin += size) {
    if (!nn_dim_is_const(op->in[i]->type.dims[axis], &size)) break;
    if (min >= begin && max < begin + size) return i;
  }
  return -1;
}

nn_x *elem_concat(nn_lower *L, nn_op *op, nn_x *const *index) {
  int axis = (int)nn_attr_int(op, "axis");
  int known = nn_part_of(L, op, index[axis]);
  if (known < 0) known = part_by_range(op, index[axis]);
  if (known >= 0) return read_part(L, op, known, offset_of(L->module, op, known), index);
  nn_dim begin = nn_dim_const(L->module, 0);
  nn_x *result = NULL;
  for (int i = 0; i < op->nin; i++) {
    nn_dim end = nn_dim_add(L->module, begin, op->in[i]->type.dims[axis]);
    if (!nn_dim_is(op->in[i]->type.dims[axis], 0)) {
      nn_x *x = read_guarded_part(L, op, i, begin, end, index);
      nn_x *reached = nn_x_binary(L->kernel, NN_X_LE, nn_dim_x(L, begin), index[axis]);
      result = result ? nn_x_select(L->kernel, reached, x, result) : x;
    }
    begin = end;
  }
  return result ? result : zero_of(L, op);
}

/* ---- indices and shapes as values ---------------------------------------------------------------- */

nn_x *elem_iota(nn_lower *L, nn_op *op, nn_x *const *index) {
  return nn_x_cast(L->kernel, index[nn_attr_int(op, "axis")], op->out[0]->type.dtype);
}

nn_status lower_shape_of(nn_lower *L, nn_op *op) {
  int count = 0;
  const nn_dim *dims = nn_attr_dims(op, "dims", &count);
  for (int i = 0; i < count; i++) {
    nn_x *at = nn_x_int(L->kernel, i);
    nn_write(L, op->out[0], &at, nn_bind(L, nn_dim_x(L, dims[i])));
  }
  return NN_OK;
}

/* Time steps before the length of their batch entry are taken from its end. */
nn_x *elem_reverse_sequence(nn_lower *L, nn_op *op, nn_x *const *index) {
  nn_kernel *k = L->kernel;
  int batch = (int)nn_attr_int(op, "batch_axis"), time = (int)nn_attr_int(op, "time_axis");
  nn_type type = op->out[0]->type;
  nn_x *length = nn_read(L, op->in[1], &index[batch]);
  nn_x *mirrored = nn_xi_sub(k, nn_xi_addc(k, length, -1), index[time]);
  nn_x *moved = nn_x_select(k, nn_x_binary(k, NN_X_LT, index[time], length), mirrored, index[time]);
  nn_x *inner[NN_MAX_RANK];
  memcpy(inner, index, (size_t)type.rank * sizeof *index);
  inner[time] = nn_bind(L, nn_x_index(k, moved, nn_dim_x(L, type.dims[time]), nn_guard(L)));
  return nn_read(L, op->in[0], inner);
}
