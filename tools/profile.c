/* Where a run's time goes: the code calls a hook between its steps, and the session's parallel_for is wrapped to
   see when each thread has work. Beside the time of a step stands the least that this machine needs for it: its
   operations at the peak, or its bytes at the speed of the memory they lie in. */
#include "tools/tools.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static void *allocate(size_t count, size_t size) {
  void *memory = calloc(count + 1, size);
  if (!memory) exit(70);
  return memory;
}

/* ---- while the model runs ---------------------------------------------------------------------------- */

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

typedef struct traced_job {
  profile *p;
  nncc_rt_task *fn;
  void *arg;
} traced_job;

static void run_traced(void *arg, int64_t task, int32_t worker) {
  traced_job *j = arg;
  span *s = &j->p->now.workers[j->p->step * j->p->threads + worker];
  int64_t start = now_ns();
  j->fn(j->arg, task, worker);
  int64_t end = now_ns();
  if (s->last == 0) s->first = start;
  s->last = end;
  j->p->worked[worker] += end - start;
}

static void traced_parallel_for(nncc_rt_ctx *self, int64_t ntasks, nncc_rt_task *fn, void *arg) {
  profile *p = self->user;
  traced_job j = {p, fn, arg};
  int64_t start = now_ns();
  p->parallel_for(self, ntasks, run_traced, &j);
  p->in_parallel += now_ns() - start;
}

/* Its own parallel_for, which the workers come through, is not work. */
static void traced_parallel_steps(nncc_rt_ctx *self, int64_t nsteps, int64_t ntasks, nncc_rt_task *fn, void *arg) {
  profile *p = self->user;
  traced_job j = {p, fn, arg};
  int64_t start = now_ns();
  self->parallel_for = p->parallel_for;
  p->parallel_steps(self, nsteps, ntasks, run_traced, &j);
  self->parallel_for = traced_parallel_for;
  p->in_parallel += now_ns() - start;
}

/* What the caller did outside of parallel loops is work of one thread. */
static float busy_share(const profile *p, int64_t duration) {
  int64_t worked = duration - p->in_parallel;
  for (int i = 0; i < p->threads; i++) worked += p->worked[i];
  return duration > 0 ? (float)worked / (float)(duration * p->threads) : 1;
}

static void begin_step(profile *p, int step) {
  p->step = step;
  p->in_parallel = 0;
  memset(p->worked, 0, (size_t)p->threads * sizeof *p->worked);
  if (step < p->nsteps) memset(p->now.workers + step * p->threads, 0, (size_t)p->threads * sizeof(span));
}

static void on_step(void *data, int32_t step, const int64_t *symbols) {
  profile *p = data;
  p->now.ends[step + 1] = now_ns();
  if (step >= 0) {
    int64_t duration = p->now.ends[step + 1] - p->now.ends[step];
    p->sample[2 * step] = (float)duration * 1e-3F;
    p->sample[2 * step + 1] = busy_share(p, duration);
  }
  begin_step(p, step + 1);
  if (step + 1 == p->nsteps) memcpy(p->symbols, symbols, (size_t)p->program->module->nsymbols * sizeof *p->symbols);
}

void profile_init(profile *p, int threads) {
  *p = (profile){.threads = threads};
  p->hook = (nn_step_hook){on_step, p};
}

static profile_run new_run(const profile *p) {
  return (profile_run){.ends = allocate((size_t)p->nsteps + 1, sizeof(int64_t)),
                       .workers = allocate((size_t)p->nsteps * (size_t)p->threads, sizeof(span))};
}

static void free_run(profile_run *r) {
  free(r->ends);
  free(r->workers);
}

void profile_free(profile *p) {
  free_run(&p->now);
  free_run(&p->best);
  free(p->worked);
  free(p->sample);
  free(p->samples);
  free(p->symbols);
}

void profile_open(profile *p, engine *e) {
  nncc_rt_ctx *ctx = engine_ctx(e);
  p->program = engine_program(e);
  p->nsteps = p->program->nsteps;
  p->now = new_run(p);
  p->best = new_run(p);
  p->worked = allocate((size_t)p->threads, sizeof *p->worked);
  p->sample = allocate(2 * (size_t)p->nsteps, sizeof *p->sample);
  p->symbols = allocate((size_t)p->program->module->nsymbols, sizeof *p->symbols);
  p->parallel_for = ctx->parallel_for;
  p->parallel_steps = ctx->parallel_steps;
  if (ctx->nworkers < 2) return;
  ctx->user = p;
  ctx->parallel_for = traced_parallel_for;
  ctx->parallel_steps = traced_parallel_steps;
}

static int64_t run_ns(const profile *p, const profile_run *r) { return r->ends[p->nsteps] - r->ends[0]; }

