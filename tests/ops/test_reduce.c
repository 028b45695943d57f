/* Reductions, arg_max and arg_min, cum_sum against plain loops. */
#include "tests/ops/op_case.h"

typedef struct reduce {
  const char *op;
  int axes[4], naxes;
  bool keepdims, last, exclusive, reverse;
} reduce;

static bool is_axis(const reduce *r, int d) {
  for (int i = 0; i < r->naxes; i++)
    if (r->axes[i] == d) return true;
  return false;
}

static double combined(const char *op, double a, double b) {
  if (!strcmp(op, "reduce_sum")) return a + b;
  if (!strcmp(op, "reduce_prod")) return a * b;
  if (isnan(a) || isnan(b)) return NAN;
  if (!strcmp(op, "reduce_max")) return a > b ? a : b;
  return a < b ? a : b;
}

static double start(const char *op, nn_dtype t) {
  if (!strcmp(op, "reduce_sum")) return 0;
  if (!strcmp(op, "reduce_prod")) return 1;
  bool is_max = !strcmp(op, "reduce_max");
  if (nn_dtype_is_float(t)) return is_max ? -INFINITY : INFINITY;
  if (t == NN_BOOL) return is_max ? 0 : 1;
  double span = ldexp(1, nn_dtype_bits(t));
  if (nn_dtype_kind_of(t) == NN_KIND_UINT) return is_max ? 0 : span - 1;
  return is_max ? -span / 2 : span / 2 - 1;
}

/* Where element i of x lands among the kept dims. */
static int64_t target_of(const reduce *r, const tensor *x, int64_t i) {
  int64_t at = 0, scale = 1;
  for (int d = x->rank - 1; d >= 0; d--) {
    int64_t p = i % x->dims[d];
    i /= x->dims[d];
    if (is_axis(r, d)) continue;
    at += p * scale;
    scale *= x->dims[d];
  }
  return at;
}

static void expect_reduce(const op_case *c, const tensor *in, tensor *out) {
  const reduce *r = c->how;
  for (int64_t i = 0; i < out->count; i++) out->v[i] = start(r->op, in[0].dtype);
  for (int64_t i = 0; i < in[0].count; i++) {
    double *to = &out->v[target_of(r, &in[0], i)];
    *to = combined(r->op, *to, in[0].v[i]);
    if (!nn_dtype_is_float(in[0].dtype)) *to = (double)(int32_t)(int64_t)*to;
  }
}

static void fill_near_one(const op_case *c, int which, tensor *t) {
  const reduce *r = c->how;
  (void)which;
  for (int64_t i = 0; i < t->count && !strcmp(r->op, "reduce_prod"); i++)
    t->v[i] = nn_dtype_is_float(t->dtype) ? nn_round_to(t->dtype, random_number(0.9, 1.1)) : (double)random_int(1, 2);
}

static const char *result_type(const reduce *r, const int64_t *dims, int rank, const char *dtype) {
  const char *s = text("%s[", dtype);
  int n = 0;
  for (int d = 0; d < rank; d++) {
    if (is_axis(r, d) && !r->keepdims) continue;
    s = text("%s%s%lld", s, n++ ? "," : "", (long long)(is_axis(r, d) ? 1 : dims[d]));
  }
  return text("%s]", s);
}

static const char *operand_type(const int64_t *dims, int rank, const char *dtype) {
  reduce none = {.naxes = 0};
  return result_type(&none, dims, rank, dtype);
}

static void try_reduce(const reduce *r, const int64_t *dims, int rank, const char *dtype) {
  const char *axes = "";
  for (int i = 0; i < r->naxes; i++) axes = text("%s%s%d", axes, i ? "," : "", r->axes[i]);
  op_case c = {.in = {operand_type(dims, rank, dtype)},
               .out = {result_type(r, dims, rank, dtype)},
               .expect = expect_reduce,
               .how = r,
               .fill = fill_near_one,
               .line = text("%s %%0 {axes=[%s], keepdims=%d}", r->op, axes, r->keepdims)};
  op_case_run(&c);
}

