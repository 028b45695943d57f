/* Pointwise ops against C: every pair of some telling values, in several element types. */
#include "tests/codegen/run_case.h"

typedef double binary_fn(double x, double y);
typedef double unary_fn(double x);

static const double floats[] = {0.0,  -0.0,  1,    -1,    0.5,  -0.5,     2.5,       -2.5, 3,  -3,
                                7.25, -7.25, 1e10, -1e10, 1e-3, INFINITY, -INFINITY, NAN,  0.1};
static const double ints[] = {0, 1, -1, 2, -2, 3, -3, 5, -7, 31, 100, -100, 127, -128};
static const double naturals[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 100, 200, 254, 255};

typedef struct value_list {
  const double *items;
  int count;
} value_list;
#define LIST(array)                                                                                                    \
  { array, (int)(sizeof array / sizeof *array) }

static value_list values_of(nn_dtype t) {
  if (nn_dtype_is_float(t)) return (value_list)LIST(floats);
  if (nn_dtype_kind_of(t) == NN_KIND_BOOL) return (value_list){naturals, 2};
  return nn_dtype_kind_of(t) == NN_KIND_UINT ? (value_list)LIST(naturals) : (value_list)LIST(ints);
}

static bool is_same(double a, double b, double tolerance) {
  return a == b || (isnan(a) && isnan(b)) || fabs(a - b) <= tolerance * fabs(b);
}

/* op on all pairs of values of `type`; the result is of type `to`. attributes: "" or " {..}" */
static void try_binary(const char *op, nn_dtype t, nn_dtype to, binary_fn *expect, double tolerance) {
  value_list v = values_of(t);
  char text[512];
  const char *type = nn_dtype_name(t);
  case_text(text, sizeof text,
            "nncc 1\ngraph @main(%%x: %s[%d,%d], %%y: %s[%d,%d]) -> (%s[%d,%d]) {\n  %%0 = %s %%x, %%y : %s[%d,%d]\n  "
            "return %%0\n}\n",
            type, v.count, v.count, type, v.count, v.count, nn_dtype_name(to), v.count, v.count, op, nn_dtype_name(to),
            v.count, v.count);
  run_case c = case_open(text, false, 1);
  for (int i = 0; i < v.count * v.count; i++) {
    nn_store_f64(t, c.in[0].data, (size_t)i, v.items[i / v.count]);
    nn_store_f64(t, c.in[1].data, (size_t)i, v.items[i % v.count]);
  }
  case_run(&c);
  cr_assert_eq(c.code, 0);
  for (int i = 0; i < v.count * v.count; i++) {
    double x = nn_load_f64(t, c.in[0].data, (size_t)i), y = nn_load_f64(t, c.in[1].data, (size_t)i);
    double wanted = expect(x, y), got = case_out(&c, 0, i);
    cr_assert(is_same(got, wanted, tolerance), "%s %s(%g, %g) = %.9g, expected %.9g", type, op, x, y, got, wanted);
  }
  case_close(&c);
}

static void try_unary(const char *op, const char *attributes, nn_dtype t, nn_dtype to, unary_fn *expect,
                      double tolerance) {
  value_list v = values_of(t);
  char text[512];
  case_text(text, sizeof text,
            "nncc 1\ngraph @main(%%x: %s[%d]) -> (%s[%d]) {\n  %%0 = %s %%x%s : %s[%d]\n  return %%0\n}\n",
            nn_dtype_name(t), v.count, nn_dtype_name(to), v.count, op, attributes, nn_dtype_name(to), v.count);
  run_case c = case_open(text, false, 1);
  for (int i = 0; i < v.count; i++) nn_store_f64(t, c.in[0].data, (size_t)i, v.items[i]);
  case_run(&c);
  cr_assert_eq(c.code, 0);
  for (int i = 0; i < v.count; i++) {
    double x = nn_load_f64(t, c.in[0].data, (size_t)i), wanted = expect(x), got = case_out(&c, 0, i);
    cr_assert(is_same(got, wanted, tolerance), "%s %s(%g) = %.9g, expected %.9g", nn_dtype_name(t), op, x, got, wanted);
  }
  case_close(&c);
}

/* ---- what is expected ---------------------------------------------------------------------------- */

