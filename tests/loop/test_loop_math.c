/* Elementary functions against libm in long double: the error in units of the last place over samples of
   all bit patterns and of the ranges where functions bend, and special values. The bounds are those of
   docs/math.md; they hold in the interpreter, whose fma is fused, and in machine code with and without it. The
   f32 functions are tested for targets with f64 arithmetic and for those without. */
#include "codegen/codegen.h"

#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLES = 1 << 13, ROUNDS = 12, NSPECIAL = 26 };
enum { POW = -1, FMOD = -2, GATE = -3 };

static long double sigmoid_of(long double x) { return 1 / (1 + expl(-x)); }
static long double softplus_of(long double x) { return (x > 0 ? x : 0) + log1pl(expl(-fabsl(x))); }

static long double silu2_of(long double x) {
  long double z = x * 0.346573590279972654709L;
  return isinf(x) ? (x > 0 ? x : NAN) : z / (1 + expl(-z));
}

typedef struct row {
  int code;
  const char *name;
  long double (*exact)(long double);
  double bound_f32, bound_f32_alone, bound_f64; /* alone: without f64 */
} row;

static const row rows[] = {
  {NN_OP_EXP, "exp", expl, 1.05, 1.05, 1.05},                         {NN_OP_LOG, "log", logl, 0.85, 0.85, 0.85},
  {NN_OP_EXPM1, "expm1", expm1l, 1.8, 1.8, 2.0},                      {NN_OP_LOG1P, "log1p", log1pl, 1.5, 1.5, 1.5},
  {NN_OP_SIN, "sin", sinl, 0.51, 0.84, 0.85},                         {NN_OP_COS, "cos", cosl, 0.51, 0.84, 0.85},
  {NN_OP_TAN, "tan", tanl, 0.51, 2.6, 2.4},                           {NN_OP_ASIN, "asin", asinl, 2.1, 2.1, 2.1},
  {NN_OP_ACOS, "acos", acosl, 1.25, 1.25, 1.25},                      {NN_OP_ATAN, "atan", atanl, 2.2, 2.2, 2.0},
  {NN_OP_SINH, "sinh", sinhl, 2.3, 2.3, 2.4},                         {NN_OP_COSH, "cosh", coshl, 1.7, 1.7, 1.6},
  {NN_OP_TANH, "tanh", tanhl, 2.6, 2.6, 2.6},                         {NN_OP_ASINH, "asinh", asinhl, 1.9, 1.9, 1.8},
  {NN_OP_ACOSH, "acosh", acoshl, 2.0, 2.0, 2.1},                      {NN_OP_ATANH, "atanh", atanhl, 2.1, 2.1, 2.1},
  {NN_OP_ERF, "erf", erfl, 1.5, 1.5, 1.4},                            {NN_OP_SIGMOID, "sigmoid", sigmoid_of, 4.6, 4.6, 2.3},
  {NN_OP_SILU2, "silu2", silu2_of, 3.5, 3.5, 2.5},
  {NN_OP_SOFTPLUS, "softplus", softplus_of, 1.7, 1.7, 1.8},
};

/* f32 by lookups. */
static const double sigmoid_by_lookup = 3.45, gate_by_lookup = 3.7, silu2_by_lookup = 3.05;

/* --fp fast, f32: |error| <= absolute + relative |f(x)|, and results below the normal numbers may be 0. */
typedef struct near_row {
  int code;
  double absolute, relative;
} near_row;

static const near_row near_rows[] = {
  {NN_OP_EXP, 0, 8e-6}, {NN_OP_TANH, 4e-6, 0}, {NN_OP_SIGMOID, 0, 8e-6}, {NN_OP_ERF, 1e-5, 0}};

/* ---- engines --------------------------------------------------------------------------------------------------- */

typedef struct engine {
  const char *name, *cpu; /* cpu NULL: the interpreter */
  bool without_f64, with_lookup; /* with_lookup: of the interpreter */
  nncc_fp fp;
  nn_jit *jit;
  nn_target target;
  nn_module *m;
} engine;

