/* Steps of tasks: all tasks of a step are done before one of the next begins, as in the layers of a recurrent network.
   A step may be a few microseconds, so it is not a job of its own: one job lasts for all steps, and between them
   workers watch each other's counters.

   Each worker has a share of a step's tasks, the same one in every step, whose data stay in its core's cache; he goes
   through it forwards and backwards in turn, so that a step begins with what the last one left in a cache too small for
   all of it. He takes tasks of another share only while its owner has not come, or has let him wait for longer than a
   task should take.

   A task that somebody has taken is being run, so whoever waits for it waits for a thread at work, or does what is left
   himself: it does not matter how many of the workers come, and when. */
#include "runtime/nncc_rt.h"
#include "runtime/pause.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

enum { CACHE_LINE = 64, MOST_SHARES = 32 };

typedef struct share {
  _Alignas(CACHE_LINE) atomic_llong taken; /* tasks of all steps; of interest to its owner, mostly */
  _Alignas(CACHE_LINE) atomic_llong done;  /* what the others watch */
  atomic_bool has_owner;
} share;

typedef struct steps {
  nncc_rt_task *fn;
  void *arg;
  int64_t nsteps, ntasks;
  int32_t nshares;
  share shares[MOST_SHARES];
} steps;

static int64_t share_first(const steps *j, int64_t i) {
  int64_t each = j->ntasks / j->nshares, rest = j->ntasks % j->nshares;
  return i * each + (i < rest ? i : rest);
}

static int64_t share_count(const steps *j, int64_t i) { return share_first(j, i + 1) - share_first(j, i); }

/* Runs one of the share's tasks of this step, if there is one that nobody has taken. All earlier steps are done. */
static bool take_task(steps *j, int64_t i, int64_t step, int32_t worker) {
  share *s = &j->shares[i];
  int64_t count = share_count(j, i);
  long long n = atomic_load_explicit(&s->taken, memory_order_relaxed);
  do {
    if (n >= (step + 1) * count) return false;
  } while (!atomic_compare_exchange_weak_explicit(&s->taken, &n, n + 1, memory_order_relaxed, memory_order_relaxed));
  int64_t at = n - step * count, task = share_first(j, i) + (step % 2 ? count - 1 - at : at);
  j->fn(j->arg, step * j->ntasks + task, worker);
  return true;
}

static void tell(steps *j, int64_t i, int64_t ntasks) {
  atomic_fetch_add_explicit(&j->shares[i].done, ntasks, memory_order_release);
}

/* Until the share has done this step. */
static void wait_for(steps *j, int64_t i, int64_t step, int32_t worker) {
  enum { PATIENCE = 64, SPINS = 4096 };
  share *s = &j->shares[i];
  int64_t end = (step + 1) * share_count(j, i);
  for (int turn = 0; atomic_load_explicit(&s->done, memory_order_acquire) < end; turn++) {
    bool helps = turn >= PATIENCE || !atomic_load_explicit(&s->has_owner, memory_order_relaxed);
    if (helps && take_task(j, i, step, worker)) {
      tell(j, i, 1);
      continue;
    }
    if (turn < SPINS)
      PAUSE();
    else
      sched_yield();
  }
}

static void take_part(void *arg, int64_t i, int32_t worker) {
  steps *j = arg;
  atomic_store_explicit(&j->shares[i].has_owner, true, memory_order_relaxed);
  for (int64_t step = 0; step < j->nsteps; step++) {
    int64_t ntasks = 0;
    while (take_task(j, i, step, worker)) ntasks++;
    if (ntasks > 0) tell(j, i, ntasks);
    for (int64_t n = 0; n < j->nshares; n++) wait_for(j, (i + n) % j->nshares, step, worker);
  }
}

static void run_alone(int64_t nsteps, int64_t ntasks, nncc_rt_task *fn, void *arg) {
  for (int64_t step = 0; step < nsteps; step++)
    for (int64_t i = 0; i < ntasks; i++) fn(arg, step * ntasks + (step % 2 ? ntasks - 1 - i : i), 0);
}

void nncc_rt_parallel_steps(nncc_rt_ctx *self, int64_t nsteps, int64_t ntasks, nncc_rt_task *fn, void *arg) {
  int64_t nshares = self->nworkers < MOST_SHARES ? self->nworkers : MOST_SHARES;
  if (nshares > ntasks) nshares = ntasks;
  if (nshares < 2 || !self->parallel_for) {
    run_alone(nsteps, ntasks, fn, arg);
    return;
  }
  steps j;
  j.fn = fn;
  j.arg = arg;
  j.nsteps = nsteps;
  j.ntasks = ntasks;
  j.nshares = (int32_t)nshares;
  for (int64_t i = 0; i < nshares; i++) {
    atomic_init(&j.shares[i].taken, 0);
    atomic_init(&j.shares[i].done, 0);
    atomic_init(&j.shares[i].has_owner, false);
  }
  self->parallel_for(self, nshares, take_part, &j);
}
