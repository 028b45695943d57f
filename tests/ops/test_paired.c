/* paired_weights against its formula, conv_paired against the definition of convolution, and what holds of numbers of any size. */
#include "tests/ops/op_case.h"

typedef struct paired {
  int64_t images, channels, outputs, in[2], stride[2], block;
  int64_t wider[2], before[2], after[2], gap[2]; /* kernel and dilations, less 1 */
} paired;

enum { UNIT = 16, HALF = 8, PAIRS = 5 }; /* of the depth: numbers i and i + HALF of a unit are a pair, i < PAIRS */

static int64_t blocks_of(int64_t n, int64_t block) { return n / block + (n % block != 0); }

/* ---- operands and results ----------------------------------------------------------------------------------- */

static int64_t taps_of(const paired *c) { return (c->wider[0] + 1) * (c->wider[1] + 1); }

/* Channels of a tap in the depth: of windows, all of whole blocks. */
static int64_t run_of(const paired *c) { return taps_of(c) == 1 ? c->channels : blocks_of(c->channels, c->block) * c->block; }

static int64_t depth_of(const paired *c) { return taps_of(c) * run_of(c); }

static int64_t results_of(const paired *c, int d) {
  return (c->in[d] + c->before[d] + c->after[d] - c->wider[d] * (c->gap[d] + 1) - 1) / c->stride[d] + 1;
}

/* Of x[n, blocks, H, W, block]. */
static int64_t pixel_index(const paired *c, int64_t n, int64_t ch, int64_t y, int64_t x) {
  int64_t plane = n * blocks_of(c->channels, c->block) + ch / c->block;
  return ((plane * c->in[0] + y) * c->in[1] + x) * c->block + ch % c->block;
}

/* Of w[panels, (tap, channel), block]. */
static int64_t weight_index(const paired *c, int64_t o, int64_t k) { return (o / c->block * depth_of(c) + k) * c->block + o % c->block; }

/* An element of the results: a row of A and a column of B. */
typedef struct place {
  int64_t n, o, y, x;
} place;

static place place_of(const paired *c, const tensor *out, int64_t i) {
  int64_t pixel = i / c->block, plane = pixel / out->dims[3] / out->dims[2];
  return (place){plane / out->dims[1], plane % out->dims[1] * c->block + i % c->block, pixel / out->dims[3] % out->dims[2], pixel % out->dims[3]};
}

/* Number k = (tap, channel) of a row of A; 0 outside. */
static double row_number(const paired *c, const tensor *x, place p, int64_t k) {
  int64_t tap = k / run_of(c), channel = k % run_of(c), columns = c->wider[1] + 1;
  int64_t y = p.y * c->stride[0] + tap / columns * (c->gap[0] + 1) - c->before[0], column = p.x * c->stride[1] + tap % columns * (c->gap[1] + 1) - c->before[1];
  bool is_inside = y >= 0 && y < c->in[0] && column >= 0 && column < c->in[1] && channel < c->channels;
  return is_inside ? x->v[pixel_index(c, p.n, channel, y, column)] : 0;
}

/* The sum, and the lengths of row and column. */
typedef struct product {
  double sum, row, column;
  bool is_finite;
} product;

static product product_at(const paired *c, const tensor *in, place p) {
  product r = {.is_finite = true};
  for (int64_t k = 0; k < depth_of(c); k++) {
    double x = row_number(c, &in[0], p, k), w = in[1].v[weight_index(c, p.o, k)];
    r.sum += x * w;
    r.row += x * x;
    r.column += w * w;
    r.is_finite = r.is_finite && isfinite(x) && isfinite(w);
  }
  r.row = sqrt(r.row);
  r.column = sqrt(r.column);
  return r;
}

/* What lies beyond the last channel is no channel's, whatever it is; outputs beyond the last have weights that are 0. */
static void set_beyond(const paired *c, int which, tensor *t) {
  int64_t pixels = c->in[0] * c->in[1], blocks = blocks_of(c->channels, c->block), panel = depth_of(c) * c->block;
  for (int64_t i = 0; i < t->count; i++) {
    if (which == 0 && i / c->block / pixels % blocks * c->block + i % c->block >= c->channels) t->v[i] = NAN;
    if (which == 1 && i / panel * c->block + i % c->block >= c->outputs) t->v[i] = 0;
  }
}

