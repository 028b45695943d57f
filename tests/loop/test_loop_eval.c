/* The interpreter: what each operation means, for every type it exists for, and what statements do. */
#include "ir/loop.h"
#include "runtime/nncc_rt.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static nn_module *m;

static void set_up(void) { m = nn_module_new("test"); }
static void tear_down(void) { nn_module_free(m); }

TestSuite(loop_eval, .init = set_up, .fini = tear_down);

static nn_kernel *parse(const char *text) {
  nn_kernel *k = nn_kernel_parse(m, "t.loop", text, strlen(text));
  for (int i = 0; !k && i < m->diags.count; i++) nn_diag_print(stderr, &m->diags.items[i]);
  cr_assert(k, "%s", text);
  return k;
}

static int run(const char *text, void *a, void *b) {
  void *args[] = {a, b};
  int64_t symbols[4] = {3, 3, 3, 3};
  return nn_kernel_eval(parse(text), args, symbols, NULL);
}

/* ---- one operation: operands come from memory, so nothing is folded ---------------------------------------- */

typedef struct row { const char *type, *text; double a, b, want; } row;

static const row rows[] = {
  {"i8", "%a + %b", 127, 1, -128}, {"i8", "%a*%b", 16, 16, 0}, {"u8", "%a - %b", 0, 1, 255}, {"i4", "%a + %b", 7, 1, -8}, {"u4", "%a - %b", 0, 1, 15},
  {"u2", "%a + %b", 3, 1, 0}, {"i16", "%a*%b", 256, 256, 0}, {"u32", "%a - %b", 0, 1, 4294967295.0},
  {"i32", "%a / %b", -7, 2, -3}, {"i32", "%a / %b", 7, 0, 0}, {"i32", "%a / %b", -2147483648.0, -1, -2147483648.0}, {"i64", "%a / %b", -7, 2, -3},
  {"i32", "rem(%a, %b)", -7, 3, -1}, {"i32", "rem(%a, %b)", 7, 0, 0}, {"i32", "rem(%a, %b)", -2147483648.0, -1, 0},
  {"i32", "%a floordiv %b", -7, 2, -4}, {"i32", "%a floordiv %b", 7, -2, -4}, {"i32", "%a mod %b", -7, 3, 2}, {"i32", "%a mod %b", 7, -3, -2},
  {"i64", "%a floordiv %b", -8, 2, -4}, {"u8", "%a / %b", 200, 3, 66}, {"i8", "abs(%a)", -128, 0, -128}, {"i8", "neg(%a)", -128, 0, -128},
  {"i8", "min(%a, %b)", -1, 1, -1}, {"u8", "max(%a, %b)", 255, 1, 255}, {"u64", "max(%a, %b)", 1e19, 1, 1e19}, {"u64", "%a / %b", 1e19, 10, 1e18},
  {"i8", "shl(%a, %b)", 1, 7, -128}, {"i8", "shl(%a, %b)", 1, 8, 1}, {"i8", "shr(%a, %b)", -128, 7, -1}, {"u8", "shr(%a, %b)", 128, 7, 1},
  {"u8", "not(%a)", 1, 0, 254}, {"i8", "%a & %b", 12, 10, 8}, {"i8", "%a | %b", 12, 10, 14}, {"i8", "%a ^ %b", 12, 10, 6},
  {"f32", "%a / %b", 1, 3, (double)(1.0f / 3.0f)}, {"f32", "%a + %b", 16777216, 1, 16777216}, {"f32", "min(%a, %b)", NAN, 1, NAN}, {"f32", "max(%a, %b)", 1, NAN, NAN},
  {"f32", "round(%a)", 2.5, 0, 2}, {"f32", "round(%a)", -3.5, 0, -4}, {"f32", "trunc(%a)", -1.7, 0, -1}, {"f32", "floor(%a)", -1.2, 0, -2}, {"f32", "ceil(%a)", 1.2, 0, 2},
  {"f32", "fma(%a, %a, %b)", 1.000244140625, -1.00048828125, 5.9604644775390625e-08}, {"f64", "sqrt(%a)", 2, 0, 1.4142135623730951},
  {"f16", "%a + %b", 2048, 1, 2048}, {"f16", "%a*%b", 60000, 2, INFINITY}, {"bf16", "%a + %b", 256, 1, 256}, {"f8e4m3fn", "%a + %b", 16, 1, 16},
  {"f8e5m2", "%a*%b", 57344, 2, 57344}, {"f8e4m3fn", "%a*%b", 448, 2, 448}, {"f4e2m1", "%a + %b", 2, 1, 3}, {"f4e2m1", "%a*%b", 6, 6, 6},
  {"f32", "select(%a < %b, %a, %b)", 1, 2, 1}, {"f32", "select(%a == %b, 1.0, 2.0)", NAN, NAN, 2}, {"f32", "select(%a != %b, 1.0, 2.0)", NAN, NAN, 1},
  {"f32", "select(%a <= %b, 1.0, 2.0)", NAN, 1, 2}, {"u64", "select(%a < %b, 1:u64, 2:u64)", 1e19, 1, 2}, {"i64", "select(%a < %b, 1, 2)", -1, 1, 1},
  {"i8", "cast(cast(%a, f32)*3.0, i8)", 100, 0, 127}, {"u8", "cast(neg(cast(%a, f32)), u8)", 5, 0, 0}, {"i32", "cast(cast(%a, f64)*1e10:f64, i32)", -1, 0, -2147483648.0},
  {"i64", "cast(inf, i64) + cast(nan, i64) + %a", 0, 0, 9223372036854775807.0}, {"i8", "cast(cast(%a, i32)*4:i32, i8)", 100, 0, -112}, {"i8", "cast(cast(%a, bool), i8)", 100, 0, 1},
  {"f32", "cast(cast(%a, f16), f32)", 2049, 0, 2048}, {"f32", "cast(cast(%a, bf16), f32)", 257, 0, 256}, {"f32", "cast(cast_sat(%a, f8e4m3fn), f32)", 1000, 0, 448},
  {"f32", "cast(cast_sat(%a, f8e5m2), f32)", INFINITY, 0, 57344}, {"f32", "cast(cast(%a, f8e5m2), f32)", 1e6, 0, INFINITY}, {"f32", "cast(cast(%a, f8e5m2), f32)", -61440, 0, -INFINITY},
  {"f32", "cast(cast(%a, f8e4m3fn), f32)", 464, 0, 448}, {"f32", "cast(cast(%a, f8e4m3fn), f32)", 465, 0, NAN}, {"f32", "cast(cast(%a, f8e4m3fnuz), f32)", 248, 0, NAN}, {"f32", "cast(bitcast(%a, i32), f32)", 1, 0, 1065353216},
  {"i32", "cast(bitcast(cast(%a, f16), i16), i32)", 1, 0, 15360}, {"i32", "cast(bitcast(cast(%a, bf16), i16), i32)", 1, 0, 16256}, {"f32", "bitcast(cast(%a, i32), f32)", 1065353216, 0, 1},
};

