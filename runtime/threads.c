/* The thread pool. A parallel_for posts a job; the caller and any idle workers take its tasks one by one
   from an atomic counter, so the caller never waits for a worker that sleeps. Several jobs may be posted at
   once (two models, two contexts): each is a list entry, and a worker helps whichever it finds first.

   Worker numbers: the caller is 0, thread i is i + 1. A thread works on one job at a time, so within one
   job no two run with the same number. */
#include "runtime/nncc_rt.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#if defined(__x86_64__) || defined(__i386__)
#define PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define PAUSE() __asm__ __volatile__("yield")
#else
#define PAUSE() ((void)0)
#endif

typedef struct job {
  nncc_rt_task *fn;
  void *arg;
  int64_t ntasks;
  atomic_llong next;   /* task to take */
  atomic_int helpers;  /* workers inside: the job's memory must stay until this is 0 */
  struct job *after;   /* in the pool's list */
} job;

typedef struct worker {
  nncc_rt_pool *pool;
  int32_t number;
  pthread_t thread;
} worker;

struct nncc_rt_pool {
  pthread_mutex_t lock;
  pthread_cond_t wake;
  job *jobs;              /* under lock */
  int sleeping;           /* under lock */
  bool stop;              /* under lock */
  atomic_uint generation; /* grows with each post and stop: what idle workers spin on */
  int spins;              /* turns of the idle loop before sleeping */
  int32_t nworkers;
  int32_t nthreads;
  worker *workers;
};

static void take_tasks(job *j, int32_t number) {
  for (;;) {
    long long task = atomic_fetch_add_explicit(&j->next, 1, memory_order_relaxed);
    if (task >= j->ntasks) return;
    j->fn(j->arg, task, number);
  }
}

/* A job with tasks left, entered; NULL if there is none. Under lock. */
static job *enter_job(nncc_rt_pool *pool) {
  for (job *j = pool->jobs; j; j = j->after)
    if (atomic_load_explicit(&j->next, memory_order_relaxed) < j->ntasks) {
      atomic_fetch_add_explicit(&j->helpers, 1, memory_order_relaxed);
      return j;
    }
  return NULL;
}

static void spin_for_news(nncc_rt_pool *pool, unsigned seen) {
  for (int i = 0; i < pool->spins; i++) {
    if (atomic_load_explicit(&pool->generation, memory_order_acquire) != seen) return;
    PAUSE();
  }
}

/* Waits for a job or the end: NULL at the end. */
static job *wait_for_job(nncc_rt_pool *pool) {
  for (;;) {
    unsigned seen = atomic_load_explicit(&pool->generation, memory_order_acquire);
    pthread_mutex_lock(&pool->lock);
    job *j = pool->stop ? NULL : enter_job(pool);
    bool done = j || pool->stop;
    pthread_mutex_unlock(&pool->lock);
    if (done) return j;
    spin_for_news(pool, seen);
    pthread_mutex_lock(&pool->lock);
    while (atomic_load_explicit(&pool->generation, memory_order_relaxed) == seen) {
      pool->sleeping++;
      pthread_cond_wait(&pool->wake, &pool->lock);
      pool->sleeping--;
    }
    pthread_mutex_unlock(&pool->lock);
  }
}

static void *run_worker(void *arg) {
  worker *w = arg;
  for (job *j; (j = wait_for_job(w->pool));) {
    take_tasks(j, w->number);
    atomic_fetch_sub_explicit(&j->helpers, 1, memory_order_release);
  }
  return NULL;
}

/* A new generation; wakes who sleeps. Under lock. */
static void announce(nncc_rt_pool *pool) {
  atomic_fetch_add_explicit(&pool->generation, 1, memory_order_release);
  if (pool->sleeping) pthread_cond_broadcast(&pool->wake);
}

static void post(nncc_rt_pool *pool, job *j) {
  pthread_mutex_lock(&pool->lock);
  j->after = pool->jobs;
  pool->jobs = j;
  announce(pool);
  pthread_mutex_unlock(&pool->lock);
}

static void withdraw(nncc_rt_pool *pool, job *j) {
  pthread_mutex_lock(&pool->lock);
  for (job **link = &pool->jobs; *link; link = &(*link)->after)
    if (*link == j) {
      *link = j->after;
      break;
    }
  pthread_mutex_unlock(&pool->lock);
}

static void wait_for_helpers(job *j) {
  enum { SPINS = 4096 };
  for (int i = 0; atomic_load_explicit(&j->helpers, memory_order_acquire) != 0; i++) {
    if (i < SPINS) PAUSE();
    else sched_yield();
  }
}

static void pool_parallel_for(nncc_rt_ctx *self, int64_t ntasks, nncc_rt_task *fn, void *arg) {
  nncc_rt_pool *pool = self->pool;
  job j = {.fn = fn, .arg = arg, .ntasks = ntasks};
  if (ntasks <= 1 || pool->nthreads == 0) {
    take_tasks(&j, 0);
    return;
  }
  post(pool, &j);
  take_tasks(&j, 0);
  withdraw(pool, &j);
  wait_for_helpers(&j);
}

/* Spinning pays only where the spinner has a core to itself. */
static int choose_spins(int32_t nworkers) {
  enum { IDLE_SPINS = 20000 };
  long cores = sysconf(_SC_NPROCESSORS_ONLN);
  return cores >= nworkers ? IDLE_SPINS : 0;
}

static bool start_workers(nncc_rt_pool *pool) {
  for (int32_t i = 0; i < pool->nworkers - 1; i++) {
    pool->workers[i] = (worker){.pool = pool, .number = i + 1};
    if (pthread_create(&pool->workers[i].thread, NULL, run_worker, &pool->workers[i]) != 0) return false;
    pool->nthreads++;
  }
  return true;
}

nncc_rt_pool *nncc_rt_pool_create(int32_t nworkers) {
  if (nworkers < 1) nworkers = 1;
  nncc_rt_pool *pool = calloc(1, sizeof *pool);
  if (!pool) return NULL;
  pool->workers = calloc((size_t)nworkers, sizeof *pool->workers);
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
  pthread_mutex_lock(&pool->lock);
  pool->stop = true;
  announce(pool);
  pthread_mutex_unlock(&pool->lock);
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
  ctx->nworkers = nncc_rt_pool_nworkers(pool);
}
