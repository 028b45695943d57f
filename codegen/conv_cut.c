/* How a convolution in blocked layout is cut into few tasks. With many tasks it matters little how; with few, a thread
   may wait for the last one longer than a worse cut costs. So all cuts into bands of rows and groups of panels are
   compared by the time that cores would spend on them, as few or as many as phones and small servers have, in cycles.
   The figures are those of a Zen 4 core, where only their ratios matter. */
#include "codegen/codegen.h"

enum { MOST_TASKS = 64, TILE_CYCLES = 40, MOST_WORKERS = 4 };

static const int workers[] = {1, 1, 2, 2, MOST_WORKERS};

static const double uneven = 0.2;
static const double step_cycles = 0.7,
                    made_cycles =
                        3; /* of a step of depth beside its multiply-adds; of a vector of a panel that is made */

static int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* One panel over `pixels` pixels that lie in a row. */
static double run_cycles(const nn_conv_cut *c, int64_t pixels, int vectors, int most) {
  nn_tile_cut cut = nn_tile_cut_rows(pixels, most);
  return (double)c->depth * ((double)(pixels * vectors) + (double)cut.tiles * step_cycles) +
         (double)cut.tiles * TILE_CYCLES;
}

static double panel_cycles(const nn_conv_cut *c, int64_t rows, bool is_last) {
  int vectors = is_last ? c->last_vectors : c->vectors, most = is_last ? c->last_tile_rows : c->tile_rows;
  double run = c->is_flat ? run_cycles(c, rows * c->width, vectors, most)
                          : (double)rows * run_cycles(c, c->width, vectors, most);
  return run + (c->is_made ? made_cycles * (double)(c->depth * vectors) : 0);
}

static double task_cycles(const nn_conv_cut *c, int64_t rows, int64_t panels, bool has_last) {
  int64_t whole = panels - has_last;
  double sum = c->task_cycles + (double)rows * c->row_cycles + (double)whole * panel_cycles(c, rows, false);
  return has_last ? sum + panel_cycles(c, rows, true) : sum;
}

/* Each task goes to the worker who is free first. As cores are not equally fast, part of a task is waited for at the
 * end. */
static double span_of(const double *tasks, int count, int nworkers) {
  double busy[MOST_WORKERS] = {0}, span = 0, largest = 0;
  for (int i = 0; i < count; i++) {
    int first = 0;
    for (int w = 1; w < nworkers; w++)
      if (busy[w] < busy[first]) first = w;
    busy[first] += tasks[i];
    if (busy[first] > span) span = busy[first];
    if (tasks[i] > largest) largest = tasks[i];
  }
  return nworkers > 1 ? span + uneven * largest : span;
}

/* 0: there are too many tasks to look at. */
static double cost_of(const nn_conv_cut *c) {
  double tasks[MOST_TASKS], cost = 0;
  int64_t bands = ceil_div(c->rows, c->band), groups = ceil_div(c->panels, c->group_panels);
  int count = 0;
  if (bands > MOST_TASKS || groups > MOST_TASKS || c->images > MOST_TASKS || bands * groups * c->images > MOST_TASKS)
    return 0;
  for (int64_t g = 0; g < groups; g++) {
    bool has_last = g == groups - 1 && c->last_vectors > 0;
    int64_t panels = least(c->group_panels, c->panels - g * c->group_panels);
    for (int64_t i = 0; i < bands * c->images; i++)
      tasks[count++] = task_cycles(c, least(c->band, c->rows - i % bands * c->band), panels, has_last);
  }
  for (size_t i = 0; i < sizeof workers / sizeof *workers; i++) cost += workers[i] * span_of(tasks, count, workers[i]);
  return cost;
}

void nn_conv_cut_better(nn_conv_cut *c, int64_t most_rows) {
  nn_conv_cut best = *c, tried = *c;
  double lowest = cost_of(c);
  for (int64_t bands = ceil_div(c->rows, most_rows); bands <= least(c->rows, MOST_TASKS); bands++) {
    tried.band = ceil_div(c->rows, bands);
    for (int64_t groups = 1; groups <= least(c->panels, MOST_TASKS); groups++) {
      tried.group_panels = ceil_div(c->panels, groups);
      double cost = cost_of(&tried);
      if (cost <= 0 || cost >= lowest) continue;
      lowest = cost;
      best = tried;
    }
  }
  *c = best;
}
