/* Index algebra. An i64 expression made of loop variables, symbols and constants is kept as a sum of
   coefficient * term with the terms in a fixed order (outer loops first, so that invariant parts come
   together), and divisions by known numbers are split by the ranges of the terms:

     (8*i + l) floordiv 8 = i, (8*i + l) mod 8 = l          0 <= l < 8
     (x floordiv 4)*4 + x mod 4 = x                         a reshape that changes nothing disappears
     8*i + l < N = true                                     i < N floordiv 8: a guard that always holds disappears

   Such expressions are assumed not to overflow: the plan and the run's shape checks bound every size. For
   integers that come from data only the rules that hold with wrapping are used. */
#include "ir/loop.h"

#include <string.h>

enum { LIN_MAX = 24, PROOF_STEPS = 8 };

/* A sum: c + k[0]*x[0] + ... ; ok is false when it does not fit. */
typedef struct lin {
  int n;
  bool ok;
  int64_t c;
  int64_t k[LIN_MAX];
  nn_x *x[LIN_MAX];
} lin;

static int64_t min_of(const nn_x *x) { return nn_xinfo_of(x)->min; }

static int64_t max_of(const nn_x *x) { return nn_xinfo_of(x)->max; }

static bool known_value(const nn_x *x, int64_t *value) {
  *value = min_of(x);
  return min_of(x) == max_of(x) && nn_xi_is_index(x);
}

/* ---- a total order of terms that does not depend on when nodes were made ------------------------------ */

static int innermost(const nn_x *x) {
  const nn_varset *deps = nn_xinfo_of(x)->deps;
  return deps ? deps->ids[deps->count - 1] : -1;
}

static int compare_ints(int64_t a, int64_t b) { return (a > b) - (a < b); }

static int compare_leaves(const nn_x *a, const nn_x *b) {
  if (a->op == NN_X_SYMBOL && a->i != b->i) {
    nn_symbol **symbols = nn_xinfo_of(a)->kernel->module->symbols;
    return strcmp(symbols[a->i]->name, symbols[b->i]->name);
  }
  if (a->i != b->i) return compare_ints(a->i, b->i);
  if (a->var != b->var) return compare_ints(a->var->id, b->var->id);
  if (a->buf != b->buf) return compare_ints(a->buf->id, b->buf->id);
  return memcmp(&a->f, &b->f, sizeof a->f);
}

/* Follows the first operand that differs only: equal ones are equal pointers. */
static int compare_nodes(const nn_x *a, const nn_x *b) {
  while (a != b) {
    if (!a || !b) return a ? 1 : -1;
    if (a->op != b->op) return compare_ints(a->op, b->op);
    if (a->dtype != b->dtype) return compare_ints(a->dtype, b->dtype);
    int leaves = compare_leaves(a, b);
    if (leaves) return leaves;
    int i = 0;
    while (i < 3 && a->a[i] == b->a[i]) i++;
    if (i == 3) return compare_ints(a->id, b->id); /* two loads of one place */
    const nn_x *next = a->a[i];
    b = b->a[i];
    a = next;
  }
  return 0;
}

static int compare_terms(const nn_x *a, const nn_x *b) {
  int depth = compare_ints(innermost(a), innermost(b));
  return depth ? depth : compare_nodes(a, b);
}

/* ---- sums ------------------------------------------------------------------------------------------- */

static bool add_checked(int64_t *sum, int64_t v) {
  if (v > 0 ? *sum > INT64_MAX - v : *sum < INT64_MIN - v) return false;
  *sum += v;
  return true;
}

static bool mul_checked(int64_t a, int64_t b, int64_t *product) {
  int64_t limit = INT64_C(1) << 62;
  *product = 0;
  if (a == 0 || b == 0) return true;
  if (a <= -limit || a >= limit || b <= -limit || b >= limit) return false;
  if ((a < 0 ? -a : a) > limit / (b < 0 ? -b : b)) return false;
  *product = a * b;
  return true;
}

static void remove_term(lin *l, int at) {
  l->n--;
  for (int i = at; i < l->n; i++) {
    l->k[i] = l->k[i + 1];
    l->x[i] = l->x[i + 1];
  }
}