Test(loop_eval, operations) {
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    const row *r = &rows[i];
    nn_dtype t;
    char text[512];
    unsigned char in[16] = {0}, out[16] = {0};
    cr_assert(nn_dtype_from_name(r->type, strlen(r->type), &t));
    snprintf(text, sizeof text, "kernel @k {\n  param %%x : %s[2]\n  out %%y : %s[1]\n  %%a = %%x[0]\n  %%b = %%x[1]\n  %%y[0] = %s\n}\n", r->type, r->type, r->text);
    for (int e = 0; e < 2; e++) {
      double v = e ? r->b : r->a;
      if (t == NN_U64) nn_store_i64(t, in, (size_t)e, (int64_t)(uint64_t)v);
      else nn_store_f64(t, in, (size_t)e, v);
    }
    cr_assert_eq(run(text, in, out), 0);
    double got = t == NN_U64 ? (double)(uint64_t)nn_load_i64(t, out, 0) : nn_load_f64(t, out, 0);
    cr_assert(got == r->want || (isnan(got) && isnan(r->want)), "%s of %s, %g and %g: %.17g, expected %.17g", r->text, r->type, r->a, r->b, got, r->want);
  }
}

/* The same rows with the operands as constants: folding means the same. */
Test(loop_eval, folding_agrees) {
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    const row *r = &rows[i];
    nn_dtype t;
    nn_dtype_from_name(r->type, strlen(r->type), &t);
    if (t == NN_U64) continue; /* 1e19 has no spelling as an operand of these rows */
    char text[512], out[16] = {0};
    snprintf(text, sizeof text, "kernel @k {\n  out %%y : %s[1]\n  %%a = cast(%.17g:f64, %s)\n  %%b = cast(%.17g:f64, %s)\n  %%y[0] = %s\n}\n", r->type, r->a, r->type, r->b, r->type, r->text);
    nn_kernel *k = parse(text);
    void *args[] = {out};
    cr_assert_eq(nn_kernel_eval(k, args, NULL, NULL), 0);
    cr_assert(!k->body.first->next, "%s of %s is not folded", r->text, r->type);
    double got = nn_load_f64(t, out, 0);
    cr_assert(got == r->want || (isnan(got) && isnan(r->want)), "%s of %s, %g and %g: %.17g, expected %.17g", r->text, r->type, r->a, r->b, got, r->want);
  }
}