static int8_t wrap8(double x) { return (int8_t)(int64_t)x; }
static double add8(double x, double y) { return wrap8(x + y); }
static double sub8(double x, double y) { return wrap8(x - y); }
static double mul8(double x, double y) { return wrap8(x * y); }
static double div8(double x, double y) { return y == 0 ? 0 : wrap8((int)x / (int)y); }
static double mod8(double x, double y) { return y == 0 ? 0 : (double)((((int)x % (int)y) + (int)y) % (int)y); }
static double rem8(double x, double y) { return y == 0 ? 0 : (double)((int)x % (int)y); }
static double min_nan(double x, double y) { return isnan(x) || isnan(y) ? NAN : x < y ? x : y; }
static double max_nan(double x, double y) { return isnan(x) || isnan(y) ? NAN : x > y ? x : y; }
static double eq(double x, double y) { return x == y; }
static double ne(double x, double y) { return x != y; }
static double lt(double x, double y) { return x < y; }
static double le(double x, double y) { return x <= y; }
static double addf(double x, double y) { return (float)((float)x + (float)y); }
static double divf(double x, double y) { return (float)((float)x / (float)y); }
static double shl_u8(double x, double y) { return y >= 8 ? 0 : (uint8_t)((int)x << (int)y); }
static double shr_u8(double x, double y) { return y >= 8 ? 0 : (int)x >> (int)y; }
static double shr_i8(double x, double y) { return y < 0 || y >= 8 ? (x < 0 ? -1 : 0) : (int)x >> (int)y; }
static double and_u8(double x, double y) { return (int)x & (int)y; }
static double xor_bool(double x, double y) { return x != y; }
static double or_bool(double x, double y) { return x || y; }
static double fmodf_(double x, double y) { return fmodf((float)x, (float)y); }
static double pow_float(double x, double y) { return powf((float)x, (float)y); }

static double modf_(double x, double y) {
  float r = fmodf((float)x, (float)y);
  return r != 0 && (r < 0) != (y < 0) ? r + (float)y : r;
}

static double pow8(double x, double y) {
  int8_t r = 1;
  if (y < 0) return x == 1 ? 1 : x == -1 ? ((int)y % 2 ? -1 : 1) : 0;
  for (int i = 0; i < (int)y; i++) r = (int8_t)(r * (int8_t)x);
  return r;
}

Test(lower_elem, integers) {
  try_binary("add", NN_I8, NN_I8, add8, 0);
  try_binary("sub", NN_I8, NN_I8, sub8, 0);
  try_binary("mul", NN_I8, NN_I8, mul8, 0);
  try_binary("div", NN_I8, NN_I8, div8, 0);
  try_binary("mod", NN_I8, NN_I8, mod8, 0);
  try_binary("fmod", NN_I8, NN_I8, rem8, 0);
  try_binary("pow", NN_I8, NN_I8, pow8, 0);
  try_binary("min", NN_I8, NN_I8, min_nan, 0);
  try_binary("max", NN_U8, NN_U8, max_nan, 0);
  try_binary("lt", NN_U8, NN_BOOL, lt, 0);
  try_binary("le", NN_I64, NN_BOOL, le, 0);
  try_binary("eq", NN_I32, NN_BOOL, eq, 0);
}

Test(lower_elem, bits) {
  try_binary("shl", NN_U8, NN_U8, shl_u8, 0);
  try_binary("shr", NN_U8, NN_U8, shr_u8, 0);
  try_binary("shr", NN_I8, NN_I8, shr_i8, 0);
  try_binary("bitand", NN_U8, NN_U8, and_u8, 0);
  try_binary("xor", NN_BOOL, NN_BOOL, xor_bool, 0);
  try_binary("or", NN_BOOL, NN_BOOL, or_bool, 0);
  try_binary("eq", NN_BOOL, NN_BOOL, eq, 0);
}

Test(lower_elem, floats) {
  try_binary("add", NN_F32, NN_F32, addf, 0);
  try_binary("div", NN_F32, NN_F32, divf, 0);
  try_binary("min", NN_F32, NN_F32, min_nan, 0);
  try_binary("max", NN_F64, NN_F64, max_nan, 0);
  try_binary("eq", NN_F32, NN_BOOL, eq, 0);
  try_binary("ne", NN_F32, NN_BOOL, ne, 0);
  try_binary("lt", NN_F16, NN_BOOL, lt, 0);
  try_binary("le", NN_F64, NN_BOOL, le, 0);
  try_binary("fmod", NN_F32, NN_F32, fmodf_, 0);
  try_binary("mod", NN_F32, NN_F32, modf_, 1e-6);
  try_binary("pow", NN_F32, NN_F32, pow_float, 1e-5);
}

static double sign(double x) { return x > 0 ? 1 : x < 0 ? -1 : x; }
static double relu(double x) { return isnan(x) || x > 0 ? x : 0; }
static double recipf(double x) { return 1.0f / (float)x; }
static double is_nan(double x) { return isnan(x) != 0; }
static double is_inf(double x) { return isinf(x) != 0; }
static double is_minus_inf(double x) { return x == -INFINITY; }
static double negated(double x) { return -x; }
static double as_bool(double x) { return x != 0; }
static double as_i8(double x) { return isnan(x) ? 0 : x > 127 ? 127 : x < -128 ? -128 : trunc(x); }
static double inverted8(double x) { return ~(int)x; }
static double sqrtf_(double x) { return sqrtf((float)x); }

