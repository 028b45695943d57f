/* Loads and stores. In a vector loop an access with stride 1 is one vector access, stride 0 a scalar one,
   stride -1, 2 and 4 are vectors put together by shuffles, anything else goes lane by lane.

   Memory that a mask excludes is never touched: a load whose mask is one bit reads from a block of zeros
   instead (a select of addresses, no branch), a store branches; masks that differ between lanes use the
   machine's masked accesses or go lane by lane. */
#include <assert.h>
#include <string.h>

#include "codegen/llvm.h"

/* Where the lanes of one access are. */
typedef struct access {
  const nn_buf *buf;
  nn_v base;
  LLVMTypeRef type; /* of an element in memory */
  int align;
  int lanes; /* 1: a scalar access */
  bool is_linear;
  int64_t stride; /* linear */
  nn_v index;     /* linear: of lane 0; else a vector */
  nn_v mask;      /* what may be touched; NULL: all */
} access;

static LLVMTypeRef element_type(nn_emit *s, const nn_buf *buf) {
  if (buf->space != NN_BUF_REG) return nn_memory_type(s->e, buf->dtype);
  return buf->dtype == NN_BOOL ? s->e->i8 : nn_reg_type(s->e, buf->dtype);
}

static bool is_packed(const nn_buf *buf) { return buf->space != NN_BUF_REG && nn_is_sub_byte(buf->dtype); }

static int bytes_of(const nn_buf *buf) {
  int bytes = nn_dtype_bits(buf->dtype) / 8;
  if (buf->space == NN_BUF_REG && nn_is_small_float(buf->dtype)) bytes = 4;
  return bytes < 1 ? 1 : bytes;
}

static access make_access(nn_emit *s, const nn_buf *buf, const nn_x *index, nn_v mask) {
  access a = {.buf = buf,
              .base = nn_emit_buffer(s, buf),
              .type = element_type(s, buf),
              .lanes = s->vvar ? s->lanes : 1,
              .mask = mask};
  a.align = buf->space == NN_BUF_PARAM && s->e->target->unaligned_ok ? 1 : bytes_of(buf);
  a.is_linear = nn_emit_stride(s, index, &a.stride);
  a.index = a.is_linear && s->vvar ? nn_emit_lane0(s, index) : nn_emit_x(s, index);
  if (!a.is_linear && !nn_is_vector(a.index)) { /* the same in all lanes after all */
    a.is_linear = true;
    a.stride = 0;
  }
  return a;
}

static nn_v lane_index(nn_emit *s, const access *a, int lane) {
  if (!a->is_linear) return nn_lane(s->e, a->index, lane);
  nn_v step = nn_const_i64(s->e, (int64_t)((uint64_t)a->stride * (uint64_t)lane));
  return LLVMBuildAdd(s->b, a->index, step, "");
}

static nn_v address(nn_emit *s, const access *a, nn_v index) {
  if (a->mask) return LLVMBuildGEP2(s->b, a->type, a->base, &index, 1, "");
  return LLVMBuildInBoundsGEP2(s->b, a->type, a->base, &index, 1, "");
}

static nn_v lane_address(nn_emit *s, const access *a, int lane) { return address(s, a, lane_index(s, a, lane)); }

static nn_v load_at(nn_emit *s, const access *a, nn_v at, int lanes) {
  LLVMTypeRef type = lanes > 1 ? LLVMVectorType(a->type, (unsigned)lanes) : a->type;
  nn_v v = LLVMBuildLoad2(s->b, type, at, "");
  LLVMSetAlignment(v, (unsigned)a->align);
  return v;
}

static void store_at(nn_emit *s, const access *a, nn_v at, nn_v v) {
  LLVMSetAlignment(LLVMBuildStore(s->b, v, at), (unsigned)a->align);
}

/* The address, or that of zeros where bit is false. */
static nn_v guarded(nn_emit *s, nn_v at, nn_v bit) {
  return bit ? LLVMBuildSelect(s->b, bit, at, s->e->zeros, "") : at;
}

static nn_v insert(nn_emit *s, nn_v vector, nn_v lane_value, int lane) {
  return LLVMBuildInsertElement(s->b, vector, lane_value, LLVMConstInt(s->e->i32, (unsigned long long)lane, false), "");
}

