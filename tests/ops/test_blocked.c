/* conv_blocked and conv_depthwise against the definition of convolution; channels in blocks. */
#include "tests/ops/op_case.h"

typedef struct blocked {
  int64_t images, channels, outputs, groups, in[2], kernel[2], stride[2], dilation[2], before[2], after[2], block, width;
  bool is_planar, is_depthwise;
} blocked;

static int64_t blocks_of(int64_t n, int64_t block) { return n / block + (n % block != 0); }

/* Channel ch of image n, 0 outside. */
static double input_at(const blocked *c, const tensor *x, int64_t n, int64_t ch, const int64_t *at) {
  for (int d = 0; d < 2; d++)
    if (at[d] < 0 || at[d] >= c->in[d]) return 0;
  if (c->is_planar) return x->v[((n * x->dims[1] + ch) * c->in[0] + at[0]) * c->in[1] + at[1]];
  int64_t plane = n * x->dims[1] + ch / c->block;
  return x->v[((plane * c->in[0] + at[0]) * c->in[1] + at[1]) * c->block + ch % c->block];
}

/* Channel ch of the group. */
static double weight_at(const blocked *c, const tensor *w, int64_t o, int64_t ch, int64_t ky, int64_t kx) {
  if (c->is_depthwise) return w->v[((o / c->block * c->kernel[0] + ky) * c->kernel[1] + kx) * c->block + o % c->block];
  int64_t inner = w->dims[4], at = o / c->width * w->dims[1] + ch / inner;
  at = ((at * c->kernel[0] + ky) * c->kernel[1] + kx) * inner + ch % inner;
  return w->v[at * c->width + o % c->width];
}

static double sum_at(const blocked *c, const tensor *in, int64_t n, int64_t o, int64_t y, int64_t x) {
  int64_t group_in = c->is_depthwise ? 1 : c->channels / c->groups;
  int64_t first = c->is_depthwise ? o : o / (c->outputs / c->groups) * group_in;
  double sum = 0;
  for (int64_t ch = 0; ch < group_in; ch++)
    for (int64_t ky = 0; ky < c->kernel[0]; ky++)
      for (int64_t kx = 0; kx < c->kernel[1]; kx++) {
        int64_t at[2] = {y * c->stride[0] + ky * c->dilation[0] - c->before[0],
                         x * c->stride[1] + kx * c->dilation[1] - c->before[1]};
        sum += input_at(c, &in[0], n, first + ch, at) * weight_at(c, &in[1], o, ch, ky, kx);
      }
  return sum;
}

static void expect_conv(const op_case *oc, const tensor *in, tensor *out) {
  const blocked *c = oc->how;
  int64_t height = out->dims[2], width = out->dims[3];
  for (int64_t i = 0; i < out->count; i++) {
    int64_t pixel = i / c->block, x = pixel % width, y = pixel / width % height, plane = pixel / width / height;
    int64_t o = plane % out->dims[1] * c->block + i % c->block;
    if (o < c->outputs || c->is_depthwise) out->v[i] = sum_at(c, in, plane / out->dims[1], o, y, x);
  }
}

/* Weights of outputs beyond the last are zeros. */
static void fill_operand(const op_case *oc, int which, tensor *t) {
  const blocked *c = oc->how;
  if (which != 1 || c->is_depthwise) return;
  int64_t panel = t->count / t->dims[0];
  for (int64_t i = 0; i < t->count; i++)
    if (i / panel * c->width + i % c->width >= c->outputs) t->v[i] = 0;
}

enum { IMAGES = 1, ROWS = 2, COLUMNS = 4 }; /* which sizes are symbols */

/* floor((size + more) / stride) + 1, or size if there is no stride: in symbols H and W. */
static const char *size_text(const char *symbol, int64_t size, int64_t more, int64_t stride) {
  if (!symbol) return text("%lld", (long long)(stride ? (size + more) / stride + 1 : size));
  if (!stride) return symbol;
  return text("(%s %c %lld) floordiv %lld + 1", symbol, more < 0 ? '-' : '+', (long long)(more < 0 ? -more : more), (long long)stride);
}

