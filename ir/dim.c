/* Symbolic dimensions: the store of expressions and their ring operations.

   An expression is a polynomial: terms in a fixed monomial order, each a non-zero coefficient times a
   sorted product of atoms. Expressions and atoms are hash-consed, so the normal form makes equality a
   comparison of pointers. The order (degree, then atoms; symbols by name) does not depend on the order of
   creation: text that is printed and parsed again gives the same text, and the order is compatible with
   multiplication, which polynomial division needs.

   Models are untrusted, so growth is bounded: an expression over the limits below is the overflow
   expression, as is one whose coefficients leave int64. The weight counts the expression as a tree, hence
   it bounds every recursive walk too.

   dim_fold.c: floordiv, mod, min, max; dim_range.c: bounds and values; dim_text.c: text. */
#include "ir/ir.h"

#include <assert.h>
#include <string.h>

enum { MAX_TERMS = 256, MAX_WEIGHT = 2048, MAX_DEPTH = 64, MAX_DEGREE = 64 };

typedef struct atom_node {
  nn_atom atom; /* first: nn_atom pointers are cast to this */
  const nn_symbol *symbol;
  int id, weight, depth;
} atom_node;

typedef struct expr_node {
  nn_expr expr; /* first */
  uint64_t hash;
  int weight, depth;
} expr_node;

struct nn_dim_table {
  expr_node **slots; /* open addressing, at most half full */
  size_t nslots, nexprs;
  int natoms;
  nn_map *atoms;    /* "kind,a,b" -> atom_node */
  nn_map *symbols;  /* name -> nn_dim */
  nn_map *prefixes; /* of fresh names -> int, the next number */
  nn_dim overflow;
};

static const atom_node *node_of_atom(const nn_atom *atom) { return (const atom_node *)(const void *)atom; }
static const expr_node *node_of_expr(nn_dim d) { return (const expr_node *)(const void *)d; }

static struct nn_dim_table *table_of(nn_module *m) {
  if (m->dim_table) return m->dim_table;
  struct nn_dim_table *table = NN_NEW(m->arena, struct nn_dim_table);
  table->atoms = nn_map_new(m->arena);
  table->symbols = nn_map_new(m->arena);
  table->prefixes = nn_map_new(m->arena);
  expr_node *overflow = NN_NEW(m->arena, expr_node);
  overflow->expr.overflow = true;
  overflow->expr.id = -1;
  overflow->weight = 1;
  table->overflow = &overflow->expr;
  m->dim_table = table;
  return table;
}

nn_dim nn_dim_overflow(nn_module *m) { return table_of(m)->overflow; }
const nn_symbol *nn_atom_symbol(const nn_atom *atom) { return node_of_atom(atom)->symbol; }

/* ---- order ------------------------------------------------------------------------------------- */

static int compare_int(int64_t a, int64_t b) { return (a > b) - (a < b); }

static int compare_atoms(const nn_atom *a, const nn_atom *b) {
  if (a == b) return 0;
  if (a->kind != b->kind) return compare_int(a->kind, b->kind);
  if (a->kind == NN_ATOM_SYMBOL) return strcmp(nn_atom_symbol(a)->name, nn_atom_symbol(b)->name);
  int order = nn_dim_compare(a->a, b->a);
  return order ? order : nn_dim_compare(a->b, b->b);
}

/* Higher degree first, so the constant is last. */
static int compare_monomials(const nn_term *a, const nn_term *b) {
  if (a->natoms != b->natoms) return compare_int(b->natoms, a->natoms);
  for (int i = 0; i < a->natoms; i++) {
    int order = compare_atoms(a->atoms[i], b->atoms[i]);
    if (order) return order;
  }
  return 0;
}

int nn_dim_compare(nn_dim a, nn_dim b) {
  if (a == b) return 0;
  if (a->overflow != b->overflow) return compare_int(a->overflow, b->overflow);
  for (int i = 0; i < a->nterms && i < b->nterms; i++) {
    int order = compare_monomials(&a->terms[i], &b->terms[i]);
    if (!order) order = compare_int(a->terms[i].coefficient, b->terms[i].coefficient);
    if (order) return order;
  }
  return compare_int(a->nterms, b->nterms);
}

