/* Symbolic dimensions: floordiv, mod, min, max, what is built of them, and substitution.

   The rules bring expressions to one form where that is cheap. They hold for every value of the symbols
   within their bounds; divisions by zero, which give 0, are not simplified away unless zero is excluded. */
#include "ir/ir.h"

#include <assert.h>

static nn_dim constant(nn_module *m, int64_t value) { return nn_dim_const(m, value); }
static nn_dim negate(nn_module *m, nn_dim d) { return nn_dim_mul(m, d, constant(m, -1)); }
static nn_dim scale(nn_module *m, nn_dim d, int64_t by) { return nn_dim_mul(m, d, constant(m, by)); }

static int64_t least_value(nn_dim d) {
  int64_t min, max;
  nn_dim_range(d, &min, &max);
  return min;
}

/* Exactly 1 * atom of this kind, or NULL. */
static const nn_atom *single_atom(nn_dim d, nn_atom_kind kind) {
  if (d->nterms != 1 || d->terms[0].coefficient != 1 || d->terms[0].natoms != 1) return NULL;
  const nn_atom *atom = d->terms[0].atoms[0];
  return atom->kind == kind ? atom : NULL;
}

static int64_t constant_term(nn_dim d) {
  const nn_term *last = d->nterms ? &d->terms[d->nterms - 1] : NULL;
  return last && last->natoms == 0 ? last->coefficient : 0;
}

static nn_dim without_constant(nn_module *m, nn_dim d) {
  return constant_term(d) ? nn_dim_terms(m, d->terms, d->nterms - 1) : d;
}

/* ---- division by a positive constant ------------------------------------------------------------ */

/* a = k*whole + rest + r: the terms that k divides go to whole; 0 <= r < k. */
typedef struct split {
  nn_dim whole, rest;
  int64_t r;
} split;

static split split_by(nn_module *m, nn_dim a, int64_t k) {
  int64_t c = constant_term(a), q = nn_floordiv_i64(c, k);
  split s = {constant(m, q), constant(m, 0), c - q * k};
  nn_dim variable = without_constant(m, a);
  for (int i = 0; i < variable->nterms; i++) {
    nn_term t = variable->terms[i];
    bool divides = t.coefficient % k == 0;
    if (divides) t.coefficient /= k;
    nn_dim *side = divides ? &s.whole : &s.rest;
    *side = nn_dim_add(m, *side, nn_dim_terms(m, &t, 1));
  }
  return s;
}

static int64_t gcd(int64_t a, int64_t b) {
  while (b) {
    int64_t rest = a % b;
    a = b;
    b = rest;
  }
  return a < 0 ? -a : a;
}

/* The greatest divisor of k and all coefficients. k > 0, so INT64_MIN as a coefficient is harmless. */
static int64_t common_divisor(nn_dim d, int64_t k) {
  for (int i = 0; i < d->nterms; i++) k = gcd(d->terms[i].coefficient % k, k);
  return k;
}

static nn_dim divide_coefficients(nn_module *m, nn_dim d, int64_t by) {
  nn_dim quotient = d;
  bool divides = nn_dim_divides(m, d, constant(m, by), &quotient);
  assert(divides);
  (void)divides;
  return quotient;
}

/* The quotient if every value of d has the same one. */
static bool quotient_is_known(nn_dim d, int64_t k, int64_t *quotient) {
  int64_t min, max;
  nn_dim_range(d, &min, &max);
  if (min == INT64_MIN || max == INT64_MAX) return false;
  *quotient = nn_floordiv_i64(min, k);
  return *quotient == nn_floordiv_i64(max, k);
}

/* (x floordiv c + r) floordiv k = (x + r*c) floordiv (c*k); NULL if this is not of that shape. */
static nn_dim merge_nested_floordiv(nn_module *m, nn_dim rest, int64_t r, int64_t k) {
  const nn_atom *inner = single_atom(rest, NN_ATOM_FLOORDIV);
  int64_t c, product, shift;
  if (!inner || !nn_dim_is_const(inner->b, &c) || c <= 0) return NULL;
  if (__builtin_mul_overflow(c, k, &product) || __builtin_mul_overflow(r, c, &shift)) return NULL;
  nn_dim numerator = nn_dim_add(m, inner->a, constant(m, shift));
  return numerator->overflow ? NULL : nn_dim_floordiv(m, numerator, constant(m, product));
}

