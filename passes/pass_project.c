/* needs: recurrent weights in panels (recurrent), products as they are (before panels). gives: a recurrent layer of one
   row whose weights stream from a cache projects its input itself, some steps ahead: multiply-adds of that product run
   while the recurrent one, which has one for each number that it loads, waits for the cache (codegen/rnn_ahead.c).
   breaks: nothing; run fold after it, which makes the columns.

     %0 = reshape %x {dims=[T, I]}                     %0 = reshape $w {dims=[4, H/W, W/V, V, I]}
     %1 = matmul %0, $w {trans_b=1}                    %1 = transpose %0 {perm=[1, 0, 2, 4, 3]}
     %2 = add %1, broadcast $b                   ->    %2 = reshape %1 {dims=[4*H/V, I, V]}
     %3 = reshape %2 {dims=[T, 1, 4*H]}                %3 = lstm %x, $r, %h, %c, _, _, %2, $b
     %4 = lstm %3, $r, %h, %c

   Small weights stay in the first cache, and a much larger input is no side work. Where both weights together stream
   from memory, each had better have the last cache for itself. */
#include "passes/passes.h"

#include <string.h>

enum { LEAST_WEIGHT_BYTES = 1 << 18, MOST_WEIGHT_BYTES = 1 << 23, MOST_DEPTH = 2, MOST_OPERANDS = 8 };

/* By op; lengths: operand of the sequence lengths. */
typedef struct layer_row {
  int ngates, lengths;
} layer_row;

static const layer_row layer_rows[NN_OP_COUNT] = {[NN_OP_LSTM] = {4, 4}, [NN_OP_GRU] = {3, 3}, [NN_OP_RNN] = {1, 3}};

typedef struct projection {
  nn_value *x, *w, *bias; /* bias: NULL if there is none */
  bool is_transposed;     /* w[gates * H, I] */
  nn_dim depth;           /* I */
} projection;

static nn_op *only_reader(nn_value *v, nn_opcode code) {
  return v->kind == NN_RESULT && v->def->code == code && nn_value_nuses(v) == 1 ? v->def : NULL;
}

static nn_value *behind_reshape(nn_value *v) {
  nn_op *op = only_reader(v, NN_OP_RESHAPE);
  return op ? op->in[0] : v;
}

/* x of one row a step: what is multiplied is [T, I]. */
static bool find_projection(const nn_op *op, projection *p) {
  nn_value *v = behind_reshape(op->in[0]);
  nn_op *add = only_reader(v, NN_OP_ADD);
  *p = (projection){0};
  if (add) {
    nn_op *spread = add->in[1]->kind == NN_RESULT && add->in[1]->def->code == NN_OP_BROADCAST ? add->in[1]->def : NULL;
    if (!spread || spread->in[0]->kind != NN_CONST || spread->in[0]->type.rank != 1) return false;
    p->bias = spread->in[0];
    v = behind_reshape(add->in[0]);
  }
  nn_op *product = only_reader(v, NN_OP_MATMUL);
  if (!product || nn_attr_int(product, "trans_a")) return false;
  p->x = product->in[0];
  p->w = product->in[1];
  p->is_transposed = nn_attr_int(product, "trans_b") != 0;
  nn_dim gates = op->in[0]->type.dims[2], hidden = op->in[2]->type.dims[1];
  if (p->w->kind != NN_CONST || p->w->type.rank != 2 || (p->bias && p->bias->type.dims[0] != gates)) return false;
  p->depth = p->w->type.dims[p->is_transposed ? 1 : 0];
  if (p->w->type.dims[p->is_transposed ? 0 : 1] != gates) return false;
  int64_t units = nn_dim_value(hidden), depth = nn_dim_value(p->depth);
  return depth <= MOST_DEPTH * units && nn_dim_value(gates) * (units + depth) * 4 <= MOST_WEIGHT_BYTES;
}

