/* matmul against three loops. */
#include "tests/ops/op_case.h"

/* p: trans_a, trans_b */
static void expect_matmul(const op_case *c, const tensor *in, tensor *out) {
  const tensor *x = &in[0], *y = &in[1];
  int r = out->rank;
  int64_t m = out->dims[r - 2], n = out->dims[r - 1], depth = x->dims[c->p[0] ? r - 2 : r - 1], batches = 1;
  for (int d = 0; d < r - 2; d++) batches *= out->dims[d];
  for (int64_t b = 0; b < batches; b++) {
    int64_t xb = 0, yb = 0, rest = b, step = batches;
    for (int d = 0; d < r - 2; d++) {
      step /= out->dims[d];
      int64_t i = rest / step;
      rest %= step;
      xb = xb * x->dims[d] + (x->dims[d] == 1 ? 0 : i);
      yb = yb * y->dims[d] + (y->dims[d] == 1 ? 0 : i);
    }
    for (int64_t i = 0; i < m; i++)
      for (int64_t j = 0; j < n; j++) {
        double sum = 0;
        for (int64_t k = 0; k < depth; k++) {
          double a = x->v[xb * m * depth + (c->p[0] ? k * m + i : i * depth + k)];
          sum += a * y->v[yb * depth * n + (c->p[1] ? j * depth + k : k * n + j)];
        }
        out->v[(b * m + i) * n + j] = sum;
      }
  }
}

static void try_sizes(int64_t m, int64_t k, int64_t n, int ta, int tb, const char *dtype, const char *result) {
  op_case c = {.line = text("matmul %%0, %%1 {trans_a=%d, trans_b=%d}", ta, tb),
               .expect = expect_matmul,
               .p = {ta, tb},
               .tolerance = 0};
  c.in[0] = ta ? text("%s[%lld,%lld]", dtype, (long long)k, (long long)m)
               : text("%s[%lld,%lld]", dtype, (long long)m, (long long)k);
  c.in[1] = tb ? text("%s[%lld,%lld]", dtype, (long long)n, (long long)k)
               : text("%s[%lld,%lld]", dtype, (long long)k, (long long)n);
  c.out[0] = text("%s[%lld,%lld]", result, (long long)m, (long long)n);
  op_case_run(&c);
}

Test(matmul, sizes) {
  static const int64_t sizes[] = {1, 2, 3, 7, 8, 13, 16, 17, 31, 33, 50};
  for (int i = 0; i < 40; i++) {
    int64_t m = sizes[random_int(0, 10)], k = sizes[random_int(0, 10)], n = sizes[random_int(0, 10)];
    try_sizes(m, k, n, (int)random_int(0, 1), (int)random_int(0, 1), "f32", "f32");
  }
}

/* B leaves the caches: read in place, once or by a few row tiles, or packed while the first of them runs. */
Test(matmul, far_operand) {
  static const int64_t rows[] = {1, 2, 3, 5, 8, 12, 13, 40, 130};
  for (int i = 0; i < 9; i++) {
    try_sizes(rows[i], 140, 70, 0, 0, "f32", "f32");
    try_sizes(rows[i], 17, 529, 0, 0, "f32", "f32"); /* the distance of prefetches is more than K */
  }
  try_sizes(41, 290, 130, 0, 0, "f32", "f32");
  try_sizes(41, 290, 130, 1, 0, "f32", "f32");
}

/* Many panels of three vectors and a rest: of 16, 8 and 4 lanes. */
Test(matmul, few_vectors_in_many_panels) {
  try_sizes(8, 5, 790, 0, 0, "f32", "f32");
  try_sizes(7, 3, 785, 0, 0, "f32", "f32");
  try_sizes(3, 6, 409, 0, 0, "f32", "f32");
  try_sizes(4, 6, 209, 0, 0, "f32", "f32");
}

Test(matmul, empty) {
  try_sizes(3, 0, 5, 0, 0, "f32", "f32");
  try_sizes(0, 4, 5, 0, 0, "f32", "f32");
  try_sizes(3, 4, 0, 0, 0, "f32", "f32");
  try_sizes(20, 0, 40, 1, 1, "f32", "f32");
}

Test(matmul, types) {
  try_sizes(13, 9, 18, 0, 0, "f64", "f64");
  try_sizes(13, 9, 18, 0, 1, "i8", "i32");
  try_sizes(13, 9, 18, 1, 0, "u8", "i32");
  try_sizes(2, 40, 18, 0, 1, "i32", "i32");
  try_sizes(5, 9, 18, 0, 0, "f16", "f16");
  try_sizes(5, 9, 18, 0, 0, "bf16", "bf16");
}