/* false: the window is larger than the image. */
static bool make_case(const blocked *c, int symbols, op_case *oc) {
  long long b = c->block, v = c->width, ch = c->channels, o = c->outputs, k[2] = {c->kernel[0], c->kernel[1]};
  const char *size[2], *out[2];
  long long blocks = blocks_of(ch, b), out_blocks = c->is_depthwise ? blocks : blocks_of(o, b);
  for (int d = 0; d < 2; d++) {
    int64_t extent = (c->kernel[d] - 1) * c->dilation[d] + 1, room = c->in[d] + c->before[d] + c->after[d] - extent;
    if (room < 0) return false;
    const char *symbol = symbols & ROWS << d ? d ? "W" : "H" : NULL;
    size[d] = size_text(symbol, c->in[d], 0, 0);
    out[d] = size_text(symbol, c->in[d], c->before[d] + c->after[d] - extent, c->stride[d]);
  }
  const char *images = symbols & IMAGES ? "N" : text("%lld", (long long)c->images);
  const char *window = text("strides=[%lld,%lld], dilations=[%lld,%lld], pads=[%lld,%lld,%lld,%lld]", (long long)c->stride[0],
                            (long long)c->stride[1], (long long)c->dilation[0], (long long)c->dilation[1],
                            (long long)c->before[0], (long long)c->before[1], (long long)c->after[0], (long long)c->after[1]);
  *oc = (op_case){.n = c->images, .size = {c->in[0], c->in[1]}, .how = c, .fill = fill_operand, .expect = expect_conv};
  oc->in[0] = c->is_planar ? text("f32[%s,%lld,%s,%s]", images, ch, size[0], size[1])
                          : text("f32[%s,%lld,%s,%s,%lld]", images, blocks, size[0], size[1], b);
  oc->out[0] = text("f32[%s,%lld,%s,%s,%lld]", images, out_blocks, out[0], out[1], b);
  if (c->is_depthwise) {
    oc->in[1] = text("f32[%lld,%lld,%lld,%lld]", blocks, k[0], k[1], b);
    oc->line = text("conv_depthwise %%0, %%1 {%s}", window);
  } else {
    long long inner = c->is_planar ? ch : b, group_blocks = blocks_of(ch / c->groups, inner);
    oc->in[1] = text("f32[%lld,%lld,%lld,%lld,%lld,%lld]", (long long)blocks_of(o, v), group_blocks, k[0], k[1], inner, v);
    oc->line = text("conv_blocked %%0, %%1 {channels=%lld, outputs=%lld, block=%lld, groups=%lld, %s}", ch, o, b,
                   (long long)c->groups, window);
  }
  return true;
}

static void try_blocked(const blocked *c, int symbols) {
  op_case oc;
  if (make_case(c, symbols, &oc)) op_case_run(&oc);
}

static void expect_squared(const op_case *oc, const tensor *in, tensor *out) {
  tensor squared[2] = {in[0], in[1]};
  squared[1].v = calloc((size_t)in[1].count + 1, sizeof *in[1].v);
  for (int64_t i = 0; i < in[1].count; i++) squared[1].v[i] = in[1].v[i] * in[1].v[i];
  expect_conv(oc, squared, out);
  free(squared[1].v);
}

/* Weights that are computed: by the tasks, if they are many beside the pixels. */
static void try_made(const blocked *c, int symbols) {
  op_case oc;
  if (!make_case(c, symbols, &oc)) return;
  oc.before = text("  %%m = mul %%1, %%1 : %s\n", oc.in[1]);
  char *weights = strstr(oc.line, "%1");
  weights[1] = 'm';
  oc.expect = expect_squared;
  op_case_run(&oc);
}

