/* needs: nothing. gives: no identities (copy, cast or broadcast to the same type, x*1, ...), no chain of two
   transposes or reshapes, reshapes before slices of their rows, constants as right operands, transposes of the last
   two dims inside matmul, small powers as products. breaks: nothing.

     %0 = transpose %x {perm=[1,0]} : f32[3,2]
     %1 = transpose %0 {perm=[1,0]} : f32[2,3]     ->   return %x
     return %1
*/
#include "passes/passes.h"

#include <math.h>
#include <string.h>

static bool is_splat(const nn_value *v, double value) {
  double found;
  return nn_splat_of(v, &found) && found == value && signbit(found) == signbit(value);
}

static nn_op *def_of(const nn_value *v, nn_opcode code) {
  return v->kind == NN_RESULT && v->def->code == code ? v->def : NULL;
}

static nn_builder builder_at(nn_op *op) { return (nn_builder){op->graph, op, op->loc, op->loc_op, false}; }

/* ---- one rewrite each: the value that replaces result 0, or NULL ------------------------------------- */

static nn_value *simplify_same_type(nn_op *op) {
  return nn_type_equal(op->in[0]->type, op->out[0]->type) ? op->in[0] : NULL;
}

static nn_value *simplify_copy(nn_op *op) { return op->in[0]; }

static bool is_identity_perm(const int64_t *perm, int n) {
  for (int i = 0; i < n; i++)
    if (perm[i] != i) return false;
  return true;
}

/* Moves nothing but dimensions of 1. */
static bool keeps_order(const nn_op *op, const int64_t *perm, int n) {
  int64_t last = -1;
  for (int i = 0; i < n; i++) {
    if (nn_dim_is(op->out[0]->type.dims[i], 1)) continue;
    if (perm[i] < last) return false;
    last = perm[i];
  }
  return true;
}

static nn_value *simplify_transpose(nn_op *op) {
  int n;
  const int64_t *perm = nn_attr_ints(op, "perm", &n);
  if (is_identity_perm(perm, n)) return op->in[0];
  nn_builder b = builder_at(op);
  if (keeps_order(op, perm, n)) return nn_b_reshape(&b, op->in[0], n, op->out[0]->type.dims);
  nn_op *inner = def_of(op->in[0], NN_OP_TRANSPOSE);
  if (!inner) return NULL;
  const int64_t *first = nn_attr_ints(inner, "perm", NULL);
  int64_t both[NN_MAX_RANK];
  for (int i = 0; i < n; i++) both[i] = first[perm[i]];
  return nn_b_transpose(&b, inner->in[0], both);
}

static bool all_dims_are(const nn_op *op, const char *attr, int64_t value) {
  int n;
  const nn_dim *dims = nn_attr_dims(op, attr, &n);
  for (int i = 0; i < n; i++)
    if (!nn_dim_is(dims[i], value)) return false;
  return true;
}

/* The only dimension of which the slice leaves something out, if it takes neighbours; else -1. */
static int sliced_dim(const nn_op *slice) {
  nn_type x = slice->in[0]->type, y = slice->out[0]->type;
  int dim = -1;
  if (!all_dims_are(slice, "steps", 1)) return -1;
  for (int i = 0; i < x.rank; i++) {
    if (x.dims[i] == y.dims[i]) continue;
    if (dim >= 0) return -1;
    dim = i;
  }
  return dim;
}

