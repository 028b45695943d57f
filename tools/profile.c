/* Where a run's time goes: code in memory calls a hook between its steps. Beside the time of a step stands the least
   that this machine needs for it: its operations at the peak, or its bytes at the speed of the memory they lie in. */
#include "tools/tools.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- while the model runs ---------------------------------------------------------------------------- */

static void on_step(void *data, int32_t step) {
  profile *p = data;
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  p->now[step + 1] = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void profile_init(profile *p) {
  *p = (profile){0};
  p->hook = (nn_step_hook){on_step, p};
}

void profile_free(profile *p) {
  free(p->now);
  free(p->samples);
}

void profile_open(profile *p, const engine *e) {
  p->program = engine_program(e);
  p->nsteps = p->program->nsteps;
  p->now = calloc((size_t)p->nsteps + 1, sizeof *p->now);
  if (!p->now) exit(70);
}

void profile_take(profile *p) {
  size_t n = (size_t)p->nsteps;
  if (p->nsamples == p->samples_cap) {
    p->samples_cap = p->samples_cap ? 2 * p->samples_cap : 16;
    float *more = realloc(p->samples, ((size_t)p->samples_cap * n + 1) * sizeof *more);
    if (!more) exit(70);
    p->samples = more;
  }
  float *row = p->samples + (size_t)p->nsamples++ * n;
  for (size_t i = 0; i < n; i++) row[i] = (float)(p->now[i + 1] - p->now[i]) * 1e-3F;
}

/* ---- bytes --------------------------------------------------------------------------------------------- */

static double elements_of(nn_type t, const int64_t *symbols) {
  double n = 1;
  for (int i = 0; i < t.rank; i++) {
    int64_t d = 0;
    if (!nn_dim_eval(t.dims[i], symbols, &d)) return 0;
    n *= (double)d;
  }
  return n;
}

static double bytes_of(const nn_value *v, double elements) { return elements * nn_dtype_bits(v->type.dtype) / 8; }

static double smaller(double a, double b) { return a < b ? a : b; }

/* How many elements of v its readers in graph g need: a nest op all, an element op as many as it must give itself,
   so that a slice or a gather of a large tensor costs what it takes out. */
static double needed(const nn_value *v, const nn_graph *g, const int64_t *symbols) {
  double all = elements_of(v->type, symbols), sum = 0;
  for (const nn_op *op = g->first; op && sum < all; op = op->next)
    for (int i = 0; i < op->nin; i++) {
      if (op->in[i] != v) continue;
      bool is_nest = op->code == NN_OP_RETURN || (nn_op_infos[op->code].flags & NN_NEST);
      sum += is_nest || op->nout == 0 ? all : needed(op->out[0], g, symbols);
    }
  return smaller(sum, all);
}

static double operand_elements(const nn_op *op, int i, const int64_t *symbols) {
  double all = elements_of(op->in[i]->type, symbols);
  if (op->code == NN_OP_FUSED) {
    const nn_graph *body = nn_attr_graph(op, "body");
    return needed(body->params[i], body, symbols);
  }
  bool is_element = nn_op_infos[op->code].flags & NN_ELEMENT && op->nout > 0;
  return is_element ? smaller(all, elements_of(op->out[0]->type, symbols)) : all;
}

static bool is_repeated(const nn_op *op, int i) {
  for (int j = 0; j < i; j++)
    if (op->in[j] == op->in[i]) return true;
  return false;
}

static void count_bytes(step_profile *s, const int64_t *symbols) {
  const nn_op *op = s->step->op;
  for (int i = 0; i < op->nin; i++) {
    if (!op->in[i] || is_repeated(op, i)) continue;
    double bytes = bytes_of(op->in[i], operand_elements(op, i, symbols));
    bool is_weight = op->in[i]->kind == NN_CONST || op->in[i]->kind == NN_STATE;
    *(is_weight ? &s->weight_bytes : &s->value_bytes) += bytes;
  }
  for (int i = 0; i < op->nout; i++)
    if (nn_value_nuses(op->out[i]) > 0) s->value_bytes += bytes_of(op->out[i], elements_of(op->out[i]->type, symbols));
}

static void count_copy(step_profile *s, const int64_t *symbols) {
  int64_t bytes = 0;
  if (nn_dim_eval(s->step->args[0]->bytes, symbols, &bytes)) s->value_bytes = 2 * (double)bytes;
}

/* ---- names --------------------------------------------------------------------------------------------- */

static void add_node(step_profile *s, const char *loc) {
  if (!loc || !*loc) return;
  for (int i = 0; i < s->nnodes; i++)
    if (strcmp(s->nodes[i], loc) == 0) return;
  s->nodes[s->nnodes++] = loc;
}

static int count_ops(const nn_graph *g) {
  int n = 0;
  for (const nn_op *op = g->first; op; op = op->next) n++;
  return n;
}

static void find_nodes(step_profile *s, nn_arena *arena) {
  const nn_op *op = s->step->op;
  const nn_graph *body = op->code == NN_OP_FUSED ? nn_attr_graph(op, "body") : NULL;
  s->nodes = NN_NEW_ARRAY(arena, const char *, (body ? count_ops(body) : 0) + 1);
  for (const nn_op *inner = body ? body->first : NULL; inner; inner = inner->next) add_node(s, inner->loc);
  add_node(s, op->loc);
}

static const char *step_name(const nn_step *step) {
  switch (step->kind) {
    case NN_STEP_CALL: return step->kernel->name;
    case NN_STEP_BIND: return "(bind)";
    case NN_STEP_CHECK: return "(check)";
    case NN_STEP_COPY: return "(copy)";
  }
  return "";
}

/* ---- the whole ------------------------------------------------------------------------------------------- */

static int compare_floats(const void *a, const void *b) {
  float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

static double median_of(const profile *p, int step) {
  if (p->nsamples == 0) return 0;
  float *all = malloc((size_t)p->nsamples * sizeof *all);
  if (!all) exit(70);
  for (int i = 0; i < p->nsamples; i++) all[i] = p->samples[(size_t)i * (size_t)p->nsteps + (size_t)step];
  qsort(all, (size_t)p->nsamples, sizeof *all, compare_floats);
  double median = all[p->nsamples / 2];
  free(all);
  return median;
}

/* What a run sweeps over: its weights come back from where all of this fits. */
static double footprint(const profile *p, const int64_t *symbols) {
  int64_t bytes = 0;
  if (!p->program->workspace_bytes || !nn_dim_eval(p->program->workspace_bytes, symbols, &bytes)) bytes = 0;
  return (double)(p->program->weights_bytes + bytes);
}

/* Values have just been written by the steps before, weights were last read in the run before. */
static double limit_of(const profile *p, const step_profile *s, double swept) {
  double compute = s->flops / p->machine.gflops * 1e-3;
  double memory = s->weight_bytes / machine_gb_per_s(&p->machine, swept) * 1e-3 +
                  s->value_bytes / machine_gb_per_s(&p->machine, s->value_bytes + s->weight_bytes) * 1e-3;
  return compute > memory ? compute : memory;
}

void profile_finish(profile *p, nn_arena *arena, const int64_t *symbols) {
  double swept = footprint(p, symbols);
  p->steps = NN_NEW_ARRAY(arena, step_profile, p->nsteps + 1);
  p->us = 0;
  for (int i = 0; i < p->nsteps; i++) {
    step_profile *s = &p->steps[i];
    s->step = &p->program->steps[i];
    s->us = median_of(p, i);
    s->kernel = step_name(s->step);
    find_nodes(s, arena);
    if (s->step->kind == NN_STEP_CALL) {
      s->flops = op_flops(s->step->op, symbols);
      count_bytes(s, symbols);
    }
    if (s->step->kind == NN_STEP_COPY) count_copy(s, symbols);
    s->limit_us = limit_of(p, s, swept);
    p->us += s->us;
  }
}
