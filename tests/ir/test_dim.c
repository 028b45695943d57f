/* Symbolic dimensions: the normal form by examples, and random expressions against plain evaluation. */
#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

#include "ir/ir.h"

static nn_module *m;
static void set_up(void) { m = nn_module_new(NULL); }
static void tear_down(void) { nn_module_free(m); }
TestSuite(dim, .init = set_up, .fini = tear_down);

static nn_dim parse(const char *text) {
  const char *cursor = text;
  nn_dim d = nn_dim_parse(m, &cursor);
  cr_assert(d && !*cursor, "'%s' stops at '%s'", text, cursor);
  return d;
}

static void expect(const char *text, const char *normal) {
  cr_expect_str_eq(nn_dim_text(m->arena, parse(text)), normal, "%s gives %s, expected %s", text,
                   nn_dim_text(m->arena, parse(text)), normal);
}

Test(dim, polynomials) {
  expect("2*N*H + 3", "2*H*N + 3");
  expect("(N+1)*(N-1)", "N*N - 1");
  expect("N - N", "0");
  expect("3 - N", "-N + 3");
  expect("-(M - N)*2", "-2*M + 2*N");
  cr_assert_eq(parse("(N+M)*(N-M)"), parse("N*N - M*M"));
}

Test(dim, floordiv) {
  expect("(4*N+3) floordiv 4", "N");
  expect("(4*N+5) floordiv 4", "N + 1");
  expect("(2*N+1) floordiv 4", "N floordiv 2");
  expect("(N floordiv 2 + 1) floordiv 2", "(N + 2) floordiv 4");
  expect("N floordiv 1", "N");
  expect("N floordiv 0", "0");
  expect("-7 floordiv 2", "-4");
  expect("7 floordiv -2", "-4");
  expect("(N*H + H - 1) floordiv (H + 1)", "(H*N + H - 1) floordiv (H + 1)");
  expect("(N*M+N) floordiv (M+1)", "N");
  expect("(N mod 4) floordiv 4", "0");
  expect("(5 + N*(M+1)) floordiv (M+1)", "(M*N + N + 5) floordiv (M + 1)");
}

Test(dim, floordiv_by_a_symbol_that_cannot_be_zero) {
  parse("H");
  m->symbols[0]->min = 1;
  expect("H floordiv H", "1");
  expect("(N*H + H - 1) floordiv H", "N");
  expect("N*H ceildiv H", "N");
  expect("(N*H) mod H", "0");
  expect("(N*H + 3) mod H", "3 mod H");
}

Test(dim, division_by_what_may_be_zero_stays) {
  expect("N floordiv N", "N floordiv N");
  expect("N mod N", "0");
}

Test(dim, mod) {
  expect("N mod 1", "0");
  expect("(N mod 4) mod 2", "N mod 2");
  expect("(2*N+1) mod 4", "2*(N mod 2) + 1");
  expect("(5*N+9) mod 4", "(N + 1) mod 4");
  expect("-7 mod 4", "1");
  expect("7 mod -4", "-1");
  expect("7 mod 0", "0");
}

Test(dim, min_and_max) {
  expect("min(N, N)", "N");
  expect("min(N, N + 1)", "N");
  expect("max(N, -1)", "N");
  expect("min(min(N, 4), 7)", "min(N, 4)");
  expect("min(4, N)", "min(N, 4)");
  expect("max(max(A, B), max(B, C))", "max(A, max(B, C))");
  cr_assert_eq(parse("min(A, min(B, C))"), parse("min(min(C, A), B)"));
  expect("min(N mod 4, 3)", "N mod 4");
}

Test(dim, quotes_and_reserved_words) {
  expect("\"a b\" * 3", "3*\"a b\"");
  expect("\"min\" + \"0\"", "\"0\" + \"min\"");
  expect("\"\\x01\\\"\\\\\\n\"", "\"\\x01\\\"\\\\\\n\"");
}

