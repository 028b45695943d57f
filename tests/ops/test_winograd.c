/* winograd_weights against its formula, conv_winograd against the definition of convolution; channels in blocks. */
#include "tests/ops/op_case.h"

enum { MOST_POINTS = 5 };
enum { IMAGES = 1, ROWS = 2, COLUMNS = 4, PAIRED = 8 }; /* which sizes are symbols; products are made in pairs */

/* sizes: images, channels, outputs, rows, columns; tile; pads before and after along y and x; channels of a block, of a panel;
   if not 0: fewer images take tiles of 2 */
typedef struct winograd {
  int64_t images, channels, outputs, in[2], tile, before[2], after[2], block, width, many;
} winograd;

static int64_t blocks_of(int64_t n, int64_t block) { return n / block + (n % block != 0); }

static double *weights; /* of the present case: those whose transform is the operand */

/* Row i of G: powers of the point over the product of its distances from the others; the last row: infinity. */
static double g_at(int64_t m, int64_t i, int64_t j) {
  static const double points[2][MOST_POINTS] = {{0, 1, -1}, {0, 0.75, -0.75, 1.5, -1.5}};
  const double *p = points[m == 4];
  if (i == m + 1) return j == 2;
  double product = 1;
  for (int64_t other = 0; other < m + 1; other++)
    if (other != i) product *= p[i] - p[other];
  return pow(p[i], (double)j) / product;
}

static double transformed(const double *w, int64_t m, int64_t position) {
  double sum = 0;
  for (int64_t i = 0; i < 3; i++)
    for (int64_t j = 0; j < 3; j++)
      sum += g_at(m, position / (m + 2), i) * w[i * 3 + j] * g_at(m, position % (m + 2), j);
  return sum;
}

/* Element i of u[panels][area][channels][width]: the filter's number, -1 beyond the last output. */
static int64_t filter_of(int64_t i, int64_t area, int64_t channels, int64_t outputs, int64_t width, int64_t *position) {
  int64_t o = i / width / channels / area * width + i % width;
  *position = i / width / channels % area;
  return o < outputs ? o * channels + i / width % channels : -1;
}

static void expect_weights(const op_case *c, const tensor *in, tensor *out) {
  int64_t m = c->p[0], position;
  for (int64_t i = 0; i < out->count; i++) {
    int64_t filter = filter_of(i, (m + 2) * (m + 2), in[0].dims[1], in[0].dims[0], c->p[1], &position);
    out->v[i] = filter < 0 ? 0 : transformed(in[0].v + filter * 9, m, position);
  }
}

Test(winograd, weights) {
  static const int64_t sizes[][2] = {{1, 1}, {3, 8}, {5, 17}, {16, 30}};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    for (int64_t m = 2; m <= 4; m += 2) {
      long long o = sizes[i][0], ch = sizes[i][1], width = i % 2 ? 8 : 4;
      op_case_run(&(op_case){.in = {text("f32[%lld,%lld,3,3]", o, ch)},
                             .out = {text("f32[%lld,%lld,%lld,%lld]", (long long)blocks_of(o, width), (long long)((m + 2) * (m + 2)), ch, width)},
                             .line = text("winograd_weights %%0 {tile=%lld, width=%lld}", (long long)m, width),
                             .p = {m, width},
                             .expect = expect_weights});
    }
}