Test(lower_elem, unary) {
  try_unary("sign", "", NN_F32, NN_F32, sign, 0);
  try_unary("sign", "", NN_I8, NN_I8, sign, 0);
  try_unary("sign", "", NN_U8, NN_U8, sign, 0);
  try_unary("relu", "", NN_F32, NN_F32, relu, 0);
  try_unary("relu", "", NN_BF16, NN_BF16, relu, 0);
  try_unary("abs", "", NN_F64, NN_F64, fabs, 0);
  try_unary("neg", "", NN_F16, NN_F16, negated, 0);
  try_unary("recip", "", NN_F32, NN_F32, recipf, 0);
  try_unary("round", "", NN_F32, NN_F32, rint, 0);
  try_unary("floor", "", NN_F64, NN_F64, floor, 0);
  try_unary("sqrt", "", NN_F32, NN_F32, sqrtf_, 0);
  try_unary("is_nan", "", NN_F16, NN_BOOL, is_nan, 0);
  try_unary("is_inf", "", NN_F32, NN_BOOL, is_inf, 0);
  try_unary("is_inf", " {positive=0}", NN_F64, NN_BOOL, is_minus_inf, 0);
  try_unary("is_inf", "", NN_F16, NN_BOOL, is_inf, 0);
  try_unary("bitnot", "", NN_I8, NN_I8, inverted8, 0);
  try_unary("cast", " {to=bool}", NN_F32, NN_BOOL, as_bool, 0);
  try_unary("cast", " {to=i8}", NN_F32, NN_I8, as_i8, 0);
}

static double tanh_(double x) { return tanh(x); }
static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double softplus(double x) { return x > 50 ? x : log1p(exp(x)); }

Test(lower_elem, functions) {
  try_unary("exp", "", NN_F64, NN_F64, exp, 1e-12);
  try_unary("tanh", "", NN_F64, NN_F64, tanh_, 1e-12);
  try_unary("sigmoid", "", NN_F64, NN_F64, sigmoid, 1e-12);
  try_unary("softplus", "", NN_F64, NN_F64, softplus, 1e-12);
  try_unary("erf", "", NN_F64, NN_F64, erf, 1e-12);
  try_unary("log1p", "", NN_F64, NN_F64, log1p, 1e-12);
}

/* x to a power that is a constant takes short cuts. */
static void try_power(double exponent) {
  value_list v = values_of(NN_F32);
  char text[512];
  case_text(text, sizeof text,
            "nncc 1\nconst $p : f32[] = [%g]\ngraph @main(%%x: f32[%d]) -> (f32[%d]) {\n  %%p = broadcast $p "
            "{dims=[%d]} : f32[%d]\n  %%0 = pow %%x, %%p : f32[%d]\n  return %%0\n}\n",
            exponent, v.count, v.count, v.count, v.count, v.count);
  run_case c = case_open(text, true, 1);
  for (int i = 0; i < v.count; i++) nn_store_f64(NN_F32, c.in[0].data, (size_t)i, v.items[i]);
  case_run(&c);
  for (int i = 0; i < v.count; i++) {
    float x = (float)v.items[i];
    cr_assert(is_same(case_out(&c, 0, i), powf(x, (float)exponent), 1e-6), "pow(%g, %g) = %g", x, exponent,
              case_out(&c, 0, i));
  }
  case_close(&c);
}

Test(lower_elem, constant_powers) {
  static const double exponents[] = {0, 1, 2, 3, -1, 0.5, -0.5, 1.5, 4};
  for (size_t i = 0; i < sizeof exponents / sizeof *exponents; i++) try_power(exponents[i]);
}

/* Sizes around the vector length, where loops have rests. */
Test(lower_elem, sizes) {
  for (int n = 0; n < 70; n += n < 36 ? 1 : 5) {
    run_case c = case_open("nncc 1\ngraph @main(%x: f32[N], %y: f32[N]) -> (f32[N], bool[N]) {\n  %0 = add %x, %y : "
                           "f32[N]\n  %1 = neg %0 : f32[N]\n"
                           "  %2 = lt %1, %x : bool[N]\n  return %1, %2\n}\n",
                           true, n);
    case_run(&c);
    cr_assert_eq(c.code, 0);
    for (int k = 0; k < n; k++)
      cr_assert(case_out(&c, 0, k) == -2 * k && case_out(&c, 1, k) == (k > 0), "size %d, element %d", n, k);
    case_close(&c);
    char text[256];
    case_text(text, sizeof text,
              "nncc 1\ngraph @main(%%x: f32[%d]) -> (f32[%d]) {\n  %%0 = neg %%x : f32[%d]\n  return %%0\n}\n", n, n,
              n);
    c = case_open(text, false, 1);
    case_run(&c);
    for (int k = 0; k < n; k++) cr_assert_eq(case_out(&c, 0, k), -k);
    case_close(&c);
  }
}

/* Large enough to be cut into tasks; the symbolic form computes the same cut. */
Test(lower_elem, tasks) {
  static const char *const types[] = {"3,50,701", "N,50,701", "100000", "7,N,20011", "70001,3"};
  for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
    char text[512];
    case_text(text, sizeof text,
              "nncc 1\nconst $b : f32[1,1] = [1]\ngraph @main(%%x: f32[%s]) -> (f32[%s]) {\n  %%0 = neg %%x : "
              "f32[%s]\n  return %%0\n}\n",
              types[i], types[i], types[i]);
    run_case c = case_open(text, false, 3);
    case_run(&c);
    cr_assert_eq(c.code, 0);
    for (int64_t k = 0; k < case_count(&c.out[0]); k++) cr_assert_eq(case_out(&c, 0, k), (double)-k);
    case_close(&c);
  }
}
