/* Which products are made in pairs (codegen/gemm_paired.c): where additions have units of their own, and what that costs is little beside what it
   saves. In multiply-adds of a vector of results, as measured on a Zen 4 core, where a plain product
   of few columns takes half a vector for the last ones. Rows are copied and measured first. All rows and columns are rounded in
   the same way: equal ones stay equal. */
#include "ir/tuning.h"
#include "passes/passes.h"

enum {
  PAIRED_LEVEL = 2,
  FEWEST_ROWS = 16,
  UNIT = 16, /* of the depth */
  LIKELY_ROWS = 1 << 10,
  MOST_FUSED = 8 /* readers that are looked at */
};

static const double unit_steps = 11.7, plain_more = 2, paired_more = 4.2, copying = 0.4; /* the latter: of a vector of results; of a number of a row */
static const double function_more = 2.5;
static const double worth = 0.97;

static double steps_of(int64_t depth) { return (double)(depth / UNIT) * unit_steps + (double)(depth % UNIT); }

/* What may be fused behind op has a function in it: its operations would run beside the multiplications of the plain form. */
static bool leads_to_function(const nn_op *op, int *budget) {
  for (const nn_use *u = op->out[0]->uses; u && (*budget)-- > 0; u = u->next) {
    if (!(nn_op_infos[u->user->code].flags & NN_POINTWISE)) continue;
    if (!nn_op_is_cheap(u->user->code) || leads_to_function(u->user, budget)) return true;
  }
  return false;
}

bool nn_paired_pays(const nn_op *op, nn_dim rows, int64_t depth, int64_t padded, int64_t columns, int64_t width) {
  const nn_pass_env *env = &op->graph->module->env;
  if (!env->adds_aside || env->level < PAIRED_LEVEL || env->no_winograd || depth < UNIT) return false;
  if (nn_dim_likely(op->graph->module, rows, LIKELY_ROWS) < FEWEST_ROWS) return false;
  int64_t halves = columns / (width / 2) + (columns % (width / 2) != 0);
  double plain = (double)halves / 2 * ((double)depth + plain_more);
  int budget = MOST_FUSED;
  double more = paired_more + (leads_to_function(op, &budget) ? function_more : 0);
  double paired = (double)((halves + 1) / 2) * (steps_of(padded) + more) + copying * (double)padded;
  return nn_schedule(op->graph->module, op, NN_KNOB_PAIRS, paired < worth * plain, 0, 1) != 0;
}