static void fill_operand(const op_case *oc, int which, tensor *t) {
  const paired *c = oc->how;
  if (which < 2) set_beyond(c, which, t);
}

enum { IMAGES = 1, ROWS = 2, COLUMNS = 4 }; /* which sizes are symbols */

/* The size of the results along axis d: in a symbol, if it has one. */
static const char *results_text(const paired *c, int d, const char *symbol) {
  if (!symbol) return text("%lld", (long long)results_of(c, d));
  long long more = c->before[d] + c->after[d] - c->wider[d] * (c->gap[d] + 1) - 1;
  return text("(%s %c %lld) floordiv %lld + 1", symbol, more < 0 ? '-' : '+', more < 0 ? -more : more, (long long)c->stride[d]);
}

static void make_case(const paired *c, int symbols, op_case *oc) {
  long long b = c->block, ch = c->channels, blocks = blocks_of(ch, b), panels = blocks_of(c->outputs, b), depth = depth_of(c);
  const char *size[2], *out[2], *images = symbols & IMAGES ? "N" : text("%lld", (long long)c->images);
  for (int d = 0; d < 2; d++) {
    const char *symbol = symbols & ROWS << d ? d ? "W" : "H" : NULL;
    size[d] = symbol ? symbol : text("%lld", (long long)c->in[d]);
    out[d] = results_text(c, d, symbol);
  }
  *oc = (op_case){.n = c->images, .size = {c->in[0], c->in[1]}, .how = c, .fill = fill_operand};
  oc->in[0] = text("f32[%s,%lld,%s,%s,%lld]", images, blocks, size[0], size[1], b);
  oc->in[1] = text("f32[%lld,%lld,%lld]", panels, depth, b);
  oc->out[0] = text("f32[%s,%lld,%s,%s,%lld]", images, panels, out[0], out[1], b);
  oc->before = text("  %%w = paired_weights %%1 : f32[%lld,%lld,%lld]\n", panels, depth + 2, b);
  const char *window = text("kernel=[%d,%d], dilations=[%d,%d], pads=[%d,%d,%d,%d], ", (int)c->wider[0] + 1, (int)c->wider[1] + 1, (int)c->gap[0] + 1,
                            (int)c->gap[1] + 1, (int)c->before[0], (int)c->before[1], (int)c->after[0], (int)c->after[1]);
  bool is_point = taps_of(c) == 1 && !c->before[0] && !c->before[1] && !c->after[0] && !c->after[1];
  oc->line = text("conv_paired %%0, %%w {channels=%lld, outputs=%lld, %sstrides=[%lld,%lld]}", ch, (long long)c->outputs, is_point ? "" : window,
                  (long long)c->stride[0], (long long)c->stride[1]);
}

/* ---- weights -------------------------------------------------------------------------------------------------- */

/* A panel's columns: their numbers scaled, minus the sum of their pairs' products, and the power of two that undoes the scale. */
static void judge_weights(const op_case *oc, const tensor *in, const tensor *out, const char *where) {
  int64_t depth = in[0].dims[1], width = in[0].dims[2];
  for (int64_t column = 0; column < in[0].dims[0] * width; column++) {
    const double *from = in[0].v + column / width * depth * width + column % width;
    const double *to = out[0].v + column / width * (depth + 2) * width + column % width;
    double factor = to[(depth + 1) * width], sizes = 0, most = 0, squares = 0, own = 0;
    int exponent;
    cr_assert(factor == 0 || frexp(factor, &exponent) == 0.5, "%s: factor %g is no power of two\n%s", where, factor, oc->in[0]);
    for (int64_t k = 0; k < depth; k++) {
      cr_assert_eq(to[k * width] * factor, from[k * width], "%s: column %lld, number %lld\n%s", where, (long long)column, (long long)k, oc->in[0]);
      squares += to[k * width] * to[k * width];
      sizes += fabs(to[k * width]);
      most = fmax(most, fabs(to[k * width]));
    }
    for (int64_t k = 0; k < depth / UNIT * UNIT; k++)
      if (k % UNIT < PAIRS) own += (k % UNIT % 2 ? -1 : 1) * to[k * width] * to[(k + HALF) * width];
    double bound = sqrt(sizes * most), error = fabs(own + to[depth * width]);
    cr_assert(factor == 0 || (bound >= 1 && bound < 2.13), "%s: column %lld is of length %g\n%s", where, (long long)column, bound, oc->in[0]);
    cr_assert(error <= (double)depth * 0x1p-24 * squares, "%s: column %lld, pairs' products: off by %g\n%s", where, (long long)column, error, oc->in[0]);
  }
}

