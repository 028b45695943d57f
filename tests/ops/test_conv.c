/* conv against the definition. */
#include "tests/ops/op_case.h"

enum { SPATIAL = 3 };

typedef struct conv {
  int nd;
  int64_t batch, groups, in_per_group, out_per_group;
  int64_t size[SPATIAL], kernel[SPATIAL], stride[SPATIAL], dilation[SPATIAL], before[SPATIAL], after[SPATIAL];
} conv;

static int64_t out_size(const conv *c, int d) {
  return (c->size[d] + c->before[d] + c->after[d] - ((c->kernel[d] - 1) * c->dilation[d] + 1)) / c->stride[d] + 1;
}

static double tap_at(const conv *c, const tensor *x, const tensor *w, int64_t image, int64_t o, int64_t ci,
                     const int64_t *place, int64_t tap) {
  int64_t k[SPATIAL], at = image * x->dims[1] + o / c->out_per_group * c->in_per_group + ci, rest = tap;
  for (int d = c->nd - 1; d >= 0; d--) k[d] = rest % c->kernel[d], rest /= c->kernel[d];
  for (int d = 0; d < c->nd; d++) {
    int64_t i = place[d] * c->stride[d] + k[d] * c->dilation[d] - c->before[d];
    if (i < 0 || i >= x->dims[2 + d]) return 0;
    at = at * x->dims[2 + d] + i;
  }
  int64_t taps = 1;
  for (int d = 0; d < c->nd; d++) taps *= c->kernel[d];
  return x->v[at] * w->v[(o * c->in_per_group + ci) * taps + tap];
}

static void expect_conv(const op_case *oc, const tensor *in, tensor *out) {
  const conv *c = oc->how;
  int64_t pixels = 1, taps = 1;
  for (int d = 0; d < c->nd; d++) pixels *= out->dims[2 + d], taps *= c->kernel[d];
  for (int64_t i = 0; i < out->count; i++) {
    int64_t place[SPATIAL], rest = i % pixels, o = i / pixels % out->dims[1], image = i / pixels / out->dims[1];
    for (int d = c->nd - 1; d >= 0; d--) place[d] = rest % out->dims[2 + d], rest /= out->dims[2 + d];
    double sum = 0;
    for (int64_t ci = 0; ci < c->in_per_group; ci++)
      for (int64_t tap = 0; tap < taps; tap++) sum += tap_at(c, &in[0], &in[1], image, o, ci, place, tap);
    out->v[i] = sum;
  }
}

static const char *list(const int64_t *v, int n, const char *prefix) {
  const char *s = prefix;
  for (int i = 0; i < n; i++) s = text("%s%s%lld", s, i ? "," : "", (long long)v[i]);
  return s;
}

static void try_conv_typed(const conv *c, const char *dtype, const char *result, bool symbolic) {
  int64_t pads[2 * SPATIAL], out[SPATIAL];
  for (int d = 0; d < c->nd; d++) pads[d] = c->before[d], pads[c->nd + d] = c->after[d], out[d] = out_size(c, d);
  op_case oc = {.expect = expect_conv, .how = c, .n = c->batch};
  const char *batch = symbolic ? "N" : text("%lld", (long long)c->batch);
  oc.in[0] = text("%s[%s,%lld,%s]", dtype, batch, (long long)(c->groups * c->in_per_group), list(c->size, c->nd, ""));
  oc.in[1] = text("%s[%lld,%lld,%s]", dtype, (long long)(c->groups * c->out_per_group), (long long)c->in_per_group,
                  list(c->kernel, c->nd, ""));
  oc.out[0] = text("%s[%s,%lld,%s]", result, batch, (long long)(c->groups * c->out_per_group), list(out, c->nd, ""));
  oc.line = text("conv %%0, %%1 {strides=[%s], dilations=[%s], pads=[%s], groups=%lld}", list(c->stride, c->nd, ""),
                 list(c->dilation, c->nd, ""), list(pads, 2 * c->nd, ""), (long long)c->groups);
  op_case_run(&oc);
}

static void try_conv(const conv *c) { try_conv_typed(c, "f32", "f32", false); }

static conv random_conv(int nd, bool depthwise) {
  static const int64_t sizes[] = {1, 2, 3, 5, 7, 8, 9, 14, 16, 17, 20, 33};
  for (;;) {
    conv c = {.nd = nd,
              .batch = random_int(1, 2),
              .groups = random_int(1, 3),
              .in_per_group = random_int(1, 5),
              .out_per_group = random_int(1, 14)};
    if (depthwise) c.groups = random_int(2, 7), c.in_per_group = 1, c.out_per_group = random_int(1, 2);
    bool valid = true;
    int64_t pixels = 1;
    for (int d = 0; d < nd; d++) {
      c.size[d] = sizes[random_int(0, nd == 3 ? 6 : 11)];
      c.kernel[d] = random_int(1, 5);
      c.stride[d] = random_int(1, 3);
      c.dilation[d] = random_int(0, 3) ? 1 : random_int(2, 3);
      c.before[d] = random_int(0, 2);
      c.after[d] = random_int(0, 2);
      valid = valid && c.size[d] + c.before[d] + c.after[d] >= (c.kernel[d] - 1) * c.dilation[d] + 1;
      pixels *= c.size[d];
    }
    if (valid && pixels < 700) return c;
  }
}