static nn_kernel *build(nn_module *m, const nn_target *target, int code, nn_dtype t, int64_t n) {
  nn_kernel *k = nn_kernel_new(m, "k");
  nn_lower L = {.module = m, .target = target, .kernel = k};
  nn_dim count = nn_dim_const(m, n);
  nn_buf *a = nn_kernel_buf(k, "a", NN_BUF_PARAM, t, count, false), *b = nn_kernel_buf(k, "b", NN_BUF_PARAM, t, count, false);
  nn_buf *c = nn_kernel_buf(k, "c", NN_BUF_PARAM, t, count, true);
  nn_x *i = nn_loop_range(k, NN_FOR, "i", n / 8), *l = nn_loop_range(k, NN_VECTOR, "l", 8);
  nn_x *at = nn_xi_add(k, nn_xi_mulc(k, i, 8), l);
  nn_x *x = nn_let(k, nn_x_load(k, a, at, NULL)), *y = nn_let(k, nn_x_load(k, b, at, NULL));
  nn_x *value = code == POW    ? nn_math_pow(&L, x, y)
                : code == FMOD ? nn_math_fmod(&L, x, y)
                : code == GATE ? nn_math_gate(&L, x, y)
                               : nn_math(&L, (nn_opcode)code, x);
  nn_store(k, c, at, value, NULL);
  nn_end(k);
  nn_end(k);
  cr_assert_eq(nn_kernel_verify(k, &m->diags), NN_OK);
  return k;
}

static void run(engine *e, nn_kernel *k, const void *x, const void *y, void *z) {
  void *args[] = {(void *)(uintptr_t)x, (void *)(uintptr_t)y, z};
  nncc_rt_ctx ctx = {0};
  nn_kernel_fn *fn;
  if (!e->cpu) {
    cr_assert_eq(nn_kernel_eval(k, args, NULL, NULL), 0);
    return;
  }
  cr_assert_eq(nn_jit_kernel(e->jit, &e->target, k, &fn), NN_OK);
  cr_assert_eq(fn(&ctx, args, NULL), 0);
}

static void open_engine(engine *e) {
  e->m = nn_module_new("math");
  e->target.has_sqrt_f64 = !e->without_f64;
  e->target.fp = e->fp;
  e->target.has_fma = e->target.has_lookup = e->with_lookup;
  if (!e->cpu) return;
  cr_assert_eq(nn_target_init(&e->target, NULL, e->cpu, &e->m->diags), NN_OK);
  e->target.has_sqrt_f64 = !e->without_f64; /* then f64 operations in a kernel fail to compile */
  e->target.fp = e->fp;
  e->jit = nn_jit_new(&e->m->diags);
  cr_assert(e->jit);
}

static void close_engine(engine *e) {
  if (e->cpu) {
    nn_jit_free(e->jit);
    nn_target_free(&e->target);
  }
  nn_module_free(e->m);
}

/* ---- samples ----------------------------------------------------------------------------------------------------- */

static uint64_t seed = 88172645463325252u;

static uint64_t next_random(void) {
  seed ^= seed << 13;
  seed ^= seed >> 7;
  seed ^= seed << 17;
  return seed;
}

static double between(double size) { return ((double)(next_random() >> 11) * 0x1p-53 - 0.5) * 2 * size; }

static double any_bits(nn_dtype t) {
  uint64_t bits = next_random();
  if (t == NN_F64) {
    double d;
    memcpy(&d, &bits, 8);
    return d;
  }
  float f;
  memcpy(&f, &bits, 4);
  return (double)f;
}

static const double special[NSPECIAL] = {0, -0.0, 1, -1, 2, -2, 0.5, -0.5, 3, INFINITY, -INFINITY, NAN, 1e-45, -1e-45, 1e-39, 5e-324, -5e-324, FLT_MAX,
                                         -FLT_MAX, FLT_MIN, 88.72, -87.5, -103.9, 710, -745, 1e22};

static double sample(nn_dtype t, int round, int i) {
  static const double sizes[] = {0.1, 1.1, 2, 6, 20, 105}; /* and where f64 overflows */
  if (round == 0 && i < NSPECIAL) return special[i];
  if (round < ROUNDS / 2) return any_bits(t);
  return between(round == ROUNDS - 1 && t == NN_F64 ? 750 : sizes[round - ROUNDS / 2]);
}

static double get(nn_dtype t, const void *data, int i) { return nn_load_f64(t, data, (size_t)i); }

