/* needs: nothing. gives: reshapes that add dimensions of 1 to what the network computes stand behind the pointwise ops that read
   them, so a product and what follows it can be one kernel. breaks: no chain of two reshapes (canon).

     %0 = matmul_panels %x, $w : f32[64,8]              %0 = matmul_panels %x, $w : f32[64,8]
     %1 = reshape %0 {dims=[1,64,8]} : f32[1,64,8]      %1 = reshape %y {dims=[64,8]} : f32[64,8]
     %2 = add %1, %y : f32[1,64,8]                 ->   %2 = add %0, %1 : f32[64,8]
                                                        %3 = reshape %2 {dims=[1,64,8]} : f32[1,64,8]

   Products of rows come as Gemm, of two dimensions, in networks that otherwise have three. */
#include "passes/passes.h"

bool nn_is_unit_reshape(const nn_op *op) {
  if (op->code != NN_OP_RESHAPE) return false;
  nn_type a = op->in[0]->type, b = op->out[0]->type;
  int i = 0, j = 0;
  while (i < a.rank || j < b.rank) {
    if (i < a.rank && j < b.rank && a.dims[i] == b.dims[j]) i++, j++;
    else if (i < a.rank && nn_dim_is(a.dims[i], 1)) i++;
    else if (j < b.rank && nn_dim_is(b.dims[j], 1)) j++;
    else return false;
  }
  return true;
}

/* What v is with fewer dimensions, if a nest or a pointwise op gives it; else NULL. */
static nn_value *narrower(const nn_value *v) {
  if (v->kind != NN_RESULT || !nn_is_unit_reshape(v->def)) return NULL;
  nn_value *x = v->def->in[0];
  if (x->kind != NN_RESULT || x->type.rank >= v->type.rank) return NULL;
  return nn_op_infos[x->def->code].flags & (NN_NEST | NN_POINTWISE) ? x : NULL;
}

static nn_value *first_narrower(const nn_op *op) {
  for (int i = 0; i < op->nin; i++) {
    nn_value *x = op->in[i] ? narrower(op->in[i]) : NULL;
    if (x) return x;
  }
  return NULL;
}

/* The operand in the shape of x. A number for all elements stays one for whoever looks for it. */
static nn_value *reshaped(nn_builder *b, nn_value *v, const nn_value *x) {
  bool is_number = v->kind == NN_RESULT && v->def->code == NN_OP_BROADCAST && v->def->in[0]->type.rank == 0;
  if (is_number) return nn_b_broadcast(b, v->def->in[0], x->type.rank, x->type.dims);
  nn_value *same = narrower(v);
  return same && nn_type_same_shape(same->type, x->type) ? same : nn_b_reshape(b, v, x->type.rank, x->type.dims);
}

static bool sink(nn_op *op) {
  nn_value *x = first_narrower(op), *y = op->out[0];
  if (!x) return false;
  nn_type wide = y->type;
  nn_builder before = {op->graph, op, op->loc, op->loc_op, false}, after = {op->graph, op->next, op->loc, op->loc_op, false};
  for (int i = 0; i < op->nin; i++) {
    nn_value *v = op->in[i] ? reshaped(&before, op->in[i], x) : NULL;
    if (v) nn_op_set_input(op, i, v);
  }
  y->type = nn_type_make(op->graph->module, wide.dtype, x->type.rank, x->type.dims);
  nn_value *r = nn_b_reshape(&after, y, wide.rank, wide.dims);
  if (!r) return false;
  nn_value_replace(y, r);
  nn_op_set_input(r->def, 0, y);
  return true;
}

nn_status pass_sink(nn_module *m, bool *changed) {
  for (nn_graph *g = m->graphs; g; g = g->next)
    for (nn_op *op = g->first; op; op = op->next)
      if (nn_op_infos[op->code].flags & NN_POINTWISE) *changed |= sink(op);
  return m->diags.nerrors ? NN_FAIL : NN_OK;
}
