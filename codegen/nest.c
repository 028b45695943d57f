/* Small helpers of nests that write their own loops: lanes, tails, tasks, accumulator types. */
#include "codegen/codegen.h"

#include <math.h>

enum { LARGE = 1 << 24 }; /* products of two guesses do not overflow */

int64_t nn_percent(const nn_lower *L, nn_knob knob, int64_t value) {
  return value * nn_schedule(L->module, L->op, knob, 100, 10, 1000) / 100;
}

/* Neighbouring 4-bit elements share a byte: lanes of such a kernel are scalar copies, tasks a serial loop. */
nn_x *nn_lanes_begin(nn_lower *L, int lanes) {
  if (lanes <= 1) return nn_x_int(L->kernel, 0);
  return nn_loop_range(L->kernel, nn_has_packed_output(L) ? NN_UNROLL : NN_VECTOR, "l", lanes);
}

void nn_lanes_end(nn_lower *L, int lanes) {
  if (lanes > 1) nn_end(L->kernel);
}

nn_x *nn_zero(nn_lower *L, nn_dtype t) {
  return nn_dtype_is_float(t) ? nn_x_const(L->kernel, t, 0) : nn_x_iconst(L->kernel, t, 0);
}

nn_dtype nn_acc_dtype(nn_dtype t) { return nn_dtype_is_float(t) && t != NN_F64 ? NN_F32 : t; }

nn_x *nn_mul_add(nn_lower *L, nn_x *a, nn_x *b, nn_x *c) {
  nn_kernel *k = L->kernel;
  if (nn_dtype_is_float(a->dtype)) return nn_x_fma(k, a, b, c);
  return nn_x_binary(k, NN_X_ADD, nn_x_binary(k, NN_X_MUL, a, b), c);
}

int64_t nn_dim_guess(nn_dim d, int64_t fallback) {
  int64_t min, max;
  nn_dim_range(d, &min, &max);
  int64_t guess = fallback < min ? min : fallback > max ? max : fallback;
  return guess < LARGE ? guess : LARGE;
}

nn_x *nn_ceildiv_x(nn_lower *L, nn_x *a, int64_t b) {
  nn_kernel *k = L->kernel;
  return nn_xi_floordiv(k, nn_xi_addc(k, a, b - 1), nn_x_int(k, b));
}

nn_x *nn_task_loop(nn_lower *L, bool in_parallel, const char *name, nn_x *count) {
  nn_kernel *k = L->kernel;
  int64_t n;
  nn_loop_kind kind =
      in_parallel || nn_has_packed_output(L) || (nn_x_is_const(count, &n) && n <= 1) ? NN_FOR : NN_PARALLEL;
  return nn_loop_begin(k, kind, name, nn_x_int(k, 0), count);
}

nn_split nn_split_task(nn_lower *L, nn_x *task, nn_x *outer, nn_x *inner) {
  nn_kernel *k = L->kernel;
  nn_split s;
  nn_x *half = nn_let(k, nn_ceildiv_x(L, inner, 2)), *first = nn_let(k, nn_xi_mul(k, half, outer)), *zero = nn_x_int(k, 0);
  nn_x *is_second = nn_let(k, nn_x_binary(k, NN_X_LE, first, task));
  s.first = nn_let(k, nn_x_select(k, is_second, half, zero));
  nn_x *in_half = nn_let(k, nn_xi_sub(k, task, nn_x_select(k, is_second, first, zero)));
  nn_x *size = nn_let(k, nn_x_select(k, is_second, nn_xi_max(k, nn_xi_sub(k, inner, half), nn_x_int(k, 1)), half));
  s.outer = nn_let(k, nn_xi_floordiv(k, in_half, size));
  s.inner = nn_let(k, nn_xi_add(k, s.first, nn_xi_mod(k, in_half, size)));
  return s;
}