Test(matmul, batches) {
  static const struct {
    const char *x, *y, *r;
  } cases[] = {{"f32[2,3,9,5]", "f32[1,1,5,17]", "f32[2,3,9,17]"}, {"f32[2,3,9,5]", "f32[2,3,5,17]", "f32[2,3,9,17]"},
               {"f32[2,1,9,5]", "f32[1,3,5,17]", "f32[2,3,9,17]"}, {"f32[10,1,40]", "f32[10,40,33]", "f32[10,1,33]"},
               {"f32[1,7,4]", "f32[3,4,1]", "f32[3,7,1]"},         {"f32[N,7,4]", "f32[N,4,6]", "f32[N,7,6]"},
               {"f32[N,7,4]", "f32[1,4,6]", "f32[N,7,6]"},         {"f32[2,N,M]", "f32[2,M,K]", "f32[2,N,K]"},
               {"f32[0,7,4]", "f32[1,4,6]", "f32[0,7,6]"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    op_case c = {
        .in = {cases[i].x, cases[i].y}, .out = {cases[i].r}, .line = "matmul %0, %1", .n = 5, .expect = expect_matmul};
    op_case_run(&c);
  }
}

Test(matmul, symbolic) {
  for (int64_t n = 0; n < 40; n += n < 14 ? 1 : 7) {
    for (int t = 0; t < 4; t++) {
      op_case c = {.in = {t & 1 ? "f32[24,N]" : "f32[N,24]", t & 2 ? "f32[35,24]" : "f32[24,35]"},
                   .out = {"f32[N,35]"},
                   .n = n,
                   .line = text("matmul %%0, %%1 {trans_a=%d, trans_b=%d}", t & 1, t >> 1),
                   .expect = expect_matmul,
                   .p = {t & 1, t >> 1}};
      op_case_run(&c);
    }
    op_case c = {
        .in = {"f32[7,N]", "f32[N,N]"}, .out = {"f32[7,N]"}, .n = n, .line = "matmul %0, %1", .expect = expect_matmul};
    op_case_run(&c);
  }
}

Test(matmul, large) {
  try_sizes(70, 130, 150, 0, 0, "f32", "f32");
  try_sizes(1, 300, 700, 0, 0, "f32", "f32");
  try_sizes(1, 300, 700, 0, 1, "f32", "f32");
  try_sizes(600, 40, 2, 0, 0, "f32", "f32");
  try_sizes(70, 130, 150, 0, 1, "f32", "f32");
  try_sizes(70, 33, 39, 1, 1, "f64", "f64");
  try_sizes(70, 50, 37, 0, 1, "f16", "f16");
}

/* Many rows: B's rows collide in the caches, or have another type, or are another op's; A is larger than L2. */
Test(matmul, packed_while_the_first_tile_runs) {
  try_sizes(40, 100, 2048, 0, 0, "f32", "f32");
  try_sizes(81, 35, 101, 0, 0, "f16", "f16");
  try_sizes(1700, 80, 33, 0, 0, "f32", "f32");
  for (int64_t n = 30; n < 100; n += 23)
    op_case_run(&(op_case){.in = {"f32[N,21]", "f32[21,83]"},
                           .out = {"f32[N,83]"},
                           .before = "  %b = neg %1 : f32[21,83]\n  %c = neg %b : f32[21,83]\n",
                           .line = "matmul %0, %c",
                           .n = n,
                           .expect = expect_matmul});
}

Test(matmul, few_rows) {
  for (int64_t m = 1; m < 10; m++) {
    try_sizes(m, 60, 100, 0, 0, "f32", "f32");
    try_sizes(m, 60, 100, 0, 1, "f32", "f32");
    try_sizes(100, 60, m, (int)m % 2, (int)m / 2 % 2, "f32", "f32");
  }
  try_sizes(2, 1031, 1021, 0, 1, "f32", "f32"); /* more than L3 holds */
}

/* p: columns */
static void expect_panels(const op_case *c, const tensor *in, tensor *out) {
  const tensor *x = &in[0], *p = &in[1];
  int64_t n = c->p[0], depth = p->dims[1], width = p->dims[2];
  for (int64_t i = 0; i < out->count; i++) {
    const double *a = x->v + i / n * depth, *b = p->v + i % n / width * depth * width + i % n % width;
    double sum = 0;
    for (int64_t k = 0; k < depth; k++) sum += a[k] * b[k * width];
    out->v[i] = sum;
  }
}

/* Widths of no target's tiles, and of several tiles, too; what lies beyond the last column is random. */
Test(matmul, panels) {
  static const struct {
    const char *x, *p, *r;
    int64_t columns;
  } cases[] = {{"f32[13,9]", "f32[2,9,32]", "f32[13,50]", 50},   {"f32[64,20]", "f32[3,20,16]", "f32[64,48]", 48},
               {"f32[2,7,5]", "f32[3,5,8]", "f32[2,7,21]", 21},  {"f32[N,6]", "f32[2,6,32]", "f32[N,33]", 33},
               {"f32[3,6]", "f32[2,6,16]", "f32[3,32]", 32},     {"f32[30,4]", "f32[4,4,5]", "f32[30,18]", 18},
               {"f32[40,3]", "f32[1,3,16]", "f32[40,2]", 2},     {"f32[15,0]", "f32[2,0,16]", "f32[15,20]", 20},
               {"f32[0,4]", "f32[2,4,16]", "f32[0,20]", 20},     {"f32[5,4]", "f32[0,4,16]", "f32[5,0]", 0},
               {"f32[23,7]", "f32[2,7,64]", "f32[23,101]", 101}, {"f32[4,7]", "f32[2,7,128]", "f32[4,201]", 201}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    op_case_run(&(op_case){.in = {cases[i].x, cases[i].p},
                           .out = {cases[i].r},
                           .line = text("matmul_panels %%0, %%1 {columns=%lld}", (long long)cases[i].columns),
                           .n = 29,
                           .expect = expect_panels,
                           .p = {cases[i].columns}});
}

/* Odd numbers of rows, rows in several tasks and chunks, columns beyond the last pair of panels; and depths that have no halves. */
static void try_strassen(int64_t rows, int64_t depth, int64_t columns, int64_t width, int64_t least, bool is_symbolic) {
  const char *m = is_symbolic ? "N" : text("%lld", (long long)rows);
  int64_t panels = columns / width + (columns % width != 0);
  op_case_run(&(op_case){.in = {text("f32[%s,%lld]", m, (long long)depth), text("f32[%lld,%lld,%lld]", (long long)panels, (long long)depth, (long long)width)},
                         .out = {text("f32[%s,%lld]", m, (long long)columns)},
                         .line = text("matmul_panels %%0, %%1 {columns=%lld, strassen=%lld}", (long long)columns, (long long)least),
                         .n = rows,
                         .expect = expect_panels,
                         .p = {columns}});
}

Test(matmul, strassen) {
  static const struct {
    int64_t rows, depth, panels, columns;
  } cases[] = {{26, 20, 2, 0}, {27, 8, 4, 3}, {2, 2, 2, 0},  {3, 6, 2, 1},  {301, 4, 2, 0}, {50, 7, 2, 0},
               {50, 8, 3, 0},  {1, 8, 2, 0},  {0, 8, 2, 0},  {17, 34, 5, 7}, {40, 6, 1, 0}, {9, 0, 2, 0}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    for (int64_t width = 8; width <= 32; width *= 2)
      for (int symbolic = 0; symbolic < 2; symbolic++)
        try_strassen(cases[i].rows, cases[i].depth, cases[i].panels * width - cases[i].columns, width, 1, symbolic);
}

/* One pair of rows, and pairs on both sides of one, two and more row tiles (of 6 and 12 rows) and of a task's least; half a pair less. The least depth. */
Test(matmul, strassen_row_tiles) {
  static const int64_t pairs[] = {1, 6, 7, 11, 12, 13, 24, 25, 36, 73};
  for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
    for (int64_t rows = 2 * pairs[i] - 1; rows <= 2 * pairs[i]; rows++)
      for (int64_t width = 16; width <= 32; width *= 2) try_strassen(rows, 2, 70, width, 1, (rows + width / 16) % 4 < 2);
}

/* One code for sizes on both sides of the least. */
Test(matmul, strassen_symbolic) {
  static const int64_t rows[] = {0, 1, 15, 16, 17, 23, 24, 25, 48, 49, 257, 263};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) try_strassen(rows[i], 10, 70, 32, 17, true);
}

/* Around the least number of rows that go in halves: of one size, of different sizes, in several tasks. */
Test(matmul, strassen_in_halves) {
  static const int64_t rows[] = {95, 96, 97, 98, 99, 193, 259, 510, 517};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    for (int symbolic = 0; symbolic < 2; symbolic++) try_strassen(rows[i], 12, 163, 16, 1, symbolic);
}

/* Odd numbers of pairs of panels: tasks have half of the rows. */
Test(matmul, strassen_odd_pairs) {
  static const int64_t rows[] = {1, 2, 3, 25, 49, 50, 73, 145, 301};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    for (int symbolic = 0; symbolic < 2; symbolic++)
      for (int64_t width = 16; width <= 32; width *= 2) try_strassen(rows[i], 8, (i % 2 ? 6 : 10) * width + (int64_t)i, width, 1, symbolic);
}

Test(matmul, strassen_in_chunks) {
  for (int symbolic = 0; symbolic < 2; symbolic++) {
    try_strassen(131, 1774, 35, 16, 1, symbolic);
    try_strassen(263, 1774, 35, 16, 1, symbolic);
  }
}

/* Both operands come while running: B is packed by the tasks, a transposed A turned in squares. least: of rows. */
static void try_strassen_packing(int64_t rows, int64_t depth, int64_t columns, int64_t least, int t, bool is_symbolic) {
  const char *m = is_symbolic ? "N" : text("%lld", (long long)rows);
  op_case_run(&(op_case){.in = {t & 1 ? text("f32[%lld,%s]", (long long)depth, m) : text("f32[%s,%lld]", m, (long long)depth),
                                t & 2 ? text("f32[%lld,%lld]", (long long)columns, (long long)depth) : text("f32[%lld,%lld]", (long long)depth, (long long)columns)},
                         .out = {text("f32[%s,%lld]", m, (long long)columns)},
                         .line = text("matmul %%0, %%1 {trans_a=%d, trans_b=%d, strassen=%lld}", t & 1, t >> 1, (long long)least),
                         .n = rows,
                         .expect = expect_matmul,
                         .p = {t & 1, t >> 1}});
}

/* Depths whose half is around one and two vectors, or odd, or that have none; columns with and without a rest beyond the last pair of panels. */
Test(matmul, strassen_packing) {
  static const int64_t depths[] = {0, 1, 2, 7, 14, 16, 18, 30, 32, 34, 62, 66, 74}, columns[] = {16, 31, 32, 33, 64, 65, 97, 130, 163};
  static const int64_t rows[] = {0, 1, 2, 3, 15, 16, 17, 31, 32, 33, 37, 71, 72, 145, 193};
  for (size_t i = 0; i < sizeof depths / sizeof *depths; i++)
    for (int t = 0; t < 4; t++)
      try_strassen_packing(rows[random_int(0, sizeof rows / sizeof *rows - 1)], depths[i], columns[random_int(0, sizeof columns / sizeof *columns - 1)], 1, t, (i + (size_t)t) % 2);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) try_strassen_packing(rows[i], 34, 163, 1, (int)(i % 4), i / 4 % 2);
}

/* Rows on both sides of the least, of a half's and of a chunk's, some chunks; the first one packs. */
Test(matmul, strassen_packing_in_chunks) {
  static const int64_t rows[] = {39, 40, 191, 192, 193, 255, 256, 257, 259, 513, 531};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    for (int t = 0; t < 4; t++) try_strassen_packing(rows[i], 12, 163, 40, t, (i + (size_t)t) % 2);
  for (int symbolic = 0; symbolic < 2; symbolic++) try_strassen_packing(131, 1774, 35, 1, 3 - symbolic, symbolic);
}

Test(matmul, strassen_packing_batches) {
  static const struct {
    const char *x, *y, *r;
    int t;
  } cases[] = {{"f32[2,19,34]", "f32[1,34,70]", "f32[2,19,70]", 0},   {"f32[2,34,19]", "f32[1,34,70]", "f32[2,19,70]", 1},
               {"f32[3,18,35]", "f32[3,70,35]", "f32[3,18,70]", 2},   {"f32[3,18,36]", "f32[3,70,36]", "f32[3,18,70]", 2},
               {"f32[9,38,17]", "f32[9,38,66]", "f32[9,17,66]", 1},   {"f32[2,1,13,6]", "f32[1,5,6,40]", "f32[2,5,13,40]", 0},
               {"f32[N,21,34]", "f32[N,34,70]", "f32[N,21,70]", 0},   {"f32[N,34,21]", "f32[1,70,34]", "f32[N,21,70]", 3},
               {"f32[2,300,34]", "f32[2,70,34]", "f32[2,300,70]", 2}, {"f32[9,260,34]", "f32[9,34,70]", "f32[9,260,70]", 0}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    op_case_run(&(op_case){.in = {cases[i].x, cases[i].y},
                           .out = {cases[i].r},
                           .line = text("matmul %%0, %%1 {trans_a=%d, trans_b=%d, strassen=2}", cases[i].t & 1, cases[i].t >> 1),
                           .n = 5,
                           .expect = expect_matmul,
                           .p = {cases[i].t & 1, cases[i].t >> 1}});
}
