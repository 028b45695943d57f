/* Which products take Strassen's form (codegen/gemm_strassen.c): matrix products, and convolutions of
   one point, whose rows are the pixels. An eighth of the multiply-adds of each pair of panels is saved. What that costs
   was measured on a Zen 4 core, as parts of the plain product's time: products are kept and added (by depth), A is
   summed (by columns), B's sums are made in the first row tile of a task (by rows), a B that is no constant is packed
   before the first tile rather than by it (by rows), and there is more code to fetch. Where the plain form copies A, because a
   product of it with computed numbers is made while it is read, its sums cost no more than that.

   Columns are rounded in different ways. A softmax makes factors of differences, so what it reads of a product, element by element,
   added up or as a maximum, is left plain: columns that are equal stay equal. */
#include "ir/tuning.h"
#include "passes/passes.h"

enum {
  STRASSEN_LEVEL = 2,
  PRODUCTS = 7,
  FEWEST_ROWS = 40,                 /* fewer fill the row tiles badly */
  MANY_ROWS = 1 << 12,
  MOST_READERS = 32,
  FEWEST_PAIRS = 4, FEWEST_ODD = 7, FEWEST_COPIED = 3, /* of an odd number of pairs of panels the last one has its sums of B made twice */
  TASK_ROWS = 256, TASK_ROWS_FEWEST = 72, TASKS = 4, /* of few panels tasks have fewer rows, so that there are some */
  HALF_ROWS = 48,                                    /* fewer fill the row tiles of a half badly, */
  HALF_ROWS_PACKING = 96                             /* or are too few for a panel that each half packs for itself */
};

static const double saved = 0.125, keeping = 6, summing_a = 8, summing_b = 2, packing = 3; /* of a step of depth, of a column, of a row */
static const double fetching = 2e5;                                           /* multiply-adds */
static const double worth = 0.017, least_paired = 0.85;
static const double writing = 8, adding = 1.0 / 12; /* reading what another core has written, and a multiply-add: in times of reading a weight */

int64_t nn_strassen_pairs(int64_t columns, int64_t width) { return columns / width / 2; }

/* Where a task has all rows, a worker reads half of A's sums and, in the op that follows, a quarter of the results from another
   core's cache: this is what half of the rows for each saves. He then reads the other half of B, packs it maybe, and makes its sums, too. */
int64_t nn_strassen_half_rows(int64_t depth, int64_t columns, bool packs) {
  double k = (double)depth, n = (double)columns, adds = summing_b + (packs ? packing : 0);
  double rows = k * n * (0.5 + adding * adds / 2) / (writing * (PRODUCTS / 8.0 * k + n / 4));
  int64_t fewest = 2 * (packs ? HALF_ROWS_PACKING : HALF_ROWS);
  return rows < (double)fewest ? fewest : rows < MANY_ROWS ? (int64_t)rows : MANY_ROWS;
}

/* Of the time of the plain product. */
static double gain_of(int64_t rows, int64_t depth, int64_t columns, int64_t width, bool packs, bool copied) {
  double m = (double)rows, k = (double)depth, n = (double)columns;
  int64_t pairs = nn_strassen_pairs(columns, width), task = rows * pairs / TASKS;
  if (task > rows) task = rows;
  if (task < TASK_ROWS_FEWEST) task = rows < TASK_ROWS_FEWEST ? rows : TASK_ROWS_FEWEST;
  if (task > TASK_ROWS) task = TASK_ROWS;
  if (rows >= nn_strassen_half_rows(depth, columns, packs) && task > rows / 2) task = rows / 2;
  if (pairs < (copied ? FEWEST_COPIED : pairs % 2 ? FEWEST_ODD : FEWEST_PAIRS)) return 0; /* measured: 960 -> 320 of 49 rows lost 3 % */
  double paired = (double)(2 * pairs * width) / n;
  if (paired < least_paired) return 0; /* what is left is a parallel loop of its own */
  return paired * (saved - keeping / k - summing_b / (double)task) - (packs ? packing / m : 0) - (copied ? 0 : summing_a / n) - fetching / (m * k * n);
}

/* From how many rows on it pays; 0: it never does. */
static int64_t least_rows(int64_t depth, int64_t columns, int64_t width, bool packs, bool copied) {
  for (int64_t rows = FEWEST_ROWS; rows <= MANY_ROWS; rows += 1 + rows / 16)
    if (gain_of(rows, depth, columns, width, packs, copied) >= worth) return rows;
  return 0;
}

static bool keeps_elements(const nn_op *op) {
  switch (op->code) {
  case NN_OP_REDUCE_SUM: case NN_OP_REDUCE_MAX: case NN_OP_REDUCE_MIN: case NN_OP_AVG_POOL: case NN_OP_MAX_POOL: return true;
  default: return (nn_op_infos[op->code].flags & (NN_ELEMENT | NN_POINTWISE)) != 0;
  }
}

/* Looks at no more than *budget ops. */
static bool feeds_softmax(const nn_op *op, int *budget) {
  for (int r = 0; r < op->nout; r++)
    for (const nn_use *u = op->out[r]->uses; u && *budget > 0; u = u->next) {
      (*budget)--;
      if (u->user->code == NN_OP_SOFTMAX || u->user->code == NN_OP_LOG_SOFTMAX) return true;
      if (keeps_elements(u->user) && feeds_softmax(u->user, budget)) return true;
    }
  return false;
}

int64_t nn_strassen_rows(const nn_op *op, nn_dim rows, int64_t depth, int64_t columns, int64_t width, bool packs, bool copied) {
  nn_module *m = op->graph->module;
  int64_t fewest, most;
  if (m->env.level < STRASSEN_LEVEL || m->env.no_winograd || depth % 2 != 0 || columns < 2 * width) return 0;
  nn_dim_range(rows, &fewest, &most);
  if (most < 2) return 0;
  int64_t least = least_rows(depth, columns, width, packs, copied);
  bool pays = least && most >= least;
  int budget = MOST_READERS;
  if (feeds_softmax(op, &budget) || !nn_schedule(m, op, NN_KNOB_STRASSEN, pays, 0, 1)) return 0;
  return pays ? least : 1;
}