static void add_term(lin *l, nn_x *x, int64_t k) {
  int at = 0;
  while (at < l->n && compare_terms(l->x[at], x) < 0) at++;
  if (at < l->n && l->x[at] == x) {
    l->ok = l->ok && add_checked(&l->k[at], k);
    if (l->k[at] == 0) remove_term(l, at);
    return;
  }
  if (l->n == LIN_MAX) {
    l->ok = false;
    return;
  }
  for (int i = l->n++; i > at; i--) {
    l->k[i] = l->k[i - 1];
    l->x[i] = l->x[i - 1];
  }
  l->k[at] = k;
  l->x[at] = x;
}

/* l += k * x, seeing through sums and products by constants. */
static void collect(lin *l, nn_x *x, int64_t k) {
  int64_t value, product;
  if (k == 0 || !l->ok) return;
  if (known_value(x, &value)) {
    l->ok = mul_checked(value, k, &product) && add_checked(&l->c, product);
  } else if (x->op == NN_X_ADD) {
    collect(l, x->a[0], k);
    collect(l, x->a[1], k);
  } else if (x->op == NN_X_SUB) {
    collect(l, x->a[0], k);
    collect(l, x->a[1], -k);
  } else if (x->op == NN_X_MUL && nn_x_is_const(x->a[1], &value)) {
    l->ok = mul_checked(value, k, &product);
    collect(l, x->a[0], product);
  } else {
    add_term(l, x, k);
  }
}

static lin lin_of(nn_x *x) {
  lin l = {.ok = true};
  collect(&l, x, 1);
  return l;
}

static nn_x *raw(nn_kernel *k, nn_xop op, nn_x *a, nn_x *b) {
  nn_x proto = {.op = op, .dtype = NN_I64, .a = {a, b}};
  return nn_x_intern(k, &proto);
}

static nn_x *raw_scaled(nn_kernel *k, nn_x *x, int64_t by) { return by == 1 ? x : raw(k, NN_X_MUL, x, nn_x_int(k, by)); }

static nn_x *sum_of(nn_kernel *k, const lin *l) {
  nn_x *sum = NULL;
  for (int i = 0; i < l->n; i++) {
    bool minus = sum && l->k[i] < 0;
    nn_x *term = raw_scaled(k, l->x[i], minus ? -l->k[i] : l->k[i]);
    sum = !sum ? term : raw(k, minus ? NN_X_SUB : NN_X_ADD, sum, term);
  }
  if (!sum) return nn_x_int(k, l->c);
  return l->c ? raw(k, NN_X_ADD, sum, nn_x_int(k, l->c)) : sum;
}

static int find_term(const lin *l, const nn_x *x) {
  for (int i = 0; i < l->n; i++)
    if (l->x[i] == x) return i;
  return -1;
}

static void remove_terms(lin *l, int i, int j) {
  remove_term(l, i > j ? i : j);
  remove_term(l, i > j ? j : i);
}

/* The factor s of s * y. */
static nn_x *cofactor(const nn_x *product, const nn_x *y) {
  if (product->op != NN_X_MUL) return NULL;
  return product->a[1] == y ? product->a[0] : product->a[0] == y ? product->a[1] : NULL;
}

/* Term i is q * (x mod y) and another one is q * (s*y), where s is a sum that holds x floordiv y: together q * x and q * (the rest of s)*y. */
static bool join_mod_symbolic(nn_kernel *k, lin *l, int i) {
  nn_x *x = l->x[i]->a[0], *y = l->x[i]->a[1], *div = nn_xi_floordiv(k, x, y);
  int64_t q = l->k[i];
  for (int j = 0; j < l->n; j++) {
    nn_x *s = l->k[j] == q ? cofactor(l->x[j], y) : NULL;
    lin sum = s ? lin_of(s) : (lin){.ok = false};
    int at = sum.ok ? find_term(&sum, div) : -1;
    if (at < 0 || sum.k[at] != 1) continue;
    remove_term(&sum, at);
    remove_terms(l, i, j);
    collect(l, x, q);
    collect(l, nn_xi_mul(k, sum_of(k, &sum), y), q);
    return true;
  }
  return false;
}