/* w[N,K], for judge_weights in panels. */
static void judge_plain_weights(const op_case *oc, const tensor *in, const tensor *out, const char *where) {
  int64_t columns = in[0].dims[0], depth = in[0].dims[1], panels = out[0].dims[0], width = out[0].dims[2];
  tensor p = {NN_F32, 3, {panels, depth, width}, panels * depth * width, calloc((size_t)(panels * depth * width), sizeof(double))};
  for (int64_t o = 0; o < columns; o++)
    for (int64_t k = 0; k < depth; k++) p.v[(o / width * depth + k) * width + o % width] = in[0].v[o * depth + k];
  judge_weights(oc, &p, out, where);
  free(p.v);
}

/* Columns of all sizes, and of zeros. */
static void fill_columns(const op_case *oc, int which, tensor *t) {
  int64_t width = t->dims[t->rank - 1], depth = t->dims[1];
  (void)which;
  for (int64_t i = 0; i < t->count; i++) {
    int64_t column = oc->judge == judge_plain_weights ? i / depth : i / width / depth * width + i % width;
    t->v[i] = column % 7 == 3 ? 0 : nn_round_to(NN_F32, t->v[i] * ldexp(1, (int)(column * 37 % 240) - 120));
  }
}

Test(paired, weights) {
  static const int64_t sizes[][3] = {{1, 16, 16}, {3, 15, 8}, {2, 100, 16}, {4, 33, 4}, {5, 1, 16}, {1, 47, 32}, {2, 64, 12}};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    long long panels = sizes[i][0], depth = sizes[i][1], width = sizes[i][2], outputs = panels * width - (long long)(i % 3);
    op_case c = {.in = {text("f32[%lld,%lld,%lld]", panels, depth, width)},
                 .out = {text("f32[%lld,%lld,%lld]", panels, depth + 2, width)},
                 .line = "paired_weights %0",
                 .fill = fill_columns,
                 .judge = judge_weights};
    op_case_run(&c);
    c.in[0] = text("f32[%lld,%lld]", outputs, depth);
    c.line = text("paired_weights %%0 {width=%lld}", width);
    c.judge = judge_plain_weights;
    op_case_run(&c);
  }
}

/* ---- convolution ------------------------------------------------------------------------------------------------ */

static void expect_conv(const op_case *oc, const tensor *in, tensor *out) {
  for (int64_t i = 0; i < out->count; i++) {
    place p = place_of(oc->how, out, i);
    out->v[i] = product_at(oc->how, in, p).sum;
  }
}

static void try_paired(const paired *c, int symbols) {
  op_case oc;
  make_case(c, symbols, &oc);
  oc.expect = expect_conv;
  op_case_run(&oc);
}

Test(paired, channels) {
  static const int64_t channels[] = {1, 15, 16, 17, 24, 31, 32, 33, 40, 100};
  for (size_t i = 0; i < sizeof channels / sizeof *channels; i++)
    for (int64_t block = 4; block <= 16; block *= 2) try_paired(&(paired){1, channels[i], 16, {3, 7}, {1, 1}, .block = block}, 0);
}