/* Of panels in pairs, whose columns may have any scale: lines of channels, then minus the sum of the pairs' products, and the factor. */
static double paired_at(const winograd *w, int64_t m, int64_t i) {
  enum { UNIT = 16, HALF = 8, PAIRS = 5 };
  static const double factor = 0.5;
  int64_t lines = w->channels + 2, line = i / w->width % lines, area = (m + 2) * (m + 2), slab = i / w->width / lines, position = slab % area;
  int64_t o = slab / area * w->width + i % w->width;
  double sum = 0;
  if (line == lines - 1) return factor;
  if (o >= w->outputs) return 0;
  const double *filters = weights + o * w->channels * 9;
  if (line < w->channels) return nn_round_to(NN_F32, transformed(filters + line * 9, m, position)) / factor;
  for (int64_t ch = 0; ch < w->channels / UNIT * UNIT; ch++) {
    if (ch % UNIT >= PAIRS) continue;
    double one = nn_round_to(NN_F32, transformed(filters + ch * 9, m, position)), other = nn_round_to(NN_F32, transformed(filters + (ch + HALF) * 9, m, position));
    sum += (ch % 2 ? -1 : 1) * one * other / factor / factor;
  }
  return nn_round_to(NN_F32, -sum);
}

static void fill_operand(const op_case *c, int which, tensor *t) {
  const winograd *w = c->how;
  int64_t position, m = which == 2 ? 2 : w->tile;
  if (which == 0) return;
  for (int64_t i = 0; i < w->channels * w->outputs * 9 && which == 1; i++) weights[i] = random_number(-1, 1);
  for (int64_t i = 0; i < t->count && c->p[0] == PAIRED; i++) t->v[i] = paired_at(w, m, i);
  for (int64_t i = 0; i < t->count && c->p[0] != PAIRED; i++) {
    int64_t filter = filter_of(i, (m + 2) * (m + 2), w->channels, w->outputs, w->width, &position);
    t->v[i] = filter < 0 ? 0 : nn_round_to(NN_F32, transformed(weights + filter * 9, m, position));
  }
}

/* Of x[n, blocks, H, W, block]: channel ch at (y, x), 0 outside. */
static double input_at(const winograd *w, const tensor *x, int64_t n, int64_t ch, int64_t iy, int64_t ix) {
  if (iy < 0 || iy >= w->in[0] || ix < 0 || ix >= w->in[1]) return 0;
  int64_t plane = n * x->dims[1] + ch / w->block;
  return x->v[((plane * w->in[0] + iy) * w->in[1] + ix) * w->block + ch % w->block];
}

/* Lanes beyond the last output come of weights that are 0. */
static void expect_conv(const op_case *c, const tensor *in, tensor *out) {
  const winograd *w = c->how;
  int64_t height = out->dims[2], width = out->dims[3];
  for (int64_t i = 0; i < out->count; i++) {
    int64_t pixel = i / w->block, x = pixel % width, y = pixel / width % height, plane = pixel / width / height;
    int64_t o = plane % out->dims[1] * w->block + i % w->block, n = plane / out->dims[1];
    for (int64_t ch = 0; ch < w->channels && o < w->outputs; ch++)
      for (int64_t tap = 0; tap < 9; tap++)
        out->v[i] += input_at(w, &in[0], n, ch, y + tap / 3 - w->before[0], x + tap % 3 - w->before[1]) *
                     weights[(o * w->channels + ch) * 9 + tap];
  }
}

static const char *size_text(const char *symbol, int64_t size, int64_t more) {
  if (!symbol) return text("%lld", (long long)(size + more));
  return text("%s %c %lld", symbol, more < 0 ? '-' : '+', (long long)(more < 0 ? -more : more));
}