static nn_dim floordiv_by_positive(nn_module *m, nn_dim a, int64_t k) {
  split s = split_by(m, a, k);
  int64_t quotient;
  if (s.rest->overflow || s.whole->overflow) return nn_dim_overflow(m);
  if (!s.rest->nterms) return s.whole; /* r < k */
  int64_t g = common_divisor(s.rest, k);
  nn_dim rest = divide_coefficients(m, s.rest, g);
  int64_t r = s.r / g;
  k /= g;
  nn_dim numerator = nn_dim_add(m, rest, constant(m, r));
  if (quotient_is_known(numerator, k, &quotient)) return nn_dim_add(m, s.whole, constant(m, quotient));
  nn_dim merged = merge_nested_floordiv(m, rest, r, k);
  if (!merged) merged = nn_dim_atom(m, NN_ATOM_FLOORDIV, numerator, constant(m, k));
  return nn_dim_add(m, s.whole, merged);
}

/* Coefficients count modulo k only. */
static nn_dim reduce_coefficients(nn_module *m, nn_dim d, int64_t k) {
  nn_dim sum = constant(m, 0);
  for (int i = 0; i < d->nterms; i++) {
    nn_term t = d->terms[i];
    t.coefficient -= nn_floordiv_i64(t.coefficient, k) * k;
    sum = nn_dim_add(m, sum, nn_dim_terms(m, &t, 1));
  }
  return sum;
}

static nn_dim mod_by_positive(nn_module *m, nn_dim a, int64_t k) {
  split s = split_by(m, a, k);
  int64_t quotient, c;
  if (s.rest->overflow) return nn_dim_overflow(m);
  nn_dim numerator = nn_dim_add(m, s.rest, constant(m, s.r));
  if (quotient_is_known(numerator, k, &quotient)) return nn_dim_sub(m, numerator, scale(m, constant(m, quotient), k));
  nn_dim rest = reduce_coefficients(m, s.rest, k);
  if (rest != s.rest) return mod_by_positive(m, nn_dim_add(m, rest, constant(m, s.r)), k);
  const nn_atom *inner = single_atom(rest, NN_ATOM_MOD);
  if (inner && nn_dim_is_const(inner->b, &c) && c > 0 && c % k == 0)
    return nn_dim_mod(m, nn_dim_add(m, inner->a, constant(m, s.r)), constant(m, k));
  /* (g*y + r0) mod (g*k') = g*(y mod k') + r0 for 0 <= r0 < g */
  int64_t g = common_divisor(rest, k);
  numerator = nn_dim_add(m, divide_coefficients(m, rest, g), constant(m, s.r / g));
  nn_dim inside =
      g > 1 ? nn_dim_mod(m, numerator, constant(m, k / g)) : nn_dim_atom(m, NN_ATOM_MOD, numerator, constant(m, k));
  return nn_dim_add(m, scale(m, inside, g), constant(m, s.r % g));
}

/* ---- division by an expression ------------------------------------------------------------------- */

/* a = whole*b + rest, taking out every term that the single term b divides. */
static void take_multiples(nn_module *m, nn_dim a, nn_dim b, nn_dim *whole, nn_dim *rest) {
  *whole = constant(m, 0);
  *rest = a;
  if (b->nterms != 1) {
    if (nn_dim_divides(m, a, b, whole)) *rest = constant(m, 0);
    return;
  }
  for (int i = 0; i < a->nterms; i++) {
    nn_dim term = nn_dim_terms(m, &a->terms[i], 1), quotient;
    if (!nn_dim_divides(m, term, b, &quotient)) continue;
    *whole = nn_dim_add(m, *whole, quotient);
    *rest = nn_dim_sub(m, *rest, term);
  }
}

static bool is_proper_remainder(nn_module *m, nn_dim rest, nn_dim b) {
  return least_value(rest) >= 0 && nn_dim_known_lt(m, rest, b);
}

nn_dim nn_dim_floordiv(nn_module *m, nn_dim a, nn_dim b) {
  int64_t k;
  if (a->overflow || b->overflow) return nn_dim_overflow(m);
  if (nn_dim_is(a, 0) || nn_dim_is(b, 0)) return constant(m, 0);
  if (nn_dim_is_const(b, &k)) {
    if (k == 1) return a;
    if (k > 0) return floordiv_by_positive(m, a, k);
    nn_dim negated = negate(m, b);
    return negated->overflow ? negated : nn_dim_floordiv(m, negate(m, a), negated);
  }
  if (least_value(b) < 1) return nn_dim_atom(m, NN_ATOM_FLOORDIV, a, b);
  nn_dim whole, rest;
  take_multiples(m, a, b, &whole, &rest);
  if (whole->overflow || rest->overflow) return nn_dim_overflow(m);
  if (is_proper_remainder(m, rest, b)) return whole;
  if (is_proper_remainder(m, nn_dim_add(m, rest, b), b)) return nn_dim_sub(m, whole, constant(m, 1));
  return nn_dim_add(m, whole, nn_dim_atom(m, NN_ATOM_FLOORDIV, rest, b));
}

