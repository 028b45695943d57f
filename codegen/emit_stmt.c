/* Statements as basic blocks. Values are in SSA form as they are made: a block's own values are forgotten
   at its end (scopes), an unrolled loop's body is emitted once for each value of its variable, and a vector
   loop's body once with vectors of its lanes. */
#include "codegen/llvm.h"

static void set_var(nn_emit *s, const nn_var *var, nn_v value) { s->frame->cells[s->cell_vars + var->id] = value; }

/* ---- errors -------------------------------------------------------------------------------------------- */

void nn_emit_leave(nn_emit *s) {
  if (s->frame->outer) {
    LLVMBuildRetVoid(s->b);
    return;
  }
  LLVMBuildRet(s->b, nn_emit_field(s->e, s->e->ctx_type, nn_emit_cell(s, NN_CELL_CTX), NN_CTX_ERROR, s->e->i32));
}

/* Of the first lane that fails. */
static nn_v first_bad(nn_emit *s, nn_v when, nn_v v) {
  if (!nn_is_vector(v)) return v;
  int lanes = nn_lanes_of(v);
  nn_v result = nn_lane(s->e, v, lanes - 1);
  for (int i = lanes - 2; i >= 0; i--)
    result = LLVMBuildSelect(s->b, nn_lane(s->e, when, i), nn_lane(s->e, v, i), result, "");
  return result;
}

void nn_emit_fail(nn_emit *s, nn_v when, int code, nn_v found, nn_v expected) {
  nn_emod *e = s->e;
  int64_t known;
  LLVMBasicBlockRef cold = nn_emit_block(s, "fail"), next = nn_emit_block(s, "next");
  nn_v any = when ? nn_any(e, when) : LLVMConstInt(e->i1, 1, false), ctx = nn_emit_cell(s, NN_CELL_CTX);
  if (nn_const_of(any, &known) && known)
    LLVMBuildBr(s->b, cold);
  else
    LLVMBuildCondBr(s->b, any, cold, next);
  LLVMPositionBuilderAtEnd(s->b, cold);
  nn_v record = nn_emod_function(e, "nn_record");
  nn_v args[] = {ctx, LLVMConstInt(e->i32, (unsigned long long)code, false), first_bad(s, when, found),
                 first_bad(s, when, expected)};
  LLVMBuildCall2(s->b, LLVMGlobalGetValueType(record), record, args, 4, "");
  nn_emit_leave(s);
  LLVMPositionBuilderAtEnd(s->b, next);
}

static void emit_fail_stmt(nn_emit *s, const nn_stmt *st) {
  nn_v zero = nn_const_i64(s->e, 0);
  nn_emit_fail(s, s->mask, (int)st->value->i, zero, zero);
}

/* ---- loops --------------------------------------------------------------------------------------------- */

static void emit_copy(nn_emit *s, const nn_stmt *st, nn_v value) {
  int mark = nn_scope_open(s);
  set_var(s, st->var, value);
  nn_emit_body(s, &st->body);
  nn_scope_close(s, mark);
}

static void emit_copies(nn_emit *s, const nn_stmt *st, const nn_v *values, int count) {
  if (count > 1 && nn_emit_strands(s, st) > 1)
    nn_emit_braid(s, st, values, count);
  else
    for (int j = 0; j < count; j++) emit_copy(s, st, values[j]);
}

/* for (i = lo; i < hi; i += by) { body with i; body with i + 1; ... }; the caller sees to it that by divides. */
static void emit_counted(nn_emit *s, const nn_stmt *st, nn_v lo, nn_v hi, int by) {
  int64_t lo_known, hi_known;
  bool known = nn_const_of(lo, &lo_known) && nn_const_of(hi, &hi_known);
  if (known && lo_known >= hi_known) return;
  if (known && hi_known - lo_known == 1) {
    emit_copy(s, st, lo);
    return;
  }
  LLVMBasicBlockRef before = LLVMGetInsertBlock(s->b), loop = nn_emit_block(s, st->var->name),
                    exit = nn_emit_block(s, "end");
  if (known)
    LLVMBuildBr(s->b, loop);
  else
    LLVMBuildCondBr(s->b, LLVMBuildICmp(s->b, LLVMIntSLT, lo, hi, ""), loop, exit);
  LLVMPositionBuilderAtEnd(s->b, loop);
  nn_v i = LLVMBuildPhi(s->b, s->e->i64, st->var->name);
  LLVMAddIncoming(i, &lo, &before, 1);
  nn_v *values = NN_NEW_ARRAY(s->arena, nn_v, by);
  for (int j = 0; j < by; j++) values[j] = j ? LLVMBuildNSWAdd(s->b, i, nn_const_i64(s->e, j), "") : i;
  emit_copies(s, st, values, by);
  nn_v next = LLVMBuildNSWAdd(s->b, i, nn_const_i64(s->e, by), "");
  LLVMBasicBlockRef latch = LLVMGetInsertBlock(s->b);
  LLVMAddIncoming(i, &next, &latch, 1);
  LLVMBuildCondBr(s->b, LLVMBuildICmp(s->b, LLVMIntSLT, next, hi, ""), loop, exit);
  LLVMPositionBuilderAtEnd(s->b, exit);
}