/* ---- errors in the last place ---------------------------------------------------------------------------------- */

static bool may_lose_sign; /* of a zero: --fp fast */

static double ulps(nn_dtype t, double got, long double want) {
  int exponent, digits = t == NN_F64 ? DBL_MANT_DIG : FLT_MANT_DIG, least = t == NN_F64 ? -1074 : -149;
  long double largest = t == NN_F64 ? (long double)DBL_MAX : (long double)FLT_MAX;
  if (isnan(got) || isnan(want)) return isnan(got) && isnan(want) ? 0 : INFINITY;
  if (isinf(got) || fabsl(want) > largest) { /* the border of overflow may be one unit off */
    bool both_large = fabs(got) >= (double)largest && fabsl(want) >= largest * (1 - ldexpl(2, -digits));
    return both_large && !signbit(got) == !signbit(want) ? 0 : INFINITY;
  }
  if (want == 0) return got == 0 && (may_lose_sign || !signbit(got) == !signbit(want)) ? 0 : INFINITY;
  frexpl(want, &exponent);
  int unit = exponent - digits < least ? least : exponent - digits;
  return (double)(fabsl((long double)got - want) / ldexpl(1, unit));
}

/* Where a bound is not promised, see docs/math.md. Sigmoid's results there are tiny, or 0. */
static bool is_excluded(int code, nn_dtype t, double x, double got) {
  if (code == NN_OP_SIGMOID) return x < (t == NN_F64 ? -708 : -87) && got >= 0 && got <= (t == NN_F64 ? 1e-307 : 1e-37);
  if (code == NN_OP_SILU2) return x < (t == NN_F64 ? -2042 : -251) && !(got > 0) && got >= x * (t == NN_F64 ? 1e-307 : 1e-38);
  return t == NN_F64 && (code == NN_OP_SIN || code == NN_OP_COS || code == NN_OP_TAN) && fabs(x) > 0x1p31 && !isinf(x);
}

/* Within the row's bound of --fp fast. A zero may have the other sign. */
static bool is_near(const near_row *n, double got, long double want) {
  if (isnan(want) || isnan(got)) return isnan(want) && isnan(got);
  if (isinf(got)) return fabsl(want) >= 2.3e38L && (got < 0) == (want < 0); /* where exp may be infinite a little early */
  return fabsl((long double)got - want) <= (long double)n->absolute + (long double)n->relative * fabsl(want) + 1.2e-38L;
}

static const near_row *near_row_of(const engine *e, int code, nn_dtype t) {
  for (size_t i = 0; i < sizeof near_rows / sizeof *near_rows; i++)
    if (e->fp == NNCC_FP_FAST && t == NN_F32 && near_rows[i].code == code) return &near_rows[i];
  return NULL;
}

static void check_function(engine *e, const row *r, nn_dtype t) {
  static double x[SAMPLES], z[SAMPLES];
  const near_row *near = near_row_of(e, r->code, t);
  nn_kernel *k = build(e->m, &e->target, r->code, t, SAMPLES);
  double bound = t == NN_F64 ? r->bound_f64 : e->without_f64 ? r->bound_f32_alone : r->bound_f32;
  if (r->code == NN_OP_SIGMOID && t == NN_F32 && e->target.has_lookup) bound = sigmoid_by_lookup;
  if (r->code == NN_OP_SILU2 && t == NN_F32 && e->target.has_lookup) bound = silu2_by_lookup;
  for (int round = 0; round < ROUNDS; round++) {
    for (int i = 0; i < SAMPLES; i++) nn_store_f64(t, x, (size_t)i, sample(t, round, i));
    run(e, k, x, x, z);
    for (int i = 0; i < SAMPLES; i++) {
      double in = get(t, x, i), out = get(t, z, i);
      if (near) {
        cr_assert(is_near(near, out, r->exact((long double)in)), "%s: %s of %.17g is %.17g, expected %.9Lg", e->name, r->name, in, out, r->exact((long double)in));
        continue;
      }
      if (is_excluded(r->code, t, in, out)) continue;
      double error = ulps(t, out, r->exact((long double)in));
      cr_assert(error <= bound, "%s: %s %s of %.17g is %.17g: %g ulp, bound %g", e->name, r->name, nn_dtype_name(t), in, out, error, bound);
    }
  }
}

