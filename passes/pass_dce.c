/* needs: nothing. gives: every op without effect has a used result; every constant is used. breaks: nothing.

     %0 = relu %x : f32[4]        ->   return %x
     return %x
*/
#include "passes/passes.h"

static bool is_dead(const nn_op *op) {
  if (nn_op_infos[op->code].flags & NN_EFFECT) return false;
  for (int i = 0; i < op->nout; i++)
    if (op->out[i]->uses) return false;
  return true;
}

static void sweep_graph(nn_graph *g, bool *changed) {
  for (nn_op *op = g->last, *prev; op; op = prev) {
    prev = op->prev;
    if (!is_dead(op)) continue;
    nn_op_remove(op);
    *changed = true;
  }
}

static void sweep_consts(nn_module *m, bool *changed) {
  int kept = 0;
  for (int i = 0; i < m->nconsts; i++) {
    nn_value *v = m->consts[i];
    if (v->uses || v->kind == NN_STATE) m->consts[kept++] = v;
  }
  if (kept != m->nconsts) *changed = true;
  m->nconsts = kept;
}

nn_status pass_dce(nn_module *m, bool *changed) {
  for (nn_graph *g = m->graphs; g; g = g->next) sweep_graph(g, changed);
  sweep_consts(m, changed);
  return NN_OK;
}