static void try_winograd(const winograd *w, int flags) {
  long long n = w->images, ch = w->channels, o = w->outputs, m = w->tile, b = w->block, v = w->width, lines = ch + (flags & PAIRED ? 2 : 0);
  const char *size[2], *out[2];
  for (int d = 0; d < 2; d++) {
    const char *symbol = flags & ROWS << d ? d ? "W" : "H" : NULL;
    size[d] = symbol ? symbol : text("%lld", (long long)w->in[d]);
    out[d] = size_text(symbol, w->in[d], w->before[d] + w->after[d] - 2);
  }
  const char *images = flags & IMAGES ? "N" : text("%lld", n);
  long long blocks = blocks_of(ch, b), out_blocks = blocks_of(o, b), panels = blocks_of(o, v);
  weights = calloc((size_t)(ch * o * 9 + 1), sizeof *weights);
  const char *few = w->many ? text("f32[%lld,16,%lld,%lld]", panels, lines, v) : NULL, *attrs = few ? text(", many=%lld", (long long)w->many) : "";
  if (flags & PAIRED) attrs = text("%s, paired=1", attrs);
  op_case_run(&(op_case){.in = {text("f32[%s,%lld,%s,%s,%lld]", images, blocks, size[0], size[1], b),
                                text("f32[%lld,%lld,%lld,%lld]", panels, (m + 2) * (m + 2), lines, v), few},
                         .out = {text("f32[%s,%lld,%s,%s,%lld]", images, out_blocks, out[0], out[1], b)},
                         .line = text("conv_winograd %%0, %%1%s {tile=%lld, outputs=%lld, pads=[%lld,%lld,%lld,%lld]%s}", few ? ", %2" : "", m, o,
                                      (long long)w->before[0], (long long)w->before[1], (long long)w->after[0],
                                      (long long)w->after[1], attrs),
                         .n = n,
                         .size = {w->in[0], w->in[1]},
                         .how = w,
                         .p = {flags & PAIRED},
                         .fill = fill_operand,
                         .expect = expect_conv,
                         .tolerance = m == 4 ? 2e-5 : 5e-6});
  free(weights);
}

Test(winograd, sizes) {
  static const winograd cases[] = {
      {1, 1, 1, {3, 3}, 4, {0, 0}, {0, 0}, 4, 4, 0},     {1, 3, 5, {14, 14}, 4, {1, 1}, {1, 1}, 4, 8, 0},
      {2, 3, 7, {7, 7}, 2, {1, 1}, {1, 1}, 8, 16, 0},    {1, 4, 6, {9, 61}, 4, {1, 1}, {1, 1}, 4, 4, 0},
      {3, 2, 13, {13, 6}, 4, {1, 0}, {0, 2}, 4, 8, 0},   {1, 9, 3, {5, 33}, 2, {0, 1}, {0, 1}, 8, 8, 0},
      {2, 5, 12, {8, 8}, 4, {3, 2}, {4, 1}, 16, 32, 0},  {1, 2, 3, {70, 10}, 4, {1, 1}, {1, 1}, 1, 2, 0},
      {1, 2, 2, {4, 300}, 4, {1, 1}, {1, 1}, 4, 8, 0},   {1, 2, 4, {12, 9}, 4, {-1, -2}, {1, 1}, 4, 4, 0},
      {1, 17, 33, {8, 8}, 4, {1, 1}, {1, 1}, 16, 32, 0}, {1, 16, 48, {6, 20}, 4, {1, 1}, {1, 1}, 16, 32, 0}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) try_winograd(&cases[i], 0);
}

Test(winograd, random) {
  for (int i = 0; i < 12; i++) {
    int64_t block = 4 << random_int(0, 1);
    winograd w = {random_int(1, 3), random_int(1, 9), random_int(1, 14), {random_int(1, 22), random_int(1, 40)},
                  random_int(1, 2) * 2, {random_int(1, 2), random_int(1, 2)}, {random_int(1, 2), random_int(1, 2)},
                  block, block * random_int(1, 2), 0};
    try_winograd(&w, 0);
  }
}

/* V does not fit a task: all of it at once. */
Test(winograd, many_channels) {
  winograd w = {1, 70, 20, {14, 14}, 4, {1, 1}, {1, 1}, 8, 16, 0};
  try_winograd(&w, 0);
}