static bool is_candidate(const nn_op *op, const layer_row *row) {
  const nn_pass_env *env = &op->graph->module->env;
  nn_type xw = op->in[0]->type, r = op->in[1]->type;
  int64_t time, hidden, lanes = env->vector_bytes / 4;
  if (r.rank != 3 || r.dtype != NN_F32 || !nn_dim_is(xw.dims[1], 1)) return false;
  if (op->nin > nn_projected_operand(op->code) || (row->lengths < op->nin && op->in[row->lengths])) return false;
  if (op->code == NN_OP_GRU && !nn_attr_int(op, "linear_before_reset")) return false;
  if (!nn_dim_is_const(xw.dims[0], &time) || time < NN_PROJECTED_STEPS) return false;
  if (!nn_dim_is_const(op->in[2]->type.dims[1], &hidden)) return false;
  int64_t width = nn_dim_value(r.dims[2]);
  if (width % lanes || hidden % width || row->ngates * hidden * hidden * 4 < LEAST_WEIGHT_BYTES) return false;
  return nn_projected_rows(env->vector_registers, row->ngates * width / lanes, 1) > 0;
}

/* Columns [gates * H / V, I, V] of w. */
static nn_value *columns_of(nn_builder *b, const nn_op *op, const projection *p, int64_t ngates, int64_t lanes) {
  nn_module *m = b->graph->module;
  int64_t hidden = nn_dim_value(op->in[2]->type.dims[1]), width = nn_dim_value(op->in[1]->type.dims[2]);
  nn_dim v = nn_dim_const(m, lanes);
  nn_dim units[4] = {nn_dim_const(m, ngates), nn_dim_const(m, hidden / width), nn_dim_const(m, width / lanes), v};
  nn_dim dims[5];
  for (int i = 0; i < 4; i++) dims[i + !p->is_transposed] = units[i];
  dims[p->is_transposed ? 4 : 0] = p->depth;
  nn_value *w = nn_b_reshape(b, p->w, 5, dims);
  if (w) w = nn_b_transpose(b, w, p->is_transposed ? (int64_t[]){1, 0, 2, 4, 3} : (int64_t[]){2, 1, 3, 0, 4});
  return w ? nn_b_reshape(b, w, 3, (nn_dim[]){nn_dim_const(m, ngates * hidden / lanes), p->depth, v}) : NULL;
}

static nn_status project(nn_op *op, const layer_row *row, const projection *p) {
  nn_module *m = op->graph->module;
  nn_builder b = {op->graph, op, op->loc, op->loc_op, false};
  nn_value *in[MOST_OPERANDS] = {NULL}, *out[3];
  int w = nn_projected_operand(op->code);
  memcpy(in, op->in, (size_t)op->nin * sizeof *in);
  in[0] = nn_b_reshape(&b, p->x, 3, (nn_dim[]){op->in[0]->type.dims[0], nn_dim_const(m, 1), p->depth});
  in[w] = columns_of(&b, op, p, row->ngates, m->env.vector_bytes / 4);
  in[w + 1] = p->bias;
  if (!in[0] || !in[w]) return NN_FAIL;
  nn_op *layer = nn_b_begin(&b, op->code, in, w + (p->bias ? 2 : 1), op->nout);
  memcpy(layer->attrs, op->attrs, (size_t)nn_op_infos[op->code].nattrs * sizeof *op->attrs);
  NN_TRY(nn_b_end_all(&b, layer, out));
  for (int i = 0; i < op->nout; i++) nn_value_replace(op->out[i], out[i]);
  nn_op_remove(op);
  return NN_OK;
}

nn_status pass_project(nn_module *m, bool *changed) {
  if (!m->env.evaluate) return NN_OK;
  for (nn_graph *g = m->graphs; g; g = g->next)
    for (nn_op *op = g->first, *next; op; op = next) {
      next = op->next;
      const layer_row *row = &layer_rows[op->code];
      projection p;
      if (!row->ngates || !is_candidate(op, row) || !find_projection(op, &p)) continue;
      NN_TRY(project(op, row, &p));
      *changed = true;
    }
  return NN_OK;
}