static const char *const ops[] = {"reduce_sum", "reduce_prod", "reduce_max", "reduce_min"};

Test(reduce, random) {
  static const int64_t sizes[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 70};
  for (int i = 0; i < 60; i++) {
    reduce r = {.op = ops[i % 4], .keepdims = random_int(0, 1) != 0};
    int rank = (int)random_int(1, 4);
    int64_t dims[4], count = 1;
    for (int d = 0; d < rank; d++) {
      count *= dims[d] = sizes[random_int(0, 10)];
      if (random_int(0, 1)) r.axes[r.naxes++] = d;
    }
    if (r.naxes == 0) r.axes[r.naxes++] = rank - 1;
    if (count <= 20000) try_reduce(&r, dims, rank, "f32");
  }
}

Test(reduce, empty) {
  for (int i = 0; i < 4; i++) {
    reduce inner = {.op = ops[i], .axes = {1}, .naxes = 1}, outer = {.op = ops[i], .axes = {0}, .naxes = 1},
           none = {.op = ops[i]};
    try_reduce(&inner, (int64_t[]){3, 0}, 2, "f32");
    try_reduce(&outer, (int64_t[]){0, 5}, 2, "f32");
    try_reduce(&outer, (int64_t[]){3, 0}, 2, "f32");
    try_reduce(&inner, (int64_t[]){3, 0}, 2, "i32");
    try_reduce(&none, (int64_t[]){3, 4}, 2, "f32");
    try_reduce(&none, NULL, 0, "f32");
  }
}

Test(reduce, types) {
  static const char *const types[] = {"f64", "f16", "bf16", "i32", "i64"};
  reduce r = {.axes = {1}, .naxes = 1, .keepdims = true}, outer = {.axes = {0}, .naxes = 1};
  for (int i = 0; i < 4; i++)
    for (int t = 0; t < 5; t++) {
      if (i == 1 && t > 2) continue; /* integer products overflow */
      r.op = outer.op = ops[i];
      try_reduce(&r, (int64_t[]){5, 23}, 2, types[t]);
      try_reduce(&outer, (int64_t[]){23, 9}, 2, types[t]);
    }
  for (int i = 2; i < 4; i++) {
    r.op = outer.op = ops[i];
    try_reduce(&r, (int64_t[]){5, 23}, 2, "u8");
    try_reduce(&outer, (int64_t[]){5, 23}, 2, "i8");
    try_reduce(&r, (int64_t[]){5, 3}, 2, "bool");
  }
}

Test(reduce, large) {
  reduce all = {.op = "reduce_sum", .axes = {0, 1}, .naxes = 2, .keepdims = true},
         first = {.op = "reduce_max", .axes = {0}, .naxes = 1};
  reduce middle = {.op = "reduce_sum", .axes = {1}, .naxes = 1};
  try_reduce(&all, (int64_t[]){300, 301}, 2, "f32");
  try_reduce(&first, (int64_t[]){50001}, 1, "f32");
  try_reduce(&first, (int64_t[]){9000, 5}, 2, "f32");
  try_reduce(&middle, (int64_t[]){2, 5000, 7}, 3, "f32");
}

Test(reduce, symbolic) {
  reduce r = {.op = "reduce_sum", .axes = {1}, .naxes = 1};
  for (int64_t n = 0; n < 70; n += 13) {
    op_case c = {.in = {"f32[3,N]"},
                 .out = {"f32[3]"},
                 .line = "reduce_sum %0 {axes=[1], keepdims=0}",
                 .expect = expect_reduce,
                 .fill = fill_near_one,
                 .how = &r,
                 .n = n};
    op_case_run(&c);
    op_case d = {.in = {"f32[N,N,3]"},
                 .out = {"f32[N,3]"},
                 .line = "reduce_sum %0 {axes=[1], keepdims=0}",
                 .expect = expect_reduce,
                 .fill = fill_near_one,
                 .how = &r,
                 .n = n};
    op_case_run(&d);
  }
}

