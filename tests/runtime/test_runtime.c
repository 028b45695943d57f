/* libnncc_rt: sizes, messages, weight files, the pool. */
#include "runtime/nncc_rt.h"

#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

Test(runtime, dense_bytes) {
  cr_expect_eq(nncc_rt_dtype_bytes(NNCC_RT_F32, 3), 12);
  cr_expect_eq(nncc_rt_dtype_bytes(NNCC_RT_I4, 0), 0);
  cr_expect_eq(nncc_rt_dtype_bytes(NNCC_RT_I4, 3), 2);
  cr_expect_eq(nncc_rt_dtype_bytes(NNCC_RT_U2, 5), 2);
  cr_expect_eq(nncc_rt_dtype_bytes(NNCC_RT_STRING, 5), 0);
  cr_expect_eq(nncc_rt_dtype_bytes(NNCC_RT_C128, UINT64_MAX / 4), SIZE_MAX);
}

Test(runtime, messages_name_node_found_and_expected) {
  nncc_rt_ctx ctx = {.error = NNCC_RT_EINDEX, .error_node = "Gather_3", .found = 7, .expected = 5};
  char text[128];
  cr_expect_str_eq(nncc_rt_ctx_message(&ctx, text, sizeof text), "'Gather_3': index out of range: found 7, expected less than 5");
  for (int32_t e = NNCC_RT_OK; e <= NNCC_RT_EINTERNAL; e++) cr_expect_str_neq(nncc_rt_error_text(e), "unknown error");
  char tiny[8];
  cr_expect_eq(strlen(nncc_rt_ctx_message(&ctx, tiny, sizeof tiny)), 7);
}

static int32_t load(const char *bytes, size_t size, const nncc_rt_model *model) {
  char path[] = "/tmp/nncc-test-XXXXXX";
  int fd = mkstemp(path);
  cr_assert(fd >= 0 && write(fd, bytes, size) == (ssize_t)size);
  close(fd);
  nncc_rt_file *file = NULL;
  const void *weights = NULL;
  int32_t error = nncc_rt_load_weights(model, path, &file, &weights);
  if (error == NNCC_RT_OK) cr_expect(memcmp(weights, bytes + 64, size - 64) == 0);
  else cr_expect_null(file);
  nncc_rt_file_close(file);
  remove(path);
  return error;
}

Test(runtime, weight_files_are_checked) {
  nncc_rt_model model = {.abi = NNCC_RT_ABI, .weights_bytes = 16, .weights_hash = 42};
  unsigned char bytes[80] = "NNCCWTS1";
  uint32_t abi = NNCC_RT_ABI, order = 0x01020304u;
  uint64_t size = 16, hash = 42;
  memcpy(bytes + 8, &abi, 4);
  memcpy(bytes + 12, &order, 4);
  memcpy(bytes + 16, &size, 8);
  memcpy(bytes + 24, &hash, 8);
  memset(bytes + 64, 9, 16);
  cr_expect_eq(load((char *)bytes, 80, &model), NNCC_RT_OK);
  cr_expect_eq(load((char *)bytes, 79, &model), NNCC_RT_EWEIGHTS);
  cr_expect_eq(load((char *)bytes, 10, &model), NNCC_RT_EWEIGHTS);
  cr_expect_eq(load((char *)bytes, 0, &model), NNCC_RT_EIO);
  bytes[24] = 41;
  cr_expect_eq(load((char *)bytes, 80, &model), NNCC_RT_EWEIGHTS);
  bytes[8] = 77;
  cr_expect_eq(load((char *)bytes, 80, &model), NNCC_RT_EABI);
  nncc_rt_file *file;
  const void *weights;
  cr_expect_eq(nncc_rt_load_weights(&model, "/nowhere/at/all", &file, &weights), NNCC_RT_EIO);
}

static void add(void *arg, int64_t task, int32_t worker) {
  int64_t *sums = arg;
  sums[worker] += task;
}

Test(runtime, pools_run_every_task_once) {
  for (int32_t workers = 1; workers <= 3; workers++) {
    nncc_rt_pool *pool = nncc_rt_pool_create(workers);
    cr_assert(pool);
    cr_expect_eq(nncc_rt_pool_nworkers(pool), workers);
    nncc_rt_ctx ctx = {0};
    nncc_rt_ctx_use_pool(&ctx, pool);
    for (int64_t n = 0; n < 100; n++) {
      int64_t sums[3] = {0};
      ctx.parallel_for(&ctx, n, add, sums);
      cr_expect_eq(sums[0] + sums[1] + sums[2], n * (n - 1) / 2);
    }
    nncc_rt_ctx_use_pool(&ctx, NULL);
    cr_expect(!ctx.parallel_for && ctx.nworkers == 1);
    nncc_rt_pool_destroy(pool);
  }
  nncc_rt_pool_destroy(NULL);
}

typedef struct meeting {
  atomic_int met;
  bool was_seen;
} meeting;

/* Task 0 waits for task 1, which is in the same worker's share. */
static void meet(void *arg, int64_t task, int32_t worker) {
  meeting *m = arg;
  (void)worker;
  if (task == 1) atomic_store(&m->met, 1);
  for (time_t end = time(NULL) + 20; task == 0 && !m->was_seen && time(NULL) < end;) m->was_seen = atomic_load(&m->met);
}