static void emit_known(nn_emit *s, const nn_stmt *st, int64_t first, int count) {
  nn_v *values = NN_NEW_ARRAY(s->arena, nn_v, count);
  for (int j = 0; j < count; j++) values[j] = nn_const_i64(s->e, first + j);
  emit_copies(s, st, values, count);
}

/* The largest lo + n * by that is at most hi; lo when hi < lo. */
static nn_v whole_rounds(nn_emit *s, nn_v lo, nn_v hi, int by) {
  nn_emod *e = s->e;
  int64_t a, b;
  if (nn_const_of(lo, &a) && nn_const_of(hi, &b)) return nn_const_i64(e, b <= a ? a : a + (b - a) / by * by);
  nn_v trip = nn_call2(e, "llvm.smax", LLVMBuildSub(s->b, hi, lo, ""), nn_const_i64(e, 0));
  nn_v rounds = nn_emit_floordiv64(e, trip, nn_const_i64(e, by));
  return LLVMBuildAdd(s->b, lo, LLVMBuildMul(s->b, rounds, nn_const_i64(e, by), ""), "");
}

static void emit_for(nn_emit *s, const nn_stmt *st, nn_v lo, nn_v hi) {
  int64_t a, b, m;
  int strands = nn_emit_strands(s, st), by = strands > 1 ? strands : st->unroll_by;
  if (strands > 2 && nn_const_of(lo, &a) && nn_const_of(hi, &b) && b - a < strands) by = 2;
  if (by < 2) {
    emit_counted(s, st, lo, hi, 1);
    return;
  }
  nn_v middle = whole_rounds(s, lo, hi, by);
  if (nn_const_of(lo, &a) && nn_const_of(middle, &m) && m - a == by) /* one round needs no loop */
    emit_known(s, st, a, by);
  else
    emit_counted(s, st, lo, middle, by);
  emit_counted(s, st, middle, hi, 1);
}

static void emit_unroll(nn_emit *s, const nn_stmt *st) {
  int64_t count = st->hi->i, by = nn_emit_strands(s, st);
  for (int64_t j = 0; j < count; j += by) emit_known(s, st, j, (int)(count - j < by ? count - j : by));
}

static void emit_vector(nn_emit *s, const nn_stmt *st) {
  if (s->vvar || st->hi->i < 2) { /* one lane is no vector */
    emit_unroll(s, st);
    return;
  }
  int mark = nn_scope_open(s);
  s->vvar = st->var;
  s->lanes = (int)st->hi->i;
  s->mask = NULL;
  nn_emit_body(s, &st->body);
  s->vvar = NULL;
  s->mask = NULL;
  nn_scope_close(s, mark);
}

static bool is_scalar(nn_emit *s, nn_v v, const char *what) {
  if (!nn_is_vector(v)) return true;
  nn_report(s->e->diags, NN_ERROR, NULL, NULL, NULL,
            "internal: kernel %s: %s differs between the lanes of a vector loop", s->k->name, what);
  s->e->failed = true;
  return false;
}

static void emit_loop(nn_emit *s, const nn_stmt *st) {
  if (st->loop == NN_UNROLL) {
    emit_unroll(s, st);
    return;
  }
  if (st->loop == NN_VECTOR) {
    emit_vector(s, st);
    return;
  }
  int64_t a, b;
  nn_v lo = nn_emit_x(s, st->lo), hi = nn_emit_x(s, st->hi);
  if (!is_scalar(s, lo, "a loop bound") || !is_scalar(s, hi, "a loop bound")) return;
  bool is_single = nn_const_of(lo, &a) && nn_const_of(hi, &b) && b <= a + 1;
  if (!is_single && nn_emit_is_steps(s, st))
    nn_emit_steps(s, st, lo, hi);
  else if (st->loop == NN_FOR || s->in_parallel || s->vvar || is_single)
    emit_for(s, st, lo, hi);
  else
    nn_emit_parallel(s, st, lo, hi);
}