/* ---- arg_max, arg_min ----------------------------------------------------------------------------------------------
 */

static void expect_arg(const op_case *c, const tensor *in, tensor *out) {
  const reduce *r = c->how;
  int64_t inner = 1, n = in[0].dims[r->axes[0]];
  for (int d = r->axes[0] + 1; d < in[0].rank; d++) inner *= in[0].dims[d];
  for (int64_t i = 0; i < out->count; i++) {
    const double *row = in[0].v + i / inner * n * inner + i % inner;
    int64_t best = 0;
    for (int64_t k = 1; k < n; k++) {
      double v = row[k * inner], b = row[best * inner];
      bool is_max = !strcmp(r->op, "arg_max"), better = is_max ? v > b : v < b;
      if (r->last && (v == b || (isnan(v) && isnan(b)))) better = true;
      if (isnan(v) && !isnan(b)) better = true;
      if (isnan(b) && !isnan(v)) better = false;
      if (better) best = k;
    }
    out->v[i] = (double)best;
  }
}

static void fill_ties(const op_case *c, int which, tensor *t) {
  (void)c, (void)which;
  for (int64_t i = 0; i < t->count; i++)
    t->v[i] = nn_dtype_is_float(t->dtype) && random_int(0, 30) == 0 ? NAN : (double)random_int(0, 5);
}

Test(arg, random) {
  static const int64_t shapes[][3] = {{3, 4, 5}, {1, 40, 17}, {2, 3, 33}, {9, 1, 8}, {1, 1, 50}, {4, 16, 16}};
  static const char *const types[] = {"f32", "i32", "f64", "u8", "f16"};
  for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
    for (int axis = 0; axis < 3; axis++) {
      reduce r = {.op = random_int(0, 1) ? "arg_max" : "arg_min",
                  .axes = {axis},
                  .naxes = 1,
                  .keepdims = random_int(0, 1) != 0,
                  .last = random_int(0, 1) != 0};
      const char *dtype = types[random_int(0, 4)];
      op_case c = {.in = {operand_type(shapes[s], 3, dtype)},
                   .out = {result_type(&r, shapes[s], 3, "i64")},
                   .expect = expect_arg,
                   .fill = fill_ties,
                   .how = &r,
                   .line = text("%s %%0 {axis=%d, keepdims=%d, last=%d}", r.op, axis, r.keepdims, r.last)};
      op_case_run(&c);
    }
}

/* ---- cum_sum -------------------------------------------------------------------------------------------------------
 */

static void expect_cum_sum(const op_case *c, const tensor *in, tensor *out) {
  const reduce *r = c->how;
  int64_t inner = 1, n = in[0].dims[r->axes[0]];
  for (int d = r->axes[0] + 1; d < in[0].rank; d++) inner *= in[0].dims[d];
  for (int64_t row = 0; row < in[0].count / (n ? n : 1); row++) {
    int64_t first = row / inner * n * inner + row % inner;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
      int64_t at = first + (r->reverse ? n - 1 - i : i) * inner;
      out->v[at] = r->exclusive ? sum : sum + in[0].v[at];
      sum += in[0].v[at];
    }
  }
}

Test(cum_sum, random) {
  static const int64_t shapes[][3] = {{3, 4, 5}, {1, 40, 17}, {2, 3, 33}, {0, 2, 3}, {1, 1, 50}};
  static const char *const types[] = {"f32", "i32", "f64"};
  for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
    for (int i = 0; i < 12; i++) {
      reduce r = {.axes = {i % 3}, .naxes = 1, .exclusive = i / 3 % 2, .reverse = i / 6};
      const char *type = operand_type(shapes[s], 3, types[random_int(0, 2)]);
      op_case c = {.in = {type},
                   .out = {type},
                   .expect = expect_cum_sum,
                   .how = &r,
                   .line = text("cum_sum %%0 {axis=%d, exclusive=%d, reverse=%d}", i % 3, r.exclusive, r.reverse)};
      op_case_run(&c);
    }
}