Test(dim, bad_text_is_null) {
  const char *bad[] = {"",    "N +",      "(N",      "min(N",    "min",   "N floordiv", "*N",
                       "\"a", "\"a\nb\"", "\"\\q\"", "\"\\x0\"", "min()", ".a",         "\"\\x00\""};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    const char *cursor = bad[i];
    nn_dim d = nn_dim_parse(m, &cursor);
    cr_expect(!d || *cursor, "'%s'", bad[i]);
  }
  static char deep[20001];
  memset(deep, '(', 20000);
  const char *cursor = deep;
  cr_assert_null(nn_dim_parse(m, &cursor));
  memset(deep, '-', 20000);
  cr_assert_null(nn_dim_parse(m, &cursor));
}

Test(dim, overflow_is_an_expression_of_its_own) {
  const char *texts[] = {"9223372036854775807 + 1",
                         "9223372036854775807*2",
                         "-9223372036854775808*-1",
                         "99999999999999999999",
                         "N*4611686018427387904*4",
                         "-9223372036854775808 floordiv -1",
                         "overflow",
                         "0*overflow",
                         "min(N, overflow)"};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    cr_expect(nn_dim_is_overflow(parse(texts[i])), "%s", texts[i]);
  expect("-9223372036854775808", "-9223372036854775808");
  int64_t value;
  cr_assert_not(nn_dim_is_const(parse("overflow"), &value));
}

Test(dim, growth_is_bounded) {
  nn_dim d = parse("A + B + C + D + 1");
  for (int i = 0; i < 40; i++) d = nn_dim_mul(m, d, parse("A + B + C + D + 1"));
  cr_assert(nn_dim_is_overflow(d));
  d = parse("N");
  for (int i = 0; i < 200; i++) d = nn_dim_max(m, nn_dim_mod(m, d, parse("M")), nn_dim_floordiv(m, d, parse("K")));
  cr_assert(nn_dim_is_overflow(d));
}

Test(dim, broadcast) {
  nn_dim n = parse("N"), one = nn_dim_const(m, 1), four = nn_dim_const(m, 4), zero = nn_dim_const(m, 0);
  cr_assert_eq(nn_dim_broadcast(m, n, n), n);
  cr_assert_eq(nn_dim_broadcast(m, one, n), n);
  cr_assert_eq(nn_dim_broadcast(m, n, one), n);
  cr_assert_eq(nn_dim_broadcast(m, n, four), four);
  cr_assert_eq(nn_dim_broadcast(m, four, n), four);
  cr_assert_eq(nn_dim_broadcast(m, zero, n), zero);
  nn_dim both = nn_dim_broadcast(m, n, parse("M"));
  cr_assert_str_eq(nn_dim_text(m->arena, both), "min(M*N, max(M, N))");
  cr_assert_eq(nn_dim_broadcast(m, both, n), both);
  cr_assert_eq(nn_dim_broadcast(m, parse("M"), both), both);
  int64_t symbols[] = {7, 1}, value;
  cr_assert(nn_dim_eval(both, symbols, &value) && value == 7);
  symbols[0] = 0;
  cr_assert(nn_dim_eval(both, symbols, &value) && value == 0);
}

Test(dim, conditions) {
  nn_dim n = parse("N");
  cr_assert(nn_dim_is(nn_dim_is_eq(m, n, n), 1));
  cr_assert(nn_dim_is(nn_dim_is_eq(m, n, parse("N + 1")), 0));
  cr_assert(nn_dim_is(nn_dim_is_lt(m, n, parse("N + 1")), 1));
  cr_assert(nn_dim_is(nn_dim_is_lt(m, parse("N + 1"), n), 0));
  nn_dim eq = nn_dim_is_eq(m, n, nn_dim_const(m, 3)), lt = nn_dim_is_lt(m, n, nn_dim_const(m, 3));
  for (int64_t i = 0; i < 6; i++) {
    int64_t value;
    cr_assert(nn_dim_eval(eq, &i, &value) && value == (i == 3));
    cr_assert(nn_dim_eval(lt, &i, &value) && value == (i < 3));
    cr_assert(nn_dim_eval(nn_dim_select(m, eq, parse("10*N"), nn_dim_const(m, 5)), &i, &value) &&
              value == (i == 3 ? 30 : 5));
  }
}

