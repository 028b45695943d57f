/* Symbolic dimensions: what is known about their values.

   Bounds are interval arithmetic over the symbols' bounds. INT64_MIN and INT64_MAX stand for "unknown, as
   far as it goes", and all arithmetic saturates there, so a bound may be loose but never wrong. */
#include "ir/ir.h"

typedef struct interval {
  int64_t min, max;
} interval;

static const interval anything = {INT64_MIN, INT64_MAX};

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
static bool is_unbounded(int64_t a) { return a == INT64_MIN || a == INT64_MAX; }

/* edge: the infinity on the loose side of the bound; the other one counts as the number it is. */
static int64_t add_saturating(int64_t a, int64_t b, int64_t edge) {
  if (a == edge || b == edge) return edge;
  int64_t sum;
  if (!__builtin_add_overflow(a, b, &sum)) return sum;
  return a < 0 ? INT64_MIN : INT64_MAX;
}

static int64_t multiply_saturating(int64_t a, int64_t b) {
  if (a == 0 || b == 0) return 0;
  int64_t product;
  if (!is_unbounded(a) && !is_unbounded(b) && !__builtin_mul_overflow(a, b, &product)) return product;
  return (a < 0) == (b < 0) ? INT64_MAX : INT64_MIN;
}

static interval multiply(interval a, interval b) {
  int64_t p = multiply_saturating(a.min, b.min), q = multiply_saturating(a.min, b.max);
  int64_t r = multiply_saturating(a.max, b.min), s = multiply_saturating(a.max, b.max);
  /* -INT64_MAX: "at least INT64_MAX" negated is no less than that */
  return (interval){smaller(smaller(p, q), smaller(r, s)), larger(larger(larger(p, q), larger(r, s)), -INT64_MAX)};
}

