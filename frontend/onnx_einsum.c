/* ONNX Einsum. Every dimension has a label; operands are contracted from left to right:
   1. repeated labels of an operand become one (its diagonal), labels that nobody else needs are summed;
   2. two operands: labels in both and wanted later are batch, labels in both and not wanted are summed, the
      rest are rows and columns: one matmul, or a product where nothing is summed;
   3. the last operand's labels are put in the order of the result. */
#include "frontend/onnx.h"

#include <ctype.h>
#include <string.h>

/* Labels: letters are 0..51, the dims of an ellipsis 52.. (the last dim of all operands is the last). */
enum { ELLIPSIS = 52, NLABELS = ELLIPSIS + NN_MAX_RANK };

typedef struct term {
  nn_value *v;
  int rank;
  int labels[NN_MAX_RANK];
} term;

typedef struct einsum {
  onnx_node *n;
  term *terms; /* one for each operand */
  int nterms;
  term result; /* labels only */
  nn_dim size[NLABELS];
  int uses[NLABELS]; /* by operands, each counted once for each time it is written */
  int nellipsis;     /* most dims that an ellipsis stands for */
} einsum;

static int letter_label(char c) { return c >= 'a' ? 26 + c - 'a' : c - 'A'; }

static bool has_label(const term *t, int label) {
  for (int i = 0; i < t->rank; i++)
    if (t->labels[i] == label) return true;
  return false;
}

static void add_label(term *t, int label) { t->labels[t->rank++] = label; }

/* ---- the equation ----------------------------------------------------------------------------- */

/* One term of the equation, up to ',' '-' or the end. rank: of the operand; -1 for the result, whose
   ellipsis has all ellipsis dims. */
static nn_status parse_term(einsum *e, const char **cursor, int rank, term *t) {
  onnx_node *n = e->n;
  const char *c = *cursor;
  int nletters = 0, nellipses = 0;
  t->rank = 0;
  for (const char *p = c; *p && *p != ',' && *p != '-'; p++) nletters += isalpha((unsigned char)*p) != 0;
  int ndots = rank < 0 ? e->nellipsis : rank - nletters;
  if (nletters + (ndots > 0 ? ndots : 0) > NN_MAX_RANK)
    return onnx_unsupported(n, "equation has a term of more than %d dimensions", NN_MAX_RANK);
  while (*c && *c != ',' && *c != '-') {
    if (*c == ' ') {
      c++;
      continue;
    }
    if (isalpha((unsigned char)*c) && (unsigned char)*c < 128) {
      add_label(t, letter_label(*c++));
      continue;
    }
    if (strncmp(c, "...", 3) || nellipses++)
      return onnx_fail(n, "equation has '%s', expected letters and at most one ... in a term", c);
    for (int i = 0; i < ndots; i++) add_label(t, ELLIPSIS + NN_MAX_RANK - ndots + i);
    if (ndots > e->nellipsis) e->nellipsis = ndots;
    c += 3;
  }
  if (rank >= 0 && t->rank != rank)
    return onnx_fail(n, "equation gives an operand %d dimensions, it has %d", t->rank, rank);
  *cursor = c;
  return NN_OK;
}

/* Sizes of labels: equal in all operands, or 1. */
static nn_status note_sizes(einsum *e, const term *t) {
  for (int i = 0; i < t->rank; i++) {
    nn_dim d = t->v->type.dims[i], *size = &e->size[t->labels[i]];
    e->uses[t->labels[i]]++;
    if (!*size || nn_dim_is(*size, 1))
      *size = d;
    else if (!nn_dim_is(d, 1))
      NN_TRY(nn_b_check(e->n->b, "broadcast", d, *size, "size of a label of the equation"));
  }
  return NN_OK;
}

