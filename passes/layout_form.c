/* Which form a convolution takes: a choice by estimated cost. */
#include "ir/tuning.h"
#include "passes/passes.h"

enum {
  WINOGRAD_LEVEL = 2,    /* its error is about 5e-6 of the largest result */
  FEWEST_CHANNELS = 16,
  FEWEST_RESULTS = 4,    /* along a side of the output */
  LIKELY_IMAGES = 4,     /* for a symbolic number of them: a compromise, few of them are faster in smaller tiles */
  MOST_IMAGES = 256,     /* that are tried for another form */
  LIKELY_SIDE = 224,     /* of the network's input, if it is a symbol without bounds */
  LARGEST_KERNEL = 64,   /* of a depthwise one: its columns are copied out */
  CACHED_BYTES = 24 << 20, /* of weights, that stay in the last cache from run to run */
  CACHED_FLOPS = 5,      /* that could be done while a byte of weights comes from there */
  MEMORY_FLOPS = 6       /* from memory, with the products going on meanwhile */
};

/* Costs in floating-point operations at the speed of the products. */
typedef struct form {
  int64_t m;             /* tile; 1: direct */
  double positions;      /* products for each pair of channels and tile */
  double input, output;  /* transforms of a tile in one channel */
} form;

static const form forms[] = {{1, 9, 0, 0}, {2, 16, 150, 100}, {4, 36, 400, 300}};
enum { NFORMS = (int)(sizeof forms / sizeof *forms) };

/* Winograd's form must be estimated at less than this part of the direct one. */
static const double worth = 0.9;

static double ceil_to(double x, double step) {
  double whole = (double)(int64_t)(x / step);
  return whole * step < x ? (whole + 1) * step : whole * step;
}

/* What the choice depends on. */
typedef struct layer {
  double channels[2], size[2], images; /* in, out; of the result */
  double weight_flops;
} layer;

static double cost_of(const form *f, const layer *c) {
  double m = (double)f->m, tiles = c->images * ceil_to(c->size[0] / m, 1) * ceil_to(c->size[1] / m, 1);
  double pairs = c->channels[0] * c->channels[1];
  double transforms = tiles * (f->input * c->channels[0] + f->output * c->channels[1]);
  return f->positions * pairs * (2 * tiles + 4 * c->weight_flops) + transforms;
}

double nn_layout_weight_flops(const nn_module *m) {
  double sum = 0;
  for (int i = 0; i < m->nconsts; i++)
    if (m->consts[i]->tensor) sum += (double)m->consts[i]->tensor->size_bytes;
  return sum <= CACHED_BYTES ? CACHED_FLOPS : MEMORY_FLOPS;
}

static bool all_ones(const nn_op *op, const char *attr) {
  int count;
  const int64_t *values = nn_attr_ints(op, attr, &count);
  for (int i = 0; i < count; i++)
    if (values[i] != 1) return false;
  return true;
}

/* The tile of Winograd's form for a convolution of this kind; 1: direct; 0: it has no other form. */
static int64_t best_tile(const nn_op *conv, double weight_flops, int64_t images) {
  nn_type x = conv->in[0]->type, y = conv->out[0]->type;
  nn_module *m = conv->graph->module;
  layer c = {.channels = {(double)nn_dim_value(x.dims[1]), (double)nn_dim_value(y.dims[1])},
             .size = {(double)nn_dim_likely(m, y.dims[2], LIKELY_SIDE), (double)nn_dim_likely(m, y.dims[3], LIKELY_SIDE)},
             .images = (double)nn_dim_likely(m, x.dims[0], images),
             .weight_flops = weight_flops};
  for (int i = 0; i < 2; i++)
    if (c.channels[i] < FEWEST_CHANNELS || c.size[i] < FEWEST_RESULTS) return 0;
  double best = worth * cost_of(&forms[0], &c);
  int64_t tile = 1;
  for (int i = 1; i < NFORMS; i++) {
    double cost = cost_of(&forms[i], &c);
    if (cost >= best) continue;
    best = cost;
    tile = forms[i].m;
  }
  return tile;
}

/* By the cost model, or as measured. */
static int64_t choose_tile(const nn_op *conv, double weight_flops, int64_t images) {
  const nn_pass_env *env = &conv->graph->module->env;
  nn_type w = conv->in[1]->type;
  if (env->level < WINOGRAD_LEVEL || env->no_winograd) return 1;
  if (!nn_dim_is(w.dims[2], 3) || !nn_dim_is(w.dims[3], 3) || !all_ones(conv, "strides") || !all_ones(conv, "dilations")) return 1;
  int64_t best = best_tile(conv, weight_flops, images);
  return best ? nn_schedule(conv->graph->module, conv, NN_KNOB_CONV_TILE, best, 1, forms[NFORMS - 1].m) : 1;
}

