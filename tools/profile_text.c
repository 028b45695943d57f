/* A profile as a table. */
#include "tools/tools.h"

#include <stdlib.h>
#include <string.h>

static int slower_first(const void *a, const void *b) {
  const step_profile *x = *(const step_profile *const *)a, *y = *(const step_profile *const *)b;
  return x->us != y->us ? (x->us < y->us) - (x->us > y->us) : (x > y) - (x < y);
}

static void print_machine(FILE *out, const machine *m) {
  fprintf(out, "this machine, %d thread%s: %.1f GFLOP/s", m->threads, m->threads > 1 ? "s" : "", m->gflops);
  for (int i = 0; i < MACHINE_LEVELS; i++)
    if (m->levels[i].gb_per_s > 0) fprintf(out, ", %s %.1f GB/s", m->levels[i].name, m->levels[i].gb_per_s);
  fputc('\n', out);
}

static void print_step(FILE *out, const profile *p, const step_profile *s) {
  double seconds = (s->us > 0 ? s->us : 1e-3) * 1e-6;
  fprintf(out, "%4d %10.2f %6.2f %8.2f %8.2f %5.0f  %s ", (int)(s - p->steps), s->us, 100 * s->us / (p->us > 0 ? p->us : 1),
          s->flops / seconds * 1e-9, (s->weight_bytes + s->value_bytes) / seconds * 1e-9,
          100e-6 * s->limit_us / seconds, s->kernel);
  for (int i = 0; i < s->nnodes; i++) fprintf(out, " %s", s->nodes[i]);
  fputc('\n', out);
}

void profile_print(FILE *out, const profile *p) {
  const step_profile **order = calloc((size_t)p->nsteps + 1, sizeof *order);
  if (!order) exit(70);
  for (int i = 0; i < p->nsteps; i++) order[i] = &p->steps[i];
  qsort(order, (size_t)p->nsteps, sizeof *order, slower_first);
  print_machine(out, &p->machine);
  fprintf(out, "%4s %10s %6s %8s %8s %5s  %s\n", "step", "us", "%", "GFLOP/s", "GB/s", "roof%", "kernel  ONNX nodes");
  for (int i = 0; i < p->nsteps; i++) print_step(out, p, order[i]);
  fprintf(out, "%4s %10.2f\n", "sum", p->us);
  free(order);
}