/* ---- vector loads ---------------------------------------------------------------------------------------- */

/* Machines with 64-byte vectors mask bytes and 16-bit elements too. */
static bool fits_masked_access(nn_emit *s, const access *a) {
  const nn_target *t = s->e->target;
  return t->has_masked_memory && (bytes_of(a->buf) >= 4 || t->vector_bytes == 64);
}

static nn_v load_masked(nn_emit *s, const access *a) {
  nn_emod *e = s->e;
  LLVMTypeRef types[] = {LLVMVectorType(a->type, (unsigned)a->lanes), e->ptr};
  nn_v args[] = {address(s, a, a->index), LLVMConstInt(e->i32, (unsigned long long)a->align, false), a->mask,
                 LLVMConstNull(types[0])};
  return nn_call(e, "llvm.masked.load", types, 2, args, 4);
}

static nn_v load_lanes(nn_emit *s, const access *a) {
  nn_v all = LLVMGetPoison(LLVMVectorType(a->type, (unsigned)a->lanes));
  for (int i = 0; i < a->lanes; i++) {
    nn_v at = guarded(s, lane_address(s, a, i), a->mask ? nn_lane(s->e, a->mask, i) : NULL);
    all = insert(s, all, load_at(s, a, at, 1), i);
  }
  return all;
}

static nn_v shuffle(nn_emit *s, nn_v a, nn_v b, int first, int step, int lanes) {
  nn_v order[256];
  for (int i = 0; i < lanes; i++) order[i] = LLVMConstInt(s->e->i32, (unsigned long long)(first + i * step), false);
  return LLVMBuildShuffleVector(s->b, a, b, LLVMConstVector(order, (unsigned)lanes), "");
}

static nn_v load_reversed(nn_emit *s, const access *a, nn_v bit) {
  nn_v v = load_at(s, a, guarded(s, lane_address(s, a, a->lanes - 1), bit), a->lanes);
  return shuffle(s, v, v, a->lanes - 1, -1, a->lanes);
}

/* Every second element, out of two vectors that overlap by one element, so that nothing after the last one
   is read: in the concatenation the wanted ones are 0, 2, .. n-2, then n+1, n+3, ... */
static nn_v load_every_second(nn_emit *s, const access *a, nn_v bit) {
  int n = a->lanes;
  nn_v order[256], low = load_at(s, a, guarded(s, address(s, a, a->index), bit), n);
  nn_v last = LLVMBuildAdd(s->b, a->index, nn_const_i64(s->e, n - 1), "");
  nn_v high = load_at(s, a, guarded(s, address(s, a, last), bit), n);
  for (int i = 0; i < n; i++)
    order[i] = LLVMConstInt(s->e->i32, (unsigned long long)(i < n / 2 ? 2 * i : 2 * i + 1), false);
  return LLVMBuildShuffleVector(s->b, low, high, LLVMConstVector(order, (unsigned)n), "");
}

/* Every fourth element, of two halves that are each one of a pair of vectors; the last vector ends with the last
   element, so that nothing after it is read. */
static nn_v load_every_fourth(nn_emit *s, const access *a, nn_v bit) {
  int n = a->lanes, quarter = n / 4;
  nn_v order[256], half[2];
  for (int h = 0; h < 2; h++) {
    nn_v part[2];
    for (int p = 0; p < 2; p++) {
      int first = (2 * h + p) * n - (h + p == 2 ? 3 : 0);
      nn_v at = LLVMBuildAdd(s->b, a->index, nn_const_i64(s->e, first), "");
      part[p] = load_at(s, a, guarded(s, address(s, a, at), bit), n);
    }
    for (int i = 0; i < n / 2; i++) {
      int at = i < quarter ? 4 * i : n + 4 * (i - quarter) + (h ? 3 : 0);
      order[i] = LLVMConstInt(s->e->i32, (unsigned long long)at, false);
    }
    half[h] = LLVMBuildShuffleVector(s->b, part[0], part[1], LLVMConstVector(order, (unsigned)n / 2), "");
  }
  return shuffle(s, half[0], half[1], 0, 1, n);
}