/* ---- the store --------------------------------------------------------------------------------- */

static uint64_t combine(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
  return hash ^ (hash >> 29);
}

static uint64_t hash_terms(const nn_term *terms, int count) {
  uint64_t hash = (uint64_t)count;
  for (int i = 0; i < count; i++) {
    hash = combine(hash, (uint64_t)terms[i].coefficient);
    for (int j = 0; j < terms[i].natoms; j++) hash = combine(hash, (uint64_t)node_of_atom(terms[i].atoms[j])->id);
    hash = combine(hash, (uint64_t)terms[i].natoms);
  }
  return hash;
}

static bool same_terms(const nn_expr *e, const nn_term *terms, int count) {
  if (e->nterms != count) return false;
  for (int i = 0; i < count; i++) {
    const nn_term *a = &e->terms[i], *b = &terms[i];
    if (a->coefficient != b->coefficient || a->natoms != b->natoms) return false;
    for (int j = 0; j < a->natoms; j++)
      if (a->atoms[j] != b->atoms[j]) return false;
  }
  return true;
}

static void enlarge(nn_module *m, struct nn_dim_table *table) {
  size_t nslots = table->nslots ? table->nslots * 2 : 64;
  expr_node **slots = NN_NEW_ARRAY(m->arena, expr_node *, nslots);
  for (size_t i = 0; i < table->nslots; i++) {
    expr_node *node = table->slots[i];
    if (!node) continue;
    size_t at = (size_t)node->hash & (nslots - 1);
    while (slots[at]) at = (at + 1) & (nslots - 1);
    slots[at] = node;
  }
  table->slots = slots;
  table->nslots = nslots;
}

/* Weight and depth of a new node; false when over the limits. */
static bool measure(expr_node *node, const nn_term *terms, int count) {
  node->weight = 1;
  for (int i = 0; i < count; i++) {
    if (terms[i].natoms > MAX_DEGREE) return false;
    node->weight++;
    for (int j = 0; j < terms[i].natoms; j++) {
      const atom_node *atom = node_of_atom(terms[i].atoms[j]);
      node->weight += atom->weight;
      if (atom->depth > node->depth) node->depth = atom->depth;
      if (node->weight > MAX_WEIGHT) return false;
    }
  }
  return count <= MAX_TERMS && node->depth <= MAX_DEPTH;
}

nn_dim nn_dim_terms(nn_module *m, const nn_term *terms, int count) {
  struct nn_dim_table *table = table_of(m);
  if (2 * (table->nexprs + 1) > table->nslots) enlarge(m, table);
  uint64_t hash = hash_terms(terms, count);
  size_t at = (size_t)hash & (table->nslots - 1);
  for (expr_node *node; (node = table->slots[at]); at = (at + 1) & (table->nslots - 1))
    if (node->hash == hash && same_terms(&node->expr, terms, count)) return &node->expr;
  expr_node made = {.hash = hash};
  if (!measure(&made, terms, count)) return table->overflow;
  made.expr.id = (int)table->nexprs++;
  made.expr.nterms = count;
  made.expr.terms = nn_memdup(m->arena, terms, (size_t)count * sizeof *terms);
  table->slots[at] = nn_memdup(m->arena, &made, sizeof made);
  return &table->slots[at]->expr;
}

static nn_dim from_atom(nn_module *m, const atom_node *node) {
  const nn_atom **atoms = NN_NEW(m->arena, const nn_atom *);
  *atoms = &node->atom;
  return nn_dim_terms(m, &(nn_term){.coefficient = 1, .natoms = 1, .atoms = atoms}, 1);
}

nn_dim nn_dim_atom(nn_module *m, nn_atom_kind kind, nn_dim a, nn_dim b) {
  assert(kind != NN_ATOM_SYMBOL);
  struct nn_dim_table *table = table_of(m);
  if (a->overflow || b->overflow) return table->overflow;
  char key[64];
  snprintf(key, sizeof key, "%d,%d,%d", (int)kind, a->id, b->id);
  atom_node *node = nn_map_get(table->atoms, key);
  if (!node) {
    const expr_node *left = node_of_expr(a), *right = node_of_expr(b);
    node = NN_NEW(m->arena, atom_node);
    node->atom = (nn_atom){.kind = kind, .symbol = -1, .a = a, .b = b};
    node->id = table->natoms++;
    node->weight = 1 + left->weight + right->weight;
    node->depth = 1 + (left->depth > right->depth ? left->depth : right->depth);
    nn_map_put(table->atoms, key, node);
  }
  return from_atom(m, node);
}