/* Not through floordiv(a + b - 1, b) where b may be negative. By 0 both give 0. */
nn_dim nn_dim_ceildiv(nn_module *m, nn_dim a, nn_dim b) {
  if (least_value(b) < 0) return negate(m, nn_dim_floordiv(m, negate(m, a), b));
  return nn_dim_floordiv(m, nn_dim_add(m, a, nn_dim_sub(m, b, constant(m, 1))), b);
}

nn_dim nn_dim_mod(nn_module *m, nn_dim a, nn_dim b) {
  int64_t k;
  if (a->overflow || b->overflow) return nn_dim_overflow(m);
  if (nn_dim_is(a, 0) || nn_dim_is(b, 0)) return constant(m, 0);
  if (nn_dim_is_const(b, &k)) {
    if (k == 1 || k == -1) return constant(m, 0);
    if (k > 0) return mod_by_positive(m, a, k);
    nn_dim negated = negate(m, b);
    return negated->overflow ? negated : negate(m, nn_dim_mod(m, negate(m, a), negated));
  }
  nn_dim whole, rest; /* a multiple of b changes nothing, not even for b = 0 */
  take_multiples(m, a, b, &whole, &rest);
  if (rest->overflow || nn_dim_is(rest, 0) || is_proper_remainder(m, rest, b)) return rest;
  return nn_dim_atom(m, NN_ATOM_MOD, rest, b);
}

/* ---- min and max --------------------------------------------------------------------------------- */

enum { MAX_OPERANDS = 16 };

/* Inserts d, or the operands that d is the min (max) of, into a sorted set; false when it is full. */
static bool insert_operand(nn_dim *set, int *count, nn_atom_kind kind, nn_dim d) {
  const nn_atom *nested = single_atom(d, kind);
  if (nested) return insert_operand(set, count, kind, nested->a) && insert_operand(set, count, kind, nested->b);
  int at = 0;
  while (at < *count && nn_dim_compare(set[at], d) < 0) at++;
  if (at < *count && set[at] == d) return true;
  if (*count == MAX_OPERANDS) return false;
  for (int i = (*count)++; i > at; i--) set[i] = set[i - 1];
  set[at] = d;
  return true;
}

/* Whether `d` never decides a min (max) that `other` is in too. */
static bool is_dominated(nn_module *m, nn_atom_kind kind, nn_dim d, nn_dim other) {
  nn_dim excess = kind == NN_ATOM_MIN ? nn_dim_sub(m, d, other) : nn_dim_sub(m, other, d);
  return least_value(excess) >= 0;
}

static int drop_dominated(nn_module *m, nn_atom_kind kind, nn_dim *set, int count) {
  for (int i = 0; i < count; i++)
    for (int j = 0; j < count; j++) {
      if (i == j || !is_dominated(m, kind, set[i], set[j])) continue;
      for (int k = i + 1; k < count; k++) set[k - 1] = set[k];
      count--;
      i--;
      break;
    }
  return count;
}

static nn_dim make_min_max(nn_module *m, nn_atom_kind kind, nn_dim a, nn_dim b) {
  if (a->overflow || b->overflow) return nn_dim_overflow(m);
  if (is_dominated(m, kind, a, b)) return b;
  if (is_dominated(m, kind, b, a)) return a;
  nn_dim set[MAX_OPERANDS];
  int count = 0;
  if (!insert_operand(set, &count, kind, a) || !insert_operand(set, &count, kind, b)) return nn_dim_overflow(m);
  count = drop_dominated(m, kind, set, count);
  nn_dim result = set[count - 1];
  for (int i = count - 2; i >= 0; i--) result = nn_dim_atom(m, kind, set[i], result);
  return result;
}

nn_dim nn_dim_min(nn_module *m, nn_dim a, nn_dim b) { return make_min_max(m, NN_ATOM_MIN, a, b); }
nn_dim nn_dim_max(nn_module *m, nn_dim a, nn_dim b) { return make_min_max(m, NN_ATOM_MAX, a, b); }

