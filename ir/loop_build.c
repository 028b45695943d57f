/* Building kernels: buffers, names, dimensions as expressions, and statements at the insertion point.

   Open statements form a stack. An `if` whose condition is a constant is not built: its live side goes to
   the enclosing block, the other into a block that nobody sees, so guards that always hold cost nothing. */
#include "ir/loop.h"

#include <assert.h>
#include <string.h>

typedef struct nn_open {
  nn_stmt *stmt;     /* NULL: an `if` decided at build time */
  nn_block *block;   /* where statements go */
  nn_block *other;   /* where they go after nn_else, for a decided `if` */
  int serial;        /* of the block */
} nn_open;

struct nn_lb {
  nn_open *open;
  int nopen, open_cap;
  int nserials;
  nn_map *names;     /* taken name -> number of the last suffix tried */
  nn_map *dims;      /* nn_dim -> nn_x */
  int nlets;
};

/* ---- kernels and buffers ----------------------------------------------------------------------------- */

nn_kernel *nn_kernel_new(nn_module *m, const char *name) {
  nn_kernel *k = NN_NEW(m->arena, nn_kernel);
  k->module = m;
  k->name = nn_strdup(m->arena, name);
  k->loc = "";
  k->builder = NN_NEW(m->arena, struct nn_lb);
  k->builder->names = nn_map_new(m->arena);
  k->builder->dims = nn_map_new(m->arena);
  return k;
}

static bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static char *clean_name(nn_arena *arena, const char *name) {
  char *clean = nn_strdup(arena, name && *name ? name : "v");
  for (char *c = clean; *c; c++)
    if (!is_word(*c)) *c = '_';
  return clean;
}

/* Buffers, tables and variables share one name space; the counter keeps many equal names linear. */
const char *nn_kernel_unique(nn_kernel *k, const char *name) {
  struct nn_lb *b = k->builder;
  nn_arena *arena = k->module->arena;
  char *base = clean_name(arena, name);
  uintptr_t tried = (uintptr_t)nn_map_get(b->names, base);
  char *unique = base;
  while (tried && nn_map_get(b->names, unique)) unique = nn_sprintf(arena, "%s_%u", base, (unsigned)++tried);
  nn_map_put(b->names, base, (void *)(tried ? tried : 1));
  if (unique != base) nn_map_put(b->names, unique, (void *)(uintptr_t)1);
  return unique;
}

static void insert_buf(nn_kernel *k, nn_buf *buf, int at) {
  NN_PUSH(k->module->arena, k->bufs, k->nbufs, k->bufs_cap, buf);
  for (int i = k->nbufs - 1; i > at; i--) k->bufs[i] = k->bufs[i - 1];
  k->bufs[at] = buf;
  for (int i = at; i < k->nbufs; i++) k->bufs[i]->id = i;
}

nn_buf *nn_kernel_buf(nn_kernel *k, const char *name, nn_buf_space space, nn_dtype dtype, nn_dim count, bool is_output) {
  nn_buf *buf = NN_NEW(k->module->arena, nn_buf);
  buf->name = nn_kernel_unique(k, name);
  buf->space = space;
  buf->dtype = dtype;
  buf->is_output = is_output;
  buf->count = count;
  insert_buf(k, buf, space == NN_BUF_PARAM ? k->nparams : k->nbufs);
  if (space == NN_BUF_PARAM) k->nparams++;
  nn_x_dim(k, count); /* its symbols are arguments: sizes of temporaries and bounds checks need them */
  return buf;
}

int nn_kernel_table(nn_kernel *k, const char *name, const int32_t *values, int count) {
  assert(count > 0 && count <= NN_TABLE_MOST && (count & (count - 1)) == 0);
  for (int i = 0; i < k->ntables; i++)
    if (k->tables[i].count == count && memcmp(k->tables[i].values, values, (size_t)count * sizeof *values) == 0) return i;
  nn_table table = {nn_kernel_unique(k, name), values, count};
  NN_PUSH(k->module->arena, k->tables, k->ntables, k->tables_cap, table);
  return k->ntables - 1;
}

