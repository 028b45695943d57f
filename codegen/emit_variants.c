/* NAME_run of an object for several CPUs: finds out once which of them this one is, and calls that variant. A variant's
   number, counted from 1, is the context's isa. */
#include <string.h>

#include <llvm-c/Linker.h>

#include "codegen/llvm.h"

/* The level of this CPU: 1 to 4 as x86-64-v1 to -v4. It does not change, so any thread may note it: cpuid takes long in
   a virtual machine. Masks are those of the x86-64 psABI; wide registers count only where the system saves them. */
static const char level_text[] =
    "@nn_level_known = internal global i32 0\n"
    "define internal { i32, i32, i32, i32 } @nn_cpuid(i32 %leaf) noinline {\n"
    "  %r = call { i32, i32, i32, i32 } asm sideeffect \"cpuid\", \"={ax},={bx},={cx},={dx},0,2,~{dirflag},~{fpsr},"
    "~{flags}\"(i32 %leaf, i32 0)\n"
    "  ret { i32, i32, i32, i32 } %r\n"
    "}\n"
    /* ecx and ebx of a leaf; 0 where there is no such leaf */
    "define internal i64 @nn_cpu_bits(i32 %first, i32 %leaf) noinline {\n"
    "  %top = call { i32, i32, i32, i32 } @nn_cpuid(i32 %first)\n"
    "  %most = extractvalue { i32, i32, i32, i32 } %top, 0\n"
    "  %is_known = icmp uge i32 %most, %leaf\n"
    "  br i1 %is_known, label %ask, label %none\n"
    "ask:\n"
    "  %r = call { i32, i32, i32, i32 } @nn_cpuid(i32 %leaf)\n"
    "  %b = extractvalue { i32, i32, i32, i32 } %r, 1\n"
    "  %c = extractvalue { i32, i32, i32, i32 } %r, 2\n"
    "  %b64 = zext i32 %b to i64\n"
    "  %c64 = zext i32 %c to i64\n"
    "  %high = shl i64 %c64, 32\n"
    "  %both = or i64 %high, %b64\n"
    "  ret i64 %both\n"
    "none:\n"
    "  ret i64 0\n"
    "}\n"
    "define internal i1 @nn_has(i64 %bits, i64 %mask) {\n"
    "  %masked = and i64 %bits, %mask\n"
    "  %all = icmp eq i64 %masked, %mask\n"
    "  ret i1 %all\n"
    "}\n"
    /* 0 without OSXSAVE */
    "define internal i64 @nn_saved_registers(i64 %leaf1) noinline {\n"
    "  %may_ask = call i1 @nn_has(i64 %leaf1, i64 u0x0800000000000000)\n"
    "  br i1 %may_ask, label %ask, label %none\n"
    "ask:\n"
    "  %r = call { i32, i32 } asm sideeffect \"xgetbv\", \"={ax},={dx},{cx}\"(i32 0)\n"
    "  %low = extractvalue { i32, i32 } %r, 0\n"
    "  %wide = zext i32 %low to i64\n"
    "  ret i64 %wide\n"
    "none:\n"
    "  ret i64 0\n"
    "}\n"
    "define internal i32 @nn_find_level() cold noinline {\n"
    "  %leaf1 = call i64 @nn_cpu_bits(i32 0, i32 1)\n"
    "  %leaf7 = call i64 @nn_cpu_bits(i32 0, i32 7)\n"
    "  %more = call i64 @nn_cpu_bits(i32 -2147483648, i32 -2147483647)\n"
    "  %saved = call i64 @nn_saved_registers(i64 %leaf1)\n"
    /* SSE3 SSSE3 CMPXCHG16B SSE4.1 SSE4.2 POPCNT; LAHF */
    "  %a2 = call i1 @nn_has(i64 %leaf1, i64 u0x0098220100000000)\n"
    "  %b2 = call i1 @nn_has(i64 %more, i64 u0x0000000100000000)\n"
    /* FMA MOVBE OSXSAVE AVX F16C; BMI1 AVX2 BMI2; LZCNT; xmm ymm */
    "  %a3 = call i1 @nn_has(i64 %leaf1, i64 u0x3840100000000000)\n"
    "  %b3 = call i1 @nn_has(i64 %leaf7, i64 u0x128)\n"
    "  %c3 = call i1 @nn_has(i64 %more, i64 u0x0000002000000000)\n"
    "  %d3 = call i1 @nn_has(i64 %saved, i64 u0x6)\n"
    /* AVX512F DQ CD BW VL; xmm ymm k zmm */
    "  %a4 = call i1 @nn_has(i64 %leaf7, i64 u0xD0030000)\n"
    "  %b4 = call i1 @nn_has(i64 %saved, i64 u0xE6)\n"
    "  %v2 = and i1 %a2, %b2\n"
    "  %ab3 = and i1 %a3, %b3\n"
    "  %cd3 = and i1 %c3, %d3\n"
    "  %abcd3 = and i1 %ab3, %cd3\n"
    "  %v3 = and i1 %v2, %abcd3\n"
    "  %ab4 = and i1 %a4, %b4\n"
    "  %v4 = and i1 %v3, %ab4\n"
    "  %n2 = zext i1 %v2 to i32\n"
    "  %n3 = zext i1 %v3 to i32\n"
    "  %n4 = zext i1 %v4 to i32\n"
    "  %n23 = add i32 %n2, %n3\n"
    "  %n234 = add i32 %n23, %n4\n"
    "  %level = add i32 %n234, 1\n"
    "  ret i32 %level\n"
    "}\n"
    "define i32 @nn_cpu_level() noinline {\n"
    "  %known = load atomic i32, ptr @nn_level_known monotonic, align 4\n"
    "  %is_known = icmp ne i32 %known, 0\n"
    "  br i1 %is_known, label %done, label %find\n"
    "find:\n"
    "  %found = call i32 @nn_find_level()\n"
    "  store atomic i32 %found, ptr @nn_level_known monotonic, align 4\n"
    "  ret i32 %found\n"
    "done:\n"
    "  ret i32 %known\n"
    "}\n";