void profile_take(profile *p) {
  size_t n = 2 * (size_t)p->nsteps;
  if (p->nsamples == p->samples_cap) {
    p->samples_cap = p->samples_cap ? 2 * p->samples_cap : 16;
    float *more = realloc(p->samples, ((size_t)p->samples_cap * n + 1) * sizeof *more);
    if (!more) exit(70);
    p->samples = more;
  }
  memcpy(p->samples + (size_t)p->nsamples * n, p->sample, n * sizeof *p->sample);
  if (p->nsamples++ > 0 && run_ns(p, &p->now) >= run_ns(p, &p->best)) return;
  profile_run old = p->best;
  p->best = p->now;
  p->now = old;
}

/* ---- the whole ------------------------------------------------------------------------------------------- */

static const char *step_name(const nn_step *step) {
  switch (step->kind) {
  case NN_STEP_CALL: return step->kernel->name;
  case NN_STEP_BIND: return "(bind)";
  case NN_STEP_CHECK: return "(check)";
  case NN_STEP_COPY: return "(copy)";
  }
  return "";
}

static int compare_floats(const void *a, const void *b) {
  float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

/* Of one number of the samples. */
static double median_of(const profile *p, int which) {
  if (p->nsamples == 0) return 0;
  float *all = allocate((size_t)p->nsamples, sizeof *all);
  for (int i = 0; i < p->nsamples; i++) all[i] = p->samples[(size_t)i * 2 * (size_t)p->nsteps + (size_t)which];
  qsort(all, (size_t)p->nsamples, sizeof *all, compare_floats);
  double median = all[p->nsamples / 2];
  free(all);
  return median;
}

static void count_work(step_profile *s, const int64_t *symbols) {
  int64_t bytes = 0;
  if (s->step->kind == NN_STEP_COPY && nn_dim_eval(s->step->args[0]->bytes, symbols, &bytes))
    s->value_bytes = 2 * (double)bytes;
  if (s->step->kind != NN_STEP_CALL) return;
  nn_traffic t = nn_op_traffic(s->step->op, symbols);
  s->flops = nn_op_flops(s->step->op, symbols);
  s->weight_bytes = t.weights;
  s->value_bytes = t.read + t.written;
}

/* What a run sweeps over: its weights come back from where all of this fits. */
static double footprint(const profile *p) {
  int64_t bytes = 0;
  if (!p->program->workspace_bytes || !nn_dim_eval(p->program->workspace_bytes, p->symbols, &bytes)) bytes = 0;
  return (double)(p->program->weights_bytes + bytes);
}

/* Values have just been written by the steps before, weights were last read in the run before. */
static double limit_of(const profile *p, const step_profile *s, double swept) {
  double compute = s->flops / p->machine.gflops * 1e-3;
  double memory = s->weight_bytes / machine_gb_per_s(&p->machine, swept) * 1e-3 +
                  s->value_bytes / machine_gb_per_s(&p->machine, s->value_bytes + s->weight_bytes) * 1e-3;
  return compute > memory ? compute : memory;
}

static double seconds_of(const step_profile *s) { return (s->us > 1e-3 ? s->us : 1e-3) * 1e-6; }

double step_share(const profile *p, const step_profile *s) { return p->us > 0 ? s->us / p->us : 0; }

double step_gflops(const step_profile *s) { return s->flops / seconds_of(s) * 1e-9; }

double step_gb_per_s(const step_profile *s) { return (s->weight_bytes + s->value_bytes) / seconds_of(s) * 1e-9; }

double step_roof(const step_profile *s) { return s->limit_us * 1e-6 / seconds_of(s); }

static int slower_first(const void *a, const void *b) {
  const step_profile *x = *(const step_profile *const *)a, *y = *(const step_profile *const *)b;
  return x->us != y->us ? (x->us < y->us) - (x->us > y->us) : (x > y) - (x < y);
}

void profile_finish(profile *p, nn_arena *arena) {
  double swept = footprint(p);
  p->steps = NN_NEW_ARRAY(arena, step_profile, p->nsteps + 1);
  p->order = NN_NEW_ARRAY(arena, step_profile *, p->nsteps + 1);
  p->us = 0;
  for (int i = 0; i < p->nsteps; i++) {
    step_profile *s = &p->steps[i];
    s->step = &p->program->steps[i];
    s->us = median_of(p, 2 * i);
    s->busy = median_of(p, 2 * i + 1);
    s->kernel = step_name(s->step);
    s->nodes = nn_op_origins(s->step->op, arena);
    count_work(s, p->symbols);
    s->limit_us = limit_of(p, s, swept);
    p->us += s->us;
    p->order[i] = s;
  }
  qsort(p->order, (size_t)p->nsteps, sizeof *p->order, slower_first);
}