nn_dim nn_dim_const(nn_module *m, int64_t value) {
  return nn_dim_terms(m, &(nn_term){.coefficient = value}, value != 0);
}

nn_dim nn_dim_symbol(nn_module *m, const char *name) {
  struct nn_dim_table *table = table_of(m);
  nn_dim found = nn_map_get(table->symbols, name);
  if (found) return found;
  nn_symbol *symbol = NN_NEW(m->arena, nn_symbol);
  *symbol = (nn_symbol){.name = nn_strdup(m->arena, name), .index = m->nsymbols, .max = INT64_MAX};
  NN_PUSH(m->arena, m->symbols, m->nsymbols, m->symbols_cap, symbol);
  atom_node *node = NN_NEW(m->arena, atom_node);
  node->atom = (nn_atom){.kind = NN_ATOM_SYMBOL, .symbol = symbol->index};
  node->symbol = symbol;
  node->id = table->natoms++;
  node->weight = 1;
  nn_dim d = from_atom(m, node);
  nn_map_put(table->symbols, name, (void *)(uintptr_t)d); /* the map holds plain pointers */
  return d;
}

nn_dim nn_dim_fresh(nn_module *m, const char *prefix) {
  struct nn_dim_table *table = table_of(m);
  if (!prefix) prefix = "d";
  int *next = nn_map_get(table->prefixes, prefix);
  if (!next) {
    next = NN_NEW(m->arena, int);
    nn_map_put(table->prefixes, prefix, next);
  }
  const char *name;
  do {
    name = nn_sprintf(m->arena, "%s%d", prefix, (*next)++);
  } while (nn_map_get(table->symbols, name));
  nn_dim d = nn_dim_symbol(m, name);
  m->symbols[m->nsymbols - 1]->data_dependent = true;
  return d;
}

/* ---- constants --------------------------------------------------------------------------------- */

bool nn_dim_is_overflow(nn_dim d) { return d->overflow; }

bool nn_dim_is_const(nn_dim d, int64_t *value) {
  if (d->overflow || d->nterms > 1 || (d->nterms == 1 && d->terms[0].natoms)) return false;
  if (value) *value = d->nterms ? d->terms[0].coefficient : 0;
  return true;
}

bool nn_dim_is(nn_dim d, int64_t value) {
  int64_t found;
  return nn_dim_is_const(d, &found) && found == value;
}

int64_t nn_dim_value(nn_dim d) {
  int64_t value = 0;
  bool is_const = nn_dim_is_const(d, &value);
  assert(is_const);
  (void)is_const;
  return value;
}

/* ---- sums and products ------------------------------------------------------------------------- */

/* Merges sorted term lists into out, which has room for na + nb; -1 on overflow. */
static int merge_terms(const nn_term *a, int na, const nn_term *b, int nb, nn_term *out) {
  int i = 0, j = 0, n = 0;
  while (i < na || j < nb) {
    int order = i == na ? 1 : j == nb ? -1 : compare_monomials(&a[i], &b[j]);
    nn_term t = order <= 0 ? a[i++] : b[j++];
    if (order == 0 && __builtin_add_overflow(t.coefficient, b[j++].coefficient, &t.coefficient)) return -1;
    if (t.coefficient) out[n++] = t;
  }
  return n;
}

nn_dim nn_dim_add(nn_module *m, nn_dim a, nn_dim b) {
  if (a->overflow || b->overflow) return nn_dim_overflow(m);
  if (!a->nterms) return b;
  if (!b->nterms) return a;
  nn_term sum[2 * MAX_TERMS];
  int n = merge_terms(a->terms, a->nterms, b->terms, b->nterms, sum);
  return n < 0 ? nn_dim_overflow(m) : nn_dim_terms(m, sum, n);
}

