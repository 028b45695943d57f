/* The thread pool under ThreadSanitizer: many short and long jobs, two contexts on one pool from two threads,
   pools of all small sizes. Every task must run once, and no two at once with one worker number. */
#include "runtime/nncc_rt.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { MAX_TASKS = 300, MAX_WORKERS = 8 };

typedef struct job {
  int hits[MAX_TASKS];             /* plain on purpose: a race here is a bug of the pool */
  int in_use[MAX_WORKERS];
  atomic_int faults;
} job;

static void task(void *arg, int64_t number, int32_t worker) {
  job *j = arg;
  if (j->in_use[worker]++ != 0) atomic_fetch_add(&j->faults, 1);
  j->hits[number]++;
  j->in_use[worker]--;
}

/* Each task reads what all of the last step have written, plainly. */
enum { STEPS = 40, WIDTH = 6 };

typedef struct chain {
  int ntasks, value[STEPS + 1][WIDTH];
} chain;

static void lengthen(void *arg, int64_t number, int32_t worker) {
  chain *c = arg;
  int64_t step = number / c->ntasks;
  int largest = worker < 0;
  for (int i = 0; i < c->ntasks; i++) largest = c->value[step][i] > largest ? c->value[step][i] : largest;
  c->value[step + 1][number % c->ntasks] += largest + 1;
}

static int run_steps(nncc_rt_ctx *ctx, int round) {
  chain c = {.ntasks = 1 + round % WIDTH};
  int faults = 0;
  ctx->parallel_steps(ctx, STEPS, c.ntasks, lengthen, &c);
  for (int i = 0; i < c.ntasks; i++) faults += c.value[STEPS][i] != STEPS;
  return faults;
}

typedef struct host {
  nncc_rt_pool *pool;
  int rounds;
  int faults;
} host;

static void *run_host(void *arg) {
  host *h = arg;
  nncc_rt_ctx ctx;
  memset(&ctx, 0, sizeof ctx);
  nncc_rt_ctx_use_pool(&ctx, h->pool);
  for (int round = 0; round < h->rounds; round++) {
    job j;
    memset(&j, 0, sizeof j);
    int ntasks = round % MAX_TASKS;
    ctx.parallel_for(&ctx, ntasks, task, &j);
    for (int i = 0; i < MAX_TASKS; i++) h->faults += j.hits[i] != (i < ntasks);
    h->faults += atomic_load(&j.faults) + run_steps(&ctx, round);
  }
  return NULL;
}

int main(void) {
  int faults = 0;
  for (int workers = 1; workers <= 4; workers++) {
    nncc_rt_pool *pool = nncc_rt_pool_create(workers);
    host hosts[2] = {{pool, 400, 0}, {pool, 400, 0}};
    pthread_t other;
    if (!pool || pthread_create(&other, NULL, run_host, &hosts[1]) != 0) return 70;
    run_host(&hosts[0]);
    pthread_join(other, NULL);
    nncc_rt_pool_destroy(pool);
    faults += hosts[0].faults + hosts[1].faults;
  }
  printf("%d faults\n", faults);
  return faults != 0;
}
