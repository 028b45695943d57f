/* matmul_paired, of weights that paired_weights makes, against three loops. */
#include "tests/ops/op_case.h"

/* in[1]: panels before they are made; anything beyond the last column. p: columns */
static void expect_product(const op_case *c, const tensor *in, tensor *out) {
  const tensor *x = &in[0], *p = &in[1];
  int64_t n = c->p[0], depth = p->dims[1], width = p->dims[2];
  for (int64_t i = 0; i < out->count; i++) {
    const double *a = x->v + i / n * depth, *b = p->v + i % n / width * depth * width + i % n % width;
    double sum = 0;
    for (int64_t k = 0; k < depth; k++) sum += a[k] * b[k * width];
    out->v[i] = sum;
  }
}

typedef struct sizes {
  const char *rows; /* dimensions before the depth */
  int64_t n;        /* value of symbols */
  int64_t depth, columns, width;
} sizes;

static op_case make_case(const sizes *s) {
  long long depth = s->depth, columns = s->columns, width = s->width, panels = columns / width + (columns % width != 0);
  return (op_case){.in = {text("f32[%s,%lld]", s->rows, depth), text("f32[%lld,%lld,%lld]", panels, depth, width)},
                   .out = {text("f32[%s,%lld]", s->rows, columns)},
                   .before = text("  %%w = paired_weights %%1 : f32[%lld,%lld,%lld]\n", panels, depth + 2, width),
                   .line = text("matmul_paired %%0, %%w {columns=%lld}", columns),
                   .n = s->n,
                   .expect = expect_product,
                   .p = {columns}};
}

static void try_product(const char *rows, int64_t n, int64_t depth, int64_t columns, int64_t width) {
  op_case c = make_case(&(sizes){rows, n, depth, columns, width});
  op_case_run(&c);
}

/* Around units of the depth and vectors. */
Test(matmul_paired, depths) {
  static const int64_t depths[] = {1, 7, 15, 16, 17, 32, 33, 40, 100};
  for (size_t i = 0; i < sizeof depths / sizeof *depths; i++)
    for (int64_t width = 4; width <= 32; width *= 2) try_product("9", 0, depths[i], 32, width);
}

/* What lies beyond the last column is random, and stays where it is. */
Test(matmul_paired, columns) {
  static const int64_t columns[] = {1, 2, 15, 17, 31, 95, 96, 97, 250};
  for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
    for (int64_t width = 8; width <= 16; width *= 2) try_product(i % 2 ? "13" : "N", 21, 24, columns[i], width);
}

/* A tile and about, some tiles, rows that are not of the last task. */
Test(matmul_paired, rows) {
  static const int64_t rows[] = {0, 1, 2, 3, 4, 5, 12, 15, 16, 17, 31, 47, 95, 96, 97, 193};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    try_product(text("%lld", (long long)rows[i]), 0, 36, 40, 16);
    try_product("N", rows[i], 36, 48, 16);
  }
}

Test(matmul_paired, batches) {
  try_product("2,7", 0, 33, 21, 16);
  try_product("3,1,5", 0, 16, 32, 16);
  try_product("2,N", 5, 48, 37, 8);
  try_product("N,3", 7, 20, 16, 16);
  try_product("0,4", 0, 20, 16, 16);
}

/* The depth in parts, with and without what is left of it; panels of several writings. */
Test(matmul_paired, deep) {
  static const int64_t depths[] = {1023, 1025, 1040, 2063};
  for (size_t i = 0; i < sizeof depths / sizeof *depths; i++) {
    try_product("5", 0, depths[i], 40, 16);
    try_product("N", 35, depths[i], 23, 16);
  }
}

Test(matmul_paired, empty) {
  try_product("5", 0, 20, 0, 16);
  try_product("5", 0, 0, 20, 16);
}

/* One code for sizes on both sides of the least; widths that are a tile's of some target, or of none. */
Test(matmul_paired, few_rows) {
  static const int64_t rows[] = {0, 1, 2, 12, 13, 19, 20, 21, 24, 29, 45, 100};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    for (int64_t width = 8; width <= 32; width *= 2) {
      op_case c = make_case(&(sizes){width == 16 ? text("%lld", (long long)rows[i]) : "N", rows[i], 40 - (int64_t)i % 2 * 7, 75, width});
      c.line = "matmul_paired %0, %w {columns=75, least=20}";
      op_case_run(&c);
    }
}

/* ---- what is fused with it ----------------------------------------------------------------------------------- */

/* Operand 2: of the columns; 3: the other summand. */
static void expect_fused(const op_case *c, const tensor *in, tensor *out) {
  expect_product(c, in, out);
  for (int64_t i = 0; i < out->count; i++) {
    double v = out->v[i] + in[2].v[i % c->p[0]];
    out->v[i] = (c->p[1] ? v * (1 + erf(v)) : v) + in[3].v[i];
  }
}

static void try_fused(const char *rows, int64_t n, int64_t depth, int64_t columns, bool has_function) {
  op_case c = make_case(&(sizes){rows, n, depth, columns, 16});
  const char *t = c.out[0];
  c.in[2] = text("f32[1,%lld]", (long long)columns);
  c.in[3] = t;
  const char *function = text("  %%e = erf %%v : %s\n  %%f = mul %%v, %%e : %s\n  %%s = add %%v, %%f : %s\n", t, t, t);
  c.before = text("%s  %%c = %s : %s\n  %%d = broadcast %%2 {dims=%s} : %s\n  %%v = add %%c, %%d : %s\n%s", c.before, c.line, t, strchr(t, '['), t, t,
                  has_function ? function : "");
  c.line = text("add %%%c, %%3", has_function ? 's' : 'v');
  c.expect = expect_fused;
  c.p[1] = has_function;
  op_case_run(&c);
}

Test(matmul_paired, epilogues) {
  for (int function = 0; function < 2; function++) {
    try_fused("37", 0, 32, 48, function);
    try_fused("50", 0, 40, 33, function);
    try_fused("N", 19, 17, 100, function);
    try_fused("N", 1, 64, 16, function);
  }
}
