/* needs: weights folded into products (fold_bn), constants on the right (canon). gives: x sigmoid(x) of a product by a constant weight, with or
   without a bias, is one op of x in half octaves, 2 log2(e) x: its exponential is then a power of two, which takes fewer operations where the
   target has lookups (math_exp.c). The weight and the bias are multiplied. breaks: nothing; run fold after it to evaluate the new weights.

     %0 = conv %x, $w                              %0 = conv %x, $w*2.885
     %1 = add %0, broadcast $b             ->      %1 = add %0, broadcast $b*2.885
     %2 = sigmoid %1                               %3 = silu2 %1
     %3 = mul %1, %2
*/
#include "passes/passes.h"

static const double half_octaves = 2.88539008177792681472; /* 2 log2(e) */

static nn_op *made_by(const nn_value *v, nn_opcode code) { return v->kind == NN_RESULT && v->def->code == code ? v->def : NULL; }

/* The product by a constant weight that v is, else NULL. */
static nn_op *product_of(const nn_value *v) {
  nn_op *op = made_by(v, NN_OP_CONV) ? made_by(v, NN_OP_CONV) : made_by(v, NN_OP_MATMUL);
  return op && op->in[1]->kind == NN_CONST ? op : NULL;
}

/* x where op is x * sigmoid(x), and nothing else reads either; else NULL. */
static nn_value *gated(const nn_op *op) {
  for (int i = 0; i < 2; i++) {
    const nn_op *gate = made_by(op->in[i], NN_OP_SIGMOID);
    nn_value *x = op->in[1 - i];
    if (gate && gate->in[0] == x && nn_value_nuses(op->in[i]) == 1 && nn_value_nuses(x) == 2) return x;
  }
  return NULL;
}

static nn_value *multiplied(nn_op *before, nn_value *v) {
  nn_builder b = {before->graph, before, before->loc, before->loc_op, false};
  return nn_b_scalar_op(&b, NN_OP_MUL, v, half_octaves);
}

static bool multiply_bias(nn_op *add) {
  nn_type t = add->out[0]->type;
  nn_builder b = {add->graph, add, add->loc, add->loc_op, false};
  nn_value *bias = multiplied(add, add->in[1]->def->in[0]);
  bias = bias ? nn_b_broadcast(&b, bias, t.rank, t.dims) : NULL;
  if (bias) nn_op_set_input(add, 1, bias);
  return bias != NULL;
}

/* What replaces the multiplication, or NULL. */
static nn_value *count_in_half_octaves(nn_op *op) {
  nn_value *x = gated(op);
  if (!x || x->type.dtype != NN_F32) return NULL;
  nn_op *add = made_by(x, NN_OP_ADD), *product = product_of(add ? add->in[0] : x);
  if (!product) return NULL;
  if (add) {
    const nn_op *spread = made_by(add->in[1], NN_OP_BROADCAST);
    if (!spread || spread->in[0]->kind != NN_CONST || nn_value_nuses(add->in[0]) != 1) return NULL;
  }
  nn_value *weight = multiplied(product, product->in[1]);
  if (!weight || (add && !multiply_bias(add))) return NULL;
  nn_op_set_input(product, 1, weight);
  nn_builder b = {op->graph, op, op->loc, op->loc_op, false};
  return nn_b_unary(&b, NN_OP_SILU2, x);
}

nn_status pass_silu(nn_module *m, bool *changed) {
  if (!m->env.has_lookup) return NN_OK;
  for (nn_graph *g = m->graphs; g; g = g->next)
    for (nn_op *op = g->first, *next; op; op = next) {
      next = op->next;
      nn_value *v = op->code == NN_OP_MUL ? count_in_half_octaves(op) : NULL;
      if (!v) continue;
      nn_value_replace(op->out[0], v);
      nn_op_remove(op);
      *changed = true;
    }
  bool swept = false;
  return m->diags.nerrors ? NN_FAIL : pass_dce(m, &swept);
}