/* mask: none or one bit for all lanes. */
static nn_v load_strided(nn_emit *s, const access *a) {
  bool fits_zeros = a->lanes * bytes_of(a->buf) <= NN_ZERO_BYTES;
  if (a->mask && !fits_zeros) return NULL;
  if (a->stride == 1) return load_at(s, a, guarded(s, address(s, a, a->index), a->mask), a->lanes);
  if (a->lanes < 4 || a->buf->space == NN_BUF_REG) return NULL;
  if (a->stride == -1) return load_reversed(s, a, a->mask);
  if (a->stride == 4 && a->lanes % 4 == 0) return load_every_fourth(s, a, a->mask);
  return a->stride == 2 && a->lanes % 2 == 0 ? load_every_second(s, a, a->mask) : NULL;
}

static nn_v load_raw(nn_emit *s, access *a) {
  bool is_vector = a->lanes > 1, varying = a->mask && nn_is_vector(a->mask);
  if (!is_vector || (a->is_linear && a->stride == 0)) /* one element for all lanes */
    return load_at(s, a, guarded(s, address(s, a, a->index), a->mask ? nn_any(s->e, a->mask) : NULL), 1);
  if (a->is_linear && varying && a->stride == 1 && fits_masked_access(s, a)) return load_masked(s, a);
  nn_v v = a->is_linear && !varying ? load_strided(s, a) : NULL;
  if (v) return v;
  if (a->mask && !varying) a->mask = nn_splat(s->e, a->mask, a->lanes);
  return load_lanes(s, a);
}

/* ---- packed elements --------------------------------------------------------------------------------------- */

typedef struct packed {
  nn_v at, shift;
} packed; /* byte address; places to shift, i8 */

static packed find_packed(nn_emit *s, const access *a, nn_v index) {
  int per_byte = 8 / nn_dtype_bits(a->buf->dtype);
  nn_v byte = LLVMBuildAShr(s->b, index, nn_const_i64(s->e, per_byte == 2 ? 1 : 2), "");
  nn_v rest = LLVMBuildTrunc(s->b, LLVMBuildAnd(s->b, index, nn_const_i64(s->e, per_byte - 1), ""), s->e->i8, "");
  nn_v bits = LLVMConstInt(s->e->i8, (unsigned long long)nn_dtype_bits(a->buf->dtype), false);
  return (packed){address(s, a, byte), LLVMBuildMul(s->b, rest, bits, "")};
}

static nn_v load_packed_one(nn_emit *s, const access *a, nn_v index, nn_v bit) {
  packed p = find_packed(s, a, index);
  nn_v byte = load_at(s, a, guarded(s, p.at, bit), 1);
  nn_v low = LLVMConstInt(s->e->i8, (1ull << nn_dtype_bits(a->buf->dtype)) - 1, false);
  return LLVMBuildAnd(s->b, LLVMBuildLShr(s->b, byte, p.shift, ""), low, "");
}

/* The index is certainly a multiple of n (a power of two). */
static bool is_multiple(nn_emit *s, const nn_x *x, int n) {
  int64_t stride;
  switch (x->op) {
  case NN_X_CONST: return x->i % n == 0;
  case NN_X_VAR:
    if (x->var == s->vvar) return true; /* lane 0 */
    return !x->var->is_loop && is_multiple(s, nn_varinfo_of(x->var)->value, n);
  case NN_X_ADD:
  case NN_X_SUB: return is_multiple(s, x->a[0], n) && is_multiple(s, x->a[1], n);
  case NN_X_MUL: return nn_emit_stride(s, x, &stride) && (is_multiple(s, x->a[0], n) || is_multiple(s, x->a[1], n));
  default: return false;
  }
}

static nn_v interleave(nn_emit *s, nn_v a, nn_v b) {
  nn_v order[256];
  int n = nn_lanes_of(a);
  for (int i = 0; i < 2 * n; i++)
    order[i] = LLVMConstInt(s->e->i32, (unsigned long long)(i % 2 ? n + i / 2 : i / 2), false);
  return LLVMBuildShuffleVector(s->b, a, b, LLVMConstVector(order, (unsigned)(2 * n)), "");
}

