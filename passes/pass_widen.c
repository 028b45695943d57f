/* needs: nothing. gives: f16 and bf16 arithmetic is f32 arithmetic, with casts where a node of the model (the ops of one
   loc) reads and gives values of the narrow type. breaks: nothing.

   Between nodes values have the type that the model gives them, rounded; inside of one, where the model says
   nothing, they stay wide: so do the kernels of other runtimes, and the ops that an importer composes of a node
   round once, not at each step. No target that nncc knows computes faster in the narrow types. Movement
   ops follow their operands: what is wide stays so.

     %0 = mul %x, %x : f16[8]  loc "n"          %0 = cast %x {to=f32} : f32[8]  loc "n"
     %1 = exp %0 : f16[8]  loc "n"        ->    %1 = mul %0, %0 : f32[8]  loc "n"
                                                %2 = exp %1 : f32[8]  loc "n"
                                                %3 = cast %2 {to=f16} : f16[8]  loc "n" */
#include "passes/passes.h"

#include <string.h>

static bool is_narrow(const nn_value *v) { return v && (v->type.dtype == NN_F16 || v->type.dtype == NN_BF16); }

/* The f32 value that v was rounded from, if that was for op's own node, or NULL. */
static nn_value *wide_source(const nn_op *op, const nn_value *v) {
  if (v->kind != NN_RESULT || v->def->code != NN_OP_CAST) return NULL;
  if (!op->loc[0] || strcmp(op->loc, v->def->loc) != 0) return NULL;
  nn_value *x = v->def->in[0];
  return x->type.dtype == NN_F32 ? x : NULL;
}

static bool is_movement(const nn_op *op) {
  switch (op->code) {
    case NN_OP_COPY: case NN_OP_BROADCAST: case NN_OP_RESHAPE: case NN_OP_TRANSPOSE: case NN_OP_SLICE: case NN_OP_PAD:
    case NN_OP_CONCAT: case NN_OP_TILE: case NN_OP_DILATE: case NN_OP_REVERSE_SEQUENCE: case NN_OP_GATHER:
    case NN_OP_GATHER_ELEMENTS: case NN_OP_GATHER_ND: case NN_OP_SELECT: return true;
    default: return false;
  }
}

static bool stays_narrow(const nn_op *op) {
  switch (op->code) {
    case NN_OP_CAST: case NN_OP_BITCAST: case NN_OP_SCATTER_ELEMENTS: case NN_OP_SCATTER_ND: case NN_OP_TOP_K: return true;
    default: return nn_op_infos[op->code].flags & (NN_STRUCTURE | NN_EFFECT);
  }
}

static bool is_to_widen(const nn_op *op) {
  bool any = false, all_wide = true;
  if (stays_narrow(op)) return false;
  for (int i = 0; i < op->nin; i++) {
    if (!is_narrow(op->in[i])) continue;
    any = true;
    all_wide = all_wide && wide_source(op, op->in[i]);
  }
  return any && (!is_movement(op) || all_wide);
}

static nn_status widen_operands(nn_op *op) {
  nn_builder b = {op->graph, op, op->loc, op->loc_op, false};
  for (int i = 0; i < op->nin; i++) {
    if (!is_narrow(op->in[i])) continue;
    nn_value *wide = wide_source(op, op->in[i]);
    if (!wide) wide = nn_b_cast(&b, op->in[i], NN_F32);
    if (!wide) return NN_FAIL;
    nn_op_set_input(op, i, wide);
  }
  return NN_OK;
}

/* Users go on with the narrow type. */
static nn_status narrow_result(nn_op *op, nn_value *v, nn_dtype narrow) {
  nn_builder b = {op->graph, op->next, op->loc, op->loc_op, false};
  nn_value *cast = nn_b_cast(&b, v, narrow);
  if (!cast) return NN_FAIL;
  nn_value_replace(v, cast);
  nn_op_set_input(cast->def, 0, v);
  return NN_OK;
}

static nn_status widen(nn_op *op) {
  enum { MAX_RESULTS = 8 };
  nn_dtype before[MAX_RESULTS];
  if (op->nout > MAX_RESULTS) return NN_OK;
  for (int i = 0; i < op->nout; i++) before[i] = op->out[i]->type.dtype;
  NN_TRY(widen_operands(op));
  NN_TRY(nn_op_infer(op));
  for (int i = 0; i < op->nout; i++)
    if (before[i] != op->out[i]->type.dtype) NN_TRY(narrow_result(op, op->out[i], before[i]));
  return NN_OK;
}

nn_status pass_widen(nn_module *m, bool *changed) {
  for (nn_graph *g = m->graphs; g; g = g->next)
    for (nn_op *op = g->first, *next; op; op = next) {
      next = op->next;
      if (!is_to_widen(op)) continue;
      NN_TRY(widen(op));
      *changed = true;
    }
  bool swept = false;
  return *changed ? pass_dce(m, &swept) : NN_OK;
}