/* ---- statements ------------------------------------------------------------------------------------------------ */

Test(loop_eval, a_lane_runs_the_whole_body_and_reductions_are_trees) {
  float x[8] = {1e8f, 1, -1e8f, 1, 1, 1, 1, 1}, y[2];
  cr_assert_eq(run("kernel @k {\n  param %x : f32[8]\n  out %y : f32[2]\n  reg %r : f32[8]\n  vector %l in 0..8 {\n    %r[%l] = %x[%l]\n    %r[%l] = %r[%l]*2.0\n  }\n"
                   "  %y[0] = lanes_sum(%r[0], 8)\n  %y[1] = lanes_max(%r[4], 4)\n}\n", x, y), 0);
  float s = ((2e8f + 2.0f) + (-2e8f + 2.0f)) + ((2.0f + 2.0f) + (2.0f + 2.0f));
  cr_assert_eq(y[0], s);
  cr_assert_eq(y[1], 2.0f);
}

Test(loop_eval, lookup_is_modulo_the_count) {
  int32_t x[4] = {0, 3, 6, -3}, y[4];
  cr_assert_eq(run("kernel @k {\n  param %x : i32[4]\n  out %y : i32[4]\n  table %t = 7, -8, 2147483647, -2147483648\n"
                   "  for %i in 0..4 {\n    %y[%i] = lookup(%t, %x[%i])\n  }\n}\n", x, y), 0);
  cr_assert(y[0] == 7 && y[1] == INT32_MIN && y[2] == INT32_MAX && y[3] == -8);
}

Test(loop_eval, transpose_of_a_square) {
  float x[4] = {1, 2, 3, 4}, y[4];
  cr_assert_eq(run("kernel @k {\n  param %x : f32[4]\n  out %y : f32[4]\n  reg %r : f32[4]\n  unroll %i in 0..4 {\n    %r[%i] = %x[%i]\n  }\n"
                   "  transpose %r\n  unroll %j in 0..4 {\n    %y[%j] = %r[%j]\n  }\n}\n", x, y), 0);
  cr_assert(y[0] == 1 && y[1] == 3 && y[2] == 2 && y[3] == 4);
}

Test(loop_eval, while_sees_what_its_body_changes) {
  int64_t x[1] = {10}, y[1] = {0};
  cr_assert_eq(run("kernel @k {\n  out %x : i64[1]\n  out %y : i64[1]\n  while 0 < %x[0] {\n    %y[0] = %y[0] + %x[0]\n    %x[0] = %x[0] - 1\n  }\n}\n", x, y), 0);
  cr_assert_eq(y[0], 55);
}

Test(loop_eval, a_load_shared_by_two_statements_is_read_twice) {
  nn_kernel *k = nn_kernel_new(m, "k");
  nn_buf *b = nn_kernel_buf(k, "b", NN_BUF_PARAM, NN_I64, nn_dim_const(m, 2), true);
  nn_x *load = nn_x_load(k, b, nn_x_int(k, 0), NULL);
  nn_x *more = nn_x_binary(k, NN_X_ADD, load, nn_x_int(k, 1));
  nn_store(k, b, nn_x_int(k, 0), more, NULL);
  nn_store(k, b, nn_x_int(k, 1), more, NULL);
  int64_t x[2] = {5, 0};
  void *args[] = {x};
  cr_assert_eq(nn_kernel_eval(k, args, NULL, NULL), 0);
  cr_assert_eq(x[0], 6);
  cr_assert_eq(x[1], 7);
}

