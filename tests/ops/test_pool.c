/* max_pool and avg_pool against the definition. */
#include "tests/ops/op_case.h"

enum { SPATIAL = 3 };

typedef struct pool {
  int nd;
  int64_t images; /* rows of one image are in halves */
  int64_t size[SPATIAL], kernel[SPATIAL], stride[SPATIAL], dilation[SPATIAL], before[SPATIAL], after[SPATIAL];
  bool is_max, ceil, include_pad, sum, by_columns;
} pool;

static int64_t out_size(const pool *p, int d) {
  int64_t room = p->size[d] + p->before[d] + p->after[d] - ((p->kernel[d] - 1) * p->dilation[d] + 1);
  int64_t n = (p->ceil ? (room + p->stride[d] - 1) / p->stride[d] : room / p->stride[d]) + 1;
  if (p->ceil && (n - 1) * p->stride[d] >= p->size[d] + p->before[d]) n--;
  return n;
}

static int64_t flat_place(const pool *p, const tensor *x, int64_t plane, const int64_t *at) {
  int64_t flat = 0, size = 1;
  for (int i = 0; i < p->nd; i++) {
    int d = p->by_columns ? p->nd - 1 - i : i;
    flat = flat * x->dims[2 + d] + at[d];
    size *= x->dims[2 + d];
  }
  return plane * size + flat;
}

static void pool_window(const pool *p, const tensor *x, int64_t plane, const int64_t *place, double *value,
                        double *index) {
  int64_t taps = 1, count = 0;
  double best = -INFINITY, sum = 0;
  for (int d = 0; d < p->nd; d++) taps *= p->kernel[d];
  *index = 0;
  for (int64_t tap = 0; tap < taps; tap++) {
    int64_t at[SPATIAL], rest = tap, flat = plane;
    bool inside = true, counts = true;
    for (int d = p->nd - 1; d >= 0; d--) {
      at[d] = place[d] * p->stride[d] + rest % p->kernel[d] * p->dilation[d] - p->before[d];
      rest /= p->kernel[d];
      inside = inside && at[d] >= 0 && at[d] < x->dims[2 + d];
      counts = counts && at[d] < x->dims[2 + d] + p->after[d];
    }
    count += p->include_pad ? counts : inside;
    if (!inside) continue;
    for (int d = 0; d < p->nd; d++) flat = flat * x->dims[2 + d] + at[d];
    sum += x->v[flat];
    if (x->v[flat] > best) best = x->v[flat], *index = (double)flat_place(p, x, plane, at);
  }
  *value = p->is_max ? best : p->sum ? sum : sum / (double)(count ? count : 1);
}

static void expect_pool(const op_case *c, const tensor *in, tensor *out) {
  const pool *p = c->how;
  int64_t pixels = 1;
  for (int d = 0; d < p->nd; d++) pixels *= out->dims[2 + d];
  for (int64_t i = 0; i < out->count; i++) {
    int64_t place[SPATIAL], rest = i % pixels;
    double index;
    for (int d = p->nd - 1; d >= 0; d--) place[d] = rest % out->dims[2 + d], rest /= out->dims[2 + d];
    pool_window(p, &in[0], i / pixels, place, &out[0].v[i], &index);
    if (p->is_max && c->out[1]) out[1].v[i] = index;
  }
}

static const char *list(const int64_t *v, int n) {
  const char *s = "";
  for (int i = 0; i < n; i++) s = text("%s%s%lld", s, i ? "," : "", (long long)v[i]);
  return s;
}

static void try_pool(const pool *p, const char *dtype, bool symbolic) {
  int64_t pads[2 * SPATIAL], out[SPATIAL];
  for (int d = 0; d < p->nd; d++) pads[d] = p->before[d], pads[p->nd + d] = p->after[d], out[d] = out_size(p, d);
  const char *images = symbolic ? "N" : text("%lld", (long long)p->images), *shape = text("[%s,3,%s]", images, list(out, p->nd));
  op_case c = {.expect = expect_pool, .how = p, .n = p->images};
  c.in[0] = text("%s[%s,3,%s]", dtype, images, list(p->size, p->nd));
  c.out[0] = text("%s%s", dtype, shape);
  if (p->is_max) c.out[1] = text("i64%s", shape);
  const char *common = text("kernel=[%s], strides=[%s], dilations=[%s], pads=[%s], ceil=%d", list(p->kernel, p->nd),
                            list(p->stride, p->nd), list(p->dilation, p->nd), list(pads, 2 * p->nd), p->ceil);
  c.line = p->is_max ? text("max_pool %%0 {%s, storage_order=%d}", common, p->by_columns)
                     : text("avg_pool %%0 {%s, count_include_pad=%d, sum=%d}", common, p->include_pad, p->sum);
  op_case_run(&c);
}

Test(pool, random) {
  static const int64_t sizes[] = {1, 2, 3, 5, 7, 8, 9, 14, 16, 17, 20, 33};
  static const char *const types[] = {"f32", "f32", "f32", "f64", "f16"};
  for (int i = 0; i < 80;) {
    pool p = {.nd = i % 8 == 0   ? 1
                    : i % 8 == 1 ? 3
                                 : 2,
              .images = random_int(1, 2),
              .is_max = i % 2,
              .ceil = random_int(0, 1),
              .include_pad = random_int(0, 1),
              .sum = random_int(0, 5) == 0,
              .by_columns = random_int(0, 1)};
    bool valid = true;
    for (int d = 0; d < p.nd; d++) {
      p.size[d] = sizes[random_int(0, p.nd == 3 ? 6 : 11)];
      p.kernel[d] = random_int(1, 4);
      p.stride[d] = random_int(1, 3);
      p.dilation[d] = random_int(0, 3) ? 1 : 2;
      p.before[d] = random_int(0, p.kernel[d] - 1);
      p.after[d] = random_int(0, p.kernel[d] - 1);
      valid =
          valid && p.size[d] + p.before[d] + p.after[d] >= (p.kernel[d] - 1) * p.dilation[d] + 1 && out_size(&p, d) > 0;
    }
    if (!valid) continue;
    try_pool(&p, types[random_int(0, 4)], random_int(0, 3) == 0);
    i++;
  }
}

Test(pool, integers) {
  pool p = {.nd = 2,
            .images = 1,
            .is_max = true,
            .size = {9, 20},
            .kernel = {3, 3},
            .stride = {2, 1},
            .dilation = {1, 1},
            .before = {1, 1},
            .after = {1, 1}};
  try_pool(&p, "i8", false);
  try_pool(&p, "u8", false);
}