static void check_functions(engine e) {
  open_engine(&e);
  may_lose_sign = e.fp == NNCC_FP_FAST;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    check_function(&e, &rows[i], NN_F32);
    if (!e.without_f64) check_function(&e, &rows[i], NN_F64);
  }
  close_engine(&e);
}

Test(loop_math, functions_interpreted) { check_functions((engine){.name = "interpreter"}); }
Test(loop_math, functions_with_lookups) { check_functions((engine){.name = "interpreter with lookups", .with_lookup = true}); }
Test(loop_math, functions_compiled) { check_functions((engine){.name = "native", .cpu = "native"}); }
Test(loop_math, near_functions_interpreted) { check_functions((engine){.name = "interpreter", .fp = NNCC_FP_FAST}); }
Test(loop_math, near_functions_compiled) { check_functions((engine){.name = "native", .cpu = "native", .fp = NNCC_FP_FAST}); }
Test(loop_math, functions_without_f64_interpreted) { check_functions((engine){.name = "interpreter", .without_f64 = true}); }
Test(loop_math, functions_without_f64_compiled) { check_functions((engine){.name = "native", .cpu = "native", .without_f64 = true}); }
#ifdef __x86_64__
Test(loop_math, near_functions_without_fma) { check_functions((engine){.name = "x86-64-v2", .cpu = "x86-64-v2", .fp = NNCC_FP_FAST}); }
Test(loop_math, functions_without_fma) { check_functions((engine){.name = "x86-64-v2", .cpu = "x86-64-v2"}); }
Test(loop_math, functions_without_f64_and_fma) { check_functions((engine){.name = "x86-64-v2", .cpu = "x86-64-v2", .without_f64 = true}); }
#endif

/* Angles near multiples of pi/2, where a reduction loses what it has too few bits for: 2^-30 is the least distance. */
static void check_near_multiples(engine e) {
  static const float nearest[] = {0x1.921fb6p+0f, 0x1.2d97c8p+2f, 0x1.f9cbe2p+7f, 0x1.47d0fep+34f, 0x1.f37c8ap+95f};
  enum { NNEAREST = (int)(sizeof nearest / sizeof *nearest) };
  static float x[SAMPLES], z[SAMPLES];
  open_engine(&e);
  for (int i = 0; i < SAMPLES; i++) {
    x[i] = i < NNEAREST ? nearest[i] : (float)((double)(1 + (next_random() >> 44)) * 1.57079632679489661923);
    if (i % 2) x[i] = -x[i];
  }
  for (const row *r = rows; r < rows + sizeof rows / sizeof *rows; r++) {
    if (r->code != NN_OP_SIN && r->code != NN_OP_COS && r->code != NN_OP_TAN) continue;
    run(&e, build(e.m, &e.target, r->code, NN_F32, SAMPLES), x, x, z);
    for (int i = 0; i < SAMPLES; i++) {
      double error = ulps(NN_F32, (double)z[i], r->exact((long double)x[i]));
      cr_assert(error <= (e.without_f64 ? r->bound_f32_alone : r->bound_f32), "%s: %s of %a is %a: %g ulp", e.name, r->name, (double)x[i], (double)z[i], error);
    }
  }
  close_engine(&e);
}

Test(loop_math, near_multiples_of_pi) {
  check_near_multiples((engine){.name = "interpreter"});
  check_near_multiples((engine){.name = "interpreter", .without_f64 = true});
  check_near_multiples((engine){.name = "native", .cpu = "native", .without_f64 = true});
}

/* ---- two operands ------------------------------------------------------------------------------------------------- */

static double power_sample(nn_dtype t, int round, int i, bool is_exponent) {
  if (round == 0 && i < NSPECIAL * NSPECIAL) return special[is_exponent ? i % NSPECIAL : i / NSPECIAL];
  if (round < 4) return any_bits(t);
  if (round == ROUNDS - 1) return is_exponent ? between(t == NN_F64 ? 7500 : 1000) : 1 + between(0.1); /* results of all sizes */
  if (!is_exponent) return round < 8 ? any_bits(t) : 1 + between(0.9);
  return round % 2 ? rint(between(round < 8 ? 20 : 300)) : between(round < 8 ? 20 : 300);
}

