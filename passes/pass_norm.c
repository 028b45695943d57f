/* needs: constants to the right and squares as products (canon), equal ops merged (cse), since exporters write the difference
   twice. gives: layer normalisation over the last dimensions,
   spelled out as exporters below opset 17 do, is one op. breaks: nothing.

     %0 = reduce_sum %x {axes=[2]}
     %1 = div %0, 16                  (mean)
     %2 = sub %x, broadcast %1                             %0, _, _ = normalize %x {axis=2, epsilon=1e-05}
     %3 = mul %2, %2                                  ->   return %0
     %4 = reduce_sum %3 {axes=[2]}
     %5 = add (div %4, 16), 1e-05     (variance)
     %6 = div %2, broadcast (sqrt %5)
     return %6

   A product with 1 / sqrt in place of the division is the same. E[x^2] - E[x]^2 is left as it is: it is
   another number where it cancels. The scale and the shift behind it stay ops of their own, and are fused. */
#include "passes/passes.h"

#include <math.h>

typedef struct norm {
  nn_value *x, *difference;
  int axis;
  int uses; /* of the difference, by the norm itself */
  double epsilon;
} norm;

static nn_op *def_of(const nn_value *v, nn_opcode code) { return v->kind == NN_RESULT && v->def->code == code ? v->def : NULL; }

/* ---- values behind others ------------------------------------------------------------------------ */

/* A row's number in another shape, or rounded to a narrower type by the node that made it. */
static nn_value *behind_shape(nn_value *v) {
  for (;;) {
    nn_op *op = def_of(v, NN_OP_RESHAPE);
    if (!op) op = def_of(v, NN_OP_CAST);
    if (!op || (op->code == NN_OP_CAST && !nn_dtype_is_float(op->in[0]->type.dtype))) return v;
    if (nn_dtype_bits(op->in[0]->type.dtype) < nn_dtype_bits(v->type.dtype)) return v;
    v = op->in[0];
  }
}

/* What is summed in f32, in its own type. */
static nn_value *behind_widening(nn_value *v) {
  nn_op *cast = def_of(v, NN_OP_CAST);
  if (!cast || !nn_dtype_is_float(cast->in[0]->type.dtype)) return v;
  return nn_dtype_bits(cast->in[0]->type.dtype) < nn_dtype_bits(v->type.dtype) ? cast->in[0] : v;
}

/* The numbers, one a row, that v spreads over the rows of type t: 1 in the dimensions from axis on. NULL: none. */
static nn_value *row_numbers(nn_value *v, nn_type t, int axis) {
  nn_op *spread = def_of(v, NN_OP_BROADCAST);
  nn_type rows = spread ? spread->in[0]->type : t;
  if (!spread || rows.rank != t.rank || !nn_type_same_shape(v->type, t)) return NULL;
  for (int i = 0; i < t.rank; i++)
    if (i < axis ? rows.dims[i] != t.dims[i] : !nn_dim_is(rows.dims[i], 1)) return NULL;
  return spread->in[0];
}

/* ---- means --------------------------------------------------------------------------------------- */

/* The first of the axes, if these are the last dimensions, and how many elements they have; -1: they are not. */
static int trailing_axis(const nn_op *reduce, double *count) {
  nn_type t = reduce->in[0]->type;
  int n;
  const int64_t *axes = nn_attr_ints(reduce, "axes", &n);
  *count = 1;
  for (int i = 0; i < n; i++) {
    int64_t extent;
    if (axes[i] != t.rank - n + i || !nn_dim_is_const(t.dims[axes[i]], &extent)) return -1;
    *count *= (double)extent;
  }
  return n > 0 && *count > 0 ? t.rank - n : -1;
}

static bool divides_by(const nn_op *op, double count) {
  double value;
  nn_dtype t = op->out[0]->type.dtype;
  if (!nn_splat_of(op->in[1], &value)) return false;
  return op->code == NN_OP_DIV ? value == nn_round_to(t, count) : value == nn_round_to(t, 1 / count);
}