Test(loop_eval, loops_may_be_empty_and_bounds_are_read_once) {
  int64_t x[2] = {3, 0}, y[1] = {0};
  cr_assert_eq(run("kernel @k {\n  out %x : i64[2]\n  out %y : i64[1]\n  for %i in 0..%x[0] {\n    %x[0] = 100\n    %y[0] = %y[0] + 1\n  }\n  for %j in 5..%x[1] {\n    fail 5\n  }\n}\n", x, y), 0);
  cr_assert_eq(y[0], 3);
}

Test(loop_eval, masks_keep_memory_untouched) {
  float x[2] = {1, 2}, y[2] = {7, 7};
  cr_assert_eq(run("kernel @k {\n  param %x : f32[2]\n  out %y : f32[2]\n  for %i in 0..4 {\n    %y[%i] = %x[%i + 1 if %i < 1] + 5.0 if %i < 2\n  }\n}\n", x, y), 0);
  cr_assert_eq(y[0], 7.0f);
  cr_assert_eq(y[1], 5.0f);
}

Test(loop_eval, index_errors_tell_what_was_found) {
  int64_t x[3] = {2, -1, 9}, y[3] = {0};
  void *args[] = {x, y};
  int64_t symbols[] = {3};
  nn_eval_error at = {0};
  nn_kernel *k = parse("kernel @k {\n  param %x : i64[N]\n  out %y : i64[N]\n  for %i in 0..N {\n    %v = %x[%i]\n    %y[index(%v, N, %v != -1)] = 1\n  }\n}\n");
  cr_assert(k->can_fail);
  cr_assert_eq(nn_kernel_eval(k, args, symbols, &at), NNCC_RT_EINDEX);
  cr_assert_eq(at.found, 9);
  cr_assert_eq(at.limit, 3);
  cr_assert_eq(y[0], 1, "where the mask is false the index is 0");
  cr_assert_eq(y[2], 1);
}

Test(loop_eval, fail_ends_the_run) {
  float x[1] = {0}, y[1] = {0};
  cr_assert_eq(run("kernel @k {\n  out %x : f32[1]\n  out %y : f32[1]\n  if %x[0] == 0.0 {\n    fail 5\n  } else {\n    fail 6\n  }\n}\n", x, y), 5);
}

Test(loop_eval, out_of_bounds_is_caught) {
  float x[4] = {0}, y[4] = {0};
  cr_assert_eq(run("kernel @k {\n  param %x : f32[4]\n  out %y : f32[4]\n  for %i in 0..5 {\n    %y[0] = %x[%i]\n  }\n}\n", x, y), NNCC_RT_EINTERNAL);
  cr_assert_eq(run("kernel @k {\n  param %x : f32[4]\n  out %y : f32[4]\n  for %i in -1..2 {\n    %y[%i] = 1.0\n  }\n}\n", x, y), NNCC_RT_EINTERNAL);
}

Test(loop_eval, packed_elements) {
  unsigned char x[2] = {0x21, 0xf8}, y[2] = {0, 0};
  cr_assert_eq(run("kernel @k {\n  param %x : i4[4]\n  out %y : u4[4]\n  for %i in 0..4 {\n    %y[3 - %i] = cast(%x[%i], u4)\n  }\n}\n", x, y), 0);
  cr_assert_eq(y[0], 0x8f);
  cr_assert_eq(y[1], 0x12);
}

Test(loop_eval, workspaces_follow_the_parameters) {
  nn_kernel *k = parse("kernel @k {\n  param %x : f32[2]\n  out %y : f32[2]\n  workspace %w : f32[2]\n  worker %t : f32[2]\n  parallel %i in 0..2 {\n    %t[%i] = %x[%i]\n    %w[%i] = %t[%i] + 1.0\n"
                       "    %y[%i] = %w[%i]\n  }\n}\n");
  float x[2] = {1, 2}, y[2] = {0}, w[2] = {0};
  void *args[] = {x, y, w};
  cr_assert_eq(nn_kernel_eval(k, args, NULL, NULL), 0);
  cr_assert_eq(w[1], 3.0f);
  cr_assert_eq(y[1], 3.0f);
}

/* Registers that nobody wrote hold NaN, so that a kernel that relies on them is found. */
Test(loop_eval, unwritten_registers_show) {
  float x[1] = {0}, y[1] = {0};
  cr_assert_eq(run("kernel @k {\n  param %x : f32[1]\n  out %y : f32[1]\n  reg %r : f32[2]\n  %y[0] = %r[1] + %x[0]\n}\n", x, y), 0);
  cr_assert(isnan(y[0]));
}