/* Whole rows of what the reshape makes of the dimension (heads, say): a view, and then a slice that readers of its elements may inline. */
static nn_value *reshape_before_slice(nn_op *op, nn_op *slice) {
  nn_module *m = op->graph->module;
  nn_type x = slice->in[0]->type, y = slice->out[0]->type, r = op->out[0]->type;
  int dim = sliced_dim(slice);
  int64_t all, inner, start, rest;
  if (dim < 0 || !nn_dim_is_const(x.dims[dim], &all) || !nn_dim_is_const(nn_dim_product(m, y.dims + dim + 1, y.rank - dim - 1), &inner)) return NULL;
  if (!nn_dim_is_const(nn_attr_dims(slice, "starts", NULL)[dim], &start) || slice->out[0]->uses->next) return NULL;
  for (int d = 0; d < r.rank; d++) {
    if (nn_dim_product(m, r.dims, d) != nn_dim_product(m, y.dims, dim)) continue;
    if (!nn_dim_is_const(nn_dim_product(m, r.dims + d + 1, r.rank - d - 1), &rest) || rest < 1 || inner < 1 || rest % inner) continue;
    int64_t row = rest / inner; /* of the dimension's elements */
    if (all % row || start % row) continue;
    nn_builder b = builder_at(op);
    nn_dim dims[NN_MAX_RANK];
    for (int i = 0; i < r.rank; i++) dims[i] = i == d ? nn_dim_const(m, all / row) : r.dims[i];
    nn_value *whole = nn_b_reshape(&b, slice->in[0], r.rank, dims);
    return nn_b_slice(&b, whole, d, nn_dim_const(m, start / row), r.dims[d], nn_dim_const(m, 1));
  }
  return NULL;
}

static nn_value *simplify_reshape(nn_op *op) {
  if (nn_type_equal(op->in[0]->type, op->out[0]->type)) return op->in[0];
  nn_op *slice = def_of(op->in[0], NN_OP_SLICE);
  if (slice) return reshape_before_slice(op, slice);
  nn_op *inner = def_of(op->in[0], NN_OP_RESHAPE);
  if (!inner) return NULL;
  nn_builder b = builder_at(op);
  return nn_b_reshape(&b, inner->in[0], op->out[0]->type.rank, op->out[0]->type.dims);
}

static nn_value *simplify_broadcast(nn_op *op) {
  if (nn_type_equal(op->in[0]->type, op->out[0]->type)) return op->in[0];
  nn_op *inner = def_of(op->in[0], NN_OP_BROADCAST);
  if (!inner) return NULL;
  nn_builder b = builder_at(op);
  return nn_b_broadcast(&b, inner->in[0], op->out[0]->type.rank, op->out[0]->type.dims);
}

static nn_value *simplify_slice(nn_op *op) {
  if (!nn_type_equal(op->in[0]->type, op->out[0]->type)) return NULL;
  return all_dims_are(op, "starts", 0) && all_dims_are(op, "steps", 1) ? op->in[0] : NULL;
}

static nn_value *simplify_pad(nn_op *op) {
  return all_dims_are(op, "before", 0) && all_dims_are(op, "after", 0) ? op->in[0] : NULL;
}

static nn_value *simplify_tile(nn_op *op) { return all_dims_are(op, "repeats", 1) ? op->in[0] : NULL; }

static nn_value *simplify_concat(nn_op *op) { return op->nin == 1 ? op->in[0] : NULL; }

/* Over dimensions of 1 only: the same elements. Sums of one element, not so arg_max or cum_sum. */
static nn_value *simplify_reduce(nn_op *op) {
  int n;
  const int64_t *axes = nn_attr_ints(op, "axes", &n);
  for (int i = 0; i < n; i++)
    if (!nn_dim_is(op->in[0]->type.dims[axes[i]], 1)) return NULL;
  nn_builder b = builder_at(op);
  return nn_b_reshape(&b, op->in[0], op->out[0]->type.rank, op->out[0]->type.dims);
}

static nn_value *simplify_add(nn_op *op) { /* x + 0 is not exact for -0, but x + -0 is, and integers are */
  bool is_float = nn_dtype_is_float(op->in[0]->type.dtype);
  return is_splat(op->in[1], is_float ? -0.0 : 0.0) ? op->in[0] : NULL;
}

static nn_value *simplify_sub(nn_op *op) { return is_splat(op->in[1], 0) ? op->in[0] : NULL; }
static nn_value *simplify_mul(nn_op *op) { return is_splat(op->in[1], 1) ? op->in[0] : NULL; }

/* Division by a power of two is a product, exactly. */
static nn_value *simplify_div(nn_op *op) {
  double y;
  if (is_splat(op->in[1], 1)) return op->in[0];
  int exponent;
  if (!nn_dtype_is_float(op->in[0]->type.dtype) || !nn_splat_of(op->in[1], &y) || fabs(frexp(y, &exponent)) != 0.5) return NULL;
  if (exponent < -10 || exponent > 10) return NULL;
  nn_builder b = builder_at(op);
  return nn_b_scalar_op(&b, NN_OP_MUL, op->in[0], 1 / y);
}

