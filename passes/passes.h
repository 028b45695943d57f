/* Graph-to-graph rewrites. Each is a function nn_status pass_NAME(nn_module *m, bool *changed) in
   pass_NAME.c: linear in the graph, prints nothing, reports into m->diags, sets *changed. The manager
   (pass.c) verifies, prints and times; the orders and the reasons for them are in pipeline.c. */
#ifndef NN_PASSES_H
#define NN_PASSES_H
#include "ir/ir.h"

typedef nn_status nn_pass_fn(nn_module *m, bool *changed);
#define PASS(name, summary) nn_pass_fn pass_##name;
#include "passes/passes.def"
#undef PASS

typedef struct nn_pass_info { const char *name; const char *summary; nn_pass_fn *run; } nn_pass_info;
extern const nn_pass_info nn_passes[];
extern const int nn_npasses;
const nn_pass_info *nn_pass_find(const char *name);

typedef struct nn_pass_options {
  const char *print_after; /* pass name or "all" (only what changed), or NULL */
  FILE *print_to;
  bool time_passes;        /* table on print_to at the end */
  bool verify_each;        /* verify, and print -> parse -> print, after each pass */
  int threads;             /* that evaluate constants; 0: one for each processor */
} nn_pass_options;

nn_status nn_passes_run(nn_module *m, const char *const *names, int count, const nn_pass_options *options);
/* Drops constants without uses and frees their memory (pass_dce.c). */
void nn_consts_sweep(nn_module *m, bool *changed);
bool nn_splat_of(const nn_value *v, double *value); /* v is this number everywhere, a constant: splat.c */
nn_status nn_pipeline_infer(nn_module *m, const nn_pass_options *options); /* the order for inference */
#endif
