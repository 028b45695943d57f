/* needs: env.evaluate, weights folded to constants. gives: 3x3 convolutions with stride 1 are in the form that is estimated to be
   the fastest: direct, or Winograd's with tiles of 2x2 or 4x4 results. breaks: nothing; run fold after it, which
   transforms the weights. Not at levels 0 and 1: Winograd's form rounds differently, its error is about 5e-6 of the
   largest result, and its weights are 1.8 or 4 times as large.

     %0 = conv %x, $w {pads=[1,1,1,1]}   ->   %0 = winograd_weights $w {tile=4}
                                              %1 = conv_winograd %x, %0 {tile=4, pads=[1,1,1,1]}
*/
#include "passes/passes.h"

enum {
  WINOGRAD_LEVEL = 2,
  FEWEST_CHANNELS = 16,
  FEWEST_RESULTS = 4,    /* along a side of the output */
  FEWEST_VECTOR_BYTES = 16,
  LIKELY_IMAGES = 1,     /* for a symbolic number of them */
  CACHED_BYTES = 24 << 20, /* of weights, that stay in the last cache from run to run */
  CACHED_FLOPS = 5,      /* that could be done while a byte of weights comes from there */
  MEMORY_FLOPS = 16      /* from memory */
};

/* Costs in floating-point operations at the speed of the products; measured on one core with 256-bit vectors. */
typedef struct form {
  int64_t m;             /* tile; 1: direct */
  double positions;      /* products for each pair of channels and tile */
  double input, output;  /* transforms of a tile in one channel */
} form;

static const form forms[] = {{1, 9, 0, 0}, {2, 16, 300, 200}, {4, 36, 800, 600}};

/* Winograd's form must be estimated at less than this part of the direct one. */
static const double worth = 0.9;

static double ceil_to(double x, double step) {
  double whole = (double)(int64_t)(x / step);
  return whole * step < x ? (whole + 1) * step : whole * step;
}

/* What the choice depends on. */
typedef struct layer {
  double channels[2], size[2], images; /* in, out; of the result */
  double lanes, weight_flops;
} layer;

static double cost_of(const form *f, const layer *c) {
  double m = (double)f->m, tiles = c->images * ceil_to(c->size[0] / m, 1) * ceil_to(c->size[1] / m, 1);
  double pairs = c->channels[0] * c->channels[1], columns = f->m == 1 ? tiles : ceil_to(tiles, c->lanes);
  double transforms = tiles * (f->input * c->channels[0] + f->output * c->channels[1]);
  return f->positions * pairs * (2 * columns + 4 * c->weight_flops) + transforms;
}

static double number_of(nn_dim d, int64_t fallback) {
  int64_t n;
  return (double)(nn_dim_is_const(d, &n) ? n : fallback);
}

static double weights_bytes(const nn_module *m) {
  double sum = 0;
  for (int i = 0; i < m->nconsts; i++)
    if (m->consts[i]->tensor) sum += (double)m->consts[i]->tensor->size_bytes;
  return sum;
}

/* The tile for a convolution that could be in either form; 1: direct. */
static int64_t best_tile(const nn_op *conv, double weight_flops) {
  nn_type x = conv->in[0]->type, y = conv->out[0]->type;
  layer c = {.channels = {number_of(x.dims[1], 1), number_of(y.dims[1], 1)},
             .size = {number_of(y.dims[2], 1), number_of(y.dims[3], 1)},
             .images = number_of(x.dims[0], LIKELY_IMAGES),
             .lanes = conv->graph->module->env.vector_bytes / 4,
             .weight_flops = weight_flops};
  for (int i = 0; i < 2; i++)
    if (c.channels[i] < FEWEST_CHANNELS || c.size[i] < FEWEST_RESULTS) return 1;
  double best = worth * cost_of(&forms[0], &c);
  int64_t tile = 1;
  for (size_t i = 1; i < sizeof forms / sizeof *forms; i++) {
    double cost = cost_of(&forms[i], &c);
    if (cost >= best) continue;
    best = cost;
    tile = forms[i].m;
  }
  return tile;
}

static bool all_ones(const nn_op *op, const char *attr) {
  int count;
  const int64_t *values = nn_attr_ints(op, attr, &count);
  for (int i = 0; i < count; i++)
    if (values[i] != 1) return false;
  return true;
}

static bool are_known(const nn_dim *dims, int count) {
  int64_t value;
  for (int i = 0; i < count; i++)
    if (!nn_dim_is_const(dims[i], &value)) return false;
  return true;
}

static bool is_candidate(const nn_op *op) {
  if (op->code != NN_OP_CONV || op->in[1]->kind != NN_CONST || op->in[1]->type.rank != 4) return false;
  nn_type x = op->in[0]->type, w = op->in[1]->type, y = op->out[0]->type;
  if (x.dtype != NN_F32 || w.dtype != NN_F32 || !nn_dim_is(w.dims[2], 3) || !nn_dim_is(w.dims[3], 3)) return false;
  if (nn_attr_int(op, "groups") != 1 || !all_ones(op, "strides") || !all_ones(op, "dilations")) return false;
  int npads;
  const nn_dim *pads = nn_attr_dims(op, "pads", &npads);
  return are_known(x.dims + 1, 3) && are_known(y.dims + 1, 3) && are_known(pads, npads);
}

/* Convolutions that share weights share the transformed ones. */
static nn_value *transformed_weights(nn_builder *b, nn_value *w, int64_t tile) {
  for (const nn_use *u = w->uses; u; u = u->next)
    if (u->user->code == NN_OP_WINOGRAD_WEIGHTS && u->user->graph == b->graph && nn_attr_int(u->user, "tile") == tile)
      return u->user->out[0];
  nn_op *op = nn_b_begin(b, NN_OP_WINOGRAD_WEIGHTS, (nn_value *[]){w}, 1, -1);
  if (op) nn_set_int(op, "tile", tile);
  return nn_b_end(b, op);
}

static nn_value *winograd_of(nn_op *conv, int64_t tile) {
  nn_builder b = {conv->graph, conv, conv->loc, conv->loc_op, false};
  int npads;
  const nn_dim *pads = nn_attr_dims(conv, "pads", &npads);
  nn_value *u = transformed_weights(&b, conv->in[1], tile);
  nn_op *op = nn_b_begin(&b, NN_OP_CONV_WINOGRAD, (nn_value *[]){conv->in[0], u}, 2, -1);
  if (op) {
    nn_set_int(op, "tile", tile);
    if (npads) nn_set_dims(op, "pads", pads, npads);
  }
  return nn_b_end(&b, op);
}

nn_status pass_layout(nn_module *m, bool *changed) {
  if (!m->env.evaluate || m->env.level < WINOGRAD_LEVEL || m->env.vector_bytes < FEWEST_VECTOR_BYTES) return NN_OK;
  double weight_flops = weights_bytes(m) <= CACHED_BYTES ? CACHED_FLOPS : MEMORY_FLOPS;
  for (nn_graph *g = m->graphs; g; g = g->next)
    for (nn_op *op = g->first, *next; op; op = next) {
      next = op->next;
      int64_t tile = is_candidate(op) ? best_tile(op, weight_flops) : 1;
      nn_value *v = tile > 1 ? winograd_of(op, tile) : NULL;
      if (!v) continue;
      nn_value_replace(op->out[0], v);
      nn_op_remove(op);
      *changed = true;
    }
  return m->diags.nerrors ? NN_FAIL : NN_OK;
}