/* The image, times the squares of its channels' sums. */
static void expect_scaled(const op_case *oc, const tensor *in, tensor *out) {
  const blocked *c = oc->how;
  expect_conv(oc, in, out);
  int64_t block = c->block, pixels = out->dims[2] * out->dims[3];
  for (int64_t i = 0; i < out->dims[0] * out->dims[1] * block; i++) {
    double *channel = out->v + i / block * block * pixels + i % block, sum = 0;
    for (int64_t p = 0; p < pixels; p++) sum += channel[p * block];
    for (int64_t p = 0; p < pixels; p++) channel[p * block] *= sum * sum;
  }
}

/* The image is not needed but for its sums: the first of each plane's pixels is where they are. */
static void expect_sums(const op_case *oc, const tensor *in, tensor *out) {
  tensor image = *out;
  image.dims[2] = oc->p[0];
  image.dims[3] = oc->p[1];
  image.count = out->count * oc->p[0] * oc->p[1];
  image.v = calloc((size_t)image.count + 1, sizeof *image.v);
  expect_conv(oc, in, &image);
  int64_t block = out->dims[out->rank - 1], pixels = oc->p[0] * oc->p[1];
  for (int64_t i = 0; i < image.count; i++) out->v[i / (block * pixels) * block + i % block] += image.v[i];
  free(image.v);
}

/* A sum over the pixels of a convolution's result: beside the image, and alone. */
static void try_sums(const blocked *c, int symbols) {
  op_case oc;
  if (!make_case(c, symbols, &oc)) return;
  const char *image = oc.out[0], *images = symbols & IMAGES ? "N" : text("%lld", (long long)c->images);
  const char *sums = text("%s,%lld", images, (long long)blocks_of(c->channels, c->block));
  long long block = c->block;
  oc.before = text("  %%c = %s : %s\n  %%s = reduce_sum %%c {axes=[2,3]} : f32[%s,1,1,%lld]\n  %%t = mul %%s, %%s : f32[%s,1,1,%lld]\n"
                   "  %%u = broadcast %%t {dims=%s} : %s\n", oc.line, image, sums, block, sums, block, strchr(image, '['), image);
  const char *line = oc.line;
  oc.line = "mul %c, %u";
  oc.expect = expect_scaled;
  op_case_run(&oc);
  for (int d = 0; d < 2; d++) oc.p[d] = (c->in[d] + c->before[d] + c->after[d] - (c->kernel[d] - 1) * c->dilation[d] - 1) / c->stride[d] + 1;
  oc.before = text("  %%c = %s : %s\n", line, image);
  oc.line = "reduce_sum %c {axes=[2,3], keepdims=0}";
  oc.out[0] = text("f32[%s,%lld]", sums, block);
  oc.expect = expect_sums;
  op_case_run(&oc);
}

Test(blocked, sizes) {
  static const blocked cases[] = {
      {1, 1, 1, 1, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}, 4, 4, false, false},
      {1, 8, 16, 1, {7, 7}, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}, 4, 8, false, false},
      {2, 6, 13, 1, {5, 17}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, 4, 8, false, false},
      {1, 16, 24, 1, {9, 9}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}, 16, 32, false, false},
      {1, 17, 33, 1, {8, 8}, {1, 1}, {2, 2}, {1, 1}, {0, 0}, {0, 0}, 16, 32, false, false},
      {1, 12, 20, 1, {13, 30}, {1, 1}, {3, 1}, {1, 1}, {1, 2}, {0, 1}, 8, 16, false, false},
      {1, 3, 16, 1, {19, 23}, {7, 7}, {2, 2}, {1, 1}, {3, 3}, {3, 3}, 8, 16, true, false},
      {2, 5, 9, 1, {11, 12}, {3, 3}, {2, 2}, {1, 1}, {0, 0}, {0, 0}, 4, 8, true, false},
      {1, 4, 8, 1, {16, 16}, {3, 5}, {1, 1}, {2, 3}, {2, 6}, {2, 6}, 4, 8, false, false},
      {1, 4, 8, 1, {9, 9}, {2, 2}, {1, 1}, {1, 1}, {-1, -2}, {1, 0}, 4, 8, false, false},
      {1, 32, 64, 2, {6, 6}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, 8, 16, false, false},
      {1, 8, 8, 1, {40, 61}, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}, 8, 8, false, false},
      {1, 64, 40, 1, {3, 3}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, 16, 32, false, false}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) try_blocked(&cases[i], 0);
}