/* Term i is q * (x mod c) and another one is q*c * (x floordiv c): together q * x. */
static bool join_mod(nn_kernel *k, lin *l, int i) {
  nn_x *x = l->x[i]->a[0], *y = l->x[i]->a[1];
  int64_t q = l->k[i], c, scaled;
  if (!nn_x_is_const(y, &c)) return join_mod_symbolic(k, l, i);
  if (!mul_checked(q, c, &scaled)) return false;
  int j = find_term(l, nn_xi_floordiv(k, x, y));
  if (j < 0 || l->k[j] != scaled) return false;
  remove_terms(l, i, j);
  collect(l, x, q);
  return true;
}

/* Term i is -q*c * (x floordiv c) and the sum holds q * x: together q * (x mod c). */
static bool join_div(nn_kernel *k, lin *l, int i) {
  nn_x *x = l->x[i]->a[0];
  int64_t c;
  if (!nn_x_is_const(l->x[i]->a[1], &c) || c < 2 || l->k[i] % c != 0) return false;
  int j = find_term(l, x);
  if (j < 0 || l->k[j] != -(l->k[i] / c)) return false;
  int64_t q = l->k[j];
  remove_terms(l, i, j);
  collect(l, nn_xi_mod(k, x, nn_x_int(k, c)), q);
  return true;
}

static void join_terms(nn_kernel *k, lin *l) {
  for (int i = 0; i < l->n && l->ok; i++) {
    bool joined = l->x[i]->op == NN_X_FLOORMOD ? join_mod(k, l, i) : l->x[i]->op == NN_X_FLOORDIV && join_div(k, l, i);
    if (joined) i = -1;
  }
}

static nn_x *simplify_sum(nn_kernel *k, nn_x *a, nn_x *b, int64_t kb) {
  lin l = {.ok = true};
  collect(&l, a, 1);
  collect(&l, b, kb);
  join_terms(k, &l);
  return l.ok ? sum_of(k, &l) : NULL;
}

/* ---- products ------------------------------------------------------------------------------------------ */

static nn_x *scale(nn_kernel *k, nn_x *a, int64_t by) {
  lin l = {.ok = true};
  collect(&l, a, by);
  return l.ok ? sum_of(k, &l) : NULL;
}

static nn_x *simplify_product(nn_kernel *k, nn_x *a, nn_x *b) {
  int64_t c;
  if (known_value(b, &c)) return scale(k, a, c);
  if (known_value(a, &c)) return scale(k, b, c);
  if (a->op == NN_X_MUL && nn_x_is_const(a->a[1], &c)) return nn_xi_mulc(k, nn_xi_mul(k, a->a[0], b), c);
  if (b->op == NN_X_MUL && nn_x_is_const(b->a[1], &c)) return nn_xi_mulc(k, nn_xi_mul(k, a, b->a[0]), c);
  return compare_terms(a, b) <= 0 ? raw(k, NN_X_MUL, a, b) : raw(k, NN_X_MUL, b, a);
}

/* ---- division ------------------------------------------------------------------------------------------- */

static int64_t floor_div(int64_t a, int64_t c) { return a / c - (a % c != 0 && a < 0 ? 1 : 0); } /* c > 0 */

static int64_t gcd(int64_t a, int64_t b) {
  while (b) {
    int64_t r = a % b;
    a = b;
    b = r;
  }
  return a < 0 ? -a : a;
}

/* a = g * quotient + rest, terms with coefficients that g divides going to the quotient. */
static void split(nn_kernel *k, const lin *l, int64_t g, nn_x **quotient, nn_x **rest) {
  lin q = {.ok = true}, r = {.ok = true};
  q.c = floor_div(l->c, g);
  r.c = l->c - q.c * g;
  for (int i = 0; i < l->n; i++) add_term(l->k[i] % g ? &r : &q, l->x[i], l->k[i] % g ? l->k[i] : l->k[i] / g);
  *quotient = sum_of(k, &q);
  *rest = sum_of(k, &r);
}

static bool within(const nn_x *x, int64_t c) { return min_of(x) >= 0 && max_of(x) < c; }

static nn_x *divide_again(nn_kernel *k, nn_x *x, int64_t c, bool mod) {
  return mod ? nn_xi_mod(k, x, nn_x_int(k, c)) : nn_xi_floordiv(k, x, nn_x_int(k, c));
}

/* By a factor g of c: a = g*q + r with 0 <= r < g gives a/c = q/(c/g), a mod c = g*(q mod (c/g)) + r. */
static nn_x *divide_by_factor(nn_kernel *k, const lin *l, int64_t c, int64_t g, bool mod) {
  nn_x *q, *r;
  split(k, l, g, &q, &r);
  if (!within(r, g)) return NULL;
  nn_x *part = divide_again(k, q, c / g, mod);
  return mod ? nn_xi_add(k, nn_xi_mulc(k, part, g), r) : part;
}

