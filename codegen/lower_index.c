/* Gather and scatter. Indices come from the data: negative ones count from the end, and one that is out of
   range fails the run before memory is touched (NN_X_INDEX).

   Gathers are element ops: an index that is the same in all lanes stays a scalar, so rows that are taken along an
   outer axis are moved by vector loads. Scatters copy the data and then apply the updates one after the other,
   in the order of the indices: of equal indices the last one wins, and sums have one order. */
#include "codegen/codegen.h"

#include <string.h>

/* The place along dim that an index from the data means. */
static nn_x *place_along(nn_lower *L, nn_x *index, nn_dim dim) {
  nn_kernel *k = L->kernel;
  nn_x *count = nn_dim_x(L, dim), *is_negative = nn_x_binary(k, NN_X_LT, index, nn_x_int(k, 0));
  nn_x *from_end = nn_x_binary(k, NN_X_ADD, index, count);
  return nn_bind(L, nn_x_index(k, nn_x_select(k, is_negative, from_end, index), count, nn_guard(L)));
}

static int axis_of(const nn_op *op) {
  int axis = (int)nn_attr_int(op, "axis");
  return axis < 0 ? axis + op->in[0]->type.rank : axis;
}

/* ---- gathers --------------------------------------------------------------------------------------------------- */

nn_x *elem_gather(nn_lower *L, nn_op *op, nn_x *const *index) {
  nn_type data = op->in[0]->type, at = op->in[1]->type;
  int axis = axis_of(op);
  nn_x *inner[NN_MAX_RANK];
  for (int d = 0; d < data.rank; d++)
    if (d != axis) inner[d] = index[d < axis ? d : d - 1 + at.rank];
  inner[axis] = place_along(L, nn_read(L, op->in[1], index + axis), data.dims[axis]);
  return nn_read(L, op->in[0], inner);
}

nn_x *elem_gather_elements(nn_lower *L, nn_op *op, nn_x *const *index) {
  nn_type data = op->in[0]->type;
  int axis = axis_of(op);
  nn_x *inner[NN_MAX_RANK];
  for (int d = 0; d < data.rank; d++) inner[d] = index[d];
  inner[axis] = place_along(L, nn_read(L, op->in[1], index), data.dims[axis]);
  return nn_read(L, op->in[0], inner);
}

/* The places that the index vector at[0..rank-1) means along the dimensions first.. of the data; how many. */
static int read_places(nn_lower *L, nn_value *indices, nn_x *const *at, nn_type data, int first, nn_x **place) {
  int last = indices->type.rank - 1;
  int64_t depth = 0;
  nn_dim_is_const(indices->type.dims[last], &depth);
  nn_x *inner[NN_MAX_RANK];
  for (int d = 0; d < last; d++) inner[d] = at[d];
  for (int j = 0; j < (int)depth; j++) {
    inner[last] = nn_x_int(L->kernel, j);
    place[j] = place_along(L, nn_read(L, indices, inner), data.dims[first + j]);
  }
  return (int)depth;
}

nn_x *elem_gather_nd(nn_lower *L, nn_op *op, nn_x *const *index) {
  nn_type data = op->in[0]->type;
  int batch = (int)nn_attr_int(op, "batch_dims"), next = op->in[1]->type.rank - 1;
  nn_x *inner[NN_MAX_RANK];
  for (int d = 0; d < batch; d++) inner[d] = index[d];
  int fixed = batch + read_places(L, op->in[1], index, data, batch, inner + batch);
  for (int d = fixed; d < data.rank; d++) inner[d] = index[next++];
  return nn_read(L, op->in[0], inner);
}

/* ---- scatters -------------------------------------------------------------------------------------------------- */

typedef struct scatter {
  nn_value *data, *indices, *updates;
  nn_type type;             /* of data and result */
  nn_buf *out, *from;       /* from: buffer of data, or NULL */
  char reduction[2];        /* the first two letters of its name */
  int axis;                 /* scatter_elements */
  nn_x *at[NN_MAX_RANK];    /* of the update */
  nn_x *place[NN_MAX_RANK]; /* of the result */
  int depth;                /* scatter_nd: dimensions that an index vector fixes */
} scatter;

static void copy_flat(nn_lower *L, nn_x *const *index, void *data) {
  const scatter *s = data;
  nn_x *value = nn_let(L->kernel, nn_x_load(L->kernel, s->from, index[0], nn_guard(L)));
  nn_store(L->kernel, s->out, index[0], value, nn_guard(L));
}

static void copy_element(nn_lower *L, nn_x *const *index, void *data) {
  const scatter *s = data;
  nn_x *value = nn_read(L, s->data, index);
  nn_store(L->kernel, s->out, nn_flat_index(L, s->type, index), value, nn_guard(L));
}