void nn_kernel_symbol(nn_kernel *k, int symbol) {
  for (int i = 0; i < k->nsymbols; i++)
    if (k->symbols[i] == symbol) return;
  NN_PUSH(k->module->arena, k->symbols, k->nsymbols, k->symbols_cap, symbol);
}

bool nn_kernel_has_name(const nn_kernel *k, const char *name) { return nn_map_get(k->builder->names, name) != NULL; }

/* ---- dimensions ---------------------------------------------------------------------------------------- */

static nn_x *atom_x(nn_kernel *k, const nn_atom *atom) {
  nn_x proto = {.op = NN_X_SYMBOL, .dtype = NN_I64, .i = atom->symbol};
  switch (atom->kind) {
    case NN_ATOM_SYMBOL:
      nn_kernel_symbol(k, atom->symbol);
      return nn_x_intern(k, &proto);
    case NN_ATOM_FLOORDIV: return nn_xi_floordiv(k, nn_x_dim(k, atom->a), nn_x_dim(k, atom->b));
    case NN_ATOM_MOD: return nn_xi_mod(k, nn_x_dim(k, atom->a), nn_x_dim(k, atom->b));
    case NN_ATOM_MIN: return nn_xi_min(k, nn_x_dim(k, atom->a), nn_x_dim(k, atom->b));
    default: return nn_xi_max(k, nn_x_dim(k, atom->a), nn_x_dim(k, atom->b));
  }
}

static nn_x *term_x(nn_kernel *k, const nn_term *term) {
  nn_x *product = NULL;
  for (int i = 0; i < term->natoms; i++) {
    nn_x *factor = atom_x(k, term->atoms[i]);
    product = product ? nn_xi_mul(k, product, factor) : factor;
  }
  return product ? nn_xi_mulc(k, product, term->coefficient) : nn_x_int(k, term->coefficient);
}

nn_x *nn_x_dim(nn_kernel *k, nn_dim d) {
  nn_x *sum = nn_map_get_ptr(k->builder->dims, d);
  if (sum) return sum;
  sum = nn_x_int(k, 0);
  for (int i = 0; i < d->nterms; i++) sum = nn_xi_add(k, sum, term_x(k, &d->terms[i]));
  nn_map_put_ptr(k->builder->dims, d, sum);
  return sum;
}

/* ---- shorthand for indices ------------------------------------------------------------------------------ */

nn_x *nn_xi_add(nn_kernel *k, nn_x *a, nn_x *b) { return nn_x_binary(k, NN_X_ADD, a, b); }
nn_x *nn_xi_sub(nn_kernel *k, nn_x *a, nn_x *b) { return nn_x_binary(k, NN_X_SUB, a, b); }
nn_x *nn_xi_mul(nn_kernel *k, nn_x *a, nn_x *b) { return nn_x_binary(k, NN_X_MUL, a, b); }
nn_x *nn_xi_addc(nn_kernel *k, nn_x *a, int64_t b) { return nn_xi_add(k, a, nn_x_int(k, b)); }
nn_x *nn_xi_mulc(nn_kernel *k, nn_x *a, int64_t b) { return nn_xi_mul(k, a, nn_x_int(k, b)); }
nn_x *nn_xi_floordiv(nn_kernel *k, nn_x *a, nn_x *b) { return nn_x_binary(k, NN_X_FLOORDIV, a, b); }
nn_x *nn_xi_mod(nn_kernel *k, nn_x *a, nn_x *b) { return nn_x_binary(k, NN_X_FLOORMOD, a, b); }
nn_x *nn_xi_min(nn_kernel *k, nn_x *a, nn_x *b) { return nn_x_binary(k, NN_X_MIN, a, b); }
nn_x *nn_xi_max(nn_kernel *k, nn_x *a, nn_x *b) { return nn_x_binary(k, NN_X_MAX, a, b); }