/* Few large tasks would else wait for one worker, while the other has nothing to do. */
Test(runtime, workers_help_with_the_last_task) {
  nncc_rt_pool *pool = nncc_rt_pool_create(2);
  nncc_rt_ctx ctx = {0};
  nncc_rt_ctx_use_pool(&ctx, pool);
  meeting m = {0};
  ctx.parallel_for(&ctx, 3, meet, &m);
  cr_expect(m.was_seen);
  nncc_rt_ctx_use_pool(&ctx, NULL);
  nncc_rt_pool_destroy(pool);
}

static void note(void *arg, int64_t task, int32_t worker) {
  int64_t **end = arg;
  *(*end)++ = task + worker;
}

/* A session of one worker, too: a recurrent layer's weights that fill the cache would never be found there. */
Test(runtime, one_worker_repeats_work_backwards) {
  nncc_rt_model model = {.abi = NNCC_RT_ABI};
  nncc_rt_session *session;
  cr_assert_eq(nncc_rt_session_create(&model, NULL, 1, &session), NNCC_RT_OK);
  nncc_rt_ctx *ctx = nncc_rt_session_ctx(session);
  int64_t order[6], *end = order, expected[] = {0, 1, 2, 2, 1, 0};
  cr_assert(ctx->parallel_for);
  for (int i = 0; i < 2; i++) ctx->parallel_for(ctx, 3, note, &end);
  cr_expect_eq(end - order, 6);
  cr_expect(memcmp(order, expected, sizeof order) == 0);
  nncc_rt_session_destroy(session);
}

enum { STEPS = 50, MOST_TASKS = 7 };

typedef struct chain {
  int64_t ntasks;
  uint64_t value[STEPS + 1][MOST_TASKS]; /* plain: what a step reads, the last one has written; wraps around */
} chain;

static void lengthen(void *arg, int64_t task, int32_t worker) {
  chain *c = arg;
  int64_t step = task / c->ntasks, t = task % c->ntasks;
  uint64_t n = (uint64_t)c->ntasks, sum = worker < 3;
  for (uint64_t i = 0; i < n; i++) sum += c->value[step][i] / n;
  c->value[step + 1][t] += sum * n;
}

Test(runtime, steps_come_one_after_the_other) {
  for (int32_t workers = 1; workers <= 3; workers++) {
    nncc_rt_pool *pool = nncc_rt_pool_create(workers);
    nncc_rt_ctx ctx = {0};
    nncc_rt_ctx_use_pool(&ctx, pool);
    cr_assert(ctx.parallel_steps);
    for (int64_t n = 1; n <= MOST_TASKS; n++) {
      chain c = {.ntasks = n};
      ctx.parallel_steps(&ctx, STEPS, n, lengthen, &c);
      chain want = {.ntasks = n};
      for (int64_t t = 0; t < STEPS * n; t++) lengthen(&want, t, 0);
      cr_expect(memcmp(&c, &want, sizeof c) == 0);
    }
    nncc_rt_ctx_use_pool(&ctx, NULL);
    cr_expect(!ctx.parallel_steps);
    nncc_rt_pool_destroy(pool);
  }
}

Test(runtime, one_worker_does_every_other_step_backwards) {
  int64_t order[6], *end = order, expected[] = {0, 1, 2, 5, 4, 3};
  nncc_rt_ctx ctx = {.nworkers = 1};
  nncc_rt_parallel_steps(&ctx, 2, 3, note, &end);
  cr_expect(end - order == 6 && memcmp(order, expected, sizeof order) == 0);
}

Test(runtime, libraries_that_cannot_be_opened) {
  nncc_rt_library *library;
  const nncc_rt_model *model;
  cr_expect_eq(nncc_rt_library_open("/nowhere.so", "m", &library, &model), NNCC_RT_EIO);
  cr_expect_eq(nncc_rt_library_open(NULL, "m", &library, &model), NNCC_RT_EINVAL);
  nncc_rt_library_close(NULL);
}

/* What is moved keeps its contents, to the byte, and what lies around it stays. */
Test(runtime, memory_moves_to_large_pages) {
  enum { BYTES = 9 << 20, FRONT = 12345 };
  unsigned char *memory = malloc(BYTES);
  cr_assert(memory);
  nncc_rt_want_large_pages(memory, BYTES);
  for (size_t i = 0; i < BYTES; i++) memory[i] = (unsigned char)(i * 2654435761u >> 13);
  size_t moved = nncc_rt_move_to_large_pages(memory + FRONT, BYTES - 2 * FRONT);
  cr_expect(moved % (2u << 20) == 0 && moved <= BYTES - 2 * FRONT);
#ifdef __linux__
  cr_expect(moved >= 6u << 20, "moved %zu", moved);
#endif
  size_t wrong = 0;
  for (size_t i = 0; i < BYTES; i++) wrong += memory[i] != (unsigned char)(i * 2654435761u >> 13);
  cr_expect_eq(wrong, 0);
  memory[0] = memory[BYTES - 1] = 1;
  free(memory);
  cr_expect_eq(nncc_rt_move_to_large_pages(&moved, sizeof moved), 0);
  cr_expect_eq(nncc_rt_session_large_pages(NULL), 0);
}