Test(dim, known_lt_sees_through_min_max_and_floordiv) {
  cr_assert(nn_dim_known_lt(m, parse("N"), parse("N + 1")));
  cr_assert(nn_dim_known_lt(m, parse("min(N, 4)"), parse("N + 1")));
  cr_assert(nn_dim_known_lt(m, parse("N"), parse("max(N, M) + 1")));
  cr_assert(nn_dim_known_lt(m, parse("N floordiv 2"), parse("N + 1")));
  cr_assert(nn_dim_known_lt(m, parse("2*(N floordiv 2)"), parse("N + 1")));
  cr_assert(nn_dim_known_lt(m, parse("N - 2*(N floordiv 2)"), parse("2")));
  cr_assert_not(nn_dim_known_lt(m, parse("N"), parse("M")));
  cr_assert_not(nn_dim_known_lt(m, parse("N"), parse("N")));
  cr_assert_not(nn_dim_known_lt(m, parse("max(N, M)"), parse("N + 1")));
}

Test(dim, exact_division) {
  nn_dim q;
  cr_assert(nn_dim_divides(m, parse("N*N - M*M"), parse("N + M"), &q) && q == parse("N - M"));
  cr_assert(nn_dim_divides(m, parse("12*N*H"), parse("4*H"), &q) && q == parse("3*N"));
  cr_assert(nn_dim_divides(m, parse("0"), parse("N"), &q) && nn_dim_is(q, 0));
  cr_assert(nn_dim_divides(m, parse("(N floordiv 2)*6"), parse("N floordiv 2"), &q) && nn_dim_is(q, 6));
  cr_assert_not(nn_dim_divides(m, parse("12*N + 1"), parse("4"), &q));
  cr_assert_not(nn_dim_divides(m, parse("N"), parse("0"), &q));
  cr_assert_not(nn_dim_divides(m, parse("N"), parse("M"), &q));
  cr_assert_not(nn_dim_divides(m, parse("-9223372036854775808"), parse("-1"), &q));
}

Test(dim, fresh_names_are_free) {
  parse("d0 + d2");
  nn_dim a = nn_dim_fresh(m, "d"), b = nn_dim_fresh(m, NULL);
  cr_assert_str_eq(nn_dim_text(m->arena, a), "d1");
  cr_assert_str_eq(nn_dim_text(m->arena, b), "d3");
  cr_assert(m->symbols[2]->data_dependent && !m->symbols[0]->data_dependent);
}

Test(dim, substitution) {
  nn_dim d = parse("N*M + N floordiv 2 + min(N, M)");
  nn_dim by[] = {parse("2*K"), NULL, NULL, NULL};
  cr_assert_str_eq(nn_dim_text(m->arena, nn_dim_substitute(m, d, by)), "2*K*M + K + min(2*K, M)");
}

Test(dim, substitution_by_nothing_uses_new_bounds) {
  nn_dim d = parse("max(N, M)");
  m->symbols[1]->max = 0; /* M */
  cr_assert_eq(nn_dim_substitute(m, d, NULL), parse("N"));
}

Test(dim, symbols_of) {
  bool used[3] = {false};
  parse("A + B + C");
  nn_dim_symbols(parse("A*min(C, 7)"), used);
  cr_assert(used[0] && !used[1] && used[2]);
}

/* ---- random expressions ---------------------------------------------------------------------------- */

enum { NSYMBOLS = 3, NPOINTS = 24 };

typedef struct sample {
  nn_dim dim;
  int64_t values[NPOINTS];
} sample;

static int64_t points[NPOINTS][NSYMBOLS];
static uint64_t seed;

static int draw(int n) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (int)((seed >> 33) % (uint64_t)n);
}

static int64_t floor_div(int64_t a, int64_t b) {
  if (b == 0) return 0;
  int64_t q = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
}

static int64_t apply(int op, int64_t a, int64_t b) {
  switch (op) {
  case 0: return a + b;
  case 1: return a - b;
  case 2: return a * b;
  case 3: return floor_div(a, b);
  case 4: return b == 0 ? 0 : a - floor_div(a, b) * b;
  case 5: return a < b ? a : b;
  default: return a > b ? a : b;
  }
}