Test(paired, outputs) {
  static const int64_t outputs[] = {1, 15, 16, 17, 33};
  for (size_t i = 0; i < sizeof outputs / sizeof *outputs; i++)
    for (int64_t block = 4; block <= 16; block *= 2) try_paired(&(paired){1, 40, outputs[i], {5, 5}, {1, 1}, .block = block}, 0);
}

/* Of one tile and about, of some tiles, of several tasks; primes. */
Test(paired, pixels) {
  static const int64_t sizes[][2] = {{1, 1}, {1, 2}, {1, 3}, {1, 5}, {1, 13}, {3, 5}, {1, 15}, {4, 4}, {1, 17}, {1, 31}, {1, 47}, {6, 8}, {7, 7}, {1, 95},
                                     {8, 12}, {1, 97}, {11, 13}, {1, 211}, {17, 19}};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) try_paired(&(paired){1, 32 + (int64_t)i % 2 * 8, 24, {sizes[i][0], sizes[i][1]}, {1, 1}, .block = 16}, 0);
}

/* More rows than a task has; several panels, which tasks share. */
Test(paired, tasks) {
  try_paired(&(paired){1, 100, 33, {29, 31}, {1, 1}, .block = 16}, 0);
  try_paired(&(paired){2, 264, 40, {9, 11}, {1, 1}, .block = 8}, 0);
  try_paired(&(paired){1, 48, 300, {7, 7}, {1, 1}, .block = 16}, 0);
}

/* The depth in parts. */
Test(paired, deep) {
  try_paired(&(paired){1, 1024, 17, {3, 5}, {1, 1}, .block = 16}, 0);
  try_paired(&(paired){1, 1040, 16, {2, 9}, {1, 1}, .block = 8}, COLUMNS);
  try_paired(&(paired){2, 1100, 40, {2, 3}, {1, 1}, .block = 16}, 0);
  try_paired(&(paired){1, 128, 18, {5, 4}, {1, 1}, 16, {2, 2}, {1, 1}, {1, 1}, {0, 0}}, 0);
  try_paired(&(paired){1, 2051, 9, {3, 3}, {1, 2}, .block = 8}, ROWS);
}

