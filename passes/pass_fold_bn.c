/* needs: batch normalisation as multiply and add (as imported), constants on the right (canon). gives: a
   convolution or matmul by a constant weight is not followed by a multiply by a constant per output
   channel. breaks: nothing; run fold after it to evaluate the new weights.

     %0 = conv %x, $w                              %0 = conv %x, $w*s
     %1 = add %0, broadcast $b             ->      %1 = add %0, broadcast $b*s
     %2 = mul %1, broadcast $s
*/
#include "passes/passes.h"

/* The producer behind v if it is the only reader's: an op of this code with a constant weight. */
static nn_op *product_of(nn_value *v) {
  if (v->kind != NN_RESULT || nn_value_nuses(v) != 1) return NULL;
  nn_op *op = v->def;
  bool is_product = op->code == NN_OP_CONV || (op->code == NN_OP_MATMUL && nn_attr_int(op, "trans_b") == 0);
  return is_product && op->in[1]->kind == NN_CONST && nn_dtype_is_float(op->in[1]->type.dtype) ? op : NULL;
}

/* A constant that is spread over all dims but possibly dim `channel`: the constant itself, as [n] or [1]. */
static nn_value *channel_constant(nn_builder *b, nn_value *v, int channel) {
  if (v->kind != NN_RESULT || v->def->code != NN_OP_BROADCAST) return NULL;
  nn_value *c = v->def->in[0];
  int shift = v->type.rank - c->type.rank;
  if (c->kind != NN_CONST) return NULL;
  nn_module *m = b->graph->module;
  nn_dim count = nn_dim_const(m, 1);
  for (int i = 0; i < c->type.rank; i++) {
    if (nn_dim_is(c->type.dims[i], 1)) continue;
    if (i + shift != channel) return NULL;
    count = c->type.dims[i];
  }
  return nn_b_reshape(b, c, 1, &count);
}

static int channel_dim(const nn_op *product) {
  return product->code == NN_OP_CONV ? 1 : product->out[0]->type.rank - 1;
}

/* w * s along its output channels: the first dim of a convolution's weight, the last of a matmul's. */
static nn_value *scale_weight(nn_builder *b, nn_op *product, nn_value *s) {
  nn_value *w = product->in[1];
  if (product->code == NN_OP_MATMUL) return nn_b_binary(b, NN_OP_MUL, w, s);
  nn_dim dims[NN_MAX_RANK];
  for (int i = 0; i < w->type.rank; i++) dims[i] = nn_dim_const(b->graph->module, 1);
  dims[0] = s->type.dims[0];
  return nn_b_binary(b, NN_OP_MUL, w, nn_b_reshape(b, s, w->type.rank, dims));
}

/* mul(product, s) or mul(add(product, bias), s): the value that replaces the mul, or NULL. */
static nn_value *fold_scale(nn_op *mul) {
  nn_value *bias = NULL, *x = mul->in[0];
  nn_op *product = product_of(x);
  if (!product && x->kind == NN_RESULT && x->def->code == NN_OP_ADD && nn_value_nuses(x) == 1) {
    bias = x->def->in[1];
    product = product_of(x->def->in[0]);
  }
  if (!product) return NULL;
  nn_builder b = {mul->graph, product, product->loc, product->loc_op, false};
  nn_value *s = channel_constant(&b, mul->in[1], channel_dim(product));
  nn_value *c = bias ? channel_constant(&b, bias, channel_dim(product)) : NULL;
  if (!s || (bias && !c)) return NULL;
  nn_value *w = scale_weight(&b, product, s);
  if (!w || !nn_type_equal(w->type, product->in[1]->type)) return NULL;
  nn_op_set_input(product, 1, w);
  if (!bias) return product->out[0];
  b.before = mul;
  nn_value *cs = nn_b_binary(&b, NN_OP_MUL, c, s);
  nn_type t = mul->out[0]->type;
  nn_dim dims[NN_MAX_RANK];
  for (int i = 0; i < t.rank; i++) dims[i] = nn_dim_const(mul->graph->module, 1);
  if (cs) dims[channel_dim(product)] = cs->type.dims[0];
  cs = nn_b_broadcast(&b, nn_b_reshape(&b, cs, t.rank, dims), t.rank, t.dims);
  return nn_b_binary(&b, NN_OP_ADD, product->out[0], cs);
}

nn_status pass_fold_bn(nn_module *m, bool *changed) {
  for (nn_graph *g = m->graphs; g; g = g->next)
    for (nn_op *op = g->first, *next; op; op = next) {
      next = op->next;
      nn_value *v = op->code == NN_OP_MUL ? fold_scale(op) : NULL;
      if (!v || v == op->out[0]) continue;
      nn_value_replace(op->out[0], v);
      nn_op_remove(op);
      *changed = true;
    }
  bool swept = false;
  return m->diags.nerrors ? NN_FAIL : pass_dce(m, &swept);
}