Test(blocked, computed_weights) {
  static const blocked cases[] = {
      {1, 1, 1, 1, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}, 4, 4, false, false},
      {1, 40, 29, 1, {3, 5}, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}, 8, 16, false, false},
      {1, 61, 100, 1, {7, 7}, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}, 16, 32, false, false},
      {1, 130, 150, 1, {13, 20}, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}, 16, 32, false, false},
      {1, 33, 47, 1, {5, 4}, {3, 3}, {2, 1}, {1, 1}, {1, 1}, {1, 1}, 16, 32, false, false},
      {1, 32, 64, 2, {2, 3}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, 8, 16, false, false},
      {1, 3, 70, 1, {4, 4}, {5, 5}, {1, 1}, {1, 1}, {2, 2}, {2, 2}, 8, 16, true, false},
      {1, 16, 16, 1, {23, 17}, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}, 8, 16, false, false},
      {2, 24, 40, 1, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}, 8, 16, false, false}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) try_made(&cases[i], 0);
}

/* Pixels of several images, odd numbers of them, halves of the depth that are no whole blocks, panels that have no partner; rows of several tasks
   with the same panels; odd numbers of pairs of panels. */
Test(blocked, strassen) {
  static const struct {
    int64_t images, channels, outputs, height, width, stride, block, least;
  } cases[] = {{1, 32, 64, 7, 7, 1, 16, 1},  {1, 16, 128, 5, 9, 1, 16, 1},  {3, 48, 112, 3, 5, 1, 16, 1}, {1, 112, 96, 7, 7, 2, 16, 1},
               {1, 16, 65, 1, 1, 1, 16, 1},  {2, 24, 40, 13, 11, 1, 8, 1},  {1, 8, 33, 10, 14, 3, 8, 1},  {1, 12, 16, 9, 9, 1, 4, 1},
               {1, 32, 64, 7, 7, 1, 16, 49}, {1, 32, 64, 7, 7, 1, 16, 50}, {2, 16, 96, 4, 4, 2, 16, 8},  {1, 16, 32, 6, 6, 1, 16, 1},
               {1, 16, 72, 1, 23, 1, 16, 1}, {1, 48, 64, 2, 12, 1, 16, 1}, {1, 16, 80, 5, 5, 1, 16, 1},   {1, 8, 48, 3, 5, 1, 8, 1},
               {1, 16, 160, 17, 18, 1, 16, 1}, {3, 16, 72, 13, 21, 1, 8, 1}, {1, 32, 128, 41, 39, 2, 16, 1}, {2, 8, 300, 9, 6, 1, 8, 1},
               {1, 32, 192, 7, 7, 1, 16, 1}, {1, 20, 200, 1, 1, 1, 16, 1}, {2, 16, 330, 5, 9, 2, 16, 1},  {1, 48, 192, 2, 1, 1, 16, 1},
               {1, 16, 97, 3, 5, 1, 8, 1},   {1, 24, 175, 7, 7, 1, 8, 1},  {1, 64, 192, 17, 16, 1, 16, 1}, {1, 48, 448, 1, 3, 1, 16, 1}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    for (int symbolic = 0; symbolic < 2; symbolic++) {
      blocked c = {.images = cases[i].images, .channels = cases[i].channels, .outputs = cases[i].outputs, .groups = 1, .block = cases[i].block,
                   .in = {cases[i].height, cases[i].width}, .kernel = {1, 1}, .stride = {cases[i].stride, cases[i].stride}, .dilation = {1, 1},
                   .width = 2 * cases[i].block};
      op_case oc;
      make_case(&c, symbolic ? 1 + (int)i % 7 : 0, &oc);
      oc.line = text("conv_blocked %%0, %%1 {strassen=%lld, %s", (long long)cases[i].least, strchr(oc.line, '{') + 1);
      op_case_run(&oc);
    }
}

static blocked random_window(void) {
  blocked c = {.images = random_int(1, 3), .channels = random_int(1, 19), .outputs = random_int(1, 21), .groups = 1};
  c.block = 4 << random_int(0, 1);
  c.width = c.block * random_int(1, 2);
  for (int d = 0; d < 2; d++) {
    c.in[d] = random_int(1, 33);
    c.kernel[d] = random_int(1, 5);
    c.stride[d] = random_int(1, 3);
    c.dilation[d] = random_int(1, 2);
    c.before[d] = random_int(0, 3);
    c.after[d] = random_int(0, 3);
  }
  return c;
}

Test(blocked, random) {
  for (int i = 0; i < 14; i++) {
    blocked c = random_window();
    c.is_planar = random_int(0, 3) == 0;
    try_blocked(&c, 0);
  }
}

/* Each form on purpose: kernels of one point, without and with strides and borders, of images in blocks and planar ones, with weights
   that are given and computed ones, of known sizes and of symbols. */
Test(blocked, random_points) {
  enum { STRIDES = 1, BORDERS = 2, PLANAR = 4, MADE = 8, SYMBOLS = 16, FORMS = 32 };
  for (int form = 0; form < FORMS; form++)
    for (int i = 0; i < 2; i++) {
      blocked c = random_window();
      c.is_planar = form & PLANAR;
      for (int d = 0; d < 2; d++) {
        c.kernel[d] = 1;
        if (!(form & STRIDES)) c.stride[d] = 1;
        if (!(form & BORDERS)) c.before[d] = c.after[d] = 0;
      }
      int symbols = form & SYMBOLS ? (int)random_int(1, 7) : 0;
      if (form & MADE) try_made(&c, symbols);
      else try_blocked(&c, symbols);
    }
}

/* Tiles run over the rows of what is copied. */
Test(blocked, planar_points) {
  static const blocked cases[] = {{1, 5, 9, 1, {7, 9}, {1, 1}, {2, 2}, {1, 1}, {0, 0}, {0, 0}, 4, 8, true, false},
                                  {2, 3, 8, 1, {6, 17}, {1, 1}, {1, 1}, {1, 1}, {1, 2}, {2, 1}, 4, 8, true, false},
                                  {1, 20, 24, 1, {37, 29}, {1, 1}, {3, 2}, {1, 1}, {1, 1}, {0, 1}, 8, 16, true, false}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    try_blocked(&cases[i], 0);
    try_blocked(&cases[i], ROWS | COLUMNS);
  }
}

Test(blocked, symbolic_batch) {
  for (int64_t n = 0; n < 6; n += 1 + n) {
    blocked c = {n, 6, 9, 1, {7, 9}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, 4, 8, false, false};
    try_blocked(&c, IMAGES);
    c.is_depthwise = true;
    try_blocked(&c, IMAGES);
  }
}

Test(depthwise, sizes) {
  static const blocked cases[] = {
      {1, 1, 1, 1, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}, 4, 4, false, true},
      {1, 16, 16, 1, {7, 7}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, 16, 16, false, true},
      {2, 19, 19, 1, {14, 29}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}, 8, 8, false, true},
      {1, 8, 8, 1, {5, 112}, {5, 5}, {1, 1}, {1, 1}, {2, 2}, {2, 2}, 4, 4, false, true},
      {1, 4, 4, 1, {9, 50}, {3, 9}, {1, 1}, {2, 7}, {2, 28}, {2, 28}, 4, 4, false, true},
      {1, 4, 4, 1, {6, 20}, {1, 19}, {1, 1}, {1, 1}, {0, 3}, {0, 2}, 4, 4, false, true},
      {1, 4, 4, 1, {10, 10}, {3, 3}, {1, 1}, {1, 1}, {-1, -2}, {0, 0}, 4, 4, false, true}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) try_blocked(&cases[i], 0);
}