static nn_status parse_operands(einsum *e, const char **cursor) {
  onnx_node *n = e->n;
  e->terms = NN_NEW_ARRAY(n->m->arena, term, n->nin);
  for (e->nterms = 0; e->nterms < n->nin; e->nterms++) {
    term *t = &e->terms[e->nterms];
    t->v = n->in[e->nterms];
    if (e->nterms > 0 && *(*cursor)++ != ',')
      return onnx_fail(n, "equation has %d operands, the node has %d", e->nterms, n->nin);
    NN_TRY(parse_term(e, cursor, t->v->type.rank, t));
    NN_TRY(note_sizes(e, t));
  }
  if (**cursor == ',') return onnx_fail(n, "equation has more operands than the node, which has %d", n->nin);
  return NN_OK;
}

/* Without "->": the ellipsis, then in alphabetical order the letters that were written once. */
static nn_status imply_result(einsum *e) {
  for (int i = 0; i < e->nellipsis; i++) add_label(&e->result, ELLIPSIS + NN_MAX_RANK - e->nellipsis + i);
  for (int label = 0; label < ELLIPSIS; label++) {
    if (e->uses[label] != 1) continue;
    if (e->result.rank == NN_MAX_RANK) return onnx_unsupported(e->n, "result has more than %d dimensions", NN_MAX_RANK);
    add_label(&e->result, label);
  }
  return NN_OK;
}

static nn_status check_result(const einsum *e) {
  const term *t = &e->result;
  for (int i = 0; i < t->rank; i++) {
    if (!e->size[t->labels[i]]) return onnx_fail(e->n, "the equation's result has a label that no operand has");
    for (int k = 0; k < i; k++)
      if (t->labels[k] == t->labels[i]) return onnx_fail(e->n, "the equation's result has a label twice");
  }
  return NN_OK;
}

static nn_status parse_equation(einsum *e) {
  const char *cursor = onnx_str(e->n, "equation", "");
  NN_TRY(parse_operands(e, &cursor));
  if (!*cursor) return imply_result(e);
  if (strncmp(cursor, "->", 2)) return onnx_fail(e->n, "equation has '%s', expected ->", cursor);
  cursor += 2;
  NN_TRY(parse_term(e, &cursor, -1, &e->result));
  if (*cursor) return onnx_fail(e->n, "equation goes on with '%s' after its result", cursor);
  return check_result(e);
}

/* ---- one operand ------------------------------------------------------------------------------ */

/* t's dims in the order of labels, all of which it has. */
static void order_by(einsum *e, term *t, const int *labels) {
  int64_t perm[NN_MAX_RANK];
  bool moves = false;
  for (int i = 0; i < t->rank; i++) {
    for (int k = 0; k < t->rank; k++)
      if (t->labels[k] == labels[i]) perm[i] = k;
    moves |= perm[i] != i;
  }
  if (moves) t->v = nn_b_transpose(e->n->b, t->v, perm);
  memcpy(t->labels, labels, sizeof *labels * (size_t)t->rank);
}

/* Dims i < j of one label become one: both moved to the end, flattened, and every (size + 1)th taken. A dim of 1
 * against a larger one is dropped. */
static void take_diagonal(einsum *e, term *t, int i, int j) {
  nn_builder *b = e->n->b;
  nn_module *m = e->n->m;
  int64_t perm[NN_MAX_RANK];
  int kept = 0, labels[NN_MAX_RANK], label = t->labels[i];
  nn_dim dims[NN_MAX_RANK], one = nn_dim_const(m, 1);
  for (int k = 0; k < t->rank; k++) {
    if (k == i || k == j) continue;
    perm[kept] = k;
    labels[kept] = t->labels[k];
    dims[kept++] = t->v->type.dims[k];
  }
  nn_dim a = t->v->type.dims[i], c = t->v->type.dims[j], size = nn_dim_is(a, 1) ? c : a;
  bool is_square = !nn_dim_is(a, 1) && !nn_dim_is(c, 1);
  perm[kept] = i;
  perm[kept + 1] = j;
  dims[kept] = nn_dim_mul(m, a, c);
  t->v = nn_b_reshape(b, nn_b_transpose(b, t->v, perm), kept + 1, dims);
  if (is_square) t->v = nn_b_slice(b, t->v, kept, nn_dim_const(m, 0), size, nn_dim_add(m, size, one));
  labels[kept] = label;
  t->rank = kept + 1;
  memcpy(t->labels, labels, sizeof *labels * (size_t)t->rank);
}

