/* Dimension expressions as 64-bit integer code, each computed once in a function. Overflow, where it is
   looked for, sets a flag that the caller tests at the end: the value is then meaningless. */
#include "codegen/llvm.h"

nn_dims nn_dims_new(nn_emod *e, const nn_module *m) {
  return (nn_dims){
      .e = e, .m = m, .symbols = NN_NEW_ARRAY(e->arena, nn_v, m->nsymbols + 1), .done = nn_map_new(e->arena)};
}

static void note_overflow(nn_dims *d, nn_v flag) { d->overflow = LLVMBuildOr(d->e->b, d->overflow, flag, ""); }

/* 32-bit targets have no 64-bit overflow check but as a library function; there, factors beyond 2^31 are
   beyond memory anyway. */
static nn_v multiply_narrow(nn_dims *d, nn_v a, nn_v b) {
  nn_emod *e = d->e;
  nn_v limit = nn_const_i64(e, INT64_C(1) << 31), size = nn_const_i64(e, INT64_C(1) << 32);
  nn_v big_a = LLVMBuildICmp(e->b, LLVMIntUGE, LLVMBuildAdd(e->b, a, limit, ""), size, "");
  nn_v big_b = LLVMBuildICmp(e->b, LLVMIntUGE, LLVMBuildAdd(e->b, b, limit, ""), size, "");
  note_overflow(d, LLVMBuildOr(e->b, big_a, big_b, ""));
  return LLVMBuildMul(e->b, a, b, "");
}

static nn_v checked(nn_dims *d, const char *intrinsic, nn_v a, nn_v b) {
  nn_v pair = nn_call2(d->e, intrinsic, a, b);
  note_overflow(d, LLVMBuildExtractValue(d->e->b, pair, 1, ""));
  return LLVMBuildExtractValue(d->e->b, pair, 0, "");
}

static nn_v multiply(nn_dims *d, nn_v a, nn_v b) {
  int64_t x, y;
  if (nn_const_of(a, &x) && x == 1) return b;
  if (nn_const_of(b, &y) && y == 1) return a;
  if (!d->overflow || (nn_const_of(a, &x) && nn_const_of(b, &y))) return LLVMBuildMul(d->e->b, a, b, "");
  return d->e->target->pointer_bits < 64 ? multiply_narrow(d, a, b) : checked(d, "llvm.smul.with.overflow", a, b);
}

static nn_v add(nn_dims *d, nn_v a, nn_v b) {
  int64_t x;
  if (nn_const_of(a, &x) && x == 0) return b;
  if (nn_const_of(b, &x) && x == 0) return a;
  return d->overflow ? checked(d, "llvm.sadd.with.overflow", a, b) : LLVMBuildAdd(d->e->b, a, b, "");
}

static nn_v symbol_value(nn_dims *d, int symbol) {
  if (d->symbols[symbol]) return d->symbols[symbol];
  const char *name = d->m->symbols[symbol]->name;
  nn_report(d->e->diags, NN_ERROR, NULL, NULL, "in IR text, 'symbol NAME data' says that a bind_dims binds it",
            "symbol '%s' is used before it is bound", name);
  d->e->failed = true;
  return nn_const_i64(d->e, 0);
}

static nn_v emit_atom(nn_dims *d, const nn_atom *atom) {
  nn_emod *e = d->e;
  if (atom->kind == NN_ATOM_SYMBOL) return symbol_value(d, atom->symbol);
  nn_v a = nn_emit_dim(d, atom->a), b = nn_emit_dim(d, atom->b);
  switch (atom->kind) {
  case NN_ATOM_FLOORDIV: return nn_emit_floordiv64(e, a, b);
  case NN_ATOM_MOD: return nn_emit_floormod64(e, a, b);
  case NN_ATOM_MIN: return nn_call2(e, "llvm.smin", a, b);
  default: return nn_call2(e, "llvm.smax", a, b);
  }
}

static nn_v emit_term(nn_dims *d, const nn_term *term) {
  nn_v product = nn_const_i64(d->e, term->coefficient);
  for (int i = 0; i < term->natoms; i++) product = multiply(d, product, emit_atom(d, term->atoms[i]));
  return product;
}

nn_v nn_emit_dim(nn_dims *d, nn_dim dim) {
  nn_v sum = nn_map_get_ptr(d->done, dim);
  if (sum) return sum;
  sum = nn_const_i64(d->e, 0);
  for (int i = 0; i < dim->nterms; i++) sum = add(d, sum, emit_term(d, &dim->terms[i]));
  nn_map_put_ptr(d->done, dim, sum);
  return sum;
}

nn_v nn_emit_total(nn_dims *d, nn_v workspace, nn_v worker_bytes, nn_v nworkers) {
  nn_v many = LLVMBuildICmp(d->e->b, LLVMIntSGT, nworkers, nn_const_i64(d->e, 1), "");
  nn_v count = LLVMBuildSelect(d->e->b, many, nworkers, nn_const_i64(d->e, 1), "");
  return add(d, workspace, multiply(d, worker_bytes, count));
}

bool nn_dims_known(const nn_dims *d, nn_dim dim) {
  bool *used = NN_NEW_ARRAY(d->e->arena, bool, d->m->nsymbols + 1);
  nn_dim_symbols(dim, used);
  for (int i = 0; i < d->m->nsymbols; i++)
    if (used[i] && !d->symbols[i]) return false;
  return true;
}

int nn_dim_lone_symbol(nn_dim d) {
  if (d->nterms != 1 || d->terms[0].coefficient != 1 || d->terms[0].natoms != 1) return -1;
  const nn_atom *atom = d->terms[0].atoms[0];
  return atom->kind == NN_ATOM_SYMBOL ? atom->symbol : -1;
}

bool nn_dim_depends_on_data(const nn_module *m, nn_dim d) {
  for (int t = 0; t < d->nterms; t++)
    for (int i = 0; i < d->terms[t].natoms; i++) {
      const nn_atom *atom = d->terms[t].atoms[i];
      bool depends = atom->kind == NN_ATOM_SYMBOL
                         ? m->symbols[atom->symbol]->data_dependent
                         : nn_dim_depends_on_data(m, atom->a) || nn_dim_depends_on_data(m, atom->b);
      if (depends) return true;
    }
  return false;
}