static nn_x *divide_terms(nn_kernel *k, nn_x *a, int64_t c, bool mod) {
  lin l = lin_of(a);
  nn_x *q, *r;
  if (!l.ok) return NULL;
  split(k, &l, c, &q, &r);
  if (within(r, c)) return mod ? r : q;
  if (q->op != NN_X_CONST || q->i != 0) return mod ? divide_again(k, r, c, true) : nn_xi_add(k, q, divide_again(k, r, c, false));
  for (int i = 0; i < l.n; i++) {
    int64_t g = gcd(l.k[i], c);
    nn_x *done = g > 1 && g < c ? divide_by_factor(k, &l, c, g, mod) : NULL;
    if (done) return done;
  }
  return NULL;
}

/* Of a division or remainder, divided once more. */
static nn_x *divide_nested(nn_kernel *k, nn_x *a, int64_t c, bool mod) {
  int64_t inner, product;
  if ((a->op != NN_X_FLOORDIV && a->op != NN_X_FLOORMOD) || !nn_x_is_const(a->a[1], &inner) || inner <= 0) return NULL;
  if (a->op == NN_X_FLOORDIV) return !mod && mul_checked(inner, c, &product) ? divide_again(k, a->a[0], product, false) : NULL;
  if (inner % c != 0) return NULL;
  return mod ? divide_again(k, a->a[0], c, true) : divide_again(k, divide_again(k, a->a[0], c, false), inner / c, true);
}

static nn_x *divide_const(nn_kernel *k, nn_x *a, int64_t c, bool mod) {
  if (c <= 0) return NULL;
  if (c == 1) return mod ? nn_x_int(k, 0) : a;
  int64_t q = floor_div(min_of(a), c);
  if (q == floor_div(max_of(a), c)) return mod ? nn_xi_addc(k, a, -q * c) : nn_x_int(k, q);
  nn_x *nested = divide_nested(k, a, c, mod);
  return nested ? nested : divide_terms(k, a, c, mod);
}

/* x if the term is x*d, for a divisor that is no constant. */
static nn_x *factor_of(nn_kernel *k, nn_x *term, nn_x *d) {
  if (term == d) return nn_x_int(k, 1);
  if (term->op != NN_X_MUL) return NULL;
  return term->a[0] == d ? term->a[1] : term->a[1] == d ? term->a[0] : NULL;
}

/* By an expression d: the terms that are multiples of d, if the rest is surely in 0..d. */
static nn_x *divide_symbolic(nn_kernel *k, nn_x *a, nn_x *d, bool mod) {
  lin l = lin_of(a), q = {.ok = true}, r = {.ok = true};
  if (!l.ok) return NULL;
  r.c = l.c;
  for (int i = 0; i < l.n; i++) {
    nn_x *factor = factor_of(k, l.x[i], d);
    if (factor) collect(&q, factor, l.k[i]);
    else add_term(&r, l.x[i], l.k[i]);
  }
  nn_x *rest = sum_of(k, &r);
  if (!q.ok || !nn_known_in(rest, d)) return NULL;
  return mod ? rest : sum_of(k, &q);
}

static nn_x *simplify_division(nn_kernel *k, nn_x *a, nn_x *b, bool mod) {
  int64_t c;
  if (known_value(b, &c)) return divide_const(k, a, c, mod);
  return divide_symbolic(k, a, b, mod);
}

/* ---- proofs: is an expression surely not negative ------------------------------------------------------- */

static bool not_negative(nn_kernel *k, nn_x *d, int steps);

static bool proves_with(nn_kernel *k, nn_x *d, nn_x *term, int64_t coefficient, nn_x *bound, int steps) {
  lin l = {.ok = true};
  if (!nn_xi_is_index(bound)) return false;
  collect(&l, d, 1);
  collect(&l, term, -coefficient);
  collect(&l, bound, coefficient);
  join_terms(k, &l);
  return l.ok && not_negative(k, sum_of(k, &l), steps - 1);
}

/* Replaces the term by something at least as bad: a loop variable by its bound, min and max by a side, a
   quotient by its dividend. */