Test(depthwise, random) {
  for (int i = 0; i < 14; i++) {
    blocked c = random_window();
    c.is_depthwise = true;
    try_blocked(&c, 0);
  }
}

/* ---- sizes that are symbols --------------------------------------------------------------------------------- */

Test(blocked, symbolic_sizes) {
  for (int i = 0; i < 8; i++) {
    blocked c = random_window();
    c.is_planar = random_int(0, 3) == 0;
    try_blocked(&c, (int)random_int(1, 7));
  }
}

/* Every rest of a row of tiles; by rows, and through all of them. */
Test(blocked, symbolic_widths) {
  for (int64_t width = 1; width <= 31; width++) {
    int64_t side = 1 + 2 * (width % 2), pad = side / 2;
    try_blocked(&(blocked){1, 5, 9, 1, {1, width}, {1, side}, {1, 1}, {1, 1}, {0, pad}, {0, pad}, 4, 8, false, false}, COLUMNS);
  }
}

Test(blocked, symbolic_bands) {
  try_blocked(&(blocked){2, 20, 24, 1, {37, 29}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, 8, 16, false, false}, IMAGES | ROWS | COLUMNS);
  try_blocked(&(blocked){1, 20, 24, 1, {37, 29}, {1, 1}, {2, 2}, {1, 1}, {0, 0}, {0, 0}, 8, 16, false, false}, ROWS | COLUMNS);
  try_blocked(&(blocked){1, 20, 40, 1, {37, 29}, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}, 8, 16, false, false}, ROWS);
  try_blocked(&(blocked){1, 3, 24, 1, {60, 31}, {5, 5}, {2, 2}, {1, 1}, {2, 2}, {2, 2}, 8, 16, true, false}, ROWS | COLUMNS);
  try_blocked(&(blocked){1, 32, 64, 2, {16, 6}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, 8, 16, false, false}, ROWS | COLUMNS);
}