Test(paired, strides_and_images) {
  static const paired cases[] = {{1, 32, 16, {8, 8}, {2, 2}, .block = 16}, {2, 24, 17, {7, 9}, {2, 1}, .block = 8},  {3, 17, 33, {5, 6}, {1, 2}, .block = 16},
                                 {5, 40, 15, {3, 3}, {3, 2}, .block = 4},  {2, 33, 16, {1, 20}, {5, 7}, .block = 8}, {4, 16, 16, {6, 6}, {1, 1}, .block = 16}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    for (int symbolic = 0; symbolic < 2; symbolic++) try_paired(&cases[i], symbolic ? 1 + (int)i : 0);
}

Test(paired, windows) {
  static const paired cases[] = {
      {1, 16, 16, {9, 9}, {1, 1}, 16, {2, 2}, {1, 1}, {1, 1}, {0, 0}},  {2, 32, 24, {11, 10}, {2, 2}, 8, {2, 2}, {1, 1}, {1, 1}, {0, 0}},
      {1, 48, 17, {7, 13}, {1, 2}, 16, {0, 6}, {0, 3}, {0, 3}, {0, 0}}, {1, 12, 16, {8, 9}, {1, 1}, 16, {2, 1}, {2, 0}, {0, 1}, {1, 2}},
      {1, 5, 9, {6, 7}, {2, 1}, 4, {1, 3}, {1, 2}, {0, 1}, {0, 0}},     {1, 33, 16, {5, 5}, {1, 1}, 16, {2, 2}, {1, 1}, {1, 1}, {0, 0}},
      {1, 16, 16, {8, 8}, {1, 1}, 8, {0, 0}, {1, 2}, {3, 0}, {0, 0}},   {1, 16, 8, {9, 9}, {1, 1}, 8, {2, 2}, {-1, 1}, {1, -2}, {0, 0}}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    for (int symbolic = 0; symbolic < 2; symbolic++) try_paired(&cases[i], symbolic ? 1 + (int)i % 7 : 0);
}

Test(paired, symbolic_sizes) {
  for (int i = 0; i < 12; i++) {
    paired c = {random_int(1, 3), random_int(1, 70), random_int(1, 40), {random_int(1, 20), random_int(1, 20)}, {random_int(1, 2), random_int(1, 2)}, .block = 4 << random_int(0, 2)};
    try_paired(&c, (int)random_int(1, 7));
  }
}

Test(paired, symbolic_batch) {
  for (int64_t n = 0; n < 6; n += 1 + n) try_paired(&(paired){n, 40, 17, {7, 9}, {1, 1}, .block = 16}, IMAGES);
}

Test(paired, no_images) { try_paired(&(paired){0, 40, 17, {7, 9}, {1, 1}, .block = 16}, 0); }

/* ---- what is fused with it --------------------------------------------------------------------------------------- */

enum { BIAS = 1, RELU = 2, SILU = 4, RESIDUAL = 8, SCALED = 16 };

/* Operand 2: bias of the outputs; 3: the other summand; 4: scales of the channels of an image. */
static void expect_fused(const op_case *oc, const tensor *in, tensor *out) {
  const paired *c = oc->how;
  int64_t what = oc->p[0], pixels = c->in[0] * c->in[1], blocks = blocks_of(c->channels, c->block);
  tensor x[2] = {in[0], in[1]};
  x[0].v = calloc((size_t)in[0].count + 1, sizeof *x[0].v);
  for (int64_t i = 0; i < in[0].count; i++)
    x[0].v[i] = in[0].v[i] * (what & SCALED ? in[4].v[i / c->block / pixels * c->block + i % c->block] : 1);
  cr_assert_eq(in[4].count, c->images * blocks * c->block);
  expect_conv(oc, x, out);
  for (int64_t i = 0; i < out->count; i++) {
    double *v = &out->v[i];
    if (what & BIAS) *v += in[2].v[place_of(c, out, i).o];
    if (what & RELU) *v = fmax(*v, 0);
    if (what & SILU) *v /= 1 + exp(-*v);
    if (what & RESIDUAL) *v += in[3].v[i];
  }
  free(x[0].v);
}

static const char *line_of(char name, const char *op, const char *type) { return text("  %%%c = %s : %s\n", name, op, type); }

static void make_fused(const paired *c, int64_t what, int symbols, op_case *oc) {
  make_case(c, symbols, oc);
  const char *image = oc->out[0], *pixels = oc->in[0], *images = symbols & IMAGES ? "N" : text("%lld", (long long)c->images);
  oc->in[2] = text("f32[1,%lld,1,1,%lld]", (long long)blocks_of(c->outputs, c->block), (long long)c->block);
  oc->in[3] = image;
  oc->in[4] = text("f32[%s,%lld,1,1,%lld]", images, (long long)blocks_of(c->channels, c->block), (long long)c->block);
  const char *scaled = text("%s%s", line_of('g', text("broadcast %%4 {dims=%s}", strchr(pixels, '[')), pixels), line_of('x', "mul %0, %g", pixels));
  const char *conv = text("conv_paired %%%c%s", what & SCALED ? 'x' : '0', strchr(oc->line, ','));
  const char *bias = text("%s%s", line_of('d', text("broadcast %%2 {dims=%s}", strchr(image, '[')), image), line_of('b', "add %c, %d", image));
  char last = what & BIAS ? 'b' : 'c';
  const char *relu = line_of('e', text("relu %%%c", last), image), *silu = text("%s%s", line_of('f', text("sigmoid %%%c", last), image), line_of('s', text("mul %%%c, %%f", last), image));
  oc->before = text("%s%s%s%s%s%s", oc->before, what & SCALED ? scaled : "", line_of('c', conv, image), what & BIAS ? bias : "", what & RELU ? relu : "",
                   what & SILU ? silu : "");
  if (what & RELU) last = 'e';
  if (what & SILU) last = 's';
  oc->line = what & RESIDUAL ? text("add %%%c, %%3", last) : text("copy %%%c", last);
  oc->p[0] = what;
  oc->expect = expect_fused;
}

static void try_fused(const paired *c, int64_t what, int symbols) {
  op_case oc;
  make_fused(c, what, symbols, &oc);
  op_case_run(&oc);
}

Test(paired, epilogues) {
  static const int64_t what[] = {BIAS, BIAS | RELU, BIAS | SILU, BIAS | RESIDUAL, BIAS | SILU | RESIDUAL, RELU | RESIDUAL, SILU};
  static const paired cases[] = {{1, 33, 17, {7, 7}, {1, 1}, .block = 16}, {2, 48, 40, {5, 11}, {2, 2}, .block = 8}, {1, 24, 16, {13, 17}, {1, 1}, .block = 16}};
  for (size_t i = 0; i < sizeof what / sizeof *what; i++)
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) try_fused(&cases[k], what[i], (i + k) % 3 == 0 ? 1 + (int)(i + k) % 7 : 0);
}

/* Squeeze and excite. */
Test(paired, scaled_channels) {
  static const paired cases[] = {{1, 33, 17, {7, 7}, {1, 1}, .block = 16}, {3, 40, 24, {5, 9}, {1, 1}, .block = 8}, {2, 64, 33, {9, 6}, {2, 1}, .block = 16}};
  for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
    for (int symbols = 0; symbols < 8; symbols += 7) {
      try_fused(&cases[k], SCALED, symbols);
      try_fused(&cases[k], SCALED | BIAS | SILU, symbols);
    }
}

/* ---- numbers of any size ------------------------------------------------------------------------------------------- */

/* What channel ch of a line, a row of A or a column of B (which = 0, 1), shall be. */
typedef double number_fn(const op_case *oc, int which, const tensor *t, int64_t line, int64_t ch);

/* Of one point, and strides are 1. */
static int64_t number_index(const paired *c, int which, int64_t line, int64_t ch) {
  int64_t pixels = c->in[0] * c->in[1], pixel = line % pixels;
  return which ? weight_index(c, line, ch) : pixel_index(c, line / pixels, ch, pixel / c->in[1], pixel % c->in[1]);
}

static void fill_lines(const op_case *oc, int which, tensor *t, number_fn *number) {
  const paired *c = oc->how;
  int64_t lines = which ? c->outputs : c->images * c->in[0] * c->in[1];
  for (int64_t line = 0; line < lines && which < 2; line++)
    for (int64_t ch = 0; ch < c->channels; ch++) t->v[number_index(c, which, line, ch)] = nn_round_to(NN_F32, number(oc, which, t, line, ch));
  fill_operand(oc, which, t);
}

/* As roundings add up at random: 2 sqrt(n) * 2^-24 times the lengths of row and column. Lengths count as 2^-126 at least; beyond 2^126, where scales end,
   the error grows with them. Subnormal results are rounded once more. */
static bool is_close(const paired *c, const product *p, double got) {
  double row = fmax(p->row, 0x1p-126), column = fmax(p->column, 0x1p-126), beyond = fmax(1, fmax(row, column) / 0x1p126);
  return fabs(got - p->sum) <= 2 * sqrt((double)depth_of(c)) * 0x1p-24 * row * column * beyond + 0x1p-148;
}

static bool is_right(const paired *c, const product *p, double got) {
  if (!p->is_finite) return !isfinite(got);
  if (p->row == 0 || p->column == 0) return got == 0;
  if (!isfinite(got)) return p->row * p->column > 0x1p127;
  return is_close(c, p, got);
}

/* p[0]: exact */
static void judge_conv(const op_case *oc, const tensor *in, const tensor *out, const char *where) {
  const paired *c = oc->how;
  for (int64_t i = 0; i < out[0].count; i++) {
    place at = place_of(c, &out[0], i);
    product p = product_at(c, in, at);
    double got = out[0].v[i];
    cr_assert(at.o >= c->outputs || (oc->p[0] ? got == p.sum : is_right(c, &p, got)),
              "%s: image %lld, pixel %lld, %lld, output %lld is %.9g, expected %.9g (lengths %g, %g)\n%s", where, (long long)at.n, (long long)at.y,
              (long long)at.x, (long long)at.o, got, p.sum, p.row, p.column, oc->in[0]);
  }
}

static void try_numbers(void (*fill)(const op_case *oc, int which, tensor *t), void (*judge)(const op_case *, const tensor *, const tensor *, const char *),
                        const int64_t *parameters, int count) {
  static const paired kinds[] = {{1, 40, 33, {5, 7}, {1, 1}, .block = 16}, {2, 100, 17, {3, 3}, {1, 1}, .block = 8}, {1, 16, 16, {1, 17}, {1, 1}, .block = 16}, {3, 33, 9, {4, 5}, {1, 1}, .block = 4}};
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    op_case oc;
    make_case(&kinds[i], (int)i == 3 ? IMAGES | ROWS : 0, &oc);
    oc.fill = fill;
    oc.judge = judge;
    for (int k = 0; k < count; k++) oc.p[k] = parameters[k];
    op_case_run(&oc);
  }
}

