/* Shape rules of the ops that bind and check symbols, and of the structure of graphs. */
#include "ir/ir.h"

nn_status shape_bind_dims(nn_op *op) {
  NN_TRY(nn_need_dtype(op, 0, NN_I64));
  NN_TRY(nn_need_rank(op, 0, 1, 1));
  return nn_need_dim(op, 0, 0, nn_dim_const(op->graph->module, nn_op_attr(op, "dims")->count));
}

nn_status shape_check(nn_op *op) {
  static const char *const kinds[] = {"eq", "le", "broadcast", NULL};
  NN_TRY(nn_need_one_of(op, "kind", kinds));
  return nn_need_count(op, "expected", nn_op_attr(op, "found")->count);
}

/* Operand i is what the body was made for; dims may have been sharpened on one side since. */
static nn_status check_body_param(nn_op *op, int i, nn_type expected) {
  nn_type found = op->in[i]->type;
  if (found.dtype != expected.dtype || found.rank != expected.rank) {
    nn_arena *arena = op->graph->module->arena;
    return nn_fail(op, "operand %d is %s, expected %s as of the parameter of its body", i, nn_type_text(arena, found),
                   nn_type_text(arena, expected));
  }
  for (int d = 0; d < found.rank; d++) NN_TRY(nn_need_dim(op, i, d, expected.dims[d]));
  return NN_OK;
}

static nn_status check_body_params(nn_op *op, const nn_graph *body) {
  if (body->nparams != op->nin) {
    return nn_fail(op, "body @%s has %d parameters for %d operands", body->name, body->nparams, op->nin);
  }
  for (int i = 0; i < op->nin; i++) NN_TRY(check_body_param(op, i, body->params[i]->type));
  return NN_OK;
}

nn_status shape_fused(nn_op *op) {
  nn_graph *body = nn_attr_graph(op, "body");
  if (!body) return nn_fail(op, "attribute 'body' names no graph");
  nn_op *results = nn_graph_return(body);
  if (!results) return nn_fail(op, "body @%s has no return", body->name);
  NN_TRY(check_body_params(op, body));
  if (results->nin != op->nout) {
    return nn_fail(op, "body @%s returns %d values for %d results", body->name, results->nin, op->nout);
  }
  for (int i = 0; i < op->nout; i++) {
    nn_type type = results->in[i]->type;
    NN_TRY(nn_give(op, i, type.dtype, type.rank, type.dims));
  }
  return NN_OK;
}

nn_status shape_return(nn_op *op) {
  (void)op; /* any operands: what a graph may return is the caller's business */
  return NN_OK;
}
