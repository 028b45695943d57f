/* nncc inspect MODEL: a table of nodes (shapes, parameters, operations), and the memory plan. */
#include "tools/tools.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct inspect_args {
  int dot, memory;
  const char *target, *cpu;
  pins pins;
} inspect_args;

static double parameters_of(const nn_op *op) {
  double sum = 0;
  for (int i = 0; i < op->nin; i++) {
    int64_t n;
    if (op->in[i] && (op->in[i]->kind == NN_CONST || op->in[i]->kind == NN_STATE) &&
        nn_type_static_count(op->in[i]->type, &n))
      sum += (double)n;
  }
  return sum;
}

/* Symbols count as 1 in operation counts. */
static int64_t *ones(nn_module *m) {
  int64_t *symbols = NN_NEW_ARRAY(m->arena, int64_t, m->nsymbols + 1);
  for (int i = 0; i < m->nsymbols; i++) symbols[i] = 1;
  return symbols;
}

static void print_table(nn_module *m) {
  const int64_t *symbols = ones(m);
  double parameters = 0, flops = 0;
  printf("%-32s %-18s %-28s %12s %12s\n", "node", "op", "result", "parameters", "MFLOP");
  for (const nn_op *op = m->main->first; op; op = op->next) {
    if (op->code == NN_OP_RETURN) continue;
    double p = parameters_of(op), f = nn_op_flops(op, symbols);
    printf("%-32.32s %-18s %-28s %12.0f %12.3f\n", op->loc, nn_op_infos[op->code].text,
           op->nout ? nn_type_text(m->arena, op->out[0]->type) : "", p, f * 1e-6);
    flops += f;
  }
  for (int i = 0; i < m->nconsts; i++) {
    int64_t n;
    if (m->consts[i]->uses && nn_type_static_count(m->consts[i]->type, &n)) parameters += (double)n;
  }
  for (int i = 0; i < m->main->nparams; i++)
    printf("input  %s : %s\n", m->main->params[i]->name, nn_type_text(m->arena, m->main->params[i]->type));
  nn_op *ret = nn_graph_return(m->main);
  for (int i = 0; i < ret->nin; i++)
    printf("output %s : %s\n", nn_graph_output_name(m->main, i), nn_type_text(m->arena, ret->in[i]->type));
  printf("total: %.0f parameters, %.3f GFLOP%s\n", parameters, flops * 1e-9,
         m->nsymbols ? " (symbolic sizes counted as 1)" : "");
}

/* A row for each temporary: what makes it, where it lies, from which step to which it is in use. */
static void print_places(const nn_program *p, nn_arena *arena) {
  printf("%-40s %14s %14s %12s\n", "temporary of node", "bytes", "offset", "steps");
  for (int i = 0; i < p->nplaces; i++) {
    const nn_place *place = p->places[i];
    if (place->kind != NN_PLACE_WORKSPACE) continue;
    printf("%-40.40s %14s %14s %5d..%d%s\n", p->steps[place->first].op->loc, nn_dim_text(arena, place->bytes),
           place->offset_dim ? nn_dim_text(arena, place->offset_dim) : "allocated", place->first, place->last,
           place->within  ? " (part of another)"
           : place->value ? ""
                          : " (scratch)");
  }
}

static void print_plan(const nn_program *p, nn_arena *arena, bool all) {
  printf("compiled: %d kernels in %d steps, weights %.2f MB, workspace %s bytes + %s per worker\n", p->nkernels,
         p->nsteps, (double)p->weights_bytes * 1e-6, nn_dim_text(arena, p->workspace_bytes),
         nn_dim_text(arena, p->worker_bytes));
  if (p->planned_sum)
    printf("memory plan: %" PRId64 " bytes of temporaries, at most %" PRId64 " at once\n", p->planned_sum,
           p->planned_peak);
  if (all) print_places(p, arena);
}

static int plan(nncc_model *model, const inspect_args *a) {
  nn_module *m = model->module;
  nn_target target;
  nn_pass_options options = {.print_to = stderr};
  if (nn_target_init(&target, a->target, a->cpu, &m->diags) != NN_OK) return EXIT_MODEL;
  nn_program *p = nn_compile(m, &target, 2, NULL, &options);
  if (p) print_plan(p, m->arena, a->memory);
  nn_target_free(&target);
  return p ? EXIT_OK : EXIT_MODEL;
}

static void print_quoted(const char *text) {
  putchar('"');
  for (; *text; text++) {
    if (*text == '"' || *text == '\\') putchar('\\');
    putchar(*text);
  }
  putchar('"');
}

/* Graphviz: ops are boxes, values are edges. */
static void print_dot(nn_module *m) {
  int id = 0;
  for (nn_op *op = m->main->first; op; op = op->next) op->id = id++;
  printf("digraph model {\n  node [shape=box];\n");
  for (int i = 0; i < m->main->nparams; i++) {
    printf("  p%d [shape=ellipse, label=", i);
    print_quoted(m->main->params[i]->name);
    printf("];\n");
  }
  for (const nn_op *op = m->main->first; op; op = op->next) {
    printf("  n%d [label=", op->id);
    print_quoted(nn_sprintf(m->arena, "%s %s", nn_op_infos[op->code].text, op->loc));
    printf("];\n");
    for (int i = 0; i < op->nin; i++) {
      const nn_value *v = op->in[i];
      if (!v || (v->kind != NN_RESULT && v->kind != NN_PARAM)) continue;
      printf("  %c%d -> n%d [label=", v->kind == NN_PARAM ? 'p' : 'n', v->kind == NN_PARAM ? v->index : v->def->id,
             op->id);
      print_quoted(nn_type_text(m->arena, v->type));
      printf("];\n");
    }
  }
  printf("}\n");
}

static int inspect(const char *path, const void *data) {
  const inspect_args *a = data;
  nncc_model *model = NULL;
  int code = EXIT_MODEL;
  if (load_model(path, &a->pins, &model) == NNCC_OK) {
    code = EXIT_OK;
    if (a->dot)
      print_dot(model->module);
    else {
      print_table(model->module);
      code = plan(model, a);
    }
  }
  print_diagnostics(stderr, model);
  nncc_model_free(model);
  return code;
}

static void on_option(void *data, int option, const char *value) {
  inspect_args *a = data;
  pins_take(&a->pins, option, value);
}

int verb_inspect(int argc, const char **argv) {
  inspect_args a = {0};
  const struct poptOption table[] = {
      {"dot", 0, POPT_ARG_NONE, &a.dot, 0, "print the graph for Graphviz", NULL},
      {"memory", 0, POPT_ARG_NONE, &a.memory, 0, "print the memory plan: each temporary's size, offset and steps",
       NULL},
      {"target", 0, POPT_ARG_STRING, &a.target, 0, "LLVM triple of the plan (default: this machine's)", "TRIPLE"},
      {"mcpu", 0, POPT_ARG_STRING, &a.cpu, 0, "native, x86-64-v3, cortex-m4, ...", "CPU"},
      PIN_OPTIONS,
      POPT_TABLEEND};
  int code = run_on_model("inspect", argc, argv, table, on_option, inspect, &a);
  pins_free(&a.pins);
  return code;
}