/* Consecutive elements from a byte's first one on: whole bytes, taken apart and interleaved. */
static nn_v load_packed_run(nn_emit *s, const access *a) {
  int bits = nn_dtype_bits(a->buf->dtype), per_byte = 8 / bits;
  nn_v part[4], bytes = load_at(s, a, guarded(s, find_packed(s, a, a->index).at, a->mask), a->lanes / per_byte);
  for (int i = 0; i < per_byte; i++) {
    nn_v moved = LLVMBuildLShr(s->b, bytes, nn_const_int(s->e, bytes, i * bits), "");
    part[i] = LLVMBuildAnd(s->b, moved, nn_const_int(s->e, bytes, (1 << bits) - 1), "");
  }
  if (per_byte == 2) return interleave(s, part[0], part[1]);
  return interleave(s, interleave(s, part[0], part[2]), interleave(s, part[1], part[3]));
}

static bool is_packed_run(nn_emit *s, const access *a, const nn_x *index) {
  int per_byte = 8 / nn_dtype_bits(a->buf->dtype);
  bool is_unit = a->is_linear && a->stride == 1 && a->lanes >= 2 * per_byte && a->lanes % per_byte == 0;
  return is_unit && !(a->mask && nn_is_vector(a->mask)) && is_multiple(s, index, per_byte);
}

static nn_v load_packed(nn_emit *s, const access *a) {
  if (a->lanes == 1 || (a->is_linear && a->stride == 0))
    return load_packed_one(s, a, a->index, a->mask ? nn_any(s->e, a->mask) : NULL);
  nn_v all = LLVMGetPoison(LLVMVectorType(s->e->i8, (unsigned)a->lanes));
  for (int i = 0; i < a->lanes; i++)
    all = insert(s, all, load_packed_one(s, a, lane_index(s, a, i), a->mask ? nn_lane(s->e, a->mask, i) : NULL), i);
  return all;
}

static void store_packed_one(nn_emit *s, const access *a, nn_v index, nn_v value) {
  packed p = find_packed(s, a, index);
  nn_v low = LLVMConstInt(s->e->i8, (1ull << nn_dtype_bits(a->buf->dtype)) - 1, false);
  nn_v keep =
      LLVMBuildAnd(s->b, load_at(s, a, p.at, 1), LLVMBuildNot(s->b, LLVMBuildShl(s->b, low, p.shift, ""), ""), "");
  nn_v put = LLVMBuildShl(s->b, LLVMBuildAnd(s->b, value, low, ""), p.shift, "");
  store_at(s, a, p.at, LLVMBuildOr(s->b, keep, put, ""));
}

/* ---- between memory and registers --------------------------------------------------------------------------- */

static nn_v from_memory(nn_emit *s, const nn_buf *buf, nn_v raw) {
  if (buf->dtype == NN_BOOL) return LLVMBuildICmp(s->b, LLVMIntNE, raw, nn_const_int(s->e, raw, 0), "");
  if (buf->space == NN_BUF_REG) return raw;
  if (nn_is_small_float(buf->dtype)) return nn_emit_unpack(s->e, buf->dtype, raw);
  return nn_emit_wrap(s->e, buf->dtype, raw);
}

static nn_v to_memory(nn_emit *s, const nn_buf *buf, nn_v v) {
  if (buf->dtype == NN_BOOL) return LLVMBuildZExt(s->b, v, nn_like(s->e, s->e->i8, v), "");
  if (buf->space != NN_BUF_REG && nn_is_small_float(buf->dtype)) return nn_emit_pack(s->e, buf->dtype, v);
  return v;
}

static nn_v zero_of(nn_v like) { return LLVMConstNull(LLVMTypeOf(like)); }

/* Registers are always there to be read: a mask only clears the value. */
static nn_v load_register(nn_emit *s, access *a, nn_v mask) {
  nn_v v = from_memory(s, a->buf, load_raw(s, a));
  return mask ? nn_select(s->e, mask, v, zero_of(v)) : v;
}