static bool proves_by_term(nn_kernel *k, nn_x *d, nn_x *term, int64_t q, int steps) {
  int64_t c;
  if (term->op == NN_X_VAR && term->var->is_loop) {
    nn_varinfo *v = nn_varinfo_of(term->var);
    return proves_with(k, d, term, q, q > 0 ? v->lo : nn_xi_addc(k, v->hi, -1), steps);
  }
  if (term->op == (q < 0 ? NN_X_MIN : NN_X_MAX))
    return proves_with(k, d, term, q, term->a[0], steps) || proves_with(k, d, term, q, term->a[1], steps);
  if (term->op != NN_X_FLOORDIV || !nn_x_is_const(term->a[1], &c) || c <= 0 || q % c != 0) return false;
  nn_x *scaled = q > 0 ? nn_xi_addc(k, term->a[0], 1 - c) : term->a[0];
  nn_x *worst = nn_xi_sub(k, d, nn_xi_mulc(k, term, q));
  return not_negative(k, nn_xi_add(k, worst, nn_xi_mulc(k, scaled, q / c)), steps - 1);
}

/* The last term belongs to the innermost loop: its bounds may depend on outer ones, not the reverse. */
static bool not_negative(nn_kernel *k, nn_x *d, int steps) {
  if (min_of(d) >= 0) return true;
  if (max_of(d) < 0 || steps <= 0) return false;
  lin l = lin_of(d);
  for (int i = l.n - 1; i >= 0 && l.ok; i--) {
    bool loop = l.x[i]->op == NN_X_VAR && l.x[i]->var->is_loop;
    if (proves_by_term(k, d, l.x[i], l.k[i], steps)) return true;
    if (loop) return false;
  }
  return false;
}

static bool known_lt(nn_kernel *k, nn_x *a, nn_x *b) {
  if (max_of(a) < min_of(b)) return true;
  if (min_of(a) >= max_of(b) || !nn_xi_is_index(a) || !nn_xi_is_index(b)) return false;
  return not_negative(k, nn_xi_addc(k, nn_xi_sub(k, b, a), -1), PROOF_STEPS);
}

static bool known_le(nn_kernel *k, nn_x *a, nn_x *b) {
  if (max_of(a) <= min_of(b)) return true;
  if (min_of(a) > max_of(b) || !nn_xi_is_index(a) || !nn_xi_is_index(b)) return false;
  return not_negative(k, nn_xi_sub(k, b, a), PROOF_STEPS);
}

static bool known_not_negative(nn_kernel *k, nn_x *x) {
  return min_of(x) >= 0 || (nn_xi_is_index(x) && not_negative(k, x, PROOF_STEPS));
}

bool nn_known_in(nn_x *x, nn_x *limit) {
  nn_kernel *k = nn_xinfo_of(x)->kernel;
  if (x->op == NN_X_FLOORMOD && x->a[1] == limit && min_of(limit) >= 1) return true;
  return known_not_negative(k, x) && known_lt(k, x, limit);
}

/* ---- entry points ------------------------------------------------------------------------------------------ */

static nn_x *simplify_minmax(nn_kernel *k, nn_xop op, nn_x *a, nn_x *b) {
  bool min = op == NN_X_MIN;
  if (a == b) return a;
  if (known_le(k, a, b)) return min ? a : b;
  if (known_le(k, b, a)) return min ? b : a;
  if (!nn_xi_is_index(a) || !nn_xi_is_index(b)) return NULL;
  return compare_terms(a, b) <= 0 ? raw(k, op, a, b) : raw(k, op, b, a);
}

/* What holds for integers of any width, wrapping. */
static nn_x *simplify_any_int(nn_kernel *k, nn_xop op, nn_x *a, nn_x *b) {
  int64_t ca = 0, cb = 0;
  bool ka = nn_x_is_const(a, &ca), kb = nn_x_is_const(b, &cb);
  bool zero_b = kb && cb == 0, one_b = kb && cb == 1;
  switch (op) {
    case NN_X_ADD: return zero_b ? a : ka && ca == 0 ? b : NULL;
    case NN_X_SUB: case NN_X_SHL: case NN_X_SHR: case NN_X_XOR: return zero_b ? a : NULL;
    case NN_X_MUL:
      if (zero_b || (kb && ka)) return zero_b ? b : NULL;
      return one_b ? a : ka && ca == 0 ? a : ka && ca == 1 ? b : NULL;
    case NN_X_DIV: case NN_X_FLOORDIV: return one_b ? a : NULL;
    case NN_X_REM: case NN_X_FLOORMOD: return one_b ? nn_x_iconst(k, a->dtype, 0) : NULL;
    case NN_X_OR: return zero_b || a == b ? a : NULL;
    case NN_X_AND: return zero_b ? b : a == b ? a : NULL;
    case NN_X_MIN: case NN_X_MAX: return a == b ? a : NULL;
    default: return NULL;
  }
}

