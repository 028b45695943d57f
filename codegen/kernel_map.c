/* The map beside an object: which functions do the work of which nodes of the model, as JSON. Kernels are local
   symbols of the object; a function KERNEL__task_... is the body of a parallel loop of that kernel. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "codegen/codegen.h"

/* Clean text as a JSON string. */
static void put_string(FILE *out, nn_arena *arena, const char *text) {
  fputc('"', out);
  for (const char *s = nn_text_clean(arena, text ? text : ""); *s; s++) {
    if (*s == '"' || *s == '\\') fputc('\\', out);
    fputc(*s, out);
  }
  fputc('"', out);
}

static void put_field(FILE *out, nn_arena *arena, const char *name, const char *text) {
  fprintf(out, "\"%s\": ", name);
  put_string(out, arena, text);
}

static void put_nodes(FILE *out, nn_arena *arena, const nn_op *op) {
  nn_origins nodes = nn_op_origins(op, arena);
  fputs("\"nodes\": [", out);
  for (int i = 0; i < nodes.count; i++) {
    fputs(i ? ", {" : "{", out);
    put_field(out, arena, "name", nodes.items[i].node);
    fputs(", ", out);
    put_field(out, arena, "op", nodes.items[i].op);
    fputc('}', out);
  }
  fputc(']', out);
}

/* One for each CPU that the object is for, in the order of "cpus". */
static void put_kernels(FILE *out, nn_arena *arena, const nn_program *p, int step) {
  fputs("\"kernels\": [", out);
  for (const nn_program *v = p; v; v = v->narrower) {
    put_string(out, arena, v->steps[step].kernel->name);
    fputs(v->narrower ? ", " : "], ", out);
  }
}

static void put_step(FILE *out, nn_arena *arena, const nn_program *p, int number) {
  const nn_step *step = &p->steps[number];
  static const char *const kinds[] = {"call", "bind", "check", "copy"};
  fprintf(out, "%s\n    {\"step\": %d, \"kind\": \"%s\", ", number ? "," : "", number, kinds[step->kind]);
  if (step->kind == NN_STEP_CALL) put_kernels(out, arena, p, number);
  put_nodes(out, arena, step->op);
  fputc('}', out);
}

static void put_map(FILE *out, nn_arena *arena, const nn_program *p, const nn_target *t,
                    const nn_emit_options *options) {
  fputs("{\n  ", out);
  put_field(out, arena, "model", options->name);
  fputs(",\n  ", out);
  put_field(out, arena, "target", t->triple);
  fputs(",\n  ", out);
  fputs("\"cpus\": [", out);
  for (const nn_program *v = p; v; v = v->narrower) {
    put_string(out, arena, v->target->cpu);
    fputs(v->narrower ? ", " : "]", out);
  }
  fputs(",\n  \"steps\": [", out);
  for (int i = 0; i < p->nsteps; i++) put_step(out, arena, p, i);
  fputs("\n  ]\n}\n", out);
}

nn_status nn_map_write(const nn_program *p, const nn_target *t, const nn_emit_options *options, const char *path) {
  nn_arena *arena = nn_arena_new();
  if (!arena) return nn_report(&p->module->diags, NN_ERROR, NULL, NULL, NULL, "out of memory");
  const char *temporary = nn_sprintf(arena, "%s.%ld.tmp", path, (long)getpid());
  FILE *out = fopen(temporary, "w");
  bool ok = out != NULL;
  if (ok) {
    put_map(out, arena, p, t, options);
    ok = !ferror(out);
    if (fclose(out) != 0 || !ok || rename(temporary, path) != 0) ok = false;
  }
  nn_status status =
      ok ? NN_OK
         : nn_report(&p->module->diags, NN_ERROR, NULL, NULL, NULL, "cannot write '%s': %s", path, strerror(errno));
  if (!ok) remove(temporary);
  nn_arena_free(arena);
  return status;
}