/* ---- conditions ---------------------------------------------------------------------------------- */

/* 1 - min(1, |a-b|) */
nn_dim nn_dim_is_eq(nn_module *m, nn_dim a, nn_dim b) {
  nn_dim difference = nn_dim_sub(m, a, b);
  nn_dim distance = nn_dim_max(m, difference, negate(m, difference));
  return nn_dim_sub(m, constant(m, 1), nn_dim_min(m, constant(m, 1), distance));
}

/* min(1, max(0, b-a)) */
nn_dim nn_dim_is_lt(nn_module *m, nn_dim a, nn_dim b) {
  return nn_dim_min(m, constant(m, 1), nn_dim_max(m, constant(m, 0), nn_dim_sub(m, b, a)));
}

nn_dim nn_dim_select(nn_module *m, nn_dim cond01, nn_dim yes, nn_dim no) {
  return nn_dim_add(m, no, nn_dim_mul(m, cond01, nn_dim_sub(m, yes, no)));
}

/* Whether f is already the broadcast of a and something. */
static bool is_broadcast_of(nn_module *m, nn_dim f, nn_dim a) {
  const nn_atom *min = single_atom(f, NN_ATOM_MIN);
  for (int side = 0; min && side < 2; side++) {
    const nn_atom *max = single_atom(side ? min->b : min->a, NN_ATOM_MAX);
    if (max && (max->a == a || max->b == a) && nn_dim_mul(m, max->a, max->b) == (side ? min->a : min->b)) return true;
  }
  return false;
}

/* The formula is right wherever broadcasting is allowed, that is for a == b, a == 1 or b == 1. A dimension
   that cannot be 1 decides alone: the other is equal to it or 1, which the checks of the caller establish. */
nn_dim nn_dim_broadcast(nn_module *m, nn_dim a, nn_dim b) {
  if (a->overflow || b->overflow) return nn_dim_overflow(m);
  if (a == b || nn_dim_is(b, 1)) return a;
  if (nn_dim_is(a, 1)) return b;
  bool a_is_const = nn_dim_is_const(a, NULL), b_is_const = nn_dim_is_const(b, NULL);
  if (nn_dim_is(a, 0) || nn_dim_is(b, 0)) return constant(m, 0);
  if (a_is_const != b_is_const) return a_is_const ? a : b;
  if (!a_is_const && least_value(a) > 1) return a;
  if (!a_is_const && least_value(b) > 1) return b;
  if (is_broadcast_of(m, a, b)) return a;
  if (is_broadcast_of(m, b, a)) return b;
  return nn_dim_min(m, nn_dim_max(m, a, b), nn_dim_mul(m, a, b));
}

/* ---- substitution -------------------------------------------------------------------------------- */

static nn_dim substitute_atom(nn_module *m, const nn_atom *atom, nn_dim itself, const nn_dim *by) {
  if (atom->kind == NN_ATOM_SYMBOL) return by && by[atom->symbol] ? by[atom->symbol] : itself;
  nn_dim a = nn_dim_substitute(m, atom->a, by), b = nn_dim_substitute(m, atom->b, by);
  switch (atom->kind) {
  case NN_ATOM_FLOORDIV: return nn_dim_floordiv(m, a, b);
  case NN_ATOM_MOD: return nn_dim_mod(m, a, b);
  case NN_ATOM_MIN: return nn_dim_min(m, a, b);
  case NN_ATOM_MAX: return nn_dim_max(m, a, b);
  case NN_ATOM_SYMBOL: break;
  }
  return itself;
}

nn_dim nn_dim_substitute(nn_module *m, nn_dim d, const nn_dim *by_symbol_index) {
  if (d->overflow || nn_dim_is_const(d, NULL)) return d;
  nn_dim sum = constant(m, 0);
  for (int i = 0; i < d->nterms; i++) {
    nn_dim product = constant(m, d->terms[i].coefficient);
    for (int j = 0; j < d->terms[i].natoms; j++) {
      nn_dim itself = nn_dim_terms(m, &(nn_term){1, 1, &d->terms[i].atoms[j]}, 1);
      product = nn_dim_mul(m, product, substitute_atom(m, d->terms[i].atoms[j], itself, by_symbol_index));
    }
    sum = nn_dim_add(m, sum, product);
  }
  return sum;
}