static nn_status link_level_function(nn_emod *e) {
  LLVMModuleRef m = NULL;
  char *message = NULL;
  LLVMMemoryBufferRef buffer = LLVMCreateMemoryBufferWithMemoryRangeCopy(level_text, strlen(level_text), "level");
  if (LLVMParseIRInContext(e->c, buffer, &m, &message)) {
    nn_report(e->diags, NN_ERROR, NULL, NULL, NULL, "internal: %s", message);
    LLVMDisposeMessage(message);
    return NN_FAIL;
  }
  LLVMSetTarget(m, LLVMGetTarget(e->m));
  LLVMSetDataLayout(m, LLVMGetDataLayoutStr(e->m));
  if (LLVMLinkModules2(e->m, m)) return NN_FAIL;
  LLVMSetLinkage(nn_emod_function(e, "nn_cpu_level"), LLVMInternalLinkage); /* the linker leaves out internal ones */
  return NN_OK;
}

static nn_v number(nn_emod *e, int64_t value) { return LLVMConstInt(e->i32, (unsigned long long)value, true); }

/* The widest variant for this CPU; 0: not even the first. */
static nn_v best_variant(nn_pemit *s) {
  nn_emod *e = s->e;
  nn_v fn = nn_emod_function(e, "nn_cpu_level"), best = number(e, 0);
  nn_v level = LLVMBuildCall2(e->b, LLVMGlobalGetValueType(fn), fn, NULL, 0, "level");
  for (const nn_program *p = s->p; p; p = p->narrower) {
    nn_v fits = LLVMBuildICmp(e->b, LLVMIntSGE, level, number(e, p->target->level), "");
    best = LLVMBuildAdd(e->b, best, LLVMBuildZExt(e->b, fits, e->i32, ""), "");
  }
  return best;
}