static nn_status merge_repeats(einsum *e, term *t) {
  for (int j = 1; j < t->rank; j++) {
    for (int i = 0; i < j; i++) {
      if (t->labels[i] != t->labels[j]) continue;
      take_diagonal(e, t, i, j);
      if (!t->v) return NN_FAIL;
      j = 0;
      break;
    }
  }
  return NN_OK;
}

/* Is the label in the result or in an operand from `next` on? */
static bool is_wanted(const einsum *e, int next, int label) {
  if (has_label(&e->result, label)) return true;
  for (int i = next; i < e->nterms; i++)
    if (has_label(&e->terms[i], label)) return true;
  return false;
}

/* Sums the dims that neither `other` (may be NULL) nor anything later has. */
static void sum_unwanted(einsum *e, term *t, const term *other, int next) {
  int64_t axes[NN_MAX_RANK];
  int naxes = 0, kept = 0;
  for (int i = 0; i < t->rank; i++) {
    int label = t->labels[i];
    if (is_wanted(e, next, label) || (other && has_label(other, label)))
      t->labels[kept++] = label;
    else
      axes[naxes++] = i;
  }
  if (naxes) t->v = nn_b_reduce(e->n->b, NN_OP_REDUCE_SUM, t->v, axes, naxes, false);
  t->rank = kept;
}

/* Dims of 1 that the label's size exceeds are stretched, so that operands agree. */
static void stretch(einsum *e, term *t) {
  nn_dim dims[NN_MAX_RANK];
  bool is_short = false;
  if (!t->v) return;
  for (int i = 0; i < t->rank; i++) {
    dims[i] = e->size[t->labels[i]];
    is_short |= dims[i] != t->v->type.dims[i];
  }
  if (is_short) t->v = nn_b_broadcast(e->n->b, t->v, t->rank, dims);
}

/* ---- two operands ----------------------------------------------------------------------------- */

typedef struct groups {
  int batch[NN_MAX_RANK], sums[NN_MAX_RANK], rows[NN_MAX_RANK], columns[NN_MAX_RANK];
  int nbatch, nsums, nrows, ncolumns;
} groups;

static groups sort_labels(const einsum *e, const term *x, const term *y, int next) {
  groups g = {.nbatch = 0};
  for (int i = 0; i < x->rank; i++) {
    int label = x->labels[i];
    if (!has_label(y, label))
      g.rows[g.nrows++] = label;
    else if (is_wanted(e, next, label))
      g.batch[g.nbatch++] = label;
    else
      g.sums[g.nsums++] = label;
  }
  for (int i = 0; i < y->rank; i++)
    if (!has_label(x, y->labels[i])) g.columns[g.ncolumns++] = y->labels[i];
  return g;
}

static int append(int *labels, int count, const int *more, int nmore) {
  memcpy(labels + count, more, sizeof *more * (size_t)nmore);
  return count + nmore;
}

static nn_dim group_size(einsum *e, const int *labels, int count) {
  nn_dim size = nn_dim_const(e->n->m, 1);
  for (int i = 0; i < count; i++) size = nn_dim_mul(e->n->m, size, e->size[labels[i]]);
  return size;
}

/* t as [batch.., first, second]. */
static nn_value *as_matrices(einsum *e, term *t, const groups *g, const int *first, int nfirst, const int *second,
                             int nsecond) {
  int labels[2 * NN_MAX_RANK];
  nn_dim dims[NN_MAX_RANK + 2];
  append(labels, append(labels, append(labels, 0, g->batch, g->nbatch), first, nfirst), second, nsecond);
  order_by(e, t, labels);
  for (int i = 0; i < g->nbatch; i++) dims[i] = e->size[g->batch[i]];
  dims[g->nbatch] = group_size(e, first, nfirst);
  dims[g->nbatch + 1] = group_size(e, second, nsecond);
  return nn_b_reshape(e->n->b, t->v, g->nbatch + 2, dims);
}

