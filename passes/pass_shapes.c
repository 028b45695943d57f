/* needs: nothing. gives: types and known contents that follow from the operands. breaks: nothing.
   For graphs whose inputs' types were changed, or that were read from text. */
#include "passes/passes.h"

static nn_status infer_op(nn_op *op, bool *changed) {
  nn_type before[8];
  int n = op->nout < 8 ? op->nout : 8;
  for (int i = 0; i < n; i++) before[i] = op->out[i]->type;
  NN_TRY(nn_op_infer(op));
  for (int i = 0; i < n; i++)
    if (!nn_type_equal(before[i], op->out[i]->type)) *changed = true;
  return NN_OK;
}

nn_status pass_shapes(nn_module *m, bool *changed) {
  nn_status status = NN_OK;
  for (nn_graph *g = m->graphs; g; g = g->next)
    for (nn_op *op = g->first; op; op = op->next)
      if (infer_op(op, changed) != NN_OK) status = NN_FAIL;
  return status;
}
