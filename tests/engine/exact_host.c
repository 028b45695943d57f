/* Runs a compiled model of any Linux target without its C library, so that an emulator can: reads all inputs from stdin, one behind
   the other, and writes all outputs to stdout. Sizes must be static. */
#include "runtime/nncc_rt.h"

#if defined(__x86_64__)
#define ENTRY ".globl _start\n_start: xor %ebp, %ebp\n call start\n"
enum { READ = 0, WRITE = 1, EXIT = 60 };
static long call(long number, long a, long b, long c) {
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return result;
}
#elif defined(__aarch64__)
#define ENTRY ".globl _start\n_start: bl start\n"
enum { READ = 63, WRITE = 64, EXIT = 93 };
static long call(long number, long a, long b, long c) {
  register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
  return x0;
}
#elif defined(__arm__)
#define ENTRY ".globl _start\n_start: bl start\n"
enum { READ = 3, WRITE = 4, EXIT = 1 };
static long call(long number, long a, long b, long c) {
  register long r7 __asm__("r7") = number, r0 __asm__("r0") = a, r1 __asm__("r1") = b, r2 __asm__("r2") = c;
  __asm__ volatile("svc 0" : "+r"(r0) : "r"(r7), "r"(r1), "r"(r2) : "memory");
  return r0;
}
#endif
__asm__(ENTRY);

extern const nncc_rt_model m;

enum { MEMORY = 32 << 20, TENSORS = 128 };
static _Alignas(64) char memory[MEMORY];
static size_t used;

static void leave(long code) {
  for (;;) call(EXIT, code, 0, 0);
}

void *memcpy(void *to, const void *from, size_t n) {
  for (size_t i = 0; i < n; i++) ((volatile char *)to)[i] = ((const char *)from)[i];
  return to;
}

void *memmove(void *to, const void *from, size_t n) {
  if ((char *)to <= (const char *)from) return memcpy(to, from, n);
  while (n--) ((volatile char *)to)[n] = ((const char *)from)[n];
  return to;
}

void *memset(void *to, int value, size_t n) {
  for (size_t i = 0; i < n; i++) ((volatile char *)to)[i] = (char)value;
  return to;
}

int memcmp(const void *a, const void *b, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (((const unsigned char *)a)[i] != ((const unsigned char *)b)[i]) return 1;
  return 0;
}

static void *take(size_t size) {
  void *at = memory + used;
  used += (size + 63) / 64 * 64;
  if (used > MEMORY) leave(101);
  return at;
}

static size_t element_bytes(int32_t dtype) {
  if (dtype == NNCC_RT_F64 || dtype == NNCC_RT_I64) return 8;
  return dtype == NNCC_RT_F32 || dtype == NNCC_RT_I32 ? 4 : dtype == NNCC_RT_F16 || dtype == NNCC_RT_BF16 ? 2 : 1;
}

static size_t prepare(const nncc_rt_io *io, nncc_rt_tensor *t) {
  size_t size = element_bytes(io->dtype);
  for (int32_t d = 0; d < io->rank; d++) size *= (size_t)io->dims[d];
  *t = (nncc_rt_tensor){take(size), take((size_t)io->rank * sizeof(int64_t)), io->dtype, io->rank};
  for (int32_t d = 0; d < io->rank; d++) t->dims[d] = io->dims[d];
  return size;
}

static void transfer(long number, long file, char *at, size_t size) {
  while (size > 0) {
    long n = call(number, file, (long)at, (long)size);
    if (n <= 0) leave(102);
    at += n;
    size -= (size_t)n;
  }
}

void start(void) {
  nncc_rt_tensor in[TENSORS], out[TENSORS];
  size_t sizes[TENSORS];
  for (int32_t i = 0; i < m.ninputs; i++) {
    size_t size = prepare(&m.inputs[i], &in[i]);
    transfer(READ, 0, in[i].data, size);
  }
  for (int32_t i = 0; i < m.noutputs; i++) sizes[i] = prepare(&m.outputs[i], &out[i]);
  nncc_rt_ctx ctx = {.nworkers = 1, .workspace_bytes = m.workspace_bytes + m.worker_bytes};
  ctx.workspace = take(ctx.workspace_bytes);
  int32_t error = m.run(&ctx, in, out);
  if (error) leave(error);
  for (int32_t i = 0; i < m.noutputs; i++) transfer(WRITE, 1, out[i].data, sizes[i]);
  leave(0);
}
