/* needs: env.evaluate, weights folded to constants. gives: recurrent layers with constant weights read them in panels,
   all gates of W units in one (codegen/rnn_product.c): nothing is packed at run time. breaks: nothing; run fold after
   it, which makes the panels.

     %0 = lstm %x, $r, %h, %c   ->   %0 = reshape $r {dims=[4, H/W, W, H]}       $r is padded to whole panels
                                     %1 = transpose %0 {perm=[1, 3, 0, 2]}
                                     %2 = reshape %1 {dims=[H/W, 4*H, W]}
                                     %3 = lstm %x, %2, %h, %c

   A gru whose reset gate comes before its second product: the same of its gates z and r, then of h. */
#include "passes/passes.h"

static int gates_of(const nn_op *op) {
  return op->code == NN_OP_LSTM ? 4 : op->code == NN_OP_GRU ? 3 : op->code == NN_OP_RNN ? 1 : 0;
}

/* Gates of the first product of a step; a second one has the others. */
static int gates_together(const nn_op *op) {
  return op->code == NN_OP_GRU && !nn_attr_int(op, "linear_before_reset") ? 2 : gates_of(op);
}

/* All who read the weights are recurrent layers, so the matrix goes. */
static bool is_candidate(const nn_op *op) {
  int64_t hidden;
  if (!gates_of(op)) return false;
  const nn_value *r = op->in[1];
  if (r->kind != NN_CONST || r->type.rank != 2 || (r->type.dtype != NN_F32 && r->type.dtype != NN_F64)) return false;
  for (const nn_use *u = r->uses; u; u = u->next)
    if (!gates_of(u->user) || u->index != 1) return false;
  return nn_dim_is_const(r->type.dims[1], &hidden) && hidden > 0;
}

/* Of gates first .. first + count: [panels, count * H, W] of r[gates, H, H], whose units are padded to whole panels. */
static nn_value *panels_of_gates(nn_builder *b, nn_value *r, int first, int count, nn_dim panels, nn_dim width) {
  nn_module *m = b->graph->module;
  nn_dim hidden = r->type.dims[2], gates = nn_dim_const(m, count), one = nn_dim_const(m, 1);
  nn_value *v = nn_b_slice(b, r, 0, nn_dim_const(m, first), gates, one);
  if (v) v = nn_b_reshape(b, v, 4, (nn_dim[]){gates, panels, width, hidden});
  if (v) v = nn_b_transpose(b, v, (int64_t[]){1, 3, 0, 2});
  return v ? nn_b_reshape(b, v, 3, (nn_dim[]){panels, nn_dim_mul(m, gates, hidden), width}) : NULL;
}

static nn_value *pad_units(nn_builder *b, nn_value *r, int64_t count) {
  nn_module *m = b->graph->module;
  if (count == 0) return r;
  nn_op *pad = nn_b_begin(b, NN_OP_PAD, (nn_value *[]){r, nn_b_scalar(b, r->type.dtype, 0)}, 2, -1);
  nn_dim zero = nn_dim_const(m, 0);
  if (pad) {
    nn_set_dims(pad, "before", (nn_dim[]){zero, zero, zero}, 3);
    nn_set_dims(pad, "after", (nn_dim[]){zero, nn_dim_const(m, count), zero}, 3);
  }
  return nn_b_end(b, pad);
}

static nn_status put_in_panels(nn_op *op) {
  nn_module *m = op->graph->module;
  nn_builder b = {op->graph, op, op->loc, op->loc_op, false};
  nn_value *r = op->in[1], *parts[2] = {NULL};
  int64_t hidden = nn_dim_value(r->type.dims[1]), lanes = m->env.vector_bytes / (nn_dtype_bits(r->type.dtype) / 8);
  int ngates = gates_of(op), together = gates_together(op), nparts = together < ngates ? 2 : 1;
  int64_t width = nn_recurrent_width(lanes, op->in[0]->type.dims[1], r->type.dims[1], together);
  int64_t npanels = hidden / width + (hidden % width != 0);
  nn_dim h = r->type.dims[1];
  r = nn_b_reshape(&b, r, 3, (nn_dim[]){nn_dim_const(m, ngates), h, h});
  if (r) r = pad_units(&b, r, npanels * width - hidden);
  for (int i = 0; i < nparts && r; i++)
    parts[i] = panels_of_gates(&b, r, i * together, i ? ngates - together : together, nn_dim_const(m, npanels),
                               nn_dim_const(m, width));
  if (!r || !parts[0] || (nparts > 1 && !parts[1])) return NN_FAIL;
  r = nparts > 1 ? nn_b_concat(&b, parts, nparts, 1) : parts[0];
  if (!r) return NN_FAIL;
  nn_op_set_input(op, 1, r);
  return NN_OK;
}

nn_status pass_recurrent(nn_module *m, bool *changed) {
  enum { FEWEST_VECTOR_BYTES = 16 };
  if (!m->env.evaluate || m->env.vector_bytes < FEWEST_VECTOR_BYTES) return NN_OK;
  for (nn_graph *g = m->graphs; g; g = g->next)
    for (nn_op *op = g->first; op; op = op->next)
      if (is_candidate(op)) {
        NN_TRY(put_in_panels(op));
        *changed = true;
      }
  return NN_OK;
}
