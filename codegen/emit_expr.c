/* Expressions. A node's value is remembered while the block that computed it is open; a node that reads
   memory only for the statement at hand. In a vector loop an index that is linear in the loop variable is
   kept as the value in lane 0 and a stride: that is what makes vector loads of it, and where the vector
   itself is needed it is one addition. */
#include <string.h>

#include "codegen/llvm.h"

/* ---- scopes -------------------------------------------------------------------------------------------- */

int nn_scope_open(nn_emit *s) { return s->nundo; }

void nn_scope_close(nn_emit *s, int mark) {
  while (s->nundo > mark) {
    nn_undo *u = &s->undo[--s->nundo];
    s->memo[u->index] = u->old;
  }
}

static nn_v recall(nn_emit *s, int index) {
  const nn_memo *m = &s->memo[index];
  return m->v && m->frame == s->frame_serial && (m->stamp == 0 || m->stamp == s->stamp) ? m->v : NULL;
}

bool nn_emit_reads_memory(nn_emit *s, const nn_x *x) {
  if (!x) return false;
  unsigned char *known = &s->impure[x->id];
  if (*known) return *known == 2;
  bool impure = x->op == NN_X_LOAD || (x->op >= NN_X_LANES_SUM && x->op <= NN_X_LANES_MIN);
  for (int i = 0; i < 3 && !impure; i++) impure = nn_emit_reads_memory(s, x->a[i]);
  *known = impure ? 2 : 1;
  return impure;
}

static nn_v remember(nn_emit *s, const nn_x *x, int index, nn_v v) {
  nn_undo undo = {index, s->memo[index]};
  NN_PUSH(s->arena, s->undo, s->nundo, s->undo_cap, undo);
  s->memo[index] = (nn_memo){v, s->frame_serial, nn_emit_reads_memory(s, x) ? s->stamp : 0};
  return v;
}

/* ---- linear indices -------------------------------------------------------------------------------------- */

static bool linear_var(nn_emit *s, const nn_var *var, int64_t *stride) {
  *stride = 0;
  if (var == s->vvar) {
    *stride = 1;
    return true;
  }
  nn_v v = s->frame->cells[s->cell_vars + var->id];
  if (!v || !nn_is_vector(v)) return true;
  *stride = s->lane0[var->id].stride;
  return s->lane0[var->id].known;
}

static bool multiply_strides(int64_t a, int64_t b, int64_t *product) { return !__builtin_mul_overflow(a, b, product); }

static bool linear_op(nn_emit *s, const nn_x *x, int64_t *stride) {
  int64_t a = 0, b = 0, c = 0;
  *stride = 0;
  if (x->a[0] && !nn_emit_stride(s, x->a[0], &a)) return false;
  if (x->a[1] && !nn_emit_stride(s, x->a[1], &b)) return false;
  if (x->a[2] && !nn_emit_stride(s, x->a[2], &c)) return false;
  if (a == 0 && b == 0 && c == 0) return true;
  if (x->dtype != NN_I64) return false;
  switch (x->op) {
  case NN_X_ADD: return !__builtin_add_overflow(a, b, stride);
  case NN_X_SUB: return !__builtin_sub_overflow(a, b, stride);
  case NN_X_MUL:
    if (x->a[1]->op == NN_X_CONST) return multiply_strides(a, x->a[1]->i, stride);
    return x->a[0]->op == NN_X_CONST && multiply_strides(b, x->a[0]->i, stride);
  default: return false;
  }
}

bool nn_emit_stride(nn_emit *s, const nn_x *x, int64_t *stride) {
  *stride = 0;
  if (!s->vvar || x->op == NN_X_CONST || x->op == NN_X_SYMBOL) return true;
  if (x->op == NN_X_VAR) return linear_var(s, x->var, stride);
  nn_linear *l = &s->linear[x->id];
  if (l->stamp != s->stamp) {
    nn_linear fresh = {.stamp = s->stamp};
    fresh.known = linear_op(s, x, &fresh.stride);
    *l = fresh;
  }
  *stride = l->stride;
  return l->known;
}