/* v is the mean of this over its dimensions from *axis on; NULL: it is no such mean. */
static nn_value *mean_of(nn_value *v, int *axis) {
  double count;
  v = behind_shape(v);
  if (v->kind != NN_RESULT || (v->def->code != NN_OP_DIV && v->def->code != NN_OP_MUL)) return NULL;
  nn_op *sum = def_of(behind_shape(v->def->in[0]), NN_OP_REDUCE_SUM);
  if (!sum) return NULL;
  *axis = trailing_axis(sum, &count);
  return *axis >= 0 && divides_by(v->def, count) ? behind_widening(sum->in[0]) : NULL;
}

/* ---- the parts ----------------------------------------------------------------------------------- */

/* x - mean(x) */
static bool match_difference(nn_value *v, norm *n) {
  nn_op *sub = def_of(v, NN_OP_SUB);
  nn_op *spread = sub ? def_of(sub->in[1], NN_OP_BROADCAST) : NULL;
  if (!spread || mean_of(spread->in[0], &n->axis) != sub->in[0]) return false;
  n->x = sub->in[0];
  n->difference = v;
  return row_numbers(sub->in[1], n->x->type, n->axis) != NULL;
}

/* mean(difference^2) + epsilon */
static bool match_variance(nn_value *v, norm *n) {
  int axis;
  nn_op *add = def_of(behind_shape(v), NN_OP_ADD);
  if (!add || !nn_splat_of(add->in[1], &n->epsilon) || !(n->epsilon >= 0) || isinf(n->epsilon)) return false;
  nn_value *square = mean_of(add->in[0], &axis);
  nn_op *mul = square && axis == n->axis ? def_of(square, NN_OP_MUL) : NULL;
  if (!mul || mul->in[0] != mul->in[1] || behind_widening(mul->in[0]) != n->difference) return false;
  n->uses = mul->in[0] == n->difference ? 3 : 2;
  return true;
}

/* 1 / this; NULL: it is no inverse. */
static nn_value *inverse_of(nn_value *v) {
  double one;
  v = behind_shape(v);
  nn_op *recip = def_of(v, NN_OP_RECIP), *div = def_of(v, NN_OP_DIV);
  if (recip) return recip->in[0];
  return div && nn_splat_of(div->in[0], &one) && one == 1 ? div->in[1] : NULL;
}

/* The root that the difference is divided by. */
static bool match_deviation(nn_value *v, norm *n) {
  nn_op *root = v ? def_of(behind_shape(v), NN_OP_SQRT) : NULL;
  return root && match_variance(root->in[0], n);
}

/* op: difference / spread(root), or difference * spread(1 / root); its operand `left` is the difference. */
static bool match_norm(const nn_op *op, int left, norm *n) {
  if (!match_difference(op->in[left], n)) return false;
  nn_value *numbers = row_numbers(op->in[1 - left], n->x->type, n->axis);
  if (!numbers || !match_deviation(op->code == NN_OP_MUL ? inverse_of(numbers) : numbers, n)) return false;
  return nn_value_nuses(n->difference) == n->uses; /* else someone needs the mean: little would be saved */
}

static bool find_norm(const nn_op *op, norm *n) {
  if (op->code != NN_OP_DIV && op->code != NN_OP_MUL) return false;
  if (!nn_type_same_shape(op->in[0]->type, op->in[1]->type)) return false;
  return match_norm(op, 0, n) || (op->code == NN_OP_MUL && match_norm(op, 1, n));
}

static nn_value *make_norm(nn_op *op, const norm *n) {
  nn_builder b = {op->graph, op, op->loc, op->loc_op, false};
  nn_value *x = n->x;
  nn_op *normalize = nn_b_begin(&b, NN_OP_NORMALIZE, &x, 1, -1);
  if (!normalize) return NULL;
  nn_set_int(normalize, "axis", n->axis);
  nn_set_float(normalize, "epsilon", n->epsilon);
  return nn_b_end(&b, normalize);
}

nn_status pass_norm(nn_module *m, bool *changed) {
  for (nn_graph *g = m->graphs; g; g = g->next)
    for (nn_op *op = g->first, *next; op; op = next) {
      norm n;
      next = op->next;
      nn_value *v = find_norm(op, &n) ? make_norm(op, &n) : NULL;
      if (!v || !nn_type_equal(v->type, op->out[0]->type)) continue;
      nn_value_replace(op->out[0], v);
      nn_op_remove(op);
      *changed = true;
    }
  bool swept = false;
  return m->diags.nerrors ? NN_FAIL : *changed ? pass_dce(m, &swept) : NN_OK;
}
