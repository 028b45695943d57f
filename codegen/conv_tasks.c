/* How conv_blocked.c is cut into tasks: bands of rows, and groups of panels. */
#include "codegen/conv_blocked.h"

enum {
  TASKS_WANTED = 32,
  FEW_TASKS = 16,         /* are cut with more care (conv_cut.c) */
  TASK_CYCLES = 1500,     /* to take one, and to begin */
  TASK_FLOPS = 1 << 18,   /* at least */
  PIXELS_PER_PANEL = 160, /* of a task that makes its panels */
  LEAST_ROWS = 4,         /* of a band that is copied for its halo */
  LARGE = 1 << 24
};

static int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }

static int64_t clamp64(int64_t x, int64_t low, int64_t high) { return x > high ? high : x < low ? low : x; }

static double flops_of(const nn_blocked *c) {
  double taps = (double)(c->kernel[0] * c->kernel[1]);
  return 2 * taps * (double)c->channels / (double)c->groups * (double)c->outputs * (double)c->size[0] * (double)c->size[1];
}

/* Rows of a band: as many as fit half of L2, in bands of equal size. */
static int64_t rows_that_fit(const nn_lower *L, const nn_blocked *c) {
  int64_t line = c->blocks * c->inner * nn_blocked_pitch(c, c->size[1]) * 4 + 1, most = nn_percent(L, NN_KNOB_CACHE, L->target->l2_bytes / 2) / line;
  int64_t rows = c->is_sampled ? most : (most - nn_blocked_reach(c, 0, 1)) / c->stride[0] + 1;
  rows = clamp64(rows, 1, c->size[0]);
  return ceil_div(c->size[0], ceil_div(c->size[0], rows));
}

/* Equal bands where there is a size near enough. */
static int64_t even_band(const nn_blocked *c, int64_t rows) {
  for (int64_t n = rows; n >= 1 && 3 * n >= 2 * rows; n--)
    if (c->size[0] % n == 0) return n;
  return rows;
}

/* The same while running: `bands` are wanted, of `least` rows or more. */
static void cut_bands(nn_lower *L, nn_blocked *c, int64_t bands, nn_x *least) {
  nn_kernel *k = L->kernel;
  nn_x *one = nn_x_int(k, 1), *room = nn_x_int(k, nn_percent(L, NN_KNOB_CACHE, L->target->l2_bytes / 2));
  nn_x *line = nn_xi_addc(k, nn_xi_mulc(k, nn_blocked_pitch_x(L, c), c->blocks * c->inner * 4), 1);
  nn_x *fit = nn_xi_floordiv(k, room, line);
  if (!c->is_sampled) fit = nn_xi_addc(k, nn_xi_floordiv(k, nn_xi_addc(k, fit, -nn_blocked_reach(c, 0, 1)), nn_x_int(k, c->stride[0])), 1);
  nn_x *rows = nn_xi_min(k, fit, nn_xi_max(k, least, nn_ceildiv_x(L, c->out[0], bands)));
  rows = nn_let(k, nn_xi_max(k, rows, one));
  c->nbands = nn_let(k, nn_xi_floordiv(k, nn_xi_addc(k, nn_xi_add(k, c->out[0], rows), -1), rows));
  rows = nn_xi_floordiv(k, nn_xi_addc(k, nn_xi_add(k, c->out[0], c->nbands), -1), nn_xi_max(k, c->nbands, one));
  c->band = nn_let(k, rows);
}

/* Tasks of one panel go over all bands before they come to the next panel. */
void nn_blocked_count_passes(nn_lower *L, nn_blocked *c, nn_x *band) {
  int64_t tiles = c->is_flat ? nn_tile_cut_rows(c->likely_band * c->size[1], c->mr).tiles : c->likely_band * nn_tile_cut_rows(c->size[1], c->mr).tiles;
  bool all_bands = c->group_panels == 1 && !c->is_made;
  c->passes = all_bands ? tiles * c->bands_together : tiles;
  c->pass0 = all_bands ? nn_let(L->kernel, nn_xi_mulc(L->kernel, nn_xi_sub(L->kernel, band, c->first_band), tiles)) : nn_x_int(L->kernel, 0);
}

/* A task copies its band, which must be little beside the products. */
static int64_t least_panels(const nn_blocked *c) {
  enum { ENOUGH = 4 }; /* of a kernel of one point */
  return clamp64(ENOUGH / (c->kernel[0] * c->kernel[1]), 1, ENOUGH);
}

int64_t nn_blocked_panels(const nn_blocked *c) { return ceil_div(c->out_blocks * c->block, c->width); }

/* At most. */
int64_t nn_blocked_panels_left(const nn_blocked *c) {
  int64_t done = 0;
  nn_x_is_const(c->first_panel, &done);
  return nn_blocked_panels(c) - done;
}

