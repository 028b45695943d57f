/* softmax, log_softmax, normalize against their formulas. */
#include "tests/ops/op_case.h"

static const char *type_of(const int64_t *dims, int rank, const char *dtype) {
  const char *s = text("%s[", dtype);
  for (int d = 0; d < rank; d++) s = text("%s%s%lld", s, d ? "," : "", (long long)dims[d]);
  return text("%s]", s);
}

/* p: axis, is_log */
static void expect_softmax(const op_case *c, const tensor *in, tensor *out) {
  int64_t inner = 1, n = in[0].dims[c->p[0]];
  for (int d = (int)c->p[0] + 1; d < in[0].rank; d++) inner *= in[0].dims[d];
  for (int64_t row = 0; row < in[0].count / n; row++) {
    int64_t first = row / inner * n * inner + row % inner;
    double largest = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) largest = fmax(largest, in[0].v[first + i * inner]);
    for (int64_t i = 0; i < n; i++) sum += exp(in[0].v[first + i * inner] - largest);
    for (int64_t i = 0; i < n; i++) {
      double x = in[0].v[first + i * inner] - largest;
      out->v[first + i * inner] = c->p[1] ? x - log(sum) : exp(x) / sum;
    }
  }
}

static void fill_wide(const op_case *c, int which, tensor *t) {
  (void)c, (void)which;
  for (int64_t i = 0; i < t->count; i++) t->v[i] = nn_round_to(t->dtype, random_number(-30, 30));
}

Test(softmax, sizes) {
  static const int64_t shapes[][3] = {{3, 4, 5},  {1, 40, 17}, {2, 3, 33}, {1, 1, 1},
                                      {2, 16, 8}, {5, 1, 100}, {2, 7, 1}};
  static const char *const types[] = {"f32", "f64", "f16", "bf16"};
  for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
    for (int i = 0; i < 6; i++) {
      const char *type = type_of(shapes[s], 3, types[i ? 0 : random_int(0, 3)]);
      op_case c = {.in = {type},
                   .out = {type},
                   .expect = expect_softmax,
                   .fill = fill_wide,
                   .p = {i % 3, i / 3},
                   .line = text("%ssoftmax %%0 {axis=%d}", i / 3 ? "log_" : "", i % 3)};
      op_case_run(&c);
    }
}

Test(softmax, symbolic) {
  for (int64_t n = 1; n < 60; n += 11) {
    op_case c = {.in = {"f32[N,3,N]"},
                 .out = {"f32[N,3,N]"},
                 .n = n,
                 .expect = expect_softmax,
                 .fill = fill_wide,
                 .p = {2},
                 .line = "softmax %0"};
    op_case_run(&c);
    op_case d = {.in = {"f32[3,N,N]"},
                 .out = {"f32[3,N,N]"},
                 .n = n,
                 .expect = expect_softmax,
                 .fill = fill_wide,
                 .p = {1, 1},
                 .line = "log_softmax %0 {axis=1}"};
    op_case_run(&d);
  }
}

/* p: axis; results y, mean, 1/sqrt(var + eps) */
static void expect_normalize(const op_case *c, const tensor *in, tensor *out) {
  int64_t n = 1;
  for (int d = (int)c->p[0]; d < in[0].rank; d++) n *= in[0].dims[d];
  for (int64_t row = 0; row < out[1].count; row++) {
    const double *x = in[0].v + row * n;
    double mean = 0, square = 0;
    for (int64_t i = 0; i < n; i++) mean += x[i] / (double)n;
    for (int64_t i = 0; i < n; i++) square += (x[i] - mean) * (x[i] - mean) / (double)n;
    double scale = 1 / sqrt(square + 1e-5);
    for (int64_t i = 0; i < n; i++) out[0].v[row * n + i] = (x[i] - mean) * scale;
    out[1].v[row] = mean;
    out[2].v[row] = scale;
  }
}

static void fill_offset(const op_case *c, int which, tensor *t) {
  (void)c, (void)which;
  for (int64_t i = 0; i < t->count; i++) t->v[i] = nn_round_to(t->dtype, 3 + random_number(-1, 1));
}

Test(normalize, sizes) {
  static const int64_t shapes[][3] = {{3, 4, 5}, {1, 40, 17}, {2, 3, 33}, {2, 16, 8}, {5, 2, 100}, {2, 7, 3}};
  static const char *const types[] = {"f32", "f64", "f16"};
  for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
    for (int i = 0; i < 6; i++) {
      int axis = i % 3;
      const char *dtype = types[i ? 0 : random_int(0, 2)], *statistic = strcmp(dtype, "f64") ? "f32" : "f64";
      int64_t kept[3];
      for (int d = 0; d < 3; d++) kept[d] = d < axis ? shapes[s][d] : 1;
      const char *stat = type_of(kept, 3, statistic);
      op_case c = {.in = {type_of(shapes[s], 3, dtype)},
                   .out = {type_of(shapes[s], 3, dtype), stat, stat},
                   .expect = expect_normalize,
                   .fill = fill_offset,
                   .p = {axis},
                   .line = text("normalize %%0 {axis=%d}", axis),
                   .tolerance = strcmp(dtype, "f32") ? 0 : 1e-5};
      op_case_run(&c);
    }
}
