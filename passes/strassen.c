/* Which products by constant panels take Strassen's form (codegen/gemm_strassen.c): matrix products, and convolutions of
   one point, whose rows are the pixels. An eighth of the multiply-adds of each pair of panels is saved. What that costs
   was measured on a Zen 4 core, as parts of the plain product's time: products are kept and added (by depth), A is
   summed (by columns), B's sums are made in the first row tile of a task (by rows), and there is more code to fetch. */
#include "ir/tuning.h"
#include "passes/passes.h"

enum {
  STRASSEN_LEVEL = 2,
  FEWEST_ROWS = 40,                 /* fewer fill the row tiles badly */
  MANY_ROWS = 1 << 12,
  TASK_ROWS = 256, TASK_ROWS_FEWEST = 72, TASKS = 4 /* of few panels tasks have fewer rows, so that there are some */
};

static const double saved = 0.125, keeping = 6, summing_a = 8, summing_b = 2; /* of a step of depth, of a column, of a row */
static const double fetching = 2e5;                                           /* multiply-adds */
static const double worth = 0.017;

/* Of the time of the plain product. */
static double gain_of(int64_t rows, int64_t depth, int64_t columns, int64_t width) {
  double m = (double)rows, k = (double)depth, n = (double)columns;
  int64_t pairs = columns / width / 2, task = rows * pairs / TASKS;
  if (task > rows) task = rows;
  if (task < TASK_ROWS_FEWEST) task = rows < TASK_ROWS_FEWEST ? rows : TASK_ROWS_FEWEST;
  if (task > TASK_ROWS) task = TASK_ROWS;
  double paired = (double)(2 * pairs * width) / n;
  return paired * (saved - keeping / k - summing_b / (double)task) - summing_a / n - fetching / (m * k * n);
}

/* From how many rows on it pays; 0: it never does. */
static int64_t least_rows(int64_t depth, int64_t columns, int64_t width) {
  for (int64_t rows = FEWEST_ROWS; rows <= MANY_ROWS; rows += 1 + rows / 16)
    if (gain_of(rows, depth, columns, width) >= worth) return rows;
  return 0;
}

int64_t nn_strassen_rows(const nn_op *op, nn_dim rows, int64_t depth, int64_t columns, int64_t width) {
  nn_module *m = op->graph->module;
  int64_t fewest, most;
  if (m->env.level < STRASSEN_LEVEL || m->env.no_winograd || depth % 2 != 0 || columns < 2 * width) return 0;
  nn_dim_range(rows, &fewest, &most);
  if (most < 2) return 0;
  int64_t least = least_rows(depth, columns, width);
  bool pays = least && most >= least;
  if (!nn_schedule(m, op, NN_KNOB_STRASSEN, pays, 0, 1)) return 0;
  return pays ? least : 1;
}
