/* Attention: two products with a softmax between them, which the fuse pass makes one kernel, against plain loops. */
#include "tests/ops/op_case.h"

typedef struct shape {
  const char *type;              /* of elements */
  const char *b, *m, *n, *d, *e; /* batch, rows, keys, depth, columns of the result: numbers or a symbol */
  bool trans_b;                  /* keys in rows */
  int64_t symbol;
} shape;

/* p: trans_b, has a mask, keys masked by -inf. Operands: q[b,m,d], k, v[b,n,e], mask[1,1,n]. */
static void expect_attention(const op_case *c, const tensor *in, tensor *out) {
  const tensor *q = &in[0], *k = &in[1], *v = &in[2], *mask = &in[3];
  int64_t rows = q->dims[1], depth = q->dims[2], keys = v->dims[1], columns = v->dims[2];
  double *weight = calloc((size_t)keys + 1, sizeof *weight);
  for (int64_t i = 0; i < q->dims[0] * rows; i++) {
    int64_t b = i / rows;
    double largest = -INFINITY, sum = 0;
    for (int64_t j = 0; j < keys; j++) {
      double score = 0;
      for (int64_t d = 0; d < depth; d++)
        score += q->v[i * depth + d] * k->v[c->p[0] ? (b * keys + j) * depth + d : (b * depth + d) * keys + j];
      weight[j] = c->p[1] ? score * 0.5 + mask->v[j] : score;
      largest = fmax(largest, weight[j]);
    }
    for (int64_t j = 0; j < keys; j++) sum += weight[j] = exp(weight[j] - largest);
    for (int64_t e = 0; e < columns; e++) {
      double result = 0;
      for (int64_t j = 0; j < keys; j++) result += weight[j] / sum * v->v[(b * keys + j) * columns + e];
      out->v[i * columns + e] = result;
    }
  }
  free(weight);
}

/* The factor of the scores is a half. */
static void fill_mask(const op_case *c, int which, tensor *t) {
  if (which == 4) t->v[0] = 0.5;
  for (int64_t i = 0; which == 3 && i < c->p[2] && i < t->count; i++) t->v[i] = -INFINITY;
}

static void try_masked(const shape *s, bool is_masked, int64_t masked_keys) {
  const char *scores = text("%s[%s,%s,%s]", s->type, s->b, s->m, s->n);
  op_case c = {.in = {text("%s[%s,%s,%s]", s->type, s->b, s->m, s->d),
                      s->trans_b ? text("%s[%s,%s,%s]", s->type, s->b, s->n, s->d)
                                 : text("%s[%s,%s,%s]", s->type, s->b, s->d, s->n),
                      text("%s[%s,%s,%s]", s->type, s->b, s->n, s->e),
                      is_masked ? text("%s[1,1,%s]", s->type, s->n) : NULL, is_masked ? text("%s[]", s->type) : NULL},
               .out = {text("%s[%s,%s,%s]", s->type, s->b, s->m, s->e)},
               .line = "matmul %w, %2",
               .n = s->symbol,
               .fill = is_masked ? fill_mask : NULL,
               .expect = expect_attention,
               .p = {s->trans_b, is_masked, masked_keys}};
  const char *product = text("  %%s = matmul %%0, %%1 {trans_b=%d} : %s\n", s->trans_b, scores);
  const char *dims = text("{dims=[%s,%s,%s]}", s->b, s->m, s->n);
  const char *mask = text("  %%f = broadcast %%4 %s : %s\n  %%h = mul %%s, %%f : %s\n  %%a = broadcast %%3 %s : %s\n  "
                          "%%t = add %%h, %%a : %s\n",
                          dims, scores, scores, dims, scores, scores);
  c.before =
      text("%s%s  %%w = softmax %%%s {axis=2} : %s\n", product, is_masked ? mask : "", is_masked ? "t" : "s", scores);
  op_case_run(&c);
}

static void try_attention(const shape *s, bool is_masked) { try_masked(s, is_masked, 0); }

Test(attention, shapes) {
  static const shape shapes[] = {
      {"f32", "2", "37", "50", "20", "33", false, 0}, {"f32", "3", "60", "17", "8", "5", true, 0},
      {"f32", "1", "5", "1", "3", "40", true, 0},     {"f32", "20", "6", "9", "4", "16", false, 0},
      {"f32", "2", "N", "N", "8", "16", true, 29},    {"f32", "N", "14", "N", "8", "3", false, 5},
      {"f32", "2", "N", "24", "8", "16", true, 1},    {"f32", "2", "7", "N", "8", "9", true, 0},
      {"f64", "2", "13", "30", "5", "6", false, 0},   {"f32", "1", "100", "12", "16", "32", true, 0},
  };
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
    try_attention(&shapes[i], false);
    try_attention(&shapes[i], true);
  }
}

/* Rounding of the scores to f16 is part of the unfused program: the kernel may keep them in f32. */
Test(attention, f16) {
  static const shape shapes[] = {{"f16", "2", "13", "30", "5", "6", false, 0},
                                 {"f16", "2", "N", "N", "8", "20", true, 21}};
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) try_attention(&shapes[i], true);
}

/* Casts between the softmax and the product, as mixed-precision models have them. */
Test(attention, ops_behind_the_softmax) {
  op_case c = {.in = {"f32[2,19,8]", "f32[2,8,21]", "f32[2,21,17]"},
               .out = {"f32[2,19,17]"},
               .before = "  %s = matmul %0, %1 : f32[2,19,21]\n  %x = softmax %s {axis=2} : f32[2,19,21]\n"
                         "  %y = cast %x {to=f16} : f16[2,19,21]\n  %w = cast %y {to=f32} : f32[2,19,21]\n",
               .line = "matmul %w, %2",
               .expect = expect_attention,
               .tolerance = 1e-3};
  op_case_run(&c);
}

/* More keys than a block has on targets with little cache: none, some, all of those in the first block, all of them masked. */
Test(attention, blocks_of_keys) {
  const shape symbolic = {"f32", "2", "5", "N", "3", "18", true, 300}, fixed = {"f32", "1", "3", "1100", "2", "5", false, 0};
  const shape empty = {"f32", "1", "3", "N", "2", "5", true, 0}, square = {"f32", "1", "N", "N", "4", "20", true, 261};
  for (int64_t masked = 0; masked <= 300; masked += 150) try_masked(&symbolic, true, masked);
  try_masked(&fixed, true, 0);
  try_masked(&fixed, true, 700);
  try_masked(&empty, false, 0);
  try_masked(&square, false, 0);
}