static void emit_rest(nn_lower *L, nn_x *done, nn_x *count, int lanes, nn_block_body *body, void *data) {
  nn_kernel *k = L->kernel;
  int64_t rest;
  if (!L->target->has_masked_memory) {
    nn_x *i = nn_loop_begin(k, NN_FOR, "i", done, count);
    body(L, i, 1, false, data);
    nn_end(k);
    return;
  }
  bool certain = nn_x_is_const(count, &rest);
  if (certain) rest %= lanes;
  if (certain && rest >= 4 && (rest & (rest - 1)) == 0) { /* a whole vector, narrower */
    body(L, done, (int)rest, false, data);
    return;
  }
  if (!certain) nn_if_begin(k, nn_x_binary(k, NN_X_LT, done, count));
  body(L, done, lanes, true, data);
  if (!certain) nn_end(k);
}

void nn_block_loops(nn_lower *L, nn_x *count, int lanes, nn_block_body *body, void *data) {
  nn_kernel *k = L->kernel;
  nn_x *blocks = nn_let(k, nn_xi_floordiv(k, count, nn_x_int(k, lanes)));
  nn_x *done = nn_let(k, nn_xi_mulc(k, blocks, lanes));
  int64_t nblocks, n;
  bool is_static = nn_x_is_const(blocks, &nblocks) && nn_x_is_const(count, &n);
  if (!is_static || nblocks > 0) {
    nn_x *b = nn_loop_begin(k, NN_FOR, "v", nn_x_int(k, 0), blocks);
    body(L, nn_xi_mulc(k, b, lanes), lanes, false, data);
    nn_end(k);
  }
  if (lanes > 1 && (!is_static || nblocks * lanes < n)) emit_rest(L, done, count, lanes, body, data);
}

typedef struct row_rest {
  nn_x *first;
  nn_row_body *body;
  void *data;
} row_rest;

static void emit_row_rest(nn_lower *L, nn_x *i, int lanes, bool is_tail, void *data) {
  const row_rest *rest = data;
  rest->body(L, nn_xi_add(L->kernel, rest->first, i), nn_x_int(L->kernel, 0), lanes, is_tail, rest->data);
}

void nn_row_loops(nn_lower *L, nn_x *first, nn_x *end, int lanes, int vectors, nn_row_body *body, void *data) {
  nn_kernel *k = L->kernel;
  row_rest rest = {first, body, data};
  int wide = lanes * vectors;
  nn_x *count = nn_xi_sub(k, end, first);
  if (vectors > 1) {
    nn_x *blocks = nn_let(k, nn_xi_floordiv(k, count, nn_x_int(k, wide)));
    nn_x *b = nn_loop_begin(k, NN_FOR, "b", nn_x_int(k, 0), blocks);
    nn_x *u = nn_loop_range(k, NN_UNROLL, "u", vectors);
    nn_x *i = nn_xi_add(k, nn_xi_mulc(k, b, wide), nn_xi_mulc(k, u, lanes));
    body(L, nn_xi_add(k, first, i), u, lanes, false, data);
    nn_end(k);
    nn_end(k);
    rest.first = nn_let(k, nn_xi_add(k, first, nn_xi_mulc(k, blocks, wide)));
    count = nn_xi_sub(k, end, rest.first);
  }
  nn_block_loops(L, nn_let(k, count), lanes, emit_row_rest, &rest);
}

int nn_row_lanes(nn_lower *L, nn_dtype t, nn_dim extent) {
  int64_t n;
  int lanes = nn_target_lanes(L->target, t);
  if (!nn_dim_is_const(extent, &n)) return lanes;
  while (lanes > 1 && lanes / 2 >= n) lanes /= 2;
  return lanes;
}

int nn_row_vectors(int most, int lanes, nn_dim extent) {
  int64_t n;
  if (!nn_dim_is_const(extent, &n)) return most;
  while (most > 1 && (int64_t)lanes * most > n) most /= 2;
  return most;
}