/* A larger tile for many images than for a few, if their number is a symbol; the weights for both must be small. */
static void set_many(const nn_op *conv, double weight_flops, nn_conv_form *chosen) {
  nn_type x = conv->in[0]->type;
  if (nn_dim_is_const(x.dims[0], NULL) || !nn_dim_is_const(x.dims[2], NULL) || !nn_dim_is_const(x.dims[3], NULL)) return;
  if (weight_flops != CACHED_FLOPS) return;
  for (int64_t n = LIKELY_IMAGES + 1; n <= MOST_IMAGES && !chosen->few; n++) {
    int64_t tile = choose_tile(conv, weight_flops, n);
    if (tile > chosen->tile) *chosen = (nn_conv_form){.kind = NN_FORM_WINOGRAD, .tile = tile, .few = chosen->tile, .many = nn_dim_likely(conv->graph->module, x.dims[0], n)};
  }
}

static nn_conv_form winograd_or_blocked(const nn_op *conv, double weight_flops) {
  int64_t tile = choose_tile(conv, weight_flops, LIKELY_IMAGES);
  if (tile < 2) return (nn_conv_form){.kind = NN_FORM_BLOCKED};
  nn_conv_form chosen = {.kind = NN_FORM_WINOGRAD, .tile = tile};
  set_many(conv, weight_flops, &chosen);
  return chosen;
}

static bool are_known(const nn_dim *dims, int count) {
  for (int i = 0; i < count; i++)
    if (!nn_dim_is_const(dims[i], NULL)) return false;
  return true;
}

static bool are_positive(const nn_dim *dims, int count) {
  int64_t value;
  for (int i = 0; i < count; i++)
    if (nn_dim_is_const(dims[i], &value) && value < 1) return false;
  return true;
}

static bool pads_are_known(const nn_op *op) {
  int npads;
  const nn_dim *pads = nn_attr_dims(op, "pads", &npads);
  for (int i = 0; i < npads; i++)
    if (!nn_dim_is_const(pads[i], &(int64_t){0})) return false;
  return true;
}

static bool is_point_on_point(const nn_op *op) {
  for (int d = 2; d < 4; d++)
    if (!nn_dim_is(op->in[0]->type.dims[d], 1) || !nn_dim_is(op->in[1]->type.dims[d], 1)) return false;
  int npads;
  const nn_dim *pads = nn_attr_dims(op, "pads", &npads);
  for (int i = 0; i < npads; i++)
    if (!nn_dim_is(pads[i], 0)) return false;
  return true;
}

nn_conv_form nn_layout_form(const nn_op *op, int64_t block, bool is_blocked, double weight_flops) {
  nn_conv_form none = {.kind = NN_FORM_PLANAR};
  if (op->code != NN_OP_CONV || op->in[1]->kind != NN_CONST || op->in[1]->type.rank != 4) return none;
  nn_type x = op->in[0]->type, w = op->in[1]->type, y = op->out[0]->type;
  if (x.dtype != NN_F32 || w.dtype != NN_F32 || !pads_are_known(op)) return none;
  if (!are_known(x.dims + 1, 1) || !are_known(w.dims, 4)) return none;
  if (!are_positive(x.dims + 1, 3) || !are_positive(w.dims, 4) || !are_positive(y.dims + 1, 3)) return none;
  int64_t groups = nn_attr_int(op, "groups"), channels = nn_dim_value(x.dims[1]), outputs = nn_dim_value(w.dims[0]);
  if (groups == 1 && is_point_on_point(op)) return (nn_conv_form){.kind = NN_FORM_MATMUL};
  if (groups > 1 && groups == channels && groups == outputs) {
    bool fits = is_blocked && nn_dim_value(w.dims[3]) <= LARGEST_KERNEL;
    return fits ? (nn_conv_form){.kind = NN_FORM_DEPTHWISE} : none;
  }
  if (outputs < block / 2) return none; /* lanes that compute nothing */
  int64_t width = nn_layout_width(op, block);
  if (groups > 1) {
    bool fits = is_blocked && channels % (groups * block) == 0 && outputs % (groups * width) == 0;
    return fits ? (nn_conv_form){.kind = NN_FORM_BLOCKED} : none;
  }
  return winograd_or_blocked(op, weight_flops);
}

int64_t nn_layout_width(const nn_op *op, int64_t block) {
  enum { PANEL_VECTORS = 2 };
  return nn_dim_value(op->in[1]->type.dims[0]) <= block ? block : PANEL_VECTORS * block;
}
