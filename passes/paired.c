/* Which products are made in pairs (codegen/gemm_paired.c): where additions have units of their own, and what that costs is little beside what it
   saves. In steps of a vector of results, as measured on a Zen 4 core: 11 for 16 of the depth; rows are copied and
   measured first, by each of two workers, and scaled on their way out. All rows and columns are rounded in
   the same way: equal ones stay equal. */
#include "passes/passes.h"

enum {
  PAIRED_LEVEL = 2,
  FEWEST_ROWS = 16,
  UNIT = 16, UNIT_STEPS = 11, /* steps of the depth */
  LIKELY_ROWS = 1 << 10
};

static const double plain_more = 2, paired_more = 7, copying = 0.45; /* of a vector of results; of a number of a row */
static const double worth = 0.95;

static double steps_of(int64_t depth) { return (double)(depth / UNIT * UNIT_STEPS + depth % UNIT); }

bool nn_paired_pays(const nn_op *op, nn_dim rows, int64_t depth, int64_t columns, int64_t width) {
  const nn_pass_env *env = &op->graph->module->env;
  if (!env->adds_aside || env->level < PAIRED_LEVEL || env->no_winograd || depth < UNIT) return false;
  if (nn_dim_likely(op->graph->module, rows, LIKELY_ROWS) < FEWEST_ROWS) return false;
  int64_t halves = columns / (width / 2) + (columns % (width / 2) != 0);
  double plain = (double)halves / 2 * ((double)depth + plain_more);
  double paired = (double)((halves + 1) / 2) * (steps_of(depth) + paired_more) + copying * (double)depth;
  return paired < worth * plain;
}
