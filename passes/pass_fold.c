/* needs: env.evaluate. gives: no op whose operands are all constants, but for those that would mostly grow
   the data (a broadcast of a small constant stays an op: it is free where it is fused). breaks: nothing.

     const $w : f32[2] = [1, 2]
     %0 = exp $w : f32[2]         ->   const $c0 : f32[2] = [2.7182817, 7.389056]
*/
#include "passes/passes.h"

enum { GROWTH = 8, SMALL_COUNT = 4096, SPREAD_COUNT = 1 << 28, SWEEP_BYTES = 8 << 20 };

/* Data that exists already: a constant, or a spread-out view of one (a broadcast, an index ramp). */
static bool is_spread(const nn_value *v) {
  if (v->kind != NN_RESULT) return false;
  const nn_op *def = v->def;
  if (!nn_attrs_are_numbers(def)) return false;
  return def->code == NN_OP_IOTA || (def->code == NN_OP_BROADCAST && def->in[0]->kind == NN_CONST);
}

static bool is_constant(const nn_op *op) {
  for (int i = 0; i < op->nin; i++)
    if (op->in[i] && op->in[i]->kind != NN_CONST && !is_spread(op->in[i])) return false;
  return nn_attrs_are_numbers(op);
}

/* Elements of a value as stored; -1 if symbolic or too large. */
static int64_t stored_count(const nn_value *v) {
  int64_t count;
  if (v->kind == NN_RESULT && v->def->code == NN_OP_IOTA) return nn_type_is_static(v->type) ? 0 : -1;
  if (v->kind == NN_RESULT && v->def->code == NN_OP_BROADCAST) {
    if (!nn_type_is_static(v->type)) return -1;
    v = v->def->in[0];
  }
  return nn_type_static_count(v->type, &count) ? count : -1;
}

static int64_t operands_count(const nn_op *op) {
  int64_t sum = 0;
  for (int i = 0; i < op->nin; i++) {
    if (!op->in[i]) continue;
    int64_t count = stored_count(op->in[i]);
    if (count < 0 || __builtin_add_overflow(sum, count, &sum)) return -1;
  }
  return sum;
}

static int64_t results_count(const nn_op *op) {
  int64_t sum = 0, count;
  for (int i = 0; i < op->nout; i++)
    if (!nn_type_static_count(op->out[i]->type, &count) || __builtin_add_overflow(sum, count, &sum)) return -1;
  return sum;
}

static bool moves_elements(const nn_op *op) {
  return op->code == NN_OP_RESHAPE || op->code == NN_OP_TRANSPOSE || op->code == NN_OP_PAD;
}

/* A nest reads buffers: a spread or padded constant would be written out for it at each run. */
static bool feeds_nest(const nn_op *op) {
  for (const nn_use *u = op->out[0]->uses; u; u = u->next) {
    if (nn_op_infos[u->user->code].flags & NN_NEST) return true;
    if (moves_elements(u->user) && feeds_nest(u->user)) return true;
  }
  return false;
}

static bool is_worth(const nn_op *op) {
  if (nn_op_infos[op->code].flags & (NN_EFFECT | NN_STRUCTURE)) return false;
  int64_t in = operands_count(op), out = results_count(op);
  bool grows = op->code == NN_OP_BROADCAST || op->code == NN_OP_PAD;
  if (grows && out >= 0 && out <= SPREAD_COUNT && feeds_nest(op)) return true;
  if (op->code == NN_OP_WINOGRAD_WEIGHTS || op->code == NN_OP_PAIRED_WEIGHTS) return in >= 0 && out >= 0; /* larger, but that is its purpose */
  return in >= 0 && out >= 0 && (out <= SMALL_COUNT || out <= in + in / GROWTH);
}

static nn_status evaluate(nn_module *m, nn_op *op, nn_value **consts) {
  nn_tensor **results = NN_NEW_ARRAY(m->arena, nn_tensor *, op->nout);
  NN_TRY(m->env.evaluate(m->env.self, op, results));
  for (int i = 0; i < op->nout; i++) {
    const char *name = op->out[i]->name ? op->out[i]->name : op->loc[0] ? op->loc : "folded";
    consts[i] = nn_module_const(m, name, results[i]);
  }
  return NN_OK;
}

/* Spread operands become constants of their own for this op: other users keep the free op. */
static nn_status store_operands(nn_module *m, nn_op *op) {
  for (int i = 0; i < op->nin; i++) {
    nn_value *constant;
    if (!op->in[i] || !is_spread(op->in[i])) continue;
    NN_TRY(evaluate(m, op->in[i]->def, &constant));
    nn_op_set_input(op, i, constant);
  }
  return NN_OK;
}

static nn_status fold_op(nn_module *m, nn_op *op) {
  NN_TRY(store_operands(m, op));
  nn_value **consts = NN_NEW_ARRAY(m->arena, nn_value *, op->nout);
  NN_TRY(evaluate(m, op, consts));
  for (int i = 0; i < op->nout; i++) nn_value_replace(op->out[i], consts[i]);
  nn_op_remove(op);
  return NN_OK;
}

/* Bytes of results since the last sweep; large ones make the constants they came from worth freeing at once. */
static bool is_time_to_sweep(const nn_op *op, int64_t *bytes) {
  int64_t count = results_count(op);
  if (count > 0) *bytes += (int64_t)nn_dtype_bytes(op->out[0]->type.dtype, (uint64_t)count);
  if (*bytes < SWEEP_BYTES) return false;
  *bytes = 0;
  return true;
}

nn_status pass_fold(nn_module *m, bool *changed) {
  if (!m->env.evaluate) return NN_OK;
  int64_t bytes = 0;
  for (nn_graph *g = m->graphs; g; g = g->next)
    for (nn_op *op = g->first, *next; op; op = next) {
      next = op->next;
      if (!is_constant(op) || !is_worth(op)) continue;
      bool sweeps = is_time_to_sweep(op, &bytes);
      NN_TRY(fold_op(m, op));
      *changed = true;
      if (sweeps) nn_consts_sweep(m, changed);
    }
  return NN_OK;
}
