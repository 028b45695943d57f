/* Small helpers of nests that write their own loops: lanes, tails, tasks, accumulator types. */
#include "codegen/codegen.h"

nn_x *nn_lanes_begin(nn_lower *L, int lanes) {
  if (lanes <= 1) return nn_x_int(L->kernel, 0);
  return nn_loop_range(L->kernel, NN_VECTOR, "l", lanes);
}

void nn_lanes_end(nn_lower *L, int lanes) {
  if (lanes > 1) nn_end(L->kernel);
}

nn_x *nn_zero(nn_lower *L, nn_dtype t) {
  return nn_dtype_is_float(t) ? nn_x_const(L->kernel, t, 0) : nn_x_iconst(L->kernel, t, 0);
}

nn_dtype nn_acc_dtype(nn_dtype t) {
  return nn_dtype_is_float(t) && t != NN_F64 ? NN_F32 : t;
}

nn_x *nn_mul_add(nn_lower *L, nn_x *a, nn_x *b, nn_x *c) {
  nn_kernel *k = L->kernel;
  if (nn_dtype_is_float(a->dtype)) return nn_x_fma(k, a, b, c);
  return nn_x_binary(k, NN_X_ADD, nn_x_binary(k, NN_X_MUL, a, b), c);
}

int64_t nn_dim_guess(nn_dim d, int64_t fallback) {
  int64_t min, max;
  nn_dim_range(d, &min, &max);
  if (fallback < min) return min;
  return fallback > max ? max : fallback;
}

nn_x *nn_ceildiv_x(nn_lower *L, nn_x *a, int64_t b) {
  nn_kernel *k = L->kernel;
  return nn_xi_floordiv(k, nn_xi_addc(k, a, b - 1), nn_x_int(k, b));
}

nn_x *nn_task_loop(nn_lower *L, bool in_parallel, const char *name, nn_x *count) {
  nn_kernel *k = L->kernel;
  int64_t n;
  nn_loop_kind kind = in_parallel || (nn_x_is_const(count, &n) && n <= 1) ? NN_FOR : NN_PARALLEL;
  return nn_loop_begin(k, kind, name, nn_x_int(k, 0), count);
}

static void emit_rest(nn_lower *L, nn_x *done, nn_x *count, int lanes, nn_block_body *body, void *data) {
  nn_kernel *k = L->kernel;
  int64_t unused;
  if (!L->target->has_masked_memory) {
    nn_x *i = nn_loop_begin(k, NN_FOR, "i", done, count);
    body(L, i, 1, false, data);
    nn_end(k);
    return;
  }
  bool certain = nn_x_is_const(count, &unused);
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
