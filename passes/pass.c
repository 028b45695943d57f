/* The pass manager: runs passes by name, and is the only one that verifies, prints and times. */
#include "passes/passes.h"

#include <string.h>
#include <time.h>

const nn_pass_info nn_passes[] = {
#define PASS(name, summary) {#name, summary, pass_##name},
#include "passes/passes.def"
#undef PASS
};
const int nn_npasses = (int)(sizeof nn_passes / sizeof *nn_passes);

const nn_pass_info *nn_pass_find(const char *name) {
  for (int i = 0; i < nn_npasses; i++)
    if (strcmp(nn_passes[i].name, name) == 0) return &nn_passes[i];
  return NULL;
}

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* Bytes of constants that the text form would spell out: the round trip is skipped for large models. */
static size_t inline_bytes(const nn_module *m) {
  size_t sum = 0;
  for (int i = 0; i < m->nconsts; i++)
    if (m->consts[i]->tensor && !m->consts[i]->tensor->file) sum += m->consts[i]->tensor->size_bytes;
  return sum;
}

/* print -> parse -> print gives the same text. */
static nn_status check_round_trip(nn_module *m, const char *pass) {
  enum { LIMIT = 1 << 20 };
  if (inline_bytes(m) > LIMIT) return NN_OK;
  nn_arena *scratch = nn_arena_new();
  if (!scratch) return NN_OK;
  char *first = nn_text_string(scratch, m);
  nn_module *copy = nn_text_parse(m->diags.file ? m->diags.file : "round-trip", first, strlen(first));
  nn_status status = NN_OK;
  if (copy->diags.nerrors) {
    status = nn_report(&m->diags, NN_ERROR, NULL, NULL, NULL, "after pass %s: the text form does not parse: %s", pass,
                       copy->diags.items[0].message);
  } else if (strcmp(first, nn_text_string(scratch, copy)) != 0) {
    status = nn_report(&m->diags, NN_ERROR, NULL, NULL, NULL, "after pass %s: the text form changes when read back", pass);
  }
  nn_module_free(copy);
  nn_arena_free(scratch);
  return status;
}

static nn_status check_after(nn_module *m, const char *pass) {
  NN_TRY(nn_verify(m));
  return check_round_trip(m, pass);
}

static bool wants_print(const nn_pass_options *o, const char *name, bool changed) {
  if (!o || !o->print_after) return false;
  if (strcmp(o->print_after, "all") == 0) return changed;
  return strcmp(o->print_after, name) == 0;
}

static void print_times(FILE *out, const char *const *names, const double *ms, int count) {
  double total = 0;
  for (int i = 0; i < count; i++) total += ms[i];
  fprintf(out, "%-10s %10s %6s\n", "pass", "ms", "%");
  for (int i = 0; i < count; i++)
    fprintf(out, "%-10s %10.3f %6.1f\n", names[i], ms[i], total > 0 ? 100 * ms[i] / total : 0);
  fprintf(out, "%-10s %10.3f\n", "total", total);
}

static nn_status run_one(nn_module *m, const char *name, const nn_pass_options *o, double *ms) {
  const nn_pass_info *pass = nn_pass_find(name);
  if (!pass) return nn_report(&m->diags, NN_ERROR, NULL, NULL, "nncc opt --help lists the passes", "no pass is called '%s'", name);
  bool changed = false;
  double start = now_ms();
  NN_TRY(pass->run(m, &changed));
  *ms = now_ms() - start;
  if (wants_print(o, name, changed)) {
    fprintf(o->print_to, "# after %s%s\n", name, changed ? "" : " (no change)");
    nn_text_print(o->print_to, m);
  }
  bool verify = o && o->verify_each;
#ifndef NDEBUG
  verify = true;
#endif
  return verify && changed ? check_after(m, name) : NN_OK;
}

nn_status nn_passes_run(nn_module *m, const char *const *names, int count, const nn_pass_options *options) {
  double *ms = NN_NEW_ARRAY(m->arena, double, count > 0 ? count : 1);
  for (int i = 0; i < count; i++) NN_TRY(run_one(m, names[i], options, &ms[i]));
  if (options && options->time_passes) print_times(options->print_to, names, ms, count);
  return NN_OK;
}
