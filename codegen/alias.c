/* Outputs in the memory of inputs: a cache or a state that a run updates in place.

   The caller may pass one pointer for both, or two. So the input must have been read for the last time when
   the output is first written, or be read by the kernel that writes it at the element's own index only. Where
   the program is not like that by itself, the output is made in the workspace and copied at the end. */
#include "codegen/codegen.h"

#include <string.h>

/* ---- names --------------------------------------------------------------------------------------- */

static bool is_name(const char *text, size_t length, const char *name) {
  return name && strlen(name) == length && memcmp(text, name, length) == 0;
}

static int find_input(const nn_program *p, const char *text, size_t length) {
  for (int i = 0; i < p->ninputs; i++)
    if (is_name(text, length, p->graph->params[i]->name)) return i;
  return -1;
}

static int find_output(const nn_program *p, const char *text) {
  for (int i = 0; i < p->noutputs; i++)
    if (is_name(text, strlen(text), nn_graph_output_name(p->graph, i))) return i;
  return -1;
}

/* "input=output"; either name may hold a "=" too. An index that is not found is -1. */
static nn_alias find_names(const nn_program *p, const char *text) {
  nn_alias best = {-1, -1};
  for (const char *at = strchr(text, '='); at; at = strchr(at + 1, '=')) {
    nn_alias a = {find_input(p, text, (size_t)(at - text)), find_output(p, at + 1)};
    if (a.input >= 0 && a.output >= 0) return a;
    if (a.input >= best.input && a.output >= best.output) best = a;
  }
  return best;
}

/* "'a', 'b'": what there is. */
static const char *names_text(const nn_program *p, bool outputs) {
  nn_arena *arena = p->module->arena;
  int count = outputs ? p->noutputs : p->ninputs, most = count < 8 ? count : 8;
  const char *text = "";
  for (int i = 0; i < most; i++) {
    const char *name = outputs ? nn_graph_output_name(p->graph, i) : p->graph->params[i]->name;
    text = nn_sprintf(arena, "%s%s'%s'", text, i ? ", " : "", name ? name : "");
  }
  return count > most ? nn_sprintf(arena, "%s and %d more", text, count - most) : text;
}

/* ---- what may be an alias ------------------------------------------------------------------------ */

static nn_status fail(nn_program *p, const char *text, const char *message) {
  return nn_report(&p->module->diags, NN_ERROR, NULL, NULL, NULL, "alias '%s': %s", text, message);
}

static nn_status check_names(nn_program *p, const char *text, nn_alias a) {
  nn_arena *arena = p->module->arena;
  if (!strchr(text, '=')) return fail(p, text, "expected INPUT=OUTPUT");
  if (a.input < 0) return fail(p, text, nn_sprintf(arena, "no such input; expected one of %s", names_text(p, false)));
  if (a.output < 0) return fail(p, text, nn_sprintf(arena, "no such output; expected one of %s", names_text(p, true)));
  return NN_OK;
}

static nn_status check_types(nn_program *p, const char *text, nn_alias a) {
  nn_arena *arena = p->module->arena;
  nn_type in = p->graph->params[a.input]->type, out = nn_graph_return(p->graph)->in[a.output]->type;
  if (nn_type_equal(in, out)) return NN_OK;
  return fail(p, text, nn_sprintf(arena, "the input is %s, the output %s; expected the same type and shape",
                                  nn_type_text(arena, in), nn_type_text(arena, out)));
}

static nn_status check_single(nn_program *p, const char *text, nn_alias a) {
  for (int i = 0; i < p->naliases; i++) {
    if (p->aliases[i].input == a.input) return fail(p, text, "the input is in another alias already");
    if (p->aliases[i].output == a.output) return fail(p, text, "the output is in another alias already");
  }
  return NN_OK;
}

static nn_status add_alias(nn_program *p, const char *text) {
  nn_alias a = find_names(p, text);
  NN_TRY(check_names(p, text, a));
  NN_TRY(check_types(p, text, a));
  NN_TRY(check_single(p, text, a));
  NN_PUSH(p->module->arena, p->aliases, p->naliases, p->aliases_cap, a);
  return NN_OK;
}

nn_status nn_aliases_find(nn_program *p, const char *const *texts) {
  nn_status status = NN_OK;
  for (; texts && *texts; texts++)
    if (add_alias(p, *texts) != NN_OK) status = NN_FAIL; /* and go on, to report all problems at once */
  return status;
}

nn_place *nn_aliased_input(const nn_program *p, const nn_place *place) {
  for (int i = 0; i < p->naliases && place->kind == NN_PLACE_OUTPUT; i++)
    if (p->aliases[i].output == place->index) return p->inputs[p->aliases[i].input];
  return NULL;
}

/* ---- the order of reading and writing ------------------------------------------------------------ */

/* The step reads each element of `in` before it writes that of `out`, and reads it never again. */
static bool works_in_place(const nn_step *step, const nn_place *in, const nn_place *out) {
  if (step->kind == NN_STEP_COPY) return step->args[0] == in; /* to itself, then */
  for (int r = 0; r < step->nargs; r++)
    if (step->args[r] == out) return step->in_place && step->in_place[r] >= 0 && step->args[step->in_place[r]] == in;
  return false;
}

static bool may_be_shared(const nn_program *p, const nn_place *in, const nn_place *out) {
  if (in->last != out->first) return in->last < out->first;
  return in->last < 0 || works_in_place(&p->steps[out->first], in, out);
}

/* What was made in the output is made in a temporary, and copied when everything else is done. */
static void copy_at_end(nn_program *p, nn_place *out) {
  nn_arena *arena = p->module->arena;
  nn_place *temporary = NN_NEW(arena, nn_place);
  *temporary = (nn_place){.kind = NN_PLACE_WORKSPACE, .bytes = out->bytes, .first = out->first, .last = p->nsteps, .slot = -1};
  NN_PUSH(arena, p->places, p->nplaces, p->places_cap, temporary);
  for (int s = out->first; s <= out->last; s++)
    for (int a = 0; a < p->steps[s].nargs; a++)
      if (p->steps[s].args[a] == out) p->steps[s].args[a] = temporary;
  nn_step step = {.kind = NN_STEP_COPY, .op = nn_graph_return(p->graph), .nargs = 2};
  step.args = NN_NEW_ARRAY(arena, nn_place *, 2);
  step.args[0] = temporary;
  step.args[1] = out;
  out->first = out->last = p->nsteps;
  NN_PUSH(arena, p->steps, p->nsteps, p->steps_cap, step);
}

void nn_aliases_order(nn_program *p) {
  for (int i = 0; i < p->naliases; i++) {
    nn_place *out = p->outputs[p->aliases[i].output];
    if (!may_be_shared(p, p->inputs[p->aliases[i].input], out)) copy_at_end(p, out);
  }
}
