/* Programs as text: places, steps, kernels. For people; it is not read back. */
#include "ir/loop.h"

#include <inttypes.h>

static void print_place(FILE *out, const nn_place *place) {
  if (!place) {
    fputs("-", out);
    return;
  }
  switch (place->kind) {
    case NN_PLACE_INPUT: fprintf(out, "in%d", place->index); break;
    case NN_PLACE_OUTPUT: fprintf(out, "out%d", place->index); break;
    case NN_PLACE_WEIGHT: fprintf(out, "weight+%" PRId64, place->offset); break;
    case NN_PLACE_WORKSPACE: fprintf(out, "slot%d", place->slot); break;
  }
}

static void print_args(FILE *out, const nn_step *s) {
  for (int i = 0; i < s->nargs; i++) {
    fputs(i ? ", " : "(", out);
    print_place(out, s->args[i]);
  }
  fputs(s->nargs ? ")" : "()", out);
}

static const char *loc_of(const nn_step *s) { return s->op && s->op->loc ? s->op->loc : ""; }

static void print_step(FILE *out, nn_arena *arena, const nn_step *s) {
  switch (s->kind) {
    case NN_STEP_CALL:
      fprintf(out, "  call @%s", s->kernel->name);
      print_args(out, s);
      if (s->ahead) fprintf(out, " ahead weight+%" PRId64 " for %" PRId64, s->ahead->offset + s->ahead_from, s->ahead_bytes);
      break;
    case NN_STEP_BIND:
      fputs("  bind ", out);
      for (int i = 0; i < s->ndims; i++) fprintf(out, "%s%s", i ? ", " : "", nn_dim_text(arena, s->dims[i]));
      fputs(" = ", out);
      print_args(out, s);
      break;
    case NN_STEP_CHECK:
      fprintf(out, "  check %s %s, %s", s->check, nn_dim_text(arena, s->found), nn_dim_text(arena, s->expected));
      break;
    case NN_STEP_COPY:
      fputs("  copy ", out);
      print_args(out, s);
      break;
  }
  fprintf(out, "  loc %s\n", nn_text_quote(arena, loc_of(s)));
}

/* The bytes of workspace places and where the plan put them. */
static void print_workspace(FILE *out, nn_arena *arena, const nn_program *p) {
  for (int i = 0; i < p->nplaces; i++) {
    const nn_place *place = p->places[i];
    if (place->kind != NN_PLACE_WORKSPACE) continue;
    const char *at = place->offset_dim ? nn_dim_text(arena, place->offset_dim) : nn_sprintf(arena, "%" PRId64, place->offset);
    fprintf(out, "  slot%d : %s bytes at %s, steps %d..%d\n", place->slot, place->bytes ? nn_dim_text(arena, place->bytes) : "?", at, place->first, place->last);
  }
}

void nn_program_print(FILE *out, const nn_program *p) {
  nn_arena *arena = nn_arena_new();
  if (!arena) return;
  fprintf(out, "program @%s {\n", p->graph && p->graph->name ? p->graph->name : "");
  if (p->workspace_bytes) fprintf(out, "  workspace %s\n", nn_dim_text(arena, p->workspace_bytes));
  if (p->worker_bytes) fprintf(out, "  worker %s\n", nn_dim_text(arena, p->worker_bytes));
  fprintf(out, "  weights %" PRId64 "\n", p->weights_bytes);
  print_workspace(out, arena, p);
  for (int i = 0; i < p->nsteps; i++) print_step(out, arena, &p->steps[i]);
  fputs("}\n", out);
  for (int i = 0; i < p->nkernels; i++) {
    fputc('\n', out);
    nn_kernel_print(out, p->kernels[i]);
  }
  nn_arena_free(arena);
}