nn_v nn_emit_load(nn_emit *s, const nn_x *x) {
  nn_v own = x->a[1] ? nn_emit_x(s, x->a[1]) : NULL;
  if (x->buf->space == NN_BUF_REG) {
    access reg = make_access(s, x->buf, x->a[0], NULL);
    return load_register(s, &reg, own);
  }
  access a = make_access(s, x->buf, x->a[0], nn_and(s->e, own, s->mask));
  nn_v raw = !is_packed(x->buf)              ? load_raw(s, &a)
             : is_packed_run(s, &a, x->a[0]) ? load_packed_run(s, &a)
                                             : load_packed(s, &a);
  nn_v v = from_memory(s, x->buf, raw);
  bool is_spread = own && nn_is_vector(own) && !nn_is_vector(v);
  if (is_spread || (own && x->dtype == NN_F8E8M0))
    return nn_select(s->e, own, v, zero_of(v)); /* zero bits are no zero of e8m0 */
  return v;
}

/* ---- stores ------------------------------------------------------------------------------------------------ */

/* Opens a block that runs only where bit holds; the caller stores and then joins. */
static LLVMBasicBlockRef begin_where(nn_emit *s, nn_v bit) {
  LLVMBasicBlockRef yes = nn_emit_block(s, "store"), end = nn_emit_block(s, "stored");
  LLVMBuildCondBr(s->b, bit, yes, end);
  LLVMPositionBuilderAtEnd(s->b, yes);
  return end;
}

static void end_where(nn_emit *s, LLVMBasicBlockRef end) {
  LLVMBuildBr(s->b, end);
  LLVMPositionBuilderAtEnd(s->b, end);
}

static void store_one(nn_emit *s, const access *a, nn_v index, nn_v v) {
  if (is_packed(a->buf))
    store_packed_one(s, a, index, v);
  else
    store_at(s, a, address(s, a, index), v);
}

static void store_one_where(nn_emit *s, const access *a, nn_v index, nn_v v, nn_v bit) {
  int64_t known;
  if (bit && nn_const_of(bit, &known)) {
    if (!known) return;
    bit = NULL;
  }
  LLVMBasicBlockRef end = bit ? begin_where(s, bit) : NULL;
  store_one(s, a, index, v);
  if (end) end_where(s, end);
}

/* In lane order, so that of several stores to one place the last lane's stays. */
static void store_lanes(nn_emit *s, const access *a, nn_v v) {
  for (int i = 0; i < a->lanes; i++)
    store_one_where(s, a, lane_index(s, a, i), nn_lane(s->e, v, i), a->mask ? nn_lane(s->e, a->mask, i) : NULL);
}

static void store_masked(nn_emit *s, const access *a, nn_v v) {
  nn_emod *e = s->e;
  LLVMTypeRef types[] = {LLVMTypeOf(v), e->ptr};
  nn_v args[] = {v, address(s, a, a->index), LLVMConstInt(e->i32, (unsigned long long)a->align, false), a->mask};
  nn_call(e, "llvm.masked.store", types, 2, args, 4);
}

static void store_vector(nn_emit *s, const access *a, nn_v v) {
  bool varying = a->mask && nn_is_vector(a->mask);
  bool is_unit = a->is_linear && a->stride == 1 && !is_packed(a->buf);
  if (is_unit && varying && fits_masked_access(s, a)) {
    store_masked(s, a, nn_splat(s->e, v, a->lanes));
    return;
  }
  if (varying || (!is_unit && !a->mask)) {
    store_lanes(s, a, v);
    return;
  }
  access open = *a; /* one bit for all lanes: one branch */
  LLVMBasicBlockRef end = a->mask ? begin_where(s, a->mask) : NULL;
  open.mask = NULL;
  if (is_unit)
    store_at(s, a, address(s, a, a->index), nn_splat(s->e, v, a->lanes));
  else
    store_lanes(s, &open, v);
  if (end) end_where(s, end);
}

static void store_scalar(nn_emit *s, const access *a, nn_v v) {
  store_one_where(s, a, a->index, v, a->mask ? nn_any(s->e, a->mask) : NULL);
}

/* A masked store to registers is a blend: they stay values without branches. */
static void store_register(nn_emit *s, access *a, nn_v v, nn_v mask) {
  bool one_place =
      a->lanes == 1 || (a->is_linear && a->stride == 0 && !nn_is_vector(v) && !(mask && nn_is_vector(mask)));
  if (mask) {
    access old = *a;
    v = nn_select(s->e, mask, v, load_raw(s, &old));
  }
  if (one_place)
    store_at(s, a, address(s, a, a->index), v);
  else
    store_vector(s, a, v);
}