/* ---- statements ------------------------------------------------------------------------------------------ */

static nn_block *insertion_block(nn_kernel *k) {
  struct nn_lb *b = k->builder;
  return b->nopen ? b->open[b->nopen - 1].block : &k->body;
}

static nn_stmt *append(nn_kernel *k, nn_stmt_kind kind) {
  nn_stmt *s = NN_NEW(k->module->arena, nn_stmt);
  nn_block *block = insertion_block(k);
  s->kind = kind;
  if (block->last) block->last->next = s;
  else block->first = s;
  block->last = s;
  return s;
}

static void push(nn_kernel *k, nn_stmt *stmt, nn_block *block, nn_block *other) {
  struct nn_lb *b = k->builder;
  nn_open open = {stmt, block, other, ++b->nserials};
  NN_PUSH(k->module->arena, b->open, b->nopen, b->open_cap, open);
}

static nn_x *var_node(nn_kernel *k, nn_varinfo *info) {
  nn_x proto = {.op = NN_X_VAR, .dtype = info->v.dtype, .var = &info->v};
  info->node = nn_x_intern(k, &proto);
  return info->node;
}

nn_x *nn_let_named(nn_kernel *k, const char *name, nn_x *value) {
  nn_varinfo *info = nn_var_new(k, name, value->dtype, false);
  info->value = value;
  nn_x_range(value, &info->v.min, &info->v.max);
  nn_stmt *s = append(k, NN_S_LET);
  s->var = &info->v;
  s->value = value;
  return var_node(k, info);
}

nn_x *nn_let(nn_kernel *k, nn_x *value) {
  if (value->op == NN_X_CONST || value->op == NN_X_VAR || value->op == NN_X_SYMBOL) return value;
  return nn_let_named(k, nn_sprintf(k->module->arena, "t%d", k->builder->nlets++), value);
}

nn_x *nn_loop_begin(nn_kernel *k, nn_loop_kind kind, const char *name, nn_x *lo, nn_x *hi) {
  assert(lo->dtype == NN_I64 && hi->dtype == NN_I64);
  int64_t first, last, unused;
  assert((kind != NN_UNROLL && kind != NN_VECTOR) || (nn_x_is_const(lo, &first) && first == 0 && nn_x_is_const(hi, &last)));
  nn_varinfo *info = nn_var_new(k, name, NN_I64, true);
  nn_x_range(lo, &first, &unused);
  nn_x_range(hi, &unused, &last);
  info->v.min = first;
  info->v.max = last > first ? last - 1 : first;
  info->lo = lo;
  info->hi = hi;
  nn_stmt *s = append(k, NN_S_LOOP);
  s->loop = kind;
  s->var = &info->v;
  s->lo = lo;
  s->hi = hi;
  push(k, s, &s->body, NULL);
  return var_node(k, info);
}

nn_x *nn_loop_range(nn_kernel *k, nn_loop_kind kind, const char *name, int64_t count) {
  return nn_loop_begin(k, kind, name, nn_x_int(k, 0), nn_x_int(k, count));
}

static nn_open *innermost_loop(nn_kernel *k) {
  struct nn_lb *b = k->builder;
  for (int i = b->nopen - 1; i >= 0; i--)
    if (b->open[i].stmt && b->open[i].stmt->kind == NN_S_LOOP) return &b->open[i];
  return NULL;
}

void nn_loop_unroll_by(nn_kernel *k, int count) {
  nn_open *loop = innermost_loop(k);
  assert(loop);
  if (loop->stmt->loop == NN_FOR) loop->stmt->unroll_by = count;
}

void nn_if_begin(nn_kernel *k, nn_x *cond) {
  assert(cond->dtype == NN_BOOL);
  if (cond->op == NN_X_CONST) {
    nn_block *here = insertion_block(k), *nowhere = NN_NEW(k->module->arena, nn_block);
    push(k, NULL, cond->i ? here : nowhere, cond->i ? nowhere : here);
    return;
  }
  nn_stmt *s = append(k, NN_S_IF);
  s->value = cond;
  push(k, s, &s->body, &s->other);
}