static nn_v lane0_op(nn_emit *s, const nn_x *x) {
  nn_v a = nn_emit_lane0(s, x->a[0]), b = nn_emit_lane0(s, x->a[1]);
  if (x->op == NN_X_ADD) return LLVMBuildAdd(s->b, a, b, "");
  return x->op == NN_X_SUB ? LLVMBuildSub(s->b, a, b, "") : LLVMBuildMul(s->b, a, b, "");
}

nn_v nn_emit_lane0(nn_emit *s, const nn_x *x) {
  int64_t stride;
  if (nn_emit_stride(s, x, &stride) && stride == 0 && !(x->op == NN_X_VAR && x->var == s->vvar)) {
    nn_v v = nn_emit_x(s, x);
    if (!nn_is_vector(v)) return v;
    return nn_lane(s->e, v, 0);
  }
  if (x->op == NN_X_VAR) return x->var == s->vvar ? nn_const_i64(s->e, 0) : s->lane0[x->var->id].v;
  int index = s->k->nxs + x->id;
  nn_v v = recall(s, index);
  return v ? v : remember(s, x, index, lane0_op(s, x));
}

/* base, base + stride, base + 2 * stride, ... */
static nn_v widen(nn_emit *s, nn_v base, int64_t stride) {
  nn_v steps[256];
  for (int i = 0; i < s->lanes && i < 256; i++)
    steps[i] = nn_const_i64(s->e, (int64_t)((uint64_t)stride * (uint64_t)i));
  return LLVMBuildAdd(s->b, nn_splat(s->e, base, s->lanes), LLVMConstVector(steps, (unsigned)s->lanes), "");
}

/* ---- operations ------------------------------------------------------------------------------------------ */

static nn_v emit_const(nn_emit *s, const nn_x *x) {
  LLVMTypeRef type = nn_reg_type(s->e, x->dtype);
  if (!nn_dtype_is_float(x->dtype)) return LLVMConstInt(type, (unsigned long long)x->i, true);
  if (x->dtype == NN_F64) {
    uint64_t bits;
    memcpy(&bits, &x->f, sizeof bits);
    return LLVMConstBitCast(LLVMConstInt(s->e->i64, bits, false), type);
  }
  float single = (float)x->f;
  uint32_t bits;
  memcpy(&bits, &single, sizeof bits);
  return LLVMConstBitCast(LLVMConstInt(s->e->i32, bits, false), type);
}

static nn_v emit_var(nn_emit *s, const nn_x *x) {
  if (x->var == s->vvar) return widen(s, nn_const_i64(s->e, 0), 1);
  return nn_emit_cell(s, s->cell_vars + x->var->id);
}

static nn_v emit_symbol(nn_emit *s, const nn_x *x) {
  for (int i = 0; i < s->nsymbols; i++)
    if (s->symbols[i] == x->i) return nn_emit_cell(s, s->cell_symbols + i);
  nn_report(s->e->diags, NN_ERROR, NULL, NULL, NULL, "internal: kernel %s does not list symbol %d", s->k->name,
            (int)x->i);
  s->e->failed = true;
  return nn_const_i64(s->e, 0);
}

/* Comparisons as unsigned find negative indices too. */
static nn_v emit_index(nn_emit *s, const nn_x *x) {
  nn_v index = nn_emit_x(s, x->a[0]), limit = nn_emit_x(s, x->a[1]);
  nn_v mask = nn_and(s->e, x->a[2] ? nn_emit_x(s, x->a[2]) : NULL, s->mask);
  nn_unify(s->e, &index, &limit);
  nn_v bad = LLVMBuildICmp(s->b, LLVMIntUGE, index, limit, "");
  nn_v fails = nn_and(s->e, bad, mask);
  int64_t known;
  if (nn_const_of(fails, &known) && !known) return index;
  nn_emit_fail(s, fails, NNCC_RT_EINDEX, nn_is_vector(fails) ? nn_splat(s->e, index, s->lanes) : index,
               nn_is_vector(fails) ? nn_splat(s->e, limit, s->lanes) : limit);
  return mask ? nn_select(s->e, bad, nn_const_int(s->e, index, 0), index) : index;
}

static nn_v emit_select(nn_emit *s, const nn_x *x) {
  nn_v cond = nn_emit_x(s, x->a[0]);
  int64_t known;
  if (nn_const_of(cond, &known)) return nn_emit_x(s, known ? x->a[1] : x->a[2]);
  nn_v yes = nn_emit_x(s, x->a[1]), no = nn_emit_x(s, x->a[2]);
  return nn_select(s->e, cond, yes, no);
}

