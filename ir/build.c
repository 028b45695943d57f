/* Making graphs: new ops, their inference, run-time checks, and the builders of arithmetic.
   Folding is in build_fold.c; builders of shapes and movement are in build_shape.c. */
#include "ir/ir.h"

nn_status nn_b_fail(nn_builder *b, const char *format, ...) {
  va_list args;
  va_start(args, format);
  const char *node = b->loc && b->loc[0] ? b->loc : NULL;
  nn_status status = nn_vreport(&b->graph->module->diags, NN_ERROR, node, b->loc_op, NULL, format, args);
  va_end(args);
  return status;
}

/* ---- new ops -------------------------------------------------------------------------------------- */

nn_op *nn_b_begin(nn_builder *b, nn_opcode code, nn_value *const *in, int nin, int nout) {
  const nn_op_info *info = &nn_op_infos[code];
  for (int i = 0; i < nin; i++) {
    bool is_optional = info->nin_max >= 0 && i >= info->nin_min;
    if (!in[i] && !is_optional) return NULL;
  }
  nn_op *before = b->before ? b->before : nn_graph_return(b->graph);
  nn_op *op = nn_op_new(b->graph, before, code, in, nin, nout);
  op->loc = b->loc ? b->loc : "";
  op->loc_op = b->loc_op;
  return op;
}

static bool is_linked(const nn_op *op) { return op->prev || op->graph->first == op; }

/* Whether the same check stands in the graph already, before all that is to come. Checks that are inserted
   in the middle of a graph are not looked for: an equal one may stand further down. */
static bool is_checked(nn_builder *b, const nn_open_check *check, const char **key) {
  nn_module *m = b->graph->module;
  if (!m->emitted_checks) m->emitted_checks = nn_map_new(m->arena);
  *key = nn_sprintf(m->arena, "%p %s %d %d", (void *)b->graph, check->kind, check->found->id, check->expected->id);
  const nn_op *op = b->before ? NULL : nn_map_get(m->emitted_checks, *key);
  return op && is_linked(op);
}

static void emit_check(nn_builder *b, nn_op *before, nn_open_check check) {
  const char *key;
  nn_builder at = *b;
  if (is_checked(b, &check, &key)) return;
  at.before = before;
  nn_op *op = nn_b_begin(&at, NN_OP_CHECK, NULL, 0, 0);
  nn_set_str(op, "kind", check.kind);
  nn_set_dims(op, "found", &check.found, 1);
  nn_set_dims(op, "expected", &check.expected, 1);
  nn_set_str(op, "what", check.what);
  if (!b->before) nn_map_put(b->graph->module->emitted_checks, key, op);
}

void nn_b_emit_check(nn_builder *b, nn_open_check check) { emit_check(b, b->before, check); }

/* Infers op, and puts checks of what its shape rule leaves open in front of it. */
static nn_status infer_checked(nn_builder *b, nn_op *op) {
  nn_module *m = b->graph->module;
  nn_open_checks open = {0}, *outer = m->open_checks;
  m->open_checks = &open;
  nn_status status = nn_op_infer(op);
  m->open_checks = outer;
  NN_TRY(status);
  for (int i = 0; i < open.count; i++) emit_check(b, op, open.items[i]);
  return NN_OK;
}

/* ---- ends ----------------------------------------------------------------------------------------- */

nn_status nn_b_end_all(nn_builder *b, nn_op *op, nn_value **results) {
  if (!op) return NN_FAIL;
  if (infer_checked(b, op) != NN_OK) {
    nn_op_remove(op);
    return NN_FAIL;
  }
  if (b->fold && nn_b_fold(b, op, results)) {
    nn_op_remove(op);
    return NN_OK;
  }
  for (int i = 0; i < op->nout; i++) results[i] = op->out[i];
  return NN_OK;
}

nn_value *nn_b_end(nn_builder *b, nn_op *op) {
  if (!op) return NULL;
  nn_value **results = NN_NEW_ARRAY(b->graph->module->arena, nn_value *, op->nout + 1);
  return nn_b_end_all(b, op, results) == NN_OK ? results[0] : NULL;
}

nn_value *nn_b_op(nn_builder *b, nn_opcode code, nn_value *const *in, int nin) {
  return nn_b_end(b, nn_b_begin(b, code, in, nin, -1));
}

/* ---- constants ------------------------------------------------------------------------------------ */

nn_value *nn_b_const(nn_builder *b, nn_tensor *tensor) {
  return tensor ? nn_module_const(b->graph->module, NULL, tensor) : NULL;
}