/* The variant that the host set, or the best one; leaves with an error if this CPU cannot run it. */
static nn_v wanted_variant(nn_pemit *s) {
  nn_emod *e = s->e;
  nn_leave_if(s, LLVMBuildICmp(e->b, LLVMIntEQ, s->ctx, LLVMConstNull(e->ptr), ""), number(e, NNCC_RT_EINVAL));
  nn_v best = best_variant(s), set = nn_emit_field(e, e->ctx_type, s->ctx, NN_CTX_ISA, e->i32);
  nn_v is_set = LLVMBuildICmp(e->b, LLVMIntNE, set, number(e, 0), "");
  nn_v wanted = LLVMBuildSelect(e->b, is_set, set, best, "isa");
  nn_v bad = LLVMBuildICmp(e->b, LLVMIntUGE, LLVMBuildSub(e->b, wanted, number(e, 1), ""), best, "");
  nn_fail_if(s, bad, NNCC_RT_EINVAL, nn_emit_text(s, ""), nn_emit_text(s, "isa"),
             LLVMBuildSExt(e->b, wanted, e->i64, ""), LLVMBuildSExt(e->b, best, e->i64, ""));
  return wanted;
}

/* int32_t NAME_init(nncc_rt_ctx *): sets isa, unless it is set. */
static void emit_init(nn_pemit *s) {
  nn_emod *e = s->e;
  LLVMTypeRef types[] = {e->ptr};
  nn_begin_function(s, nn_sprintf(e->arena, "%s_init", s->linkage->symbol), LLVMFunctionType(e->i32, types, 1, false),
                    true);
  s->ctx = LLVMGetParam(s->fn, 0);
  nn_emit_set_field(e, e->ctx_type, s->ctx, NN_CTX_ISA, wanted_variant(s));
  nn_end_function(s);
  LLVMBuildRet(e->b, s->code);
}

static int count_variants(const nn_program *p) {
  int n = 0;
  for (; p; p = p->narrower) n++;
  return n;
}

/* runs: the widest first. */
static nn_v emit_choice(nn_pemit *s, const nn_v *runs, int count) {
  nn_emod *e = s->e;
  LLVMTypeRef types[] = {e->ptr, e->ptr, e->ptr}, type = LLVMFunctionType(e->i32, types, 3, false);
  nn_begin_function(s, nn_sprintf(e->arena, "%s_run", s->linkage->symbol), type, true);
  nn_v fn = s->fn, args[] = {LLVMGetParam(fn, 0), LLVMGetParam(fn, 1), LLVMGetParam(fn, 2)};
  s->ctx = args[0];
  nn_v wanted = wanted_variant(s);
  LLVMBasicBlockRef first = LLVMAppendBasicBlockInContext(e->c, fn, "variant");
  nn_v choice = LLVMBuildSwitch(e->b, wanted, first, (unsigned)count - 1);
  for (int i = 0; i < count; i++) {
    LLVMBasicBlockRef block = i == count - 1 ? first : LLVMAppendBasicBlockInContext(e->c, fn, "variant");
    LLVMPositionBuilderAtEnd(e->b, block);
    nn_leave(s, LLVMBuildCall2(e->b, type, runs[i], args, 3, ""));
    if (i < count - 1) LLVMAddCase(choice, number(e, count - i), block);
  }
  LLVMPositionBuilderAtEnd(e->b, s->leave);
  LLVMBuildRet(e->b, s->code);
  return fn;
}

nn_v nn_emit_variants(nn_pemit *s) {
  nn_emod *e = s->e;
  const nn_program *widest = s->p;
  int count = count_variants(widest), n = 0;
  nn_v *runs = NN_NEW_ARRAY(e->arena, nn_v, count);
  for (const nn_program *p = widest; p; p = p->narrower) {
    s->p = p;
    runs[n++] = nn_emit_run(s, nn_sprintf(e->arena, "%s_v%d_run", s->linkage->symbol, p->target->level), false);
  }
  s->p = widest;
  if (link_level_function(e) != NN_OK) {
    e->failed = true;
    return runs[0];
  }
  emit_init(s);
  return emit_choice(s, runs, count);
}
