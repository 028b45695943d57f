/* Evaluating ops on constants as soon as they are made, when they are small.

   f16 and bf16 constants are not rounded here: arithmetic is f32 (passes/pass_widen.c), so a result that the narrow
   type does not hold exactly stays a cast of its f32 constant, for others to look behind (nn_const_behind). */
#include "ir/ir.h"

#include <string.h>

enum {
  MAX_FOLDED_RESULT = 4096, /* elements of a result that is computed at once; larger ones wait for pass_fold */
  MAX_FOLDED_OPERAND = 65536
};

nn_value *nn_const_behind(nn_value *v) {
  if (v->kind == NN_CONST) return v;
  bool is_rounded = v->kind == NN_RESULT && v->def->code == NN_OP_CAST && nn_dtype_is_narrow(v->type.dtype);
  return is_rounded && v->def->in[0]->kind == NN_CONST && v->def->in[0]->type.dtype == NN_F32 ? v->def->in[0] : NULL;
}

/* ---- known contents ----------------------------------------------------------------------------------- */

/* A constant of known contents, all of them numbers; NULL if they are not. */
static nn_value *const_of_elems(nn_module *m, const nn_value *v) {
  int64_t count;
  if (!v->elems || !nn_type_static_count(v->type, &count)) return NULL;
  for (int64_t i = 0; i < count; i++) {
    if (!nn_dim_is_const(v->elems[i], NULL)) return NULL;
  }
  nn_tensor *tensor = nn_tensor_new(m, v->type);
  if (!tensor) return NULL;
  for (int64_t i = 0; i < count; i++) nn_store_i64(v->type.dtype, tensor->owned, (size_t)i, nn_dim_value(v->elems[i]));
  return nn_module_const(m, NULL, tensor);
}

static bool fold_by_elems(nn_op *op, nn_value **results) {
  for (int i = 0; i < op->nout; i++) {
    results[i] = const_of_elems(op->graph->module, op->out[i]);
    if (!results[i]) return false;
  }
  return op->nout > 0 && !(nn_op_infos[op->code].flags & NN_EFFECT);
}

/* ---- evaluation --------------------------------------------------------------------------------------- */

static bool is_small(nn_type type, int64_t limit) {
  int64_t count;
  return nn_type_static_count(type, &count) && count <= limit;
}

/* A broadcast is cheaper than the memory it would fill, unless that is very small. */
static bool may_evaluate(const nn_op *op) {
  bool is_spread = op->code == NN_OP_BROADCAST || op->code == NN_OP_IOTA;
  if (nn_op_infos[op->code].flags & (NN_EFFECT | NN_STRUCTURE)) return false;
  for (int i = 0; i < op->nin; i++) {
    if (op->in[i] && (!nn_const_behind(op->in[i]) || !is_small(op->in[i]->type, MAX_FOLDED_OPERAND))) return false;
  }
  for (int i = 0; i < op->nout; i++) {
    if (!is_small(op->out[i]->type, is_spread ? NN_MAX_ELEMS : MAX_FOLDED_RESULT)) return false;
  }
  return op->nout > 0 && nn_attrs_are_numbers(op);
}

static bool evaluate(nn_op *op, nn_value **results) {
  nn_module *m = op->graph->module;
  nn_tensor **tensors = NN_NEW_ARRAY(m->arena, nn_tensor *, op->nout);
  if (m->env.evaluate(m->env.self, op, tensors) != NN_OK) return false;
  for (int i = 0; i < op->nout; i++) results[i] = nn_module_const(m, NULL, tensors[i]);
  return true;
}

/* ---- narrow types ------------------------------------------------------------------------------------- */

static bool reads_narrow(const nn_op *op) {
  for (int i = 0; i < op->nin; i++)
    if (op->in[i] && nn_dtype_is_narrow(op->in[i]->type.dtype)) return true;
  return false;
}

/* The constant in another float type. NULL: out of memory, reported. */
static nn_value *convert(nn_module *m, const nn_value *v, nn_dtype to) {
  nn_tensor *t = nn_tensor_new(m, nn_type_make(m, to, v->type.rank, v->type.dims));
  int64_t count = 0;
  if (!t || !nn_type_static_count(v->type, &count)) return NULL;
  for (int64_t i = 0; i < count; i++)
    nn_store_f64(to, t->owned, (size_t)i, nn_load_f64(v->type.dtype, v->tensor->data, (size_t)i));
  return nn_module_const(m, NULL, t);
}

static nn_value *widen(nn_module *m, nn_value *v) {
  if (!v || !nn_dtype_is_narrow(v->type.dtype)) return v;
  return v->kind == NN_CONST ? convert(m, v, NN_F32) : nn_const_behind(v);
}

/* The op on f32 in place of narrow operands, in front of op; NULL: cannot be made. */
static nn_op *make_wide_twin(nn_op *op) {
  nn_module *m = op->graph->module;
  nn_value **in = NN_NEW_ARRAY(m->arena, nn_value *, op->nin);
  for (int i = 0; i < op->nin; i++)
    if (op->in[i] && !(in[i] = widen(m, op->in[i]))) return NULL;
  nn_op *twin = nn_op_new(op->graph, op, op->code, in, op->nin, op->nout);
  memcpy(twin->attrs, op->attrs, (size_t)nn_op_infos[op->code].nattrs * sizeof *op->attrs);
  twin->loc = op->loc;
  twin->loc_op = op->loc_op;
  if (nn_op_infer(twin) == NN_OK) return twin;
  nn_op_remove(twin);
  return NULL;
}

static bool is_exact(const nn_value *v, nn_dtype narrow) {
  int64_t count = 0;
  nn_type_static_count(v->type, &count);
  for (int64_t i = 0; i < count; i++) {
    double x = nn_load_f64(v->type.dtype, v->tensor->data, (size_t)i);
    if (nn_round_to(narrow, x) != x) return false; /* a NaN too: it stays as it is */
  }
  return true;
}

static bool evaluate_wide(nn_builder *b, nn_op *op, nn_value **results) {
  nn_builder unfolded = *b;
  unfolded.fold = false;
  nn_op *twin = make_wide_twin(op);
  bool ok = twin && evaluate(twin, results);
  for (int i = 0; i < op->nout && ok; i++) {
    nn_dtype narrow = op->out[i]->type.dtype;
    if (results[i]->type.dtype == narrow) continue;
    results[i] = is_exact(results[i], narrow) ? convert(b->graph->module, results[i], narrow)
                                              : nn_b_cast(&unfolded, results[i], narrow);
    ok = results[i] != NULL;
  }
  if (twin) nn_op_remove(twin);
  return ok;
}

nn_value *nn_b_settle(nn_builder *b, nn_value *v) {
  nn_value *behind = v ? nn_const_behind(v) : NULL;
  return behind && behind != v ? convert(b->graph->module, behind, v->type.dtype) : v;
}

/* A cast that rounds a constant to a narrow type is left for others to look behind. */
static bool rounds(const nn_op *op) {
  return op->code == NN_OP_CAST && nn_dtype_is_narrow(op->out[0]->type.dtype) &&
         !is_exact(op->in[0], op->out[0]->type.dtype);
}

bool nn_b_fold(nn_builder *b, nn_op *op, nn_value **results) {
  if (fold_by_elems(op, results)) return true;
  if (!op->graph->module->env.evaluate || !may_evaluate(op)) return false;
  if (op->code == NN_OP_BITCAST) return op->in[0]->kind == NN_CONST && evaluate(op, results);
  if (reads_narrow(op)) return evaluate_wide(b, op, results);
  return !rounds(op) && evaluate(op, results);
}