/* ---- if, while, let ------------------------------------------------------------------------------------ */

void nn_emit_scope(nn_emit *s, const nn_block *block) {
  int mark = nn_scope_open(s);
  nn_emit_body(s, block);
  nn_scope_close(s, mark);
}

/* The condition differs between lanes: both sides run, under masks. */
static void emit_masked_if(nn_emit *s, const nn_stmt *st, nn_v cond) {
  nn_v outer = s->mask, not_cond = LLVMBuildNot(s->b, cond, "");
  s->mask = nn_and(s->e, outer, cond);
  nn_emit_scope(s, &st->body);
  s->mask = nn_and(s->e, outer, not_cond);
  if (st->other.first) nn_emit_scope(s, &st->other);
  s->mask = outer;
}

static void emit_if(nn_emit *s, const nn_stmt *st) {
  nn_v cond = nn_emit_x(s, st->value);
  int64_t known;
  if (nn_is_vector(cond)) {
    emit_masked_if(s, st, cond);
    return;
  }
  if (nn_const_of(cond, &known)) {
    nn_emit_scope(s, known ? &st->body : &st->other);
    return;
  }
  LLVMBasicBlockRef yes = nn_emit_block(s, "then"), end = nn_emit_block(s, "endif");
  LLVMBasicBlockRef no = st->other.first ? nn_emit_block(s, "else") : end;
  LLVMBuildCondBr(s->b, cond, yes, no);
  LLVMPositionBuilderAtEnd(s->b, yes);
  nn_emit_scope(s, &st->body);
  LLVMBuildBr(s->b, end);
  if (no != end) {
    LLVMPositionBuilderAtEnd(s->b, no);
    nn_emit_scope(s, &st->other);
    LLVMBuildBr(s->b, end);
  }
  LLVMPositionBuilderAtEnd(s->b, end);
}

static void emit_while(nn_emit *s, const nn_stmt *st) {
  LLVMBasicBlockRef head = nn_emit_block(s, "while"), body = nn_emit_block(s, "do"), end = nn_emit_block(s, "endwhile");
  LLVMBuildBr(s->b, head);
  LLVMPositionBuilderAtEnd(s->b, head);
  int mark = nn_scope_open(s);
  nn_v cond = nn_emit_x(s, st->value);
  if (is_scalar(s, cond, "a while condition")) {
    LLVMBuildCondBr(s->b, cond, body, end);
    LLVMPositionBuilderAtEnd(s->b, body);
    nn_emit_body(s, &st->body);
    LLVMBuildBr(s->b, head);
  }
  nn_scope_close(s, mark);
  LLVMPositionBuilderAtEnd(s->b, end);
}

/* A let that is linear in the vector variable keeps its lane-0 value, so that an index made of it still
   shows its stride. */
void nn_emit_let(nn_emit *s, const nn_stmt *st) {
  nn_lane0 lane0 = {0};
  nn_v value = nn_emit_x(s, st->value);
  if (nn_is_vector(value) && st->value->dtype == NN_I64 && nn_emit_stride(s, st->value, &lane0.stride)) {
    lane0.known = true;
    lane0.v = nn_emit_lane0(s, st->value);
  }
  s->lane0[st->var->id] = lane0;
  set_var(s, st->var, value);
}

void nn_emit_lets(nn_emit *s, const nn_block *block) {
  for (const nn_stmt *st = block->first; st && st->kind == NN_S_LET; st = st->next) {
    s->stamp++;
    nn_emit_let(s, st);
  }
}

void nn_emit_body(nn_emit *s, const nn_block *block) {
  for (const nn_stmt *st = block->first; st && !s->e->failed; st = st->next) {
    s->stamp++;
    switch (st->kind) {
    case NN_S_LOOP: emit_loop(s, st); break;
    case NN_S_IF: emit_if(s, st); break;
    case NN_S_WHILE: emit_while(s, st); break;
    case NN_S_KEEP: nn_emit_keep(s, st); break;
    case NN_S_LET: nn_emit_let(s, st); break;
    case NN_S_STORE: nn_emit_store(s, st); break;
    case NN_S_PREFETCH: nn_emit_prefetch(s, st); break;
    case NN_S_AHEAD: nn_emit_ahead(s, st); break;
    case NN_S_TRANSPOSE: nn_emit_transpose(s, st); break;
    case NN_S_FAIL: emit_fail_stmt(s, st); break;
    }
  }
}
