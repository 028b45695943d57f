/* Control flow. An If whose condition is known while compiling is the branch it takes. One that is decided
   while running becomes both branches and a choice between their results, where that is possible: same types,
   and nothing inside that could stop a run for the sake of the branch not taken. Loops are not imported. */
#include "frontend/onnx_import.h"

#include <string.h>

/* ---- a branch in place of the node --------------------------------------------------------------------- */

static nn_status take_branch(onnx_node *n, const char *name) {
  const Onnx__GraphProto *branch = onnx_graph_attr(n, name);
  return branch ? onnx_inline_graph((onnx_site *)n, branch) : NN_FAIL;
}

/* The only node of a branch that is no Constant, if it is of this operator. */
static bool is_only(const Onnx__GraphProto *branch, const char *op) {
  int count = 0, matching = 0;
  for (size_t i = 0; branch && i < branch->n_node; i++) {
    const char *type = branch->node[i]->op_type ? branch->node[i]->op_type : "";
    if (strcmp(type, "Constant") == 0) continue;
    count++;
    matching += strcmp(type, op) == 0;
  }
  return count == 1 && matching == 1;
}

/* PyTorch writes squeeze(x, d) as "if the dimension is 1 then Squeeze else Identity". What follows expects the
   rank of the squeezed tensor, so that branch is taken, and Squeeze checks the dimension while running. */
static const char *squeeze_branch(onnx_node *n) {
  const Onnx__GraphProto *then = onnx_graph_attr(n, "then_branch"), *other = onnx_graph_attr(n, "else_branch");
  return is_only(then, "Squeeze") && is_only(other, "Identity") ? "then_branch" : NULL;
}

/* ---- both branches ------------------------------------------------------------------------------------- */

/* True if an op that may stop a run was added behind `last`. */
static bool has_effects(const nn_graph *g, const nn_op *last) {
  for (const nn_op *op = last ? last->next : g->first; op; op = op->next)
    if (nn_op_infos[op->code].flags & NN_EFFECT) return true;
  return false;
}

static nn_status run_branch(onnx_node *n, const char *name, nn_value **results) {
  const nn_op *last = n->m->main->last;
  int nsymbols = n->m->nsymbols;
  NN_TRY(take_branch(n, name));
  if (has_effects(n->m->main, last) || n->m->nsymbols != nsymbols)
    return onnx_unsupported(n, "its condition is decided while running, and the %s has sizes that are checked then",
                            name);
  for (int i = 0; i < n->nout; i++) results[i] = n->out[i];
  return NN_OK;
}

static nn_status choose(onnx_node *n, nn_value *condition, nn_value *then, nn_value *other, int i) {
  if (!then || !other) return NN_OK; /* not wanted */
  if (!nn_type_equal(then->type, other->type))
    return onnx_unsupported(n, "its condition is decided while running, and output %d is %s or %s", i,
                            nn_type_text(n->m->arena, then->type), nn_type_text(n->m->arena, other->type));
  return onnx_give(n, i, nn_b_select(n->b, condition, then, other));
}

static nn_status take_both(onnx_node *n) {
  nn_value **then = NN_NEW_ARRAY(n->m->arena, nn_value *, n->nout + 1);
  nn_value **other = NN_NEW_ARRAY(n->m->arena, nn_value *, n->nout + 1);
  nn_value *condition = onnx_as_scalar(n, n->in[0]);
  NN_TRY(run_branch(n, "then_branch", then));
  NN_TRY(run_branch(n, "else_branch", other));
  for (int i = 0; i < n->nout; i++) NN_TRY(choose(n, condition, then[i], other[i], i));
  onnx_warn(n, "the condition is decided while running: both branches are computed");
  return NN_OK;
}

nn_status onnx_If(onnx_node *n) {
  NN_TRY(onnx_need(n, 1, 1, -1));
  const int64_t *condition;
  int count;
  if (n->in[0]->type.dtype != NN_BOOL)
    return onnx_fail(n, "the condition is %s, expected bool", nn_dtype_name(n->in[0]->type.dtype));
  if (!nn_dim_is(nn_type_count(n->m, n->in[0]->type), 1))
    return onnx_fail(n, "the condition is %s, expected one element", nn_type_text(n->m->arena, n->in[0]->type));
  if (!onnx_is_const(n, 0)) {
    const char *squeeze = squeeze_branch(n);
    if (onnx_failed(n)) return NN_FAIL;
    return squeeze ? take_branch(n, squeeze) : take_both(n);
  }
  NN_TRY(onnx_const_ints(n, 0, &condition, &count));
  return take_branch(n, condition[0] ? "then_branch" : "else_branch");
}