void nn_row_take(nn_lower *L, nn_xop op, nn_buf *acc, nn_x *slot, nn_x *l, int lanes, nn_x *value) {
  nn_kernel *k = L->kernel;
  nn_x *reg = nn_xi_add(k, nn_xi_mulc(k, slot, lanes), l);
  nn_store(k, acc, reg, nn_x_binary(k, op, nn_x_load(k, acc, reg, NULL), value), NULL);
}

nn_buf *nn_row_regs(nn_lower *L, nn_x *start, int vectors, int lanes) {
  nn_kernel *k = L->kernel;
  nn_buf *acc = nn_regs(L, start->dtype, (int64_t)vectors * lanes);
  nn_x *u = nn_loop_range(k, NN_UNROLL, "u", vectors), *l = nn_lanes_begin(L, lanes);
  nn_store(k, acc, nn_xi_add(k, nn_xi_mulc(k, u, lanes), l), start, NULL);
  nn_lanes_end(L, lanes);
  nn_end(k);
  return acc;
}

static nn_xop lanes_op(nn_xop op) {
  switch (op) {
  case NN_X_MUL: return NN_X_LANES_PROD;
  case NN_X_MAX: return NN_X_LANES_MAX;
  case NN_X_MIN: return NN_X_LANES_MIN;
  default: return NN_X_LANES_SUM;
  }
}

nn_x *nn_row_fold(nn_lower *L, nn_xop op, nn_buf *acc, int vectors, int lanes) {
  nn_kernel *k = L->kernel;
  for (int half = vectors / 2; half > 0; half /= 2) {
    nn_x *u = nn_loop_range(k, NN_UNROLL, "u", half), *l = nn_lanes_begin(L, lanes);
    nn_x *low = nn_xi_add(k, nn_xi_mulc(k, u, lanes), l), *high = nn_xi_addc(k, low, (int64_t)half * lanes);
    nn_store(k, acc, low, nn_x_binary(k, op, nn_x_load(k, acc, low, NULL), nn_x_load(k, acc, high, NULL)), NULL);
    nn_lanes_end(L, lanes);
    nn_end(k);
  }
  nn_x *zero = nn_x_int(k, 0);
  return nn_let(k, lanes > 1 ? nn_x_lanes(k, lanes_op(op), acc, zero, lanes) : nn_x_load(k, acc, zero, NULL));
}

nn_x *nn_lowest(nn_lower *L, nn_dtype t) {
  nn_kernel *k = L->kernel;
  if (nn_dtype_is_float(t)) return nn_x_const(k, t, -INFINITY);
  uint64_t high = UINT64_C(1) << (nn_dtype_bits(t) - 1);
  return nn_x_iconst(k, t, nn_dtype_kind_of(t) == NN_KIND_INT ? (int64_t)high : 0);
}

nn_x *nn_highest(nn_lower *L, nn_dtype t) {
  nn_kernel *k = L->kernel;
  if (nn_dtype_is_float(t)) return nn_x_const(k, t, INFINITY);
  uint64_t ones = ~UINT64_C(0) >> (64 - nn_dtype_bits(t));
  return nn_x_iconst(k, t, (int64_t)(nn_dtype_kind_of(t) == NN_KIND_INT ? ones >> 1 : ones));
}

/* Rough: elementary functions are long code. */
static int epilogue_cost(const nn_group *g) {
  enum { FUNCTION = 10 };
  int cost = 0;
  for (int i = 0; i < g->nops; i++) {
    if (!(nn_op_infos[g->ops[i]->code].flags & NN_POINTWISE)) continue;
    cost += nn_op_is_cheap(g->ops[i]->code) ? 1 : FUNCTION;
  }
  return cost;
}

bool nn_epilogue_is_short(const nn_lower *L) {
  enum { DIRECT_COST = 6 };
  return epilogue_cost(nn_group_of(L)) <= DIRECT_COST;
}
