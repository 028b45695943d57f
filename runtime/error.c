/* Texts of error codes and of a context's error. */
#include "runtime/nncc_rt.h"

#include <inttypes.h>
#include <stdio.h>

const char *nncc_rt_error_text(int32_t error) {
  switch (error) {
    case NNCC_RT_OK: return "success";
    case NNCC_RT_EINVAL: return "invalid argument";
    case NNCC_RT_ESHAPE: return "unexpected dimension";
    case NNCC_RT_EWORKSPACE: return "workspace missing, too small or misaligned";
    case NNCC_RT_EINDEX: return "index out of range";
    case NNCC_RT_EVALUE: return "value not allowed";
    case NNCC_RT_EMEMORY: return "out of memory";
    case NNCC_RT_EWEIGHTS: return "weights missing or not those of this model";
    case NNCC_RT_EIO: return "file cannot be read";
    case NNCC_RT_EABI: return "compiled for another version of the ABI";
    case NNCC_RT_EINTERNAL: return "internal error";
    default: return "unknown error";
  }
}

static const char *relation(int32_t error) { return error == NNCC_RT_EINDEX ? "expected less than" : "expected"; }

const char *nncc_rt_ctx_message(const nncc_rt_ctx *ctx, char *buffer, size_t size_bytes) {
  const char *node = ctx->error_node ? ctx->error_node : "";
  const char *what = ctx->error_what && *ctx->error_what ? ctx->error_what : nncc_rt_error_text(ctx->error);
  const char *open = *node ? "'" : "", *close = *node ? "': " : "";
  if (ctx->error == NNCC_RT_EMEMORY || ctx->error == NNCC_RT_EINTERNAL || ctx->error == NNCC_RT_EWEIGHTS)
    snprintf(buffer, size_bytes, "%s%s%s%s", open, node, close, what);
  else
    snprintf(buffer, size_bytes, "%s%s%s%s: found %" PRId64 ", %s %" PRId64, open, node, close, what, ctx->found,
             relation(ctx->error), ctx->expected);
  return buffer;
}

static unsigned dtype_bits(int32_t dtype) {
  switch (dtype) {
    case NNCC_RT_U2: case NNCC_RT_I2: return 2;
    case NNCC_RT_U4: case NNCC_RT_I4: case NNCC_RT_F4E2M1: return 4;
    case NNCC_RT_U8: case NNCC_RT_I8: case NNCC_RT_BOOL: case NNCC_RT_F8E4M3FN: case NNCC_RT_F8E4M3FNUZ:
    case NNCC_RT_F8E5M2: case NNCC_RT_F8E5M2FNUZ: case NNCC_RT_F8E8M0: return 8;
    case NNCC_RT_U16: case NNCC_RT_I16: case NNCC_RT_F16: case NNCC_RT_BF16: return 16;
    case NNCC_RT_F32: case NNCC_RT_I32: case NNCC_RT_U32: return 32;
    case NNCC_RT_F64: case NNCC_RT_I64: case NNCC_RT_U64: case NNCC_RT_C64: return 64;
    case NNCC_RT_C128: return 128;
    default: return 0;
  }
}

size_t nncc_rt_dtype_bytes(int32_t dtype, uint64_t count) {
  unsigned bits = dtype_bits(dtype);
  uint64_t bytes;
  if (bits < 8) bytes = count / (8 / (bits ? bits : 8)) + (bits && count % (8 / bits) != 0);
  else if (count > UINT64_MAX / (bits / 8)) return SIZE_MAX;
  else bytes = count * (bits / 8);
  if (bits == 0) return 0;
  return bytes > SIZE_MAX ? SIZE_MAX : (size_t)bytes;
}