void nn_emit_store(nn_emit *s, const nn_stmt *st) {
  nn_v value = nn_emit_x(s, st->value), mask = nn_and(s->e, st->mask ? nn_emit_x(s, st->mask) : NULL, s->mask);
  value = to_memory(s, st->buf, value);
  bool is_reg = st->buf->space == NN_BUF_REG;
  access a = make_access(s, st->buf, st->index, is_reg ? NULL : mask);
  if (is_reg) {
    store_register(s, &a, value, mask);
    return;
  }
  bool one_place = a.is_linear && a.stride == 0;
  if (a.lanes == 1 || (one_place && !nn_is_vector(value)))
    store_scalar(s, &a, value);
  else if (one_place && !a.mask)
    store_one(s, &a, a.index, nn_lane(s->e, value, a.lanes - 1));
  else
    store_vector(s, &a, value);
}

void nn_emit_prefetch_line(nn_emit *s, nn_v at, bool is_near) {
  enum { NEAR = 3, FAR = 2 }; /* into L1, into L2 */
  nn_emod *e = s->e;
  nn_v args[] = {at, LLVMConstInt(e->i32, 0, false), LLVMConstInt(e->i32, is_near ? NEAR : FAR, false), LLVMConstInt(e->i32, 1, false)};
  nn_call(e, "llvm.prefetch", &e->ptr, 1, args, 4);
}

/* Of the line that holds lane 0. The address may lie outside of the buffer. */
void nn_emit_prefetch(nn_emit *s, const nn_stmt *st) {
  nn_v index = nn_emit_lane0(s, st->index);
  if (is_packed(st->buf)) return;
  nn_v at = LLVMBuildGEP2(s->b, element_type(s, st->buf), nn_emit_buffer(s, st->buf), &index, 1, "");
  nn_emit_prefetch_line(s, at, st->is_near);
}

/* ---- reductions over a register array ------------------------------------------------------------------------ */

static nn_v combine(nn_emit *s, nn_xop op, nn_dtype t, nn_v a, nn_v b) {
  nn_x plain = {.op = op == NN_X_LANES_SUM    ? NN_X_ADD
                      : op == NN_X_LANES_PROD ? NN_X_MUL
                      : op == NN_X_LANES_MAX  ? NN_X_MAX
                                              : NN_X_MIN,
                .dtype = t};
  if (t == NN_BOOL) return nn_emit_bool_op(s->e, plain.op, a, b);
  if (!nn_dtype_is_float(t)) return nn_emit_int_op(s->e, &plain, a, b);
  if (op == NN_X_LANES_MAX || op == NN_X_LANES_MIN) return nn_emit_minmax(s->e, op == NN_X_LANES_MAX, a, b, false);
  return nn_emit_float_op(s->e, plain.op, t, a, b, NULL);
}

static nn_v load_run(nn_emit *s, const access *a, int first, int count) {
  nn_v index = LLVMBuildAdd(s->b, a->index, nn_const_i64(s->e, first), "");
  return from_memory(s, a->buf, load_at(s, a, address(s, a, index), count));
}

/* Pieces of one machine vector are combined whole: j with j + n/2 as long as both are in registers. */
static nn_v reduce_pieces(nn_emit *s, nn_xop op, const access *a, int first, int step, int count, int piece) {
  if (count == 1) return load_run(s, a, first, piece);
  int half = count / 2;
  nn_v low = reduce_pieces(s, op, a, first, step * 2, half, piece);
  nn_v high = reduce_pieces(s, op, a, first + step, step * 2, half, piece);
  return combine(s, op, a->buf->dtype, low, high);
}