nn_value *nn_b_scalar(nn_builder *b, nn_dtype t, double value) {
  nn_module *m = b->graph->module;
  if (nn_dtype_kind_of(t) == NN_KIND_COMPLEX || nn_dtype_kind_of(t) == NN_KIND_STRING) {
    nn_b_fail(b, "a constant %g of type %s, expected a number type", value, nn_dtype_name(t));
    return NULL;
  }
  bool is_inexact = nn_dtype_is_narrow(t) && nn_round_to(t, value) != nn_round_to(NN_F32, value);
  if (is_inexact) return nn_b_cast(b, nn_b_scalar(b, NN_F32, value), t);
  nn_tensor *tensor = nn_tensor_new(m, nn_type_make(m, t, 0, NULL));
  if (tensor) nn_store_f64(t, tensor->owned, 0, value);
  return nn_b_const(b, tensor);
}

nn_value *nn_b_ints(nn_builder *b, nn_dtype t, const int64_t *values, int count) {
  nn_module *m = b->graph->module;
  int64_t dim = count;
  nn_tensor *tensor = nn_tensor_new(m, nn_type_static(m, t, 1, &dim));
  for (int i = 0; tensor && i < count; i++) nn_store_i64(t, tensor->owned, (size_t)i, values[i]);
  return nn_b_const(b, tensor);
}

/* ---- arithmetic ----------------------------------------------------------------------------------- */

nn_value *nn_b_unary(nn_builder *b, nn_opcode code, nn_value *x) { return nn_b_op(b, code, &x, 1); }

/* Operands brought to one shape. A broadcast constant next to a run-time operand stays a broadcast, which
   costs nothing; next to another constant it is evaluated, so that the op on both can be. */
static nn_value *on_common_shape(nn_builder *b, nn_opcode code, nn_value **in, int nin) {
  bool is_const = true;
  nn_builder inner = *b;
  for (int i = 0; i < nin; i++) {
    if (!in[i]) return NULL;
    is_const = is_const && nn_const_behind(in[i]);
  }
  inner.fold = b->fold && is_const;
  if (nn_b_broadcast_all(&inner, in, nin) != NN_OK) return NULL;
  return nn_b_op(b, code, in, nin);
}

nn_value *nn_b_binary(nn_builder *b, nn_opcode code, nn_value *x, nn_value *y) {
  nn_value *in[2] = {x, y};
  return on_common_shape(b, code, in, 2);
}

nn_value *nn_b_select(nn_builder *b, nn_value *cond, nn_value *x, nn_value *y) {
  nn_value *in[3] = {cond, x, y};
  return on_common_shape(b, NN_OP_SELECT, in, 3);
}

nn_value *nn_b_scalar_op(nn_builder *b, nn_opcode code, nn_value *x, double y) {
  return x ? nn_b_binary(b, code, x, nn_b_scalar(b, x->type.dtype, y)) : NULL;
}

nn_value *nn_b_cast(nn_builder *b, nn_value *x, nn_dtype to) {
  if (!x || x->type.dtype == to) return x;
  nn_op *op = nn_b_begin(b, NN_OP_CAST, &x, 1, -1);
  nn_set_int(op, "to", to);
  return nn_b_end(b, op);
}

/* Sorted insertion: axes are few. */
static void insert_axis(int64_t *axes, int count, int64_t axis) {
  int at = count;
  for (; at > 0 && axes[at - 1] > axis; at--) axes[at] = axes[at - 1];
  axes[at] = axis;
}

nn_value *nn_b_reduce(nn_builder *b, nn_opcode code, nn_value *x, const int64_t *axes, int naxes, bool keepdims) {
  if (!x || naxes == 0) return x;
  int rank = x->type.rank;
  int64_t sorted[NN_MAX_RANK];
  if (naxes > rank) {
    nn_b_fail(b, "%d axes to reduce, expected at most %d", naxes, rank);
    return NULL;
  }
  for (int i = 0; i < naxes; i++) insert_axis(sorted, i, axes[i] < 0 ? axes[i] + rank : axes[i]);
  nn_op *op = nn_b_begin(b, code, &x, 1, -1);
  nn_set_ints(op, "axes", sorted, naxes);
  nn_set_int(op, "keepdims", keepdims);
  return nn_b_end(b, op);
}

nn_value *nn_b_iota(nn_builder *b, nn_dtype t, int rank, const nn_dim *dims, int axis) {
  nn_op *op = nn_b_begin(b, NN_OP_IOTA, NULL, 0, -1);
  nn_set_int(op, "dtype", t);
  nn_set_dims(op, "dims", dims, rank);
  nn_set_int(op, "axis", axis);
  return nn_b_end(b, op);
}

nn_value *nn_b_fill(nn_builder *b, nn_dtype t, double value, int rank, const nn_dim *dims) {
  return nn_b_broadcast(b, nn_b_scalar(b, t, value), rank, dims);
}
