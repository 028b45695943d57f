/* The thread pool. A parallel_for posts a job; the caller and any idle workers take its tasks one by one
   from atomic counters, so the caller never waits for a worker that sleeps. Several jobs may be posted at
   once (two models, two contexts): each has a slot, and a worker helps whichever it finds first; a caller who
   finds no free slot works alone.

   A job lives on its caller's stack. A worker says which one it is in, and then looks whether that is still posted;
   the caller takes it down, and then waits until no worker says so: one of the two sees the other. No lock is
   taken but to sleep and to wake, since a job may be a few microseconds of work.

   Tasks come in one share for each worker, who begins with his own and then helps with the others: work that is
   repeated, such as the steps of a recurrent layer, finds its data in the cache of the core that had it before. For
   the same reason a job that follows one of the same function goes through its tasks in the other direction: what
   the last one left in a cache too small for all of it is what this one begins with.

   Worker numbers: the caller is 0, thread i is i + 1. A thread works on one job at a time, so within one
   job no two run with the same number. */
#include "runtime/nncc_rt.h"
#include "runtime/pause.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CACHE_LINE = 64, MOST_SHARES = 32, MOST_JOBS = 7 };

/* All that its owner needs to know, in one line. */
typedef struct share {
  _Alignas(CACHE_LINE) atomic_llong taken;
  int64_t first, count;
  nncc_rt_task *fn;
  void *arg;
  bool descends;
} share;

typedef struct job {
  share shares[MOST_SHARES];
} job;

typedef _Atomic(job *) job_slot;

typedef struct worker {
  _Alignas(CACHE_LINE) job_slot inside; /* the job that it may be looking at */
  nncc_rt_pool *pool;
  int32_t number;
  pthread_t thread;
} worker;

struct nncc_rt_pool {
  _Alignas(CACHE_LINE) atomic_uint generation; /* grows with each post and stop: what idle workers spin on */
  job_slot posted[MOST_JOBS];                  /* in the same line */
  _Alignas(CACHE_LINE) _Atomic(nncc_rt_task *) last_fn; /* of the last job, and which way it went: of interest to callers alone */
  atomic_bool descends;
  _Alignas(CACHE_LINE) atomic_int sleeping; /* from here on what seldom changes */
  atomic_bool stop;
  pthread_mutex_t lock;
  pthread_cond_t wake;
  int spins; /* turns of the idle loop before sleeping */
  int32_t nworkers;
  int32_t nthreads;
  worker *workers;
};

/* ---- tasks ----------------------------------------------------------------------------------------------- */

static bool is_left(const share *s) { return atomic_load_explicit(&s->taken, memory_order_relaxed) < s->count; }

/* Looks first: to add would take the line from whoever has it. */
static bool take_task(share *s, int32_t number) {
  if (!is_left(s)) return false;
  int64_t i = atomic_fetch_add_explicit(&s->taken, 1, memory_order_relaxed);
  if (i >= s->count) return false;
  s->fn(s->arg, s->first + (s->descends ? s->count - 1 - i : i), number);
  return true;
}

static int32_t count_shares(const nncc_rt_pool *pool) { return pool->nworkers < MOST_SHARES ? pool->nworkers : MOST_SHARES; }

static void take_tasks(job *j, const nncc_rt_pool *pool, int32_t number) {
  int32_t nshares = count_shares(pool);
  for (int32_t i = 0; i < nshares; i++)
    while (take_task(&j->shares[(number + i) % nshares], number)) {}
}

/* ---- workers --------------------------------------------------------------------------------------------- */

/* Helps with the job in this slot, if there is one. */
static void visit(worker *w, job_slot *slot) {
  job *j = atomic_load_explicit(slot, memory_order_acquire);
  if (!j) return;
  atomic_store(&w->inside, j);
  if (atomic_load(slot) == j) take_tasks(j, w->pool, w->number);
  atomic_store_explicit(&w->inside, NULL, memory_order_release);
}

/* Until the generation is another than this one. */
static void wait_for_news(nncc_rt_pool *pool, unsigned seen) {
  for (int i = 0; i < pool->spins; i++) {
    if (atomic_load_explicit(&pool->generation, memory_order_acquire) != seen) return;
    PAUSE();
  }
  pthread_mutex_lock(&pool->lock);
  atomic_fetch_add(&pool->sleeping, 1);
  while (atomic_load(&pool->generation) == seen) pthread_cond_wait(&pool->wake, &pool->lock);
  atomic_fetch_sub(&pool->sleeping, 1);
  pthread_mutex_unlock(&pool->lock);
}

static void *run_worker(void *arg) {
  worker *w = arg;
  nncc_rt_pool *pool = w->pool;
  for (;;) {
    unsigned seen = atomic_load(&pool->generation);
    if (atomic_load_explicit(&pool->stop, memory_order_relaxed)) return NULL;
    for (int i = 0; i < MOST_JOBS; i++) visit(w, &pool->posted[i]);
    wait_for_news(pool, seen);
  }
}

/* A new generation; wakes who sleeps. */
static void announce(nncc_rt_pool *pool) {
  atomic_fetch_add(&pool->generation, 1);
  if (atomic_load(&pool->sleeping) == 0) return;
  pthread_mutex_lock(&pool->lock);
  pthread_cond_broadcast(&pool->wake);
  pthread_mutex_unlock(&pool->lock);
}

/* ---- callers --------------------------------------------------------------------------------------------- */