static void check_two(engine *e, int code, nn_dtype t, double bound) {
  static double x[SAMPLES], y[SAMPLES], z[SAMPLES];
  nn_kernel *k = build(e->m, &e->target, code, t, SAMPLES);
  for (int round = 0; round < ROUNDS; round++) {
    for (int i = 0; i < SAMPLES; i++) {
      nn_store_f64(t, x, (size_t)i, power_sample(t, round, i, false));
      nn_store_f64(t, y, (size_t)i, power_sample(t, round, i, true));
    }
    run(e, k, x, y, z);
    for (int i = 0; i < SAMPLES; i++) {
      double a = get(t, x, i), b = get(t, y, i), out = get(t, z, i);
      double error = ulps(t, out, code == POW ? powl((long double)a, (long double)b) : fmodl((long double)a, (long double)b));
      cr_assert(error <= bound, "%s: %s %s of %.17g, %.17g is %.17g: %g ulp, bound %g", e->name, code == POW ? "pow" : "fmod", nn_dtype_name(t), a, b, out, error, bound);
    }
  }
}

static void check_powers(engine e) {
  open_engine(&e);
  check_two(&e, POW, NN_F32, e.without_f64 ? 1.25 : 0.51);
  check_two(&e, FMOD, NN_F32, 0);
  if (!e.without_f64) {
    check_two(&e, POW, NN_F64, 1.2);
    check_two(&e, FMOD, NN_F64, 0);
  }
  close_engine(&e);
}

Test(loop_math, powers_interpreted) { check_powers((engine){.name = "interpreter"}); }
Test(loop_math, powers_compiled) { check_powers((engine){.name = "native", .cpu = "native"}); }
Test(loop_math, powers_without_f64_interpreted) { check_powers((engine){.name = "interpreter", .without_f64 = true}); }
Test(loop_math, powers_without_f64_compiled) { check_powers((engine){.name = "native", .cpu = "native", .without_f64 = true}); }
#ifdef __x86_64__
Test(loop_math, powers_without_fma) { check_powers((engine){.name = "x86-64-v2", .cpu = "x86-64-v2"}); }
Test(loop_math, powers_without_f64_and_fma) { check_powers((engine){.name = "x86-64-v2", .cpu = "x86-64-v2", .without_f64 = true}); }
#endif

/* y * sigmoid(x), for x whose sigmoid is a normal number, and where it is 0 or 1. */
static void check_gate(engine *e, nn_dtype t, double bound) {
  static double x[SAMPLES], y[SAMPLES], z[SAMPLES];
  nn_kernel *k = build(e->m, &e->target, GATE, t, SAMPLES);
  for (int round = 0; round < ROUNDS; round++) {
    for (int i = 0; i < SAMPLES; i++) {
      nn_store_f64(t, y, (size_t)i, round == 0 && i < NSPECIAL ? special[i] : between(round < 6 ? 2 : 1000));
      nn_store_f64(t, x, (size_t)i, between(round % 2 ? 3 : 86));
    }
    nn_store_f64(t, y, 0, 3);
    nn_store_f64(t, x, 0, -INFINITY);
    nn_store_f64(t, y, 1, 3);
    nn_store_f64(t, x, 1, INFINITY);
    nn_store_f64(t, x, 2, NAN);
    run(e, k, y, x, z);
    for (int i = 0; i < SAMPLES; i++) {
      double a = get(t, y, i), b = get(t, x, i), out = get(t, z, i);
      long double exact = (long double)a * sigmoid_of((long double)b);
      if (exact != 0 && fabsl(exact) < (t == NN_F32 ? (long double)FLT_MIN : (long double)DBL_MIN)) continue;
      double error = ulps(t, out, exact);
      cr_assert(error <= bound, "%s: gate %s of %.17g, %.17g is %.17g: %g ulp, bound %g", e->name, nn_dtype_name(t), a, b, out, error, bound);
    }
  }
}

static void check_gates(engine e) {
  open_engine(&e);
  check_gate(&e, NN_F32, e.target.has_lookup ? gate_by_lookup : 5.5);
  check_gate(&e, NN_F64, 2.3);
  close_engine(&e);
}