/* Nothing is summed: a product of x[batch.., rows.., 1..] and y[batch.., 1.., columns..]. */
static nn_value *multiply(einsum *e, term *x, term *y, const groups *g) {
  nn_dim dims[NN_MAX_RANK];
  int labels[2 * NN_MAX_RANK], rank = g->nbatch + g->nrows + g->ncolumns;
  append(labels, append(labels, 0, g->batch, g->nbatch), g->rows, g->nrows);
  order_by(e, x, labels);
  for (int i = 0; i < rank; i++) dims[i] = i < x->rank ? e->size[x->labels[i]] : nn_dim_const(e->n->m, 1);
  nn_value *left = nn_b_reshape(e->n->b, x->v, rank, dims);
  append(labels, append(labels, 0, g->batch, g->nbatch), g->columns, g->ncolumns);
  order_by(e, y, labels);
  for (int i = 0; i < rank; i++) {
    int k = i < g->nbatch ? i : i - g->nrows;
    dims[i] = k < 0 || (i >= g->nbatch && k < g->nbatch) ? nn_dim_const(e->n->m, 1) : e->size[y->labels[k]];
  }
  return nn_b_binary(e->n->b, NN_OP_MUL, left, nn_b_reshape(e->n->b, y->v, rank, dims));
}

/* x becomes the contraction of x and y. */
static nn_status contract(einsum *e, term *x, term *y, int next) {
  sum_unwanted(e, x, y, next);
  sum_unwanted(e, y, x, next);
  stretch(e, x);
  stretch(e, y);
  if (!x->v || !y->v) return NN_FAIL;
  groups g = sort_labels(e, x, y, next);
  nn_dim dims[NN_MAX_RANK];
  int labels[3 * NN_MAX_RANK], rank = append(labels, append(labels, 0, g.batch, g.nbatch), g.rows, g.nrows);
  rank = append(labels, rank, g.columns, g.ncolumns);
  if (rank > NN_MAX_RANK || g.nbatch + 2 > NN_MAX_RANK)
    return onnx_unsupported(e->n, "a step has %d dimensions, at most %d are supported", rank, NN_MAX_RANK);
  nn_dtype t = x->v->type.dtype;
  if (g.nsums == 0) {
    x->v = multiply(e, x, y, &g);
  } else {
    nn_value *left = as_matrices(e, x, &g, g.rows, g.nrows, g.sums, g.nsums);
    nn_value *right = as_matrices(e, y, &g, g.sums, g.nsums, g.columns, g.ncolumns);
    x->v = nn_b_cast(e->n->b, nn_b_matmul(e->n->b, left, right), t);
  }
  for (int i = 0; i < rank; i++) dims[i] = e->size[labels[i]];
  x->v = nn_b_reshape(e->n->b, x->v, rank, dims);
  x->rank = rank;
  memcpy(x->labels, labels, sizeof *labels * (size_t)rank);
  return x->v ? NN_OK : NN_FAIL;
}

nn_status onnx_Einsum(onnx_node *n) {
  NN_TRY(onnx_need(n, n->nin > 0 ? n->nin : 1, -1, 1));
  NN_TRY(onnx_need_kind(n, 0, ONNX_NUMBER));
  NN_TRY(onnx_same_dtype(n, 0, n->nin - 1));
  einsum e = {.n = n};
  NN_TRY(parse_equation(&e));
  for (int i = 0; i < e.nterms; i++) NN_TRY(merge_repeats(&e, &e.terms[i]));
  term *x = &e.terms[0];
  for (int i = 1; i < e.nterms; i++) NN_TRY(contract(&e, x, &e.terms[i], i + 1));
  sum_unwanted(&e, x, NULL, e.nterms);
  stretch(&e, x);
  if (!x->v) return NN_FAIL;
  order_by(&e, x, e.result.labels);
  ONNX_GIVE(n, x->v);
}