/* The job's slot, or NULL if there is none. */
static job_slot *post(nncc_rt_pool *pool, job *j) {
  for (int i = 0; i < MOST_JOBS; i++) {
    job *none = NULL;
    if (!atomic_compare_exchange_strong(&pool->posted[i], &none, j)) continue;
    announce(pool);
    return &pool->posted[i];
  }
  return NULL;
}

/* Takes the job down, and waits for those who are in it. */
static void withdraw(nncc_rt_pool *pool, job_slot *slot, const job *j) {
  enum { SPINS = 4096 };
  atomic_store(slot, NULL);
  for (int32_t i = 0; i < pool->nthreads; i++)
    for (int turn = 0; atomic_load(&pool->workers[i].inside) == j; turn++) {
      if (turn < SPINS) PAUSE();
      else sched_yield();
    }
}

/* Shares of about the same size, the same ones each time; where there are few tasks, some are empty. */
static void deal(job *j, const nncc_rt_pool *pool, int64_t ntasks, nncc_rt_task *fn, void *arg, bool descends) {
  int64_t nshares = count_shares(pool);
  for (int64_t i = 0, first = 0; i < nshares; i++) {
    share *s = &j->shares[i];
    atomic_init(&s->taken, 0);
    s->first = first;
    s->count = ntasks / nshares + (i < ntasks % nshares);
    s->fn = fn;
    s->arg = arg;
    s->descends = descends;
    first += s->count;
  }
}

static void run_alone(int64_t ntasks, nncc_rt_task *fn, void *arg, bool descends) {
  for (int64_t i = 0; i < ntasks; i++) fn(arg, descends ? ntasks - 1 - i : i, 0);
}

/* Which way this job goes. Callers who share a pool may confuse each other; any order is right. */
static bool choose_direction(nncc_rt_pool *pool, nncc_rt_task *fn) {
  nncc_rt_task *last = atomic_load_explicit(&pool->last_fn, memory_order_relaxed);
  bool descends = last == fn && !atomic_load_explicit(&pool->descends, memory_order_relaxed);
  if (last != fn) atomic_store_explicit(&pool->last_fn, fn, memory_order_relaxed);
  atomic_store_explicit(&pool->descends, descends, memory_order_relaxed);
  return descends;
}

static void pool_parallel_for(nncc_rt_ctx *self, int64_t ntasks, nncc_rt_task *fn, void *arg) {
  nncc_rt_pool *pool = self->pool;
  bool descends = choose_direction(pool, fn);
  if (ntasks <= 1 || pool->nthreads == 0) {
    run_alone(ntasks, fn, arg, descends);
    return;
  }
  job j;
  deal(&j, pool, ntasks, fn, arg, descends);
  job_slot *slot = post(pool, &j);
  take_tasks(&j, pool, 0);
  if (slot) withdraw(pool, slot, &j);
}

/* ---- the pool -------------------------------------------------------------------------------------------- */

/* Spinning pays only where the spinner has a core to itself. */
static int choose_spins(int32_t nworkers) {
  enum { IDLE_SPINS = 20000 };
  long cores = sysconf(_SC_NPROCESSORS_ONLN);
  return cores >= nworkers ? IDLE_SPINS : 0;
}

static bool start_workers(nncc_rt_pool *pool) {
  for (int32_t i = 0; i < pool->nworkers - 1; i++) {
    pool->workers[i].pool = pool;
    pool->workers[i].number = i + 1;
    if (pthread_create(&pool->workers[i].thread, NULL, run_worker, &pool->workers[i]) != 0) return false;
    pool->nthreads++;
  }
  return true;
}

static void *zeroed(size_t size_bytes) { /* a multiple of CACHE_LINE */
  void *memory = aligned_alloc(CACHE_LINE, size_bytes);
  return memory ? memset(memory, 0, size_bytes) : NULL;
}

nncc_rt_pool *nncc_rt_pool_create(int32_t nworkers) {
  if (nworkers < 1) nworkers = 1;
  nncc_rt_pool *pool = zeroed(sizeof *pool);
  if (!pool) return NULL;
  pool->workers = zeroed((size_t)nworkers * sizeof *pool->workers);
  pool->nworkers = nworkers;
  pool->spins = choose_spins(nworkers);
  pthread_mutex_init(&pool->lock, NULL);
  pthread_cond_init(&pool->wake, NULL);
  if (pool->workers && start_workers(pool)) return pool;
  nncc_rt_pool_destroy(pool);
  return NULL;
}

void nncc_rt_pool_destroy(nncc_rt_pool *pool) {
  if (!pool) return;
  atomic_store(&pool->stop, true);
  announce(pool);
  for (int32_t i = 0; i < pool->nthreads; i++) pthread_join(pool->workers[i].thread, NULL);
  pthread_cond_destroy(&pool->wake);
  pthread_mutex_destroy(&pool->lock);
  free(pool->workers);
  free(pool);
}

int32_t nncc_rt_pool_nworkers(const nncc_rt_pool *pool) { return pool ? pool->nworkers : 1; }

void nncc_rt_ctx_use_pool(nncc_rt_ctx *ctx, nncc_rt_pool *pool) {
  ctx->pool = pool;
  ctx->parallel_for = pool ? pool_parallel_for : NULL;
  ctx->parallel_steps = pool ? nncc_rt_parallel_steps : NULL;
  ctx->nworkers = nncc_rt_pool_nworkers(pool);
}