Test(loop_math, gates) {
  check_gates((engine){.name = "interpreter"});
  check_gates((engine){.name = "interpreter with lookups", .with_lookup = true});
  check_gates((engine){.name = "native", .cpu = "native"});
#ifdef __x86_64__
  check_gates((engine){.name = "x86-64-v2", .cpu = "x86-64-v2"});
#endif
}

/* Exponents that are constants take other ways. */
static void check_constant_exponents(const nn_target *target) {
  static const double exponents[] = {0, 1, 2, 3, -1, 0.5, -2, 2.5};
  nn_module *m = nn_module_new("t");
  for (size_t e = 0; e < sizeof exponents / sizeof *exponents; e++) {
    nn_kernel *k = nn_kernel_new(m, "k");
    nn_lower L = {.module = m, .target = target, .kernel = k};
    nn_buf *a = nn_kernel_buf(k, "a", NN_BUF_PARAM, NN_F32, nn_dim_const(m, NSPECIAL), false);
    nn_buf *c = nn_kernel_buf(k, "c", NN_BUF_PARAM, NN_F32, nn_dim_const(m, NSPECIAL), true);
    nn_x *i = nn_loop_range(k, NN_FOR, "i", NSPECIAL), *x = nn_let(k, nn_x_load(k, a, i, NULL));
    nn_store(k, c, i, nn_math_pow(&L, x, nn_x_const(k, NN_F32, exponents[e])), NULL);
    nn_end(k);
    float in[NSPECIAL], out[NSPECIAL];
    for (int j = 0; j < NSPECIAL; j++) in[j] = (float)special[j];
    void *args[] = {in, out};
    cr_assert_eq(nn_kernel_eval(k, args, NULL, NULL), 0);
    for (int j = 0; j < NSPECIAL; j++)
      cr_assert(ulps(NN_F32, out[j], powl((long double)in[j], (long double)exponents[e])) <= 2, "%g to the %g is %g", (double)in[j], exponents[e], (double)out[j]);
  }
  nn_module_free(m);
}

Test(loop_math, constant_exponents) {
  check_constant_exponents(NULL);
  check_constant_exponents(&(nn_target){.has_sqrt_f64 = false});
}

/* Firmware: f32 functions and those of narrower types are f32 and integer instructions, and no calls. */
Test(loop_math, functions_without_f64_call_nothing) {
  enum { NROWS = (int)(sizeof rows / sizeof *rows) };
  static const nn_dtype types[] = {NN_F32, NN_F16, NN_BF16};
  for (int i = 0; i < NROWS + 2; i++) {
    int code = i < NROWS ? rows[i].code : i == NROWS ? POW : FMOD;
    for (int t = 0; t < 3; t++) {
      nn_module *m = nn_module_new("t");
      nn_target target;
      cr_assert_eq(nn_target_init(&target, "thumbv7em-none-eabihf", "cortex-m4", &m->diags), NN_OK);
      char *text = NULL;
      cr_assert_eq(nn_kernel_assembly(&target, build(m, &target, code, types[t], 8), m->arena, &text), NN_OK, "function %d of %s", i, nn_dtype_name(types[t]));
      cr_assert_null(strstr(text, "\tbl\t"), "function %d of %s:\n%s", i, nn_dtype_name(types[t]), text);
      nn_target_free(&target);
      nn_module_free(m);
    }
  }
}

/* Narrow types are the f32 result, rounded: every value of f16. */
Test(loop_math, half_precision_is_rounded_once) {
  enum { ALL = 65536 };
  static uint16_t in[ALL], out[ALL];
  nn_module *m = nn_module_new("t");
  engine e = {.name = "interpreter", .m = m};
  for (int i = 0; i < ALL; i++) in[i] = (uint16_t)i;
  run(&e, build(m, NULL, NN_OP_TANH, NN_F16, ALL), in, in, out);
  for (int i = 0; i < ALL; i++) {
    double x = get(NN_F16, in, i), got = get(NN_F16, out, i), want = nn_round_to(NN_F16, tanh(x));
    cr_assert(got == want || (isnan(got) && isnan(want)) || fabs(got - want) <= 0x1p-11 * fabs(want) * 1.001, "tanh of %g is %g, expected %g", x, got, want);
  }
  nn_module_free(m);
}
