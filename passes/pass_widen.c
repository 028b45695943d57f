/* needs: nothing; first, since marks belong to the nodes as they were imported. gives: f16 and bf16 arithmetic is f32
   arithmetic, and its results stay f32 on their way to the next op. breaks: nothing.

   No target that nncc knows computes faster in the narrow types, and rounding costs precision. Values are rounded where
   they are stored for good (results of the graph), where the model casts, and at ops that are marked `rounds`: the ops of one
   loc so marked take and give rounded values, and are wide inside. Who is marked: frontend/onnx_narrow.c. Movement
   ops follow their operands. Constants and parameters that are only moved stay narrow.

     %0 = matmul %x, %w : f16[8,8]  loc "n"                %0 = cast %x {to=f32} : f32[8,8]  loc "n"
     %1 = exp %0 : f16[8,8]  loc "m"                       %1 = cast %w {to=f32} : f32[8,8]  loc "n"
     return %1                                       ->    %2 = matmul %0, %1 : f32[8,8]  loc "n"
                                                           %3 = exp %2 : f32[8,8]  loc "m"
                                                           %4 = cast %3 {to=f16} : f16[8,8]  loc "m"
                                                           return %4 */
#include "passes/passes.h"

#include <string.h>

static bool is_narrow(const nn_value *v) { return v && nn_dtype_is_narrow(v->type.dtype); }

static bool is_same_node(const nn_op *a, const nn_op *b) { return a->loc[0] && strcmp(a->loc, b->loc) == 0; }

/* The value that v was rounded from, if op may read it in v's place, or NULL. */
static nn_value *wide_source(const nn_op *op, const nn_value *v) {
  if (v->kind != NN_RESULT || v->def->code != NN_OP_CAST || is_narrow(v->def->in[0])) return NULL;
  if (!is_same_node(op, v->def) && (op->rounds || v->def->rounds)) return NULL;
  return v->def->in[0];
}

static bool is_movement(const nn_op *op) {
  switch (op->code) {
    case NN_OP_COPY: case NN_OP_BROADCAST: case NN_OP_RESHAPE: case NN_OP_TRANSPOSE: case NN_OP_SLICE: case NN_OP_PAD:
    case NN_OP_CONCAT: case NN_OP_TILE: case NN_OP_DILATE: case NN_OP_REVERSE_SEQUENCE: case NN_OP_GATHER:
    case NN_OP_GATHER_ELEMENTS: case NN_OP_GATHER_ND: case NN_OP_SELECT: case NN_OP_SCATTER_ELEMENTS:
    case NN_OP_SCATTER_ND: case NN_OP_TOP_K: case NN_OP_CAST: return true;
    default: return false;
  }
}

static bool is_to_widen(const nn_op *op) {
  bool reads_narrow = false, reads_wide = false;
  if (op->code == NN_OP_BITCAST || (nn_op_infos[op->code].flags & (NN_STRUCTURE | NN_EFFECT))) return false;
  for (int i = 0; i < op->nin; i++) {
    if (!is_narrow(op->in[i])) continue;
    reads_narrow = true;
    reads_wide |= wide_source(op, op->in[i]) != NULL;
  }
  return reads_narrow && (reads_wide || !is_movement(op));
}

static nn_status widen_operands(nn_op *op) {
  nn_builder b = {op->graph, op, op->loc, op->loc_op, false};
  for (int i = 0; i < op->nin; i++) {
    if (!is_narrow(op->in[i])) continue;
    nn_value *wide = wide_source(op, op->in[i]);
    if (op->code != NN_OP_CAST) wide = nn_b_cast(&b, wide ? wide : op->in[i], NN_F32);
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
  cast->def->rounds = op->rounds;
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