static nn_value *simplify_pow(nn_op *op) {
  double y;
  if (!nn_splat_of(op->in[1], &y)) return NULL;
  nn_builder b = builder_at(op);
  nn_value *x = op->in[0];
  if (y == 1) return x;
  if (y == 2) return nn_b_binary(&b, NN_OP_MUL, x, x);
  if (y == 3) return nn_b_binary(&b, NN_OP_MUL, nn_b_binary(&b, NN_OP_MUL, x, x), x);
  return NULL;
}

/* A transpose of the last two dims of an operand becomes the matmul's own flag. */
static bool swaps_last_two(nn_op *t) {
  int n;
  const int64_t *perm = nn_attr_ints(t, "perm", &n);
  if (n < 2 || perm[n - 1] != n - 2 || perm[n - 2] != n - 1) return false;
  return is_identity_perm(perm, n - 2);
}

static bool absorb_transpose(nn_op *op, int operand, const char *flag) {
  nn_op *t = def_of(op->in[operand], NN_OP_TRANSPOSE);
  if (!t || !swaps_last_two(t)) return false;
  nn_op_set_input(op, operand, t->in[0]);
  nn_set_int(op, flag, !nn_attr_int(op, flag));
  return true;
}

static void swap_constant_right(nn_op *op, bool *changed) {
  double value;
  bool left = op->in[0]->kind == NN_CONST || nn_splat_of(op->in[0], &value);
  bool right = op->in[1]->kind == NN_CONST || nn_splat_of(op->in[1], &value);
  if (!left || right) return;
  nn_value *x = op->in[0];
  nn_op_set_input(op, 0, op->in[1]);
  nn_op_set_input(op, 1, x);
  *changed = true;
}

typedef nn_value *simplifier(nn_op *op);

static simplifier *simplifier_of(nn_opcode code) {
  switch (code) {
    case NN_OP_COPY: return simplify_copy;
    case NN_OP_CAST: case NN_OP_BITCAST: return simplify_same_type;
    case NN_OP_TRANSPOSE: return simplify_transpose;
    case NN_OP_RESHAPE: return simplify_reshape;
    case NN_OP_BROADCAST: return simplify_broadcast;
    case NN_OP_SLICE: return simplify_slice;
    case NN_OP_PAD: return simplify_pad;
    case NN_OP_TILE: return simplify_tile;
    case NN_OP_CONCAT: return simplify_concat;
    case NN_OP_REDUCE_SUM: case NN_OP_REDUCE_PROD: case NN_OP_REDUCE_MAX: case NN_OP_REDUCE_MIN: return simplify_reduce;
    case NN_OP_ADD: return simplify_add;
    case NN_OP_SUB: return simplify_sub;
    case NN_OP_MUL: return simplify_mul;
    case NN_OP_DIV: return simplify_div;
    case NN_OP_POW: return simplify_pow;
    default: return NULL;
  }
}

static void canon_op(nn_op *op, bool *changed) {
  if (nn_op_infos[op->code].flags & NN_COMMUTES) swap_constant_right(op, changed);
  if (op->code == NN_OP_MATMUL) {
    *changed |= absorb_transpose(op, 0, "trans_a");
    *changed |= absorb_transpose(op, 1, "trans_b");
  }
  simplifier *simplify = simplifier_of(op->code);
  nn_value *v = simplify ? simplify(op) : NULL;
  if (!v || !nn_type_equal(v->type, op->out[0]->type)) return;
  nn_value_replace(op->out[0], v);
  nn_op_remove(op);
  *changed = true;
}

nn_status pass_canon(nn_module *m, bool *changed) {
  for (nn_graph *g = m->graphs; g; g = g->next)
    for (nn_op *op = g->first, *next; op; op = next) {
      next = op->next;
      canon_op(op, changed);
    }
  bool swept = false;
  return m->diags.nerrors ? NN_FAIL : pass_dce(m, &swept);
}