/* A cut of few tasks. */
static void cut_better(nn_lower *L, nn_blocked *c, int64_t images, int64_t most_rows) {
  enum { COPY_CYCLES = 3 }; /* of a vector of the patch */
  int64_t rest = c->groups > 1 ? 0 : c->outputs % c->width, depth = c->channels / c->groups * c->kernel[0] * c->kernel[1];
  nn_conv_cut cut = {.images = images,
                     .rows = c->size[0],
                     .width = c->size[1],
                     .panels = nn_blocked_panels_left(c),
                     .depth = depth,
                     .vectors = c->tile.nv,
                     .tile_rows = c->mr,
                     .last_vectors = (int)ceil_div(rest, c->tile.lanes),
                     .is_flat = c->is_flat,
                     .is_made = c->is_made,
                     .task_cycles = TASK_CYCLES,
                     .band = c->likely_band,
                     .group_panels = c->group_panels};
  if (rest) cut.last_tile_rows = nn_conv_tile_rows(L->target, cut.last_vectors);
  if (c->is_patch) {
    double line = (double)(c->blocks * c->inner * c->groups * nn_blocked_reach(c, 1, c->size[1])) / c->tile.lanes * COPY_CYCLES;
    cut.row_cycles = line * (double)(c->is_sampled ? 1 : c->stride[0]);
    cut.task_cycles += line * (double)nn_blocked_reach(c, 0, 1);
  }
  nn_conv_cut_better(&cut, most_rows);
  c->likely_band = cut.band;
  c->group_panels = cut.group_panels;
  c->likely_bands = ceil_div(c->size[0], cut.band);
  c->ngroups = ceil_div(cut.panels, cut.group_panels);
}

void nn_blocked_cut(nn_lower *L, nn_blocked *c) {
  nn_kernel *k = L->kernel;
  int64_t images = clamp64(nn_dim_guess(c->y->type.dims[0], 1), 1, LARGE), rows = c->size[0], least = 1;
  int64_t work = nn_percent(L, NN_KNOB_TASK, TASK_FLOPS), most = clamp64((int64_t)TASKS_WANTED * TASK_FLOPS / work, 1, 64 * TASKS_WANTED);
  double enough = flops_of(c) * (double)images * (double)nn_blocked_panels_left(c) / (double)nn_blocked_panels(c) / (double)work;
  int64_t wanted = enough < (double)most ? (int64_t)enough + 1 : most;
  int64_t npanels = nn_blocked_panels_left(c), band = even_band(c, rows_that_fit(L, c));
  if (c->is_flat) least = ceil_div(c->is_made ? PIXELS_PER_PANEL : c->mr, c->size[1]);
  else if (c->kernel[0] > 1 && c->is_patch) least = LEAST_ROWS;
  c->ngroups = 1;
  if (!c->is_patch) c->ngroups = clamp64(ceil_div(wanted, images * ceil_div(rows, band)), 1, npanels);
  int64_t bands = clamp64(ceil_div(wanted, images * c->ngroups), 1, clamp64(rows / least, 1, rows));
  if (bands > ceil_div(rows, band)) band = even_band(c, clamp64(ceil_div(rows, bands), least, band));
  c->likely_band = band;
  c->likely_bands = ceil_div(rows, band);
  if (c->is_patch) c->ngroups = clamp64(ceil_div(wanted, images * c->likely_bands), 1, ceil_div(npanels, least_panels(c)));
  c->group_panels = ceil_div(npanels, c->ngroups);
  c->ngroups = ceil_div(npanels, c->group_panels);
  if (!nn_blocked_is_symbolic(c) && images * c->likely_bands * c->ngroups < FEW_TASKS) cut_better(L, c, images, rows_that_fit(L, c));
  c->band = nn_x_int(k, c->likely_band);
  c->nbands = nn_x_int(k, c->likely_bands);
  nn_x *least_x = nn_x_int(k, least);
  if (c->is_flat) least_x = nn_xi_floordiv(k, nn_xi_addc(k, c->out[1], c->mr - 1), c->out[1]);
  if (nn_blocked_is_symbolic(c)) cut_bands(L, c, bands, least_x);
}

/* Each thread goes over its half of the image, or has its panels. */
static bool is_split(const nn_blocked *c) {
  enum { WEIGHTS_MORE = 2 }; /* what others have written comes much slower than weights that nobody writes */
  double pixels = (double)c->size[0] * (double)c->size[1], reached = pixels * (double)(c->stride[0] * c->stride[1]);
  double weights = (double)(c->channels / c->groups * c->kernel[0] * c->kernel[1]) * (double)c->outputs;
  return WEIGHTS_MORE * ((double)c->channels * reached + (double)c->outputs * pixels) >= weights;
}

/* Bands of the same panels come one after the other. Where tasks make their panels that gains nothing: groups come one after the
   other, so that the smaller last ones are spread over the workers. */
void nn_blocked_find_task(nn_lower *L, nn_blocked *c, nn_x *task, nn_x *ngroups, nn_x **band, nn_x **group) {
  nn_kernel *k = L->kernel;
  nn_x *places = nn_let(k, nn_xi_mul(k, nn_dim_x(L, c->y->type.dims[0]), c->nbands)), *place;
  c->first_band = nn_x_int(k, 0);
  c->bands_together = c->likely_bands;
  if (c->is_made) {
    *group = nn_xi_mod(k, task, ngroups);
    place = nn_let(k, nn_xi_floordiv(k, task, ngroups));
  } else if (is_split(c)) {
    nn_split split = nn_split_task(L, task, ngroups, places);
    *group = split.outer;
    place = split.inner;
    if (nn_dim_is(c->y->type.dims[0], 1)) {
      c->first_band = split.first;
      c->bands_together = (c->likely_bands + 1) / 2;
    }
  } else {
    *group = nn_let(k, nn_xi_floordiv(k, task, places));
    place = nn_let(k, nn_xi_mod(k, task, places));
  }
  c->image = nn_dim_is(c->y->type.dims[0], 1) ? nn_x_int(k, 0) : nn_let(k, nn_xi_floordiv(k, place, c->nbands));
  *band = nn_xi_mod(k, place, c->nbands);
}