/* p[1], p[2]: powers of ten of rows, from .. to; p[3], p[4]: of columns; p[5]: within a line, down to; p[6]: all are positive. */
static double far_number(const op_case *oc, int which, const tensor *t, int64_t line, int64_t ch) {
  (void)t, (void)ch;
  double low = (double)oc->p[1 + 2 * which], high = (double)oc->p[2 + 2 * which], power = low + (high - low) * (double)(line * 17 % 31) / 30;
  double x = random_number(oc->p[6] ? 0 : -1, 1) * pow(10, power - random_number(0, (double)oc->p[5]));
  return fmax(fmin(x, 0x1.fffffep127), -0x1.fffffep127);
}

static void fill_far(const op_case *oc, int which, tensor *t) { fill_lines(oc, which, t, far_number); }

Test(paired, lines_of_any_length) {
  static const int64_t powers[][7] = {{0, -2, 2, -3, 0, 0, 1}, {0, -30, 30, 0, 0, 0},     {0, 0, 0, -30, 30, 0},   {0, -15, 15, -15, 15, 0},   {0, 20, 36, -36, -20, 0},
                                      {0, -36, -20, 20, 36, 0},  {0, 0, 0, 0, 0, 0},      {0, -10, 10, -10, 10, 6},   {0, 0, 0, 0, 0, 12}};
  for (size_t i = 0; i < sizeof powers / sizeof *powers; i++) try_numbers(fill_far, judge_conv, powers[i], 7);
}