static nn_v emit_compare(nn_emit *s, const nn_x *x) {
  nn_v a = nn_emit_x(s, x->a[0]), b = nn_emit_x(s, x->a[1]);
  nn_dtype t = x->a[0]->dtype;
  bool is_signed = nn_is_signed(t);
  nn_unify(s->e, &a, &b);
  if (nn_dtype_is_float(t)) {
    LLVMRealPredicate p = x->op == NN_X_EQ   ? LLVMRealOEQ
                          : x->op == NN_X_NE ? LLVMRealUNE
                          : x->op == NN_X_LT ? LLVMRealOLT
                                             : LLVMRealOLE;
    return LLVMBuildFCmp(s->b, p, a, b, "");
  }
  LLVMIntPredicate p = LLVMIntEQ;
  if (x->op == NN_X_NE) p = LLVMIntNE;
  if (x->op == NN_X_LT) p = is_signed ? LLVMIntSLT : LLVMIntULT;
  if (x->op == NN_X_LE) p = is_signed ? LLVMIntSLE : LLVMIntULE;
  return LLVMBuildICmp(s->b, p, a, b, "");
}

static nn_v emit_arithmetic(nn_emit *s, const nn_x *x) {
  nn_v a = nn_emit_x(s, x->a[0]), b = x->a[1] ? nn_emit_x(s, x->a[1]) : NULL,
       c = x->a[2] ? nn_emit_x(s, x->a[2]) : NULL;
  if (b) nn_unify(s->e, &a, &b);
  if (c) {
    nn_unify(s->e, &a, &c);
    nn_unify(s->e, &b, &c);
  }
  if (x->dtype == NN_BOOL) return nn_emit_bool_op(s->e, x->op, a, b);
  if (!nn_dtype_is_float(x->dtype)) return nn_emit_int_op(s->e, x, a, b);
  if (x->op == NN_X_MIN || x->op == NN_X_MAX) /* such a result is one of the operands: no rounding */
    return nn_emit_minmax(s->e, x->op == NN_X_MAX, a, b, x->a[1]->op == NN_X_CONST && x->a[1]->f == x->a[1]->f);
  return nn_emit_float_op(s->e, x->op, x->dtype, a, b, c);
}

static nn_v compute(nn_emit *s, const nn_x *x) {
  switch (x->op) {
  case NN_X_LOAD: return nn_emit_load(s, x);
  case NN_X_INDEX: return emit_index(s, x);
  case NN_X_LOOKUP: return nn_emit_lookup(s->e, &s->k->tables[x->i], nn_emit_x(s, x->a[0]));
  case NN_X_SELECT: return emit_select(s, x);
  case NN_X_EQ:
  case NN_X_NE:
  case NN_X_LT:
  case NN_X_LE: return emit_compare(s, x);
  case NN_X_CAST:
  case NN_X_CAST_SAT: return nn_emit_cast(s->e, x->op, x->dtype, x->a[0]->dtype, nn_emit_x(s, x->a[0]));
  case NN_X_BITCAST: return nn_emit_bitcast(s->e, x->dtype, x->a[0]->dtype, nn_emit_x(s, x->a[0]));
  case NN_X_LANES_SUM:
  case NN_X_LANES_PROD:
  case NN_X_LANES_MAX:
  case NN_X_LANES_MIN: return nn_emit_lanes(s, x);
  default: return emit_arithmetic(s, x);
  }
}

static nn_v compute_linear(nn_emit *s, const nn_x *x, int64_t stride) { return widen(s, nn_emit_lane0(s, x), stride); }

nn_v nn_emit_x(nn_emit *s, const nn_x *x) {
  if (x->op == NN_X_CONST) return emit_const(s, x);
  if (x->op == NN_X_VAR) return emit_var(s, x);
  if (x->op == NN_X_SYMBOL) return emit_symbol(s, x);
  nn_v v = recall(s, x->id);
  if (v) return v;
  int64_t stride = 0;
  bool linear = s->vvar && x->dtype == NN_I64 && nn_emit_stride(s, x, &stride) && stride != 0;
  return remember(s, x, x->id, linear ? compute_linear(s, x, stride) : compute(s, x));
}