static nn_dim build(int op, nn_dim a, nn_dim b) {
  nn_dim (*const makers[])(nn_module *, nn_dim, nn_dim) = {nn_dim_add, nn_dim_sub, nn_dim_mul, nn_dim_floordiv,
                                                           nn_dim_mod, nn_dim_min, nn_dim_max};
  return makers[op](m, a, b);
}

static sample random_sample(int depth) {
  sample s;
  if (depth == 0 || draw(8) == 0) {
    bool is_symbol = draw(2);
    int pick = is_symbol ? draw(NSYMBOLS) : draw(9) - 4;
    char name[2] = {(char)('A' + pick), 0};
    s.dim = is_symbol ? nn_dim_symbol(m, name) : nn_dim_const(m, pick);
    for (int i = 0; i < NPOINTS; i++) s.values[i] = is_symbol ? points[i][pick] : pick;
    return s;
  }
  int op = draw(7);
  sample a = random_sample(depth - 1), b = random_sample(depth - 1);
  s.dim = build(op, a.dim, b.dim);
  for (int i = 0; i < NPOINTS; i++) s.values[i] = apply(op, a.values[i], b.values[i]);
  return s;
}

static void check_values(const sample *s, uint64_t start) {
  int64_t min, max, value;
  nn_dim_range(s->dim, &min, &max);
  for (int i = 0; i < NPOINTS; i++) {
    cr_assert(nn_dim_eval(s->dim, points[i], &value) && value == s->values[i], "seed %llu: %s is %lld, expected %lld",
              (unsigned long long)start, nn_dim_text(m->arena, s->dim), (long long)value, (long long)s->values[i]);
    cr_assert(min <= value && value <= max, "seed %llu: %s out of [%lld, %lld]", (unsigned long long)start,
              nn_dim_text(m->arena, s->dim), (long long)min, (long long)max);
  }
}

static void check_text(nn_dim d, uint64_t start) {
  const char *text = nn_dim_text(m->arena, d), *cursor = text;
  nn_dim again = nn_dim_parse(m, &cursor);
  cr_assert(again == d && !*cursor, "seed %llu: '%s' reads back as '%s'", (unsigned long long)start, text,
            again ? nn_dim_text(m->arena, again) : "nothing");
  cr_assert_eq(nn_dim_substitute(m, d, NULL), d, "seed %llu: '%s' is no normal form: '%s'", (unsigned long long)start,
               text, nn_dim_text(m->arena, nn_dim_substitute(m, d, NULL)));
}

static void check_order(const sample *a, const sample *b, uint64_t start) {
  if (!nn_dim_known_lt(m, a->dim, b->dim)) return;
  for (int i = 0; i < NPOINTS; i++)
    cr_assert_lt(a->values[i], b->values[i], "seed %llu: %s < %s", (unsigned long long)start,
                 nn_dim_text(m->arena, a->dim), nn_dim_text(m->arena, b->dim));
}

static void check_random(int64_t least, uint64_t first_seed) {
  for (int s = 0; s < NSYMBOLS; s++) {
    nn_dim_symbol(m, s == 0 ? "A" : s == 1 ? "B" : "C");
    m->symbols[s]->min = least;
    m->symbols[s]->max = least + 20;
  }
  for (uint64_t start = first_seed; start < first_seed + 4000; start++) {
    seed = start;
    for (int i = 0; i < NPOINTS; i++)
      for (int s = 0; s < NSYMBOLS; s++) points[i][s] = least + (i < 8 ? i >> s & 1 : draw(21));
    sample a = random_sample(4), b = random_sample(3);
    if (nn_dim_is_overflow(a.dim) || nn_dim_is_overflow(b.dim)) continue;
    check_values(&a, start);
    check_text(a.dim, start);
    check_order(&a, &b, start);
    check_order(&b, &a, start);
  }
}

Test(dim, random_expressions_from_0) { check_random(0, 1); }
Test(dim, random_expressions_from_1) { check_random(1, 100000); }
Test(dim, random_expressions_of_any_sign) { check_random(-7, 200000); }