/* Near the largest f32, where the sum of sizes is infinite, and subnormal. Results overflow only where the lengths' product does. */
Test(paired, lines_at_the_ends) {
  static const int64_t powers[][6] = {{0, 38, 39, -10, -2, 0},  {0, -10, -2, 38, 39, 0}, {0, 38, 39, -38, -38, 0}, {0, -38, -38, 38, 39, 0}, {0, -45, -38, 0, 30, 0},
                                      {0, 0, 30, -45, -38, 0},  {0, 10, 39, 0, 39, 0},   {0, -45, -10, -30, 0, 0}, {0, -45, 30, -38, 8, 0}};
  for (size_t i = 0; i < sizeof powers / sizeof *powers; i++) try_numbers(fill_far, judge_conv, powers[i], 6);
}

/* Lengths stay below 512: all sums are multiples of a power of two that is 2^-23 of the largest. */
static double small_integer(const op_case *oc, int which, const tensor *t, int64_t line, int64_t ch) {
  (void)oc, (void)t, (void)ch;
  int64_t most = which ? 1 + line % 50 : 50 - line % 40;
  return (double)random_int(-most, most);
}

static void fill_integers(const op_case *oc, int which, tensor *t) { fill_lines(oc, which, t, small_integer); }

Test(paired, small_integers_are_exact) { try_numbers(fill_integers, judge_conv, (int64_t[]){1}, 1); }