static void copy_data(nn_lower *L, scatter *s) {
  nn_dim count = nn_type_count(L->module, s->type);
  int lanes = nn_target_lanes(L->target, s->type.dtype);
  if (nn_read_is_plain(L, s->data, &s->from))
    nn_box_loops(L, &count, 1, lanes, 1, copy_flat, s);
  else
    nn_box_loops(L, s->type.dims, s->type.rank, lanes, 2, copy_element, s);
}

static nn_x *reduced(nn_lower *L, const scatter *s, nn_x *old, nn_x *update) {
  nn_xop op = s->reduction[0] == 'a'   ? NN_X_ADD
              : s->reduction[1] == 'u' ? NN_X_MUL
              : s->reduction[1] == 'a' ? NN_X_MAX
                                       : NN_X_MIN;
  return nn_x_binary(L->kernel, op, old, update);
}

static void apply_update(nn_lower *L, const scatter *s) {
  nn_kernel *k = L->kernel;
  nn_x *flat = nn_flat_index(L, s->type, s->place), *value = nn_read(L, s->updates, s->at);
  if (s->reduction[0] != 'n') {
    flat = nn_bind(L, flat);
    value = reduced(L, s, nn_let(k, nn_x_load(k, s->out, flat, NULL)), value);
  }
  nn_store(k, s->out, flat, nn_let(k, value), NULL);
}

static nn_x *count_up(nn_lower *L, nn_dim count) {
  return nn_loop_begin(L->kernel, NN_FOR, "i", nn_x_int(L->kernel, 0), nn_dim_x(L, count));
}

/* Passes fuse nothing after a scatter (pass_fuse.c), so the result is there to be read again. */
static nn_status start_scatter(nn_lower *L, nn_op *op, scatter *s) {
  s->data = op->in[0], s->indices = op->in[1], s->updates = op->in[2];
  s->type = op->out[0]->type;
  memcpy(s->reduction, nn_attr_str(op, "reduction"), sizeof s->reduction);
  if (!nn_write_is_plain(L, op->out[0], &s->out))
    return nn_fail(op, "its result is fused with other ops, expected to be stored as it is");
  copy_data(L, s);
  return NN_OK;
}

/* ---- scatter_elements ------------------------------------------------------------------------------------------ */

/* Updates that differ before the axis never meet: these are the tasks. */
static void scatter_row(nn_lower *L, nn_x *const *outer, void *data) {
  scatter *s = data;
  int rank = s->type.rank;
  const nn_dim *dims = s->indices->type.dims;
  for (int d = 0; d < rank; d++) s->place[d] = s->at[d] = d < s->axis ? outer[d] : count_up(L, dims[d]);
  s->place[s->axis] = place_along(L, nn_read(L, s->indices, s->at), s->type.dims[s->axis]);
  apply_update(L, s);
  for (int d = s->axis; d < rank; d++) nn_end(L->kernel);
}

nn_status lower_scatter_elements(nn_lower *L, nn_op *op) {
  scatter s = {.axis = axis_of(op)};
  int64_t cost = 4;
  if (!nn_value_nuses(op->out[0])) return NN_OK;
  NN_TRY(start_scatter(L, op, &s));
  nn_type at = s.indices->type;
  for (int d = s.axis; d < at.rank && cost < (1 << 20); d++) cost *= nn_dim_guess(at.dims[d], 64) + 1;
  nn_parallel_rows(L, at.dims, s.axis, cost, scatter_row, &s);
  return NN_OK;
}

/* ---- scatter_nd ------------------------------------------------------------------------------------------------ */

static void scatter_line(nn_lower *L, nn_x *i, void *data) {
  scatter *s = data;
  s->place[s->type.rank - 1] = s->at[s->updates->type.rank - 1] = i;
  apply_update(L, s);
}

/* The update of the index vector at[0..first): a slice of the result. */
static void scatter_slice(nn_lower *L, scatter *s, int first) {
  int rank = s->type.rank, last = rank - 1;
  if (s->depth == rank) {
    apply_update(L, s);
    return;
  }
  for (int d = s->depth; d < last; d++) s->place[d] = s->at[first + d - s->depth] = count_up(L, s->type.dims[d]);
  nn_vector_loops(L, nn_dim_x(L, s->type.dims[last]), nn_target_lanes(L->target, s->type.dtype), scatter_line, s);
  for (int d = s->depth; d < last; d++) nn_end(L->kernel);
}

nn_status lower_scatter_nd(nn_lower *L, nn_op *op) {
  scatter s = {.axis = -1};
  if (!nn_value_nuses(op->out[0])) return NN_OK;
  NN_TRY(start_scatter(L, op, &s));
  nn_type at = s.indices->type;
  int first = at.rank - 1;
  for (int d = 0; d < first; d++) s.at[d] = count_up(L, at.dims[d]);
  s.depth = read_places(L, s.indices, s.at, s.type, 0, s.place);
  scatter_slice(L, &s, first);
  for (int d = 0; d < first; d++) nn_end(L->kernel);
  return NN_OK;
}
