/* One object for several x86-64 CPUs: the passes run once, for the widest, so that weights are packed and activations
   laid out in one way; each CPU has a program of its own over the same graph, whose kernels alone differ. */
#include <stdlib.h>
#include <string.h>

#include "codegen/codegen.h"

static nn_status add_target(nn_variants *v, const char *triple, const char *cpu, nn_diags *diags) {
  static const char *const levels[] = {"x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4"};
  bool is_known = false;
  for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) is_known |= strcmp(cpu, levels[i]) == 0;
  if (!is_known)
    return nn_report(diags, NN_ERROR, NULL, NULL, "one of x86-64, x86-64-v2, x86-64-v3, x86-64-v4 can be told apart",
                     "'%s' cannot be one of several CPUs of an object", cpu);
  if (v->count == NN_MAX_VARIANTS)
    return nn_report(diags, NN_ERROR, NULL, NULL, NULL, "more than %d CPUs for one object", NN_MAX_VARIANTS);
  NN_TRY(nn_target_init(&v->items[v->count], triple, cpu, diags));
  v->count++;
  return NN_OK;
}

static int compare_levels(const void *a, const void *b) {
  return ((const nn_target *)a)->level - ((const nn_target *)b)->level;
}

static nn_status read_list(nn_variants *v, const char *triple, char *list, nn_diags *diags) {
  for (char *cpu = list, *comma; cpu; cpu = comma) {
    if ((comma = strchr(cpu, ','))) *comma++ = 0;
    NN_TRY(add_target(v, triple, cpu, diags));
  }
  qsort(v->items, (size_t)v->count, sizeof *v->items, compare_levels);
  for (int i = 1; i < v->count; i++)
    if (v->items[i - 1].level == v->items[i].level)
      return nn_report(diags, NN_ERROR, NULL, NULL, NULL, "CPU '%s' is named twice", v->items[i].name);
  return NN_OK;
}

nn_status nn_variants_init(nn_variants *v, const char *triple, const char *cpus, nn_diags *diags) {
  *v = (nn_variants){.count = 0};
  if (!cpus || !strchr(cpus, ',')) {
    NN_TRY(nn_target_init(&v->items[0], triple, cpus, diags));
    v->count = 1;
    return NN_OK;
  }
  nn_arena *arena = nn_arena_new();
  if (!arena) return nn_report(diags, NN_ERROR, NULL, NULL, NULL, "out of memory");
  nn_status status = read_list(v, triple, nn_strndup(arena, cpus, strlen(cpus)), diags);
  nn_arena_free(arena);
  if (status != NN_OK) nn_variants_free(v);
  return status;
}

void nn_variants_free(nn_variants *v) {
  for (int i = 0; i < v->count; i++) nn_target_free(&v->items[i]);
  v->count = 0;
}

/* ---- programs ---------------------------------------------------------------------------------------- */

/* x86-64-v3: nnk_..__node_v3 */
static void name_kernels(nn_program *p) {
  for (int i = 0; i < p->nkernels; i++)
    p->kernels[i]->name = nn_sprintf(p->module->arena, "%s_v%d", p->kernels[i]->name, p->target->level);
}

/* The same steps on the same weights: what the variants must share. */
static bool agree(const nn_program *a, const nn_program *b) {
  if (a->nsteps != b->nsteps || a->weights_bytes != b->weights_bytes) return false;
  for (int i = 0; i < a->nsteps; i++) {
    const nn_step *x = &a->steps[i], *y = &b->steps[i];
    if (x->kind != y->kind || x->op != y->op) return false;
    for (int k = 0; k < x->nargs && k < y->nargs; k++)
      if (x->args[k]->kind == NN_PLACE_WEIGHT &&
          (x->args[k]->value != y->args[k]->value || x->args[k]->offset != y->args[k]->offset))
        return false;
  }
  return true;
}

static nn_program *build(nn_program *widest, const nn_target *t, const char *const *aliases) {
  nn_module *m = widest->module;
  nn_program *p = nn_program_build_variant(m, t, aliases, widest);
  if (!p || nn_plan_memory(p, t) != NN_OK) return NULL;
  p->target = t;
  if (agree(widest, p)) return p;
  nn_report(&m->diags, NN_ERROR, NULL, NULL, NULL, "internal: the programs for %s and %s differ", widest->target->name,
            t->name);
  return NULL;
}

/* All take the most that one of them needs. */
static void share_sizes(nn_program *widest) {
  nn_dim most = widest->workspace_bytes;
  for (nn_program *p = widest->narrower; p; p = p->narrower)
    most = nn_dim_max(widest->module, most, p->workspace_bytes);
  for (nn_program *p = widest; p; p = p->narrower) p->workspace_bytes = most;
}

nn_status nn_variants_build(nn_program *widest, const nn_variants *v, const char *const *aliases) {
  nn_program *last = widest;
  widest->target = &v->items[v->count - 1];
  if (v->count == 1) return NN_OK;
  name_kernels(widest);
  for (int i = v->count - 2; i >= 0; i--) {
    nn_program *p = build(widest, &v->items[i], aliases);
    if (!p) return NN_FAIL;
    name_kernels(p);
    last = last->narrower = p;
  }
  share_sizes(widest);
  return NN_OK;
}
