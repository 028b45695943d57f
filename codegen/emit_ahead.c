/* What a step fetches for later ones while it computes (ahead.c says what, lowerings say where in a kernel there is time). Each task has
   its share of it, and a variable in registers that says how far it has come. */
#include "codegen/llvm.h"

/* The task's share: whole lines. Outside of parallel loops, all there is. */
static nn_v share_of(nn_emit *s, nn_v *first) {
  nn_emod *e = s->e;
  nn_v bytes = nn_emit_cell(s, NN_CELL_AHEAD_BYTES);
  *first = nn_const_i64(e, 0);
  if (!s->frame->outer) return bytes;
  nn_v tasks = nn_emit_cell(s, NN_CELL_TASKS), line = nn_const_i64(e, NN_AHEAD_LINE);
  nn_v share = LLVMBuildUDiv(s->b, bytes, LLVMBuildMul(s->b, tasks, line, ""), "");
  share = LLVMBuildMul(s->b, LLVMBuildAdd(s->b, share, nn_const_i64(e, 1), ""), line, "share");
  nn_v none = LLVMBuildICmp(s->b, LLVMIntEQ, bytes, nn_const_i64(e, 0), "");
  share = LLVMBuildSelect(s->b, none, bytes, share, "");
  *first = LLVMBuildMul(s->b, LLVMGetParam(s->frame->fn, 1), share, "");
  return share;
}

/* In the function's entry, so that all its loops share the variable. */
static void open_share(nn_emit *s) {
  nn_frame *f = s->frame;
  nn_emod *e = s->e;
  f->ahead = nn_emit_alloca(s, e->ptr, 8);
  nn_emit_cell(s, NN_CELL_AHEAD), nn_emit_cell(s, NN_CELL_AHEAD_BYTES);
  if (f->outer) nn_emit_cell(s, NN_CELL_TASKS);
  LLVMBasicBlockRef here = LLVMGetInsertBlock(s->b);
  LLVMPositionBuilderAtEnd(s->b, f->entry);
  nn_v first, share = share_of(s, &first);
  nn_v begin = LLVMBuildGEP2(s->b, e->i8, nn_emit_cell(s, NN_CELL_AHEAD), &first, 1, "");
  f->ahead_end = LLVMBuildGEP2(s->b, e->i8, begin, &share, 1, "ahead_end");
  LLVMBuildStore(s->b, begin, f->ahead);
  LLVMPositionBuilderAtEnd(s->b, here);
}

void nn_emit_ahead(nn_emit *s, const nn_stmt *st) {
  nn_frame *f = s->frame;
  nn_emod *e = s->e;
  if (!f->ahead) open_share(s);
  LLVMBasicBlockRef fetch = nn_emit_block(s, "ahead"), next = nn_emit_block(s, "next");
  nn_v at = LLVMBuildLoad2(s->b, e->ptr, f->ahead, "");
  LLVMBuildCondBr(s->b, LLVMBuildICmp(s->b, LLVMIntULT, at, f->ahead_end, ""), fetch, next);
  LLVMPositionBuilderAtEnd(s->b, fetch);
  for (int64_t i = 0; i < st->value->i; i++) {
    nn_emit_prefetch_line(s, at, false);
    nn_v line = nn_const_i64(e, NN_AHEAD_LINE);
    at = LLVMBuildGEP2(s->b, e->i8, at, &line, 1, "");
  }
  LLVMBuildStore(s->b, at, f->ahead);
  LLVMBuildBr(s->b, next);
  LLVMPositionBuilderAtEnd(s->b, next);
}