nn_x *nn_simplify_index(nn_kernel *k, nn_xop op, nn_x *a, nn_x *b) {
  if (a->dtype != NN_I64) return simplify_any_int(k, op, a, b);
  if (op == NN_X_MIN || op == NN_X_MAX) return simplify_minmax(k, op, a, b);
  if (!nn_xi_is_index(a) || !nn_xi_is_index(b)) return simplify_any_int(k, op, a, b);
  bool positive = min_of(a) >= 0 && min_of(b) >= 0;
  switch (op) {
    case NN_X_ADD: return simplify_sum(k, a, b, 1);
    case NN_X_SUB: return simplify_sum(k, a, b, -1);
    case NN_X_MUL: return simplify_product(k, a, b);
    case NN_X_FLOORDIV: return simplify_division(k, a, b, false);
    case NN_X_FLOORMOD: return simplify_division(k, a, b, true);
    case NN_X_DIV: return positive ? nn_xi_floordiv(k, a, b) : NULL;
    case NN_X_REM: return positive ? nn_xi_mod(k, a, b) : NULL;
    default: return simplify_any_int(k, op, a, b);
  }
}

static nn_x *truth(nn_kernel *k, bool value) { return nn_x_iconst(k, NN_BOOL, value); }

static bool is_bool_const(const nn_x *x, bool value) { return x->op == NN_X_CONST && (x->i != 0) == value; }

static nn_x *compare_bools(nn_kernel *k, nn_xop op, nn_x *a, nn_x *b) {
  if (op != NN_X_EQ && op != NN_X_NE) return NULL;
  if (a->op == NN_X_CONST) return compare_bools(k, op, b, a);
  if (b->op != NN_X_CONST) return NULL;
  return is_bool_const(b, op == NN_X_EQ) ? a : nn_x_unary(k, NN_X_NOT, a);
}

static nn_x *compare_ranges(nn_kernel *k, nn_xop op, nn_x *a, nn_x *b) {
  switch (op) {
    case NN_X_LT: return known_lt(k, a, b) ? truth(k, true) : known_le(k, b, a) ? truth(k, false) : NULL;
    case NN_X_LE: return known_le(k, a, b) ? truth(k, true) : known_lt(k, b, a) ? truth(k, false) : NULL;
    default: return known_lt(k, a, b) || known_lt(k, b, a) ? truth(k, op == NN_X_NE) : NULL;
  }
}

nn_x *nn_simplify_compare(nn_kernel *k, nn_xop op, nn_x *a, nn_x *b) {
  if (a->dtype == NN_BOOL) {
    nn_x *simple = compare_bools(k, op, a, b);
    if (simple) return simple;
  }
  if (nn_dtype_is_float(a->dtype)) return a == b && op == NN_X_LT ? truth(k, false) : NULL;
  if (a == b) return truth(k, op == NN_X_EQ || op == NN_X_LE);
  return a->dtype == NN_U64 ? NULL : compare_ranges(k, op, a, b);
}

nn_x *nn_simplify_bool(nn_kernel *k, nn_xop op, nn_x *a, nn_x *b) {
  if (a->op == NN_X_CONST) { nn_x *swap = a; a = b; b = swap; }
  bool is_true = is_bool_const(b, true), is_false = is_bool_const(b, false);
  switch (op) {
    case NN_X_AND: case NN_X_MIN: case NN_X_MUL: return is_true || a == b ? a : is_false ? b : NULL;
    case NN_X_OR: case NN_X_MAX: return is_false || a == b ? a : is_true ? b : NULL;
    case NN_X_XOR: return is_false ? a : is_true ? nn_x_unary(k, NN_X_NOT, a) : a == b ? truth(k, false) : NULL;
    default: return NULL;
  }
}