Test(conv, random_2d) {
  for (int i = 0; i < 40; i++) {
    conv c = random_conv(2, false);
    try_conv(&c);
  }
}

Test(conv, random_1d_3d) {
  for (int i = 0; i < 20; i++) {
    conv c = random_conv(i % 2 ? 1 : 3, false);
    try_conv(&c);
  }
}

Test(conv, depthwise) {
  for (int i = 0; i < 25; i++) {
    conv c = random_conv(i % 5 == 0 ? 1 : i % 7 == 0 ? 3 : 2, true);
    try_conv(&c);
  }
}

Test(conv, pointwise) {
  static const int64_t sizes[][2] = {{7, 7}, {14, 14}, {1, 1}, {5, 31}, {8, 8}, {3, 16}};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    for (int stride = 1; stride < 3; stride++) {
      conv c = {2, 2, 1, 6, 15, {sizes[i][0], sizes[i][1]}, {1, 1}, {stride, stride}, {1, 1}, {0, 0}, {0, 0}};
      try_conv(&c);
    }
}

/* Larger than the cache of some targets: tasks copy the rows that they read. */
Test(conv, large) {
  static const conv cases[] = {{2, 1, 1, 3, 40, {44, 45}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
                               {2, 2, 1, 3, 40, {61, 45}, {3, 3}, {2, 2}, {1, 1}, {1, 0}, {0, 1}},
                               {2, 1, 2, 3, 33, {44, 45}, {3, 3}, {1, 1}, {2, 2}, {2, 1}, {2, 1}},
                               {2, 1, 1, 3, 256, {45, 45}, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}},
                               {2, 1, 1, 2, 130, {70, 70}, {2, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}},
                               {1, 1, 1, 2, 64, {5000}, {5}, {1}, {2}, {3}, {2}},
                               {1, 2, 1, 2, 64, {5000}, {5}, {3}, {1}, {0}, {2}},
                               {3, 1, 1, 2, 33, {9, 30, 31}, {2, 3, 2}, {1, 1, 1}, {1, 1, 1}, {1, 1, 0}, {0, 1, 1}}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) try_conv(&cases[i]);
}

Test(conv, types) {
  conv c = {2, 1, 2, 3, 5, {9, 10}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}};
  try_conv_typed(&c, "f64", "f64", false);
  try_conv_typed(&c, "f16", "f16", false);
  try_conv_typed(&c, "i8", "i32", false);
  try_conv_typed(&c, "u8", "i32", true);
}

Test(conv, symbolic_batch) {
  for (int64_t n = 0; n < 4; n++) {
    conv c = {2, n, 1, 3, 7, {9, 12}, {3, 3}, {2, 1}, {1, 1}, {1, 1}, {0, 1}};
    try_conv_typed(&c, "f32", "f32", true);
    conv p = {2, n, 1, 3, 7, {9, 12}, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}};
    try_conv_typed(&p, "f32", "f32", true);
  }
}

/* Sizes, and the size of the kernel, known at run time only. */
Test(conv, symbolic_sizes) {
  static const struct {
    const char *x, *w, *y, *attrs;
    conv c;
  } cases[] = {
      {"f32[1,3,N,N]",
       "f32[13,3,3,3]",
       "f32[1,13,N,N]",
       "pads=[1,1,1,1]",
       {2, 1, 1, 3, 13, {0}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}}},
      {"f32[2,3,N,11]",
       "f32[13,3,1,1]",
       "f32[2,13,N,11]",
       "groups=1",
       {2, 2, 1, 3, 13, {0}, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}}},
      {"f32[2,6,N]", "f32[6,1,3]", "f32[2,6,N - 2]", "groups=6", {1, 2, 6, 1, 1, {0}, {3}, {1}, {1}, {0}, {0}}},
      {"f32[1,5,N]", "f32[25,5,3]", "f32[1,25,N - 2]", "groups=1", {1, 1, 1, 5, 25, {0}, {3}, {1}, {1}, {0}, {0}}},
      {"f32[2,4,N,N]",
       "f32[5,4,3,3]",
       "f32[2,5,N - 2,N - 2]",
       "groups=1",
       {2, 2, 1, 4, 5, {0}, {3, 3}, {1, 1}, {1, 1}, {0, 0}, {0, 0}}}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    for (int64_t n = 3; n < 40; n += 9) {
      op_case oc = {.in = {cases[i].x, cases[i].w},
                    .out = {cases[i].y},
                    .line = text("conv %%0, %%1 {%s}", cases[i].attrs),
                    .n = n,
                    .expect = expect_conv,
                    .how = &cases[i].c};
      op_case_run(&oc);
    }
  conv c = {2, 1, 1, 2, 3, {0}, {5, 5}, {1, 1}, {1, 1}, {0, 0}, {0, 0}};
  op_case oc = {.in = {"f32[1,2,20,18]", "f32[3,2,N,N]"},
                .out = {"f32[1,3,21 - N,19 - N]"},
                .line = "conv %0, %1",
                .n = 5,
                .expect = expect_conv,
                .how = &c};
  op_case_run(&oc);
}