/* What is not finite spoils its own row or column. */
static double seldom_finite(const op_case *oc, int which, const tensor *t, int64_t line, int64_t ch) {
  static const double odd[] = {INFINITY, -INFINITY, NAN};
  const paired *c = oc->how;
  (void)t;
  bool is_odd = line % (which ? 8 : 5) == 3 && ch == line * 11 % c->channels;
  return is_odd ? odd[line / 8 % 3] : line % 5 == 1 ? 0 : random_number(-1, 1);
}

static void fill_seldom_finite(const op_case *oc, int which, tensor *t) { fill_lines(oc, which, t, seldom_finite); }

Test(paired, what_is_not_finite_stays_in_its_line) { try_numbers(fill_seldom_finite, judge_conv, NULL, 0); }

/* ---- equal lines --------------------------------------------------------------------------------------------------- */

enum { OTHER_ROWS = 3, OTHER_COLUMNS = 5 }; /* rows i and i + OTHER_ROWS are equal, and so are columns */

static double repeated(const op_case *oc, int which, const tensor *t, int64_t line, int64_t ch) {
  int64_t others = which ? OTHER_COLUMNS : OTHER_ROWS;
  return line < others ? random_number(-2, 2) : t->v[number_index(oc->how, which, line % others, ch)];
}

static void fill_repeated(const op_case *oc, int which, tensor *t) { fill_lines(oc, which, t, repeated); }

static void judge_repeated(const op_case *oc, const tensor *in, const tensor *out, const char *where) {
  const paired *c = oc->how;
  double first[OTHER_ROWS][OTHER_COLUMNS] = {{0}};
  bool is_known[OTHER_ROWS][OTHER_COLUMNS] = {{false}};
  (void)in;
  for (int64_t i = 0; i < out[0].count; i++) {
    place at = place_of(c, &out[0], i);
    int64_t row = ((at.n * c->in[0] + at.y) * c->in[1] + at.x) % OTHER_ROWS, column = at.o % OTHER_COLUMNS;
    if (at.o >= c->outputs) continue;
    if (!is_known[row][column]) first[row][column] = out[0].v[i];
    is_known[row][column] = true;
    cr_assert_eq(out[0].v[i], first[row][column], "%s: row %lld, column %lld: %.9g and %.9g\n%s", where, (long long)row, (long long)column, out[0].v[i],
                 first[row][column], oc->in[0]);
  }
}

/* Softmax and argmax see ties. */
Test(paired, equal_lines_give_equal_results) {
  try_numbers(fill_repeated, judge_repeated, NULL, 0);
  op_case oc;
  static const paired cases[] = {{2, 264, 40, {9, 11}, {1, 1}, .block = 8}, {1, 1033, 33, {3, 7}, {1, 1}, .block = 16}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    make_case(&cases[i], 0, &oc);
    oc.fill = fill_repeated;
    oc.judge = judge_repeated;
    op_case_run(&oc);
  }
}

/* ---- zeros ----------------------------------------------------------------------------------------------------------- */

static double often_zero(const op_case *oc, int which, const tensor *t, int64_t line, int64_t ch) {
  (void)oc, (void)t, (void)ch;
  return line % (which ? 4 : 3) == 1 ? 0 : random_number(-1e3, 1e3);
}

static void fill_often_zero(const op_case *oc, int which, tensor *t) { fill_lines(oc, which, t, often_zero); }

static void judge_bias(const op_case *oc, const tensor *in, const tensor *out, const char *where) {
  const paired *c = oc->how;
  for (int64_t i = 0; i < out[0].count; i++) {
    place at = place_of(c, &out[0], i);
    product p = product_at(c, in, at);
    cr_assert(at.o >= c->outputs || p.row * p.column != 0 || out[0].v[i] == in[2].v[at.o], "%s: %.9g, expected the bias %.9g", where, out[0].v[i], in[2].v[at.o]);
  }
}

Test(paired, zeros_give_the_bias) {
  try_numbers(fill_often_zero, judge_conv, NULL, 0);
  op_case oc;
  make_fused(&(paired){1, 40, 33, {5, 7}, {1, 1}, .block = 16}, BIAS, 0, &oc);
  oc.fill = fill_often_zero;
  oc.expect = NULL;
  oc.judge = judge_bias;
  op_case_run(&oc);
}
