/* needs: pass layout; weights of convolutions in panels. gives: a number for each input channel of a convolution, computed by the
   network (squeeze and excite), multiplies the weights instead of the image, where these are fewer. breaks: nothing.

     %0 = broadcast %s {dims=[1, 6, 56, 56, 16]}          %0 = reshape %s {dims=[1, 6, 1, 1, 16, 1]}     %s: f32[1,6,1,1,16]
     %1 = mul %x, %0                                ->    %1 = broadcast %0 {dims=[1, 6, 1, 1, 16, 32]}
     %2 = conv_blocked %1, $w                             %2 = mul $w, %1
                                                          %3 = conv_blocked %x, %2

   Only for one image, whose numbers all pixels share, and where the convolution reads its image in place: what it copies
   around a border anyway is multiplied on the way. */
#include "passes/passes.h"

enum {
  LEAST_SAVED = 1 << 13 /* products, for the kernel that this adds */
};

static int64_t elements_of(const nn_value *v) {
  int64_t count;
  return nn_type_static_count(v->type, &count) ? count : 0;
}

/* A number for each channel in blocks: [1,C/B,1,1,B]. */
static bool is_scale(const nn_value *v) {
  static const int ones[] = {0, 2, 3};
  if (v->type.rank != 5) return false;
  for (int i = 0; i < 3; i++)
    if (!nn_dim_is(v->type.dims[ones[i]], 1)) return false;
  return true;
}

static bool has_one_use(const nn_value *v) { return v->uses && !v->uses->next; }

/* Which operand of the product that the convolution reads is a scale, broadcast; -1: none. */
static int scaled_operand(const nn_op *conv) {
  const nn_value *x = conv->in[0];
  if (x->kind != NN_RESULT || x->def->code != NN_OP_MUL || !has_one_use(x)) return -1;
  for (int i = 0; i < 2; i++) {
    const nn_value *v = x->def->in[i], *image = x->def->in[1 - i];
    if (v->kind == NN_RESULT && v->def->code == NN_OP_BROADCAST && is_scale(v->def->in[0]) && image->type.rank == 5) return i;
  }
  return -1;
}

static bool reads_in_place(const nn_op *conv) {
  nn_type x = conv->in[0]->type, y = conv->out[0]->type;
  for (int d = 2; d < 4; d++)
    if (!nn_dim_is(conv->in[1]->type.dims[d], 1) || x.dims[d] != y.dims[d]) return false; /* 1x1, no stride, no border */
  return true;
}

static bool is_candidate(const nn_op *op) {
  if (op->code != NN_OP_CONV_BLOCKED || nn_attr_int(op, "groups") != 1 || !reads_in_place(op)) return false;
  return scaled_operand(op) >= 0 && elements_of(op->in[0]) >= elements_of(op->in[1]) + LEAST_SAVED;
}

static bool scale_weights(nn_op *conv) {
  nn_module *m = conv->graph->module;
  nn_builder b = {conv->graph, conv, conv->loc, conv->loc_op, false};
  nn_op *product = conv->in[0]->def;
  int which = scaled_operand(conv);
  nn_value *scale = product->in[which]->def->in[0], *w = conv->in[1];
  nn_dim one = nn_dim_const(m, 1);
  nn_value *v = nn_b_reshape(&b, scale, 6, (nn_dim[]){one, scale->type.dims[1], one, one, scale->type.dims[4], one});
  if (v) v = nn_b_broadcast(&b, v, 6, w->type.dims);
  if (v) v = nn_b_binary(&b, NN_OP_MUL, w, v);
  if (!v) return false;
  nn_op_set_input(conv, 0, product->in[1 - which]);
  nn_op_set_input(conv, 1, v);
  return true;
}

nn_status pass_scale(nn_module *m, bool *changed) {
  for (nn_graph *g = m->graphs; g; g = g->next)
    for (nn_op *op = g->first; op; op = op->next)
      if (is_candidate(op)) *changed |= scale_weights(op);
  return m->diags.nerrors ? NN_FAIL : NN_OK;
}