int64_t nn_floordiv_i64(int64_t a, int64_t b) {
  int64_t quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

/* a is unbounded or not, b >= 1 and maybe unbounded. */
static int64_t divide_saturating(int64_t a, int64_t b) {
  if (is_unbounded(a)) return a; /* even over an unbounded divisor: loose, not wrong */
  if (b == INT64_MAX) return a < 0 ? -1 : 0;
  return nn_floordiv_i64(a, b);
}

static interval range_of(nn_dim d);

static interval range_of_floordiv(interval a, interval b) {
  if (b.min >= 1) {
    int64_t least = divide_saturating(a.min, a.min < 0 ? b.min : b.max);
    int64_t most = divide_saturating(a.max, a.max < 0 ? b.max : b.min);
    return (interval){a.min == INT64_MAX ? 0 : least, a.max == INT64_MIN ? -1 : most};
  }
  if (a.min >= 0 && b.min >= 0) return (interval){0, a.max};
  if (is_unbounded(a.min) || is_unbounded(a.max)) return anything;
  int64_t most = larger(a.min < 0 ? -a.min : a.min, a.max < 0 ? -a.max : a.max);
  return (interval){-most, most};
}

/* The result has the divisor's sign; by 0 it is 0. */
static interval range_of_mod(interval a, interval b) {
  interval r = {b.min < 0 ? (b.min == INT64_MIN ? INT64_MIN : b.min + 1) : 0,
                b.max > 0 ? (b.max == INT64_MAX ? INT64_MAX : b.max - 1) : 0};
  if (b.min >= 0 && a.min >= 0) r.max = smaller(r.max, a.max);
  return r;
}

static bool is_negation(nn_dim a, nn_dim b) {
  if (a->nterms != b->nterms) return false;
  for (int i = 0; i < a->nterms; i++) {
    const nn_term *s = &a->terms[i], *t = &b->terms[i];
    if (s->coefficient == INT64_MIN || s->coefficient != -t->coefficient || s->natoms != t->natoms) return false;
    for (int j = 0; j < s->natoms; j++)
      if (s->atoms[j] != t->atoms[j]) return false;
  }
  return true;
}

static interval range_of_atom(const nn_atom *atom) {
  if (atom->kind == NN_ATOM_SYMBOL) return (interval){nn_atom_symbol(atom)->min, nn_atom_symbol(atom)->max};
  interval a = range_of(atom->a), b = range_of(atom->b), r = anything;
  switch (atom->kind) {
  case NN_ATOM_FLOORDIV: return range_of_floordiv(a, b);
  case NN_ATOM_MOD: return range_of_mod(a, b);
  case NN_ATOM_MIN:
    r = (interval){smaller(a.min, b.min), smaller(a.max, b.max)};
    if (is_negation(atom->a, atom->b)) r.max = smaller(r.max, 0); /* -|x| */
    return r;
  case NN_ATOM_MAX:
    r = (interval){larger(a.min, b.min), larger(a.max, b.max)};
    if (is_negation(atom->a, atom->b)) r.min = larger(r.min, 0); /* |x| */
    return r;
  case NN_ATOM_SYMBOL: break;
  }
  return r;
}

static interval range_of(nn_dim d) {
  if (d->overflow) return anything;
  interval sum = {0, 0};
  for (int i = 0; i < d->nterms; i++) {
    const nn_term *t = &d->terms[i];
    interval r = {t->coefficient, t->coefficient};
    for (int j = 0; j < t->natoms; j++) r = multiply(r, range_of_atom(t->atoms[j]));
    sum = (interval){add_saturating(sum.min, r.min, INT64_MIN), add_saturating(sum.max, r.max, INT64_MAX)};
  }
  return sum;
}

void nn_dim_range(nn_dim d, int64_t *min, int64_t *max) {
  interval r = range_of(d);
  *min = r.min;
  *max = r.max;
}

/* ---- proofs ------------------------------------------------------------------------------------ */

enum { PROOF_STEPS = 32 };

static bool is_positive(nn_module *m, nn_dim d, int *steps);

/* d with term i's atom, which the term consists of, replaced. */
static nn_dim replace_term(nn_module *m, nn_dim d, int i, nn_dim replacement) {
  nn_dim term = nn_dim_terms(m, &d->terms[i], 1);
  nn_dim by = nn_dim_mul(m, nn_dim_const(m, d->terms[i].coefficient), replacement);
  return nn_dim_add(m, nn_dim_sub(m, d, term), by);
}

/* x floordiv k lies in [(x-k+1)/k, x/k]: k*d is bounded below by an expression without the division. */
static nn_dim bound_floordiv(nn_module *m, nn_dim d, int i, const nn_atom *atom, int64_t k) {
  int64_t c = d->terms[i].coefficient;
  nn_dim numerator = c > 0 ? nn_dim_sub(m, atom->a, nn_dim_const(m, k - 1)) : atom->a;
  nn_dim rest = nn_dim_sub(m, d, nn_dim_terms(m, &d->terms[i], 1));
  return nn_dim_add(m, nn_dim_mul(m, rest, nn_dim_const(m, k)), nn_dim_mul(m, numerator, nn_dim_const(m, c)));
}

/* Removes one min, max or floordiv whose correlation with the rest plain intervals cannot see. */
static bool is_positive_without(nn_module *m, nn_dim d, int i, int *steps) {
  const nn_atom *atom = d->terms[i].atoms[0];
  bool is_added = d->terms[i].coefficient > 0;
  int64_t k;
  if (atom->kind == NN_ATOM_FLOORDIV && nn_dim_is_const(atom->b, &k) && k > 0)
    return is_positive(m, bound_floordiv(m, d, i, atom, k), steps);
  if (atom->kind != NN_ATOM_MIN && atom->kind != NN_ATOM_MAX) return false;
  bool with_a = is_positive(m, replace_term(m, d, i, atom->a), steps);
  bool needs_both = (atom->kind == NN_ATOM_MIN) == is_added;
  if (needs_both != with_a) return with_a; /* one was enough, or both were needed and one failed */
  return is_positive(m, replace_term(m, d, i, atom->b), steps);
}

static bool is_positive(nn_module *m, nn_dim d, int *steps) {
  if (d->overflow || (*steps)-- <= 0) return false;
  if (range_of(d).min > 0) return true;
  for (int i = 0; i < d->nterms; i++)
    if (d->terms[i].natoms == 1 && d->terms[i].atoms[0]->kind != NN_ATOM_SYMBOL && is_positive_without(m, d, i, steps))
      return true;
  return false;
}

bool nn_dim_known_lt(nn_module *m, nn_dim a, nn_dim b) {
  int steps = PROOF_STEPS;
  return is_positive(m, nn_dim_sub(m, b, a), &steps);
}

/* ---- values ------------------------------------------------------------------------------------ */

static bool eval_atom(const nn_atom *atom, const int64_t *symbols, int64_t *value) {
  if (atom->kind == NN_ATOM_SYMBOL) {
    *value = symbols[atom->symbol];
    return true;
  }
  int64_t a, b;
  if (!nn_dim_eval(atom->a, symbols, &a) || !nn_dim_eval(atom->b, symbols, &b)) return false;
  if (atom->kind == NN_ATOM_MIN) *value = smaller(a, b);
  if (atom->kind == NN_ATOM_MAX) *value = larger(a, b);
  if (atom->kind == NN_ATOM_MIN || atom->kind == NN_ATOM_MAX) return true;
  if (b == 0)
    *value = 0;
  else if (b == -1)
    return atom->kind == NN_ATOM_MOD ? (*value = 0, true) : !__builtin_sub_overflow(0, a, value);
  else
    *value = atom->kind == NN_ATOM_MOD ? a - nn_floordiv_i64(a, b) * b : nn_floordiv_i64(a, b);
  return true;
}

bool nn_dim_eval(nn_dim d, const int64_t *symbols, int64_t *value) {
  if (d->overflow) return false;
  int64_t sum = 0;
  for (int i = 0; i < d->nterms; i++) {
    int64_t product = d->terms[i].coefficient, factor;
    for (int j = 0; j < d->terms[i].natoms; j++) {
      if (!eval_atom(d->terms[i].atoms[j], symbols, &factor)) return false;
      if (__builtin_mul_overflow(product, factor, &product)) return false;
    }
    if (__builtin_add_overflow(sum, product, &sum)) return false;
  }
  *value = sum;
  return true;
}

void nn_dim_symbols(nn_dim d, bool *used) {
  for (int i = 0; i < d->nterms; i++)
    for (int j = 0; j < d->terms[i].natoms; j++) {
      const nn_atom *atom = d->terms[i].atoms[j];
      if (atom->kind == NN_ATOM_SYMBOL) {
        used[atom->symbol] = true;
      } else {
        nn_dim_symbols(atom->a, used);
        nn_dim_symbols(atom->b, used);
      }
    }
}

int64_t nn_dim_likely(nn_module *m, nn_dim d, int64_t symbol) {
  int64_t value;
  if (nn_dim_is_const(d, &value)) return value;
  int64_t *symbols = NN_NEW_ARRAY(m->arena, int64_t, m->nsymbols + 1);
  for (int i = 0; i < m->nsymbols; i++)
    symbols[i] = smaller(larger(symbol, m->symbols[i]->min), m->symbols[i]->max);
  return nn_dim_eval(d, symbols, &value) ? larger(value, 1) : symbol;
}