nn_dim nn_dim_sub(nn_module *m, nn_dim a, nn_dim b) {
  return a == b && !a->overflow ? nn_dim_const(m, 0) : nn_dim_add(m, a, nn_dim_mul(m, b, nn_dim_const(m, -1)));
}

static const nn_atom *const *merge_atoms(nn_module *m, const nn_term *a, const nn_term *b) {
  if (!a->natoms) return b->atoms;
  if (!b->natoms) return a->atoms;
  const nn_atom **atoms = NN_NEW_ARRAY(m->arena, const nn_atom *, a->natoms + b->natoms);
  int i = 0, j = 0, n = 0;
  while (i < a->natoms || j < b->natoms) {
    bool take_a = j == b->natoms || (i < a->natoms && compare_atoms(a->atoms[i], b->atoms[j]) <= 0);
    atoms[n++] = take_a ? a->atoms[i++] : b->atoms[j++];
  }
  return atoms;
}

static bool multiply_terms(nn_module *m, const nn_term *a, const nn_term *b, nn_term *product) {
  int natoms = a->natoms + b->natoms;
  if (natoms > MAX_DEGREE) return false;
  if (__builtin_mul_overflow(a->coefficient, b->coefficient, &product->coefficient)) return false;
  product->natoms = natoms;
  product->atoms = merge_atoms(m, a, b);
  return true;
}

/* The order is a monomial order: b times a term stays sorted. */
nn_dim nn_dim_mul(nn_module *m, nn_dim a, nn_dim b) {
  if (a->overflow || b->overflow) return nn_dim_overflow(m);
  nn_term sums[2][2 * MAX_TERMS], row[MAX_TERMS];
  int n = 0;
  for (int i = 0; i < a->nterms; i++) {
    for (int j = 0; j < b->nterms; j++)
      if (!multiply_terms(m, &a->terms[i], &b->terms[j], &row[j])) return nn_dim_overflow(m);
    n = merge_terms(sums[i % 2], n, row, b->nterms, sums[(i + 1) % 2]);
    if (n < 0 || n > MAX_TERMS) return nn_dim_overflow(m);
  }
  return nn_dim_terms(m, sums[a->nterms % 2], n);
}

nn_dim nn_dim_product(nn_module *m, const nn_dim *dims, int count) {
  nn_dim product = nn_dim_const(m, 1);
  for (int i = 0; i < count; i++)
    if (nn_dim_is(dims[i], 0)) return dims[i];
  for (int i = 0; i < count; i++) product = nn_dim_mul(m, product, dims[i]);
  return product;
}

/* ---- exact division ---------------------------------------------------------------------------- */

/* quotient = a / b if every atom of b is in a and the coefficients divide. */
static bool divide_terms(nn_module *m, const nn_term *a, const nn_term *b, nn_term *quotient) {
  if (b->natoms > a->natoms) return false;
  if (b->coefficient == -1 ? a->coefficient == INT64_MIN : a->coefficient % b->coefficient != 0) return false;
  const nn_atom **atoms = NN_NEW_ARRAY(m->arena, const nn_atom *, a->natoms - b->natoms);
  int n = 0, j = 0;
  for (int i = 0; i < a->natoms; i++) {
    if (j < b->natoms && a->atoms[i] == b->atoms[j])
      j++;
    else if (n < a->natoms - b->natoms)
      atoms[n++] = a->atoms[i];
    else
      return false;
  }
  *quotient = (nn_term){.coefficient = a->coefficient / b->coefficient, .natoms = n, .atoms = atoms};
  return true;
}

bool nn_dim_divides(nn_module *m, nn_dim a, nn_dim b, nn_dim *quotient) {
  if (a->overflow || b->overflow || !b->nterms) return false;
  nn_dim result = nn_dim_const(m, 0), rest = a;
  for (int step = 0; rest->nterms; step++) { /* each step removes the leading monomial */
    nn_term t;
    if (step == MAX_TERMS || !divide_terms(m, &rest->terms[0], &b->terms[0], &t)) return false;
    nn_dim part = nn_dim_terms(m, &t, 1);
    result = nn_dim_add(m, result, part);
    rest = nn_dim_sub(m, rest, nn_dim_mul(m, part, b));
    if (rest->overflow || result->overflow) return false;
  }
  *quotient = result;
  return true;
}