/* Tasks are parts of blocks: some blocks, panels and chunks of each, a block that is not full, a panel of fewer channels. */
Test(winograd, parts_of_blocks) {
  static const winograd cases[] = {
      {1, 9, 40, {28, 28}, 4, {1, 1}, {1, 1}, 8, 16, 0},  {3, 70, 21, {14, 15}, 4, {1, 1}, {1, 1}, 8, 16, 0},
      {2, 90, 36, {9, 11}, 2, {1, 1}, {1, 1}, 16, 32, 0}, {1, 70, 12, {49, 50}, 4, {1, 0}, {0, 1}, 4, 8, 0},
      {1, 300, 9, {41, 44}, 4, {1, 1}, {1, 1}, 16, 16, 0}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) try_winograd(&cases[i], 0);
  try_winograd(&cases[0], ROWS);
  try_winograd(&cases[1], IMAGES);
  try_winograd(&cases[3], ROWS | COLUMNS);
}

Test(winograd, symbolic_batch) {
  for (int64_t n = 0; n < 6; n += 1 + n) {
    winograd w = {n, 3, 5, {9, 12}, 4, {1, 1}, {1, 1}, 4, 8, 0};
    try_winograd(&w, IMAGES);
  }
}

/* Few images in one form, many in the other. */
Test(winograd, symbolic_batch_in_two_forms) {
  for (int64_t n = 0; n < 7; n++) {
    try_winograd(&(winograd){n, 5, 9, {4, 6}, 4, {1, 1}, {1, 1}, 4, 8, 3}, IMAGES);
    try_winograd(&(winograd){n, 3, 4, {6, 6}, 4, {0, 0}, {0, 0}, 4, 4, 5}, IMAGES);
  }
}

Test(winograd, symbolic_sizes) {
  for (int i = 0; i < 6; i++) {
    int64_t block = 4 << random_int(0, 1);
    winograd w = {random_int(1, 3), random_int(1, 9), random_int(1, 14), {random_int(1, 22), random_int(1, 40)},
                  random_int(1, 2) * 2, {random_int(1, 2), random_int(1, 2)}, {random_int(1, 2), random_int(1, 2)},
                  block, block * random_int(1, 2), 0};
    try_winograd(&w, (int)random_int(1, 7));
  }
}

/* Blocks that are no tasks, and more tiles than one has. */
Test(winograd, symbolic_and_many) {
  for (int64_t n = 1; n < 12; n += 8) {
    try_winograd(&(winograd){n, 40, 12, {7, 6}, 4, {1, 1}, {1, 1}, 8, 16, 0}, IMAGES);
    try_winograd(&(winograd){n, 6, 20, {7, 5}, 2, {1, 1}, {1, 1}, 8, 16, 0}, IMAGES | ROWS | COLUMNS);
  }
  try_winograd(&(winograd){1, 5, 9, {50, 41}, 2, {1, 1}, {1, 1}, 4, 8, 0}, ROWS | COLUMNS);
}

/* Products in pairs: less than a unit of channels, some units and a rest, one tile and many, panels of one and two vectors, symbols, two forms. */
Test(winograd, pairs) {
  static const int64_t channels[] = {1, 15, 16, 17, 32, 40, 90};
  for (size_t i = 0; i < sizeof channels / sizeof *channels; i++) {
    winograd w = {random_int(1, 2), channels[i], random_int(1, 40), {random_int(2, 18), random_int(2, 18)}, random_int(1, 2) * 2, {1, 1}, {1, 1}, 16, i % 3 == 2 ? 32 : 16, 0};
    try_winograd(&w, PAIRED);
    try_winograd(&w, PAIRED | (int)random_int(1, 7));
  }
  try_winograd(&(winograd){1, 33, 20, {28, 27}, 4, {1, 1}, {1, 1}, 16, 16, 0}, PAIRED);
  try_winograd(&(winograd){1, 130, 9, {17, 24}, 4, {1, 1}, {1, 1}, 16, 16, 0}, PAIRED | ROWS);
  for (int64_t n = 0; n < 5; n++) try_winograd(&(winograd){n, 20, 9, {4, 6}, 4, {1, 1}, {1, 1}, 16, 16, 3}, PAIRED | IMAGES);
}