nn_v nn_emit_lanes(nn_emit *s, const nn_x *x) {
  int count = (int)x->i, piece = nn_target_lanes(s->e->target, x->buf->dtype);
  access a = {
      .buf = x->buf, .base = nn_emit_buffer(s, x->buf), .type = element_type(s, x->buf), .lanes = 1, .is_linear = true};
  a.align = bytes_of(x->buf);
  a.index = nn_emit_x(s, x->a[0]);
  if (piece > count) piece = count;
  nn_v v = reduce_pieces(s, x->op, &a, 0, piece, count / piece, piece);
  for (int n = piece / 2; n >= 1; n /= 2) {
    nn_v low = n > 1 ? shuffle(s, v, v, 0, 1, n) : nn_lane(s->e, v, 0);
    nn_v high = n > 1 ? shuffle(s, v, v, n, 1, n) : nn_lane(s->e, v, 1);
    v = combine(s, x->op, x->dtype, low, high);
  }
  return v;
}

/* ---- a square of registers ------------------------------------------------------------------------------------- */

enum { BLOCK_BYTES = 16 };

typedef struct square {
  nn_emit *s;
  int side, block; /* elements of a row, and of a block of it within which shuffles are cheap */
  nn_v row[NN_SQUARE_MOST];
} square;

/* In each block, elements of a and b in turns: of its first half or its second. */
static nn_v interleave_blocks(const square *q, nn_v a, nn_v b, int half) {
  nn_v order[NN_SQUARE_MOST];
  for (int i = 0; i < q->side; i++) {
    int within = i % q->block, from = i - within + half * (q->block / 2) + within / 2;
    order[i] = LLVMConstInt(q->s->e->i32, (unsigned)(within % 2 ? q->side + from : from), false);
  }
  return LLVMBuildShuffleVector(q->s->b, a, b, LLVMConstVector(order, (unsigned)q->side), "");
}

/* Every second block of a, then of b. */
static nn_v every_second_block(const square *q, nn_v a, nn_v b, int odd) {
  nn_v order[NN_SQUARE_MOST];
  for (int i = 0; i < q->side; i++)
    order[i] = LLVMConstInt(q->s->e->i32, (unsigned)((2 * (i / q->block) + odd) * q->block + i % q->block), false);
  return LLVMBuildShuffleVector(q->s->b, a, b, LLVMConstVector(order, (unsigned)q->side), "");
}

/* The blocks of `block` neighbouring rows, each of them for itself. */
static void transpose_blocks(square *q, int first) {
  nn_v next[NN_SQUARE_MOST];
  for (int stage = 1; stage < q->block; stage *= 2) {
    for (int i = 0; i < q->block / 2; i++)
      for (int half = 0; half < 2; half++)
        next[2 * i + half] = interleave_blocks(q, q->row[first + i], q->row[first + i + q->block / 2], half);
    memcpy(q->row + first, next, (size_t)q->block * sizeof *next);
  }
}

/* Blocks change places among the rows first, first + block, ... */
static void transpose_places(square *q, int first) {
  nn_v next[NN_SQUARE_MOST];
  int places = q->side / q->block;
  for (int stage = 1; stage < places; stage *= 2) {
    for (int i = 0; i < places / 2; i++)
      for (int odd = 0; odd < 2; odd++) {
        const nn_v *pair = q->row + first + 2 * i * q->block;
        next[i + odd * (places / 2)] = every_second_block(q, pair[0], pair[q->block], odd);
      }
    for (int i = 0; i < places; i++) q->row[first + i * q->block] = next[i];
  }
}

/* Shuffles of two rows each: log2(side) of them for a row. */
void nn_emit_transpose(nn_emit *s, const nn_stmt *st) {
  int bytes = bytes_of(st->buf), block = bytes < BLOCK_BYTES ? BLOCK_BYTES / bytes : 1;
  square q = {.s = s, .side = (int)nn_square_side(st->buf)};
  access a = {.buf = st->buf, .base = nn_emit_buffer(s, st->buf), .type = element_type(s, st->buf), .align = bytes};
  if (q.side == 1) return;
  q.block = block < q.side ? block : q.side;
  for (int i = 0; i < q.side; i++) q.row[i] = load_at(s, &a, address(s, &a, nn_const_i64(s->e, (int64_t)i * q.side)), q.side);
  for (int i = 0; i < q.side; i += q.block) transpose_blocks(&q, i);
  for (int i = 0; i < q.block; i++) transpose_places(&q, i);
  for (int i = 0; i < q.side; i++) store_at(s, &a, address(s, &a, nn_const_i64(s->e, (int64_t)i * q.side)), q.row[i]);
}