Test(depthwise, symbolic_sizes) {
  for (int i = 0; i < 8; i++) {
    blocked c = random_window();
    c.is_depthwise = true;
    c.in[1] = random_int(1, 60);
    try_blocked(&c, (int)random_int(1, 7));
  }
}

Test(depthwise, symbolic_widths) {
  for (int64_t width = 1; width <= 31; width++) {
    int64_t reach = 1 + width % 3;
    try_blocked(&(blocked){1, 4, 4, 1, {1, width}, {1, 2 * reach + 1}, {1, 1 + width / 2 % 2}, {1, 1}, {0, reach}, {0, reach}, 4, 4, false, true}, COLUMNS);
  }
}

/* Windows that reach from one end of a row to the other, and further. */
Test(depthwise, symbolic_and_far) {
  for (int64_t width = 1; width <= 40; width += 9) {
    try_blocked(&(blocked){1, 4, 4, 1, {3, width}, {1, 3}, {1, 1}, {1, 17}, {0, 17}, {0, 17}, 4, 4, false, true}, COLUMNS);
    try_blocked(&(blocked){1, 4, 4, 1, {3, width}, {1, 19}, {1, 2}, {1, 1}, {0, 9}, {0, 9}, 4, 4, false, true}, COLUMNS);
    try_blocked(&(blocked){1, 4, 4, 1, {3, width + 3}, {3, 3}, {1, 1}, {1, 1}, {-1, -2}, {0, 1}, 4, 4, false, true}, COLUMNS);
  }
}

Test(depthwise, sums) {
  static const blocked cases[] = {
      {1, 1, 1, 1, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}, 4, 4, false, true},
      {1, 33, 33, 1, {7, 7}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, 16, 16, false, true},
      {3, 19, 19, 1, {14, 29}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}, 8, 8, false, true},
      {2, 8, 8, 1, {5, 64}, {5, 5}, {1, 1}, {1, 1}, {2, 2}, {2, 2}, 4, 4, false, true}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) try_sums(&cases[i], 0);
  for (int i = 0; i < 12; i++) {
    blocked c = random_window();
    c.is_depthwise = true;
    try_sums(&c, i < 6 ? 0 : (int)random_int(1, 7));
  }
}