void nn_else(nn_kernel *k) {
  struct nn_lb *b = k->builder;
  assert(b->nopen > 0 && b->open[b->nopen - 1].other);
  b->open[b->nopen - 1].block = b->open[b->nopen - 1].other;
  b->open[b->nopen - 1].other = NULL;
  b->open[b->nopen - 1].serial = ++b->nserials;
}

void nn_while_begin(nn_kernel *k, nn_x *cond) {
  assert(cond->dtype == NN_BOOL);
  nn_stmt *s = append(k, NN_S_WHILE);
  s->value = cond;
  push(k, s, &s->body, NULL);
}

void nn_keep_begin(nn_kernel *k, nn_buf *last, nn_x *key) {
  assert(key->dtype == NN_I64 && last->dtype == NN_I64);
  nn_stmt *s = append(k, NN_S_KEEP);
  s->buf = last;
  s->value = key;
  push(k, s, &s->body, NULL);
}

void nn_end(nn_kernel *k) {
  assert(k->builder->nopen > 0);
  k->builder->nopen--;
}

void nn_store(nn_kernel *k, nn_buf *buf, nn_x *index, nn_x *value, nn_x *mask) {
  assert(index->dtype == NN_I64 && value->dtype == buf->dtype && (!mask || mask->dtype == NN_BOOL));
  if (mask && mask->op == NN_X_CONST) {
    if (!mask->i) return;
    mask = NULL;
  }
  nn_stmt *s = append(k, NN_S_STORE);
  s->buf = buf;
  s->index = index;
  s->value = value;
  s->mask = mask;
}

static nn_stmt *add_prefetch(nn_kernel *k, nn_buf *buf, nn_x *index) {
  assert(index->dtype == NN_I64);
  nn_stmt *s = append(k, NN_S_PREFETCH);
  s->buf = buf;
  s->index = index;
  return s;
}

void nn_prefetch(nn_kernel *k, nn_buf *buf, nn_x *index) { add_prefetch(k, buf, index); }

void nn_prefetch_near(nn_kernel *k, nn_buf *buf, nn_x *index) { add_prefetch(k, buf, index)->is_near = true; }

int64_t nn_square_side(const nn_buf *buf) {
  int64_t count, side = 1;
  if (buf->space != NN_BUF_REG || !nn_dim_is_const(buf->count, &count)) return 0;
  while (side <= NN_SQUARE_MOST && side * side < count) side *= 2;
  return side * side == count && side <= NN_SQUARE_MOST ? side : 0;
}

void nn_transpose(nn_kernel *k, nn_buf *square) {
  assert(nn_square_side(square) > 0);
  append(k, NN_S_TRANSPOSE)->buf = square;
}

void nn_ahead(nn_kernel *k, int lines) {
  assert(lines > 0 && lines <= NN_AHEAD_MOST && !nn_current_vector_var(k));
  append(k, NN_S_AHEAD)->value = nn_x_int(k, lines);
  k->looks_ahead = true;
}

void nn_fail_stmt(nn_kernel *k, int code) {
  nn_stmt *s = append(k, NN_S_FAIL);
  s->value = nn_x_int(k, code);
  k->can_fail = true;
}

nn_var *nn_current_vector_var(nn_kernel *k) {
  struct nn_lb *b = k->builder;
  for (int i = b->nopen - 1; i >= 0; i--)
    if (b->open[i].stmt && b->open[i].stmt->kind == NN_S_LOOP && b->open[i].stmt->loop == NN_VECTOR) return b->open[i].stmt->var;
  return NULL;
}

int nn_open_depth(nn_kernel *k) { return k->builder->nopen; }

int nn_open_serial(nn_kernel *k, int depth) {
  assert(depth >= 0 && depth <= k->builder->nopen);
  return depth ? k->builder->open[depth - 1].serial : 0;
}
