/* NAME.h beside an object: the memory contract as constants, a typed function over flat pointers where all
   sizes are constants, and the descriptor for those who include nncc_rt.h first. C99 and C++. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "codegen/llvm.h"

typedef struct header {
  FILE *out;
  nn_arena *arena;
  const nn_program *p;
  const nn_target *target;
  const char *name;
  nn_map *used;                   /* C names given so far */
  const char **inputs, **outputs; /* C names of the tensors */
  bool side_file;
} header;

static const char *c_type(nn_dtype t) {
  switch (t) {
  case NN_F32: return "float";
  case NN_F64: return "double";
  case NN_I8: return "int8_t";
  case NN_I16: return "int16_t";
  case NN_I32: return "int32_t";
  case NN_I64: return "int64_t";
  case NN_U16:
  case NN_F16:
  case NN_BF16: return "uint16_t";
  case NN_U32: return "uint32_t";
  case NN_U64: return "uint64_t";
  default: return "uint8_t"; /* u8, bool, 8-bit floats, packed elements */
  }
}

/* Another tensor, parameter or macro may have the name already: then _2, _3, ... */
static const char *unique_name(header *h, const char *text) {
  char *wanted = nn_c_name(h->arena, text ? text : "", text ? strlen(text) : 0), *name = wanted;
  for (int n = 2; nn_map_get(h->used, name); n++) name = nn_sprintf(h->arena, "%s_%d", wanted, n);
  nn_map_put(h->used, name, h);
  return name;
}

static void name_tensors(header *h) {
  const nn_program *p = h->p;
  h->inputs = NN_NEW_ARRAY(h->arena, const char *, p->ninputs + 1);
  h->outputs = NN_NEW_ARRAY(h->arena, const char *, p->noutputs + 1);
  static const char *const taken[] = {"workspace", "weights", "NULL",    "size_t",   "int8_t",   "int16_t",
                                      "int32_t",   "int64_t", "uint8_t", "uint16_t", "uint32_t", "uint64_t"};
  for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++) nn_map_put(h->used, taken[i], h);
  for (int i = 0; i < p->ninputs; i++) h->inputs[i] = unique_name(h, p->graph->params[i]->name);
  for (int i = 0; i < p->noutputs; i++) h->outputs[i] = unique_name(h, nn_graph_output_name(p->graph, i));
}

/* ---- what it says
 * ---------------------------------------------------------------------------------------------------- */

/* Text from a model inside a comment must not end it. */
static void print_comment_text(header *h, const char *text) {
  for (; *text; text++) fputc((unsigned char)*text < ' ' || (*text == '*' && text[1] == '/') ? '_' : *text, h->out);
}

/* The widest first; the host's by its name. */
static void print_cpus(header *h) {
  if (!h->p->narrower) fputs(strcmp(h->target->name, "native") == 0 ? h->target->cpu : h->target->name, h->out);
  for (const nn_program *p = h->p; h->p->narrower && p; p = p->narrower)
    fprintf(h->out, "%s%s", p == h->p ? "" : p->narrower ? ", " : " and ", p->target->name);
}

static int count_variants(const nn_program *p) {
  int n = 0;
  for (; p; p = p->narrower) n++;
  return n;
}

/* Of an object for several CPUs: their numbers, and who chooses. */
static void print_variants(header *h) {
  int number = count_variants(h->p);
  if (number == 1) return;
  fprintf(h->out, "\n/* Values of nncc_rt_ctx.isa. 0: the run, or %s_init, finds the widest that this CPU has. */\n",
          h->name);
  for (const nn_program *p = h->p; p; p = p->narrower)
    fprintf(h->out, "#define %s_ISA_X86_64_V%d %d\n", h->name, p->target->level, number--);
}

static void print_top(header *h) {
  const nn_program *p = h->p;
  fprintf(h->out, "/* %s: ", h->name);
  print_comment_text(h, p->module->producer ? p->module->producer : "a neural network");
  fputs(", compiled by nncc for ", h->out);
  print_cpus(h);
  fprintf(h->out, " (%s), floating point %s.\n\n", h->target->triple, nn_fp_name(h->target->fp));
  fprintf(h->out, "   A run needs %s_WORKSPACE + workers * %s_WORKER_WORKSPACE bytes of workspace, aligned to\n",
          h->name, h->name);
  fprintf(h->out,
          "   %s_ALIGN, and at most about %s_STACK bytes of stack. It allocates nothing%s and keeps no state.\n",
          h->name, h->name, nn_program_is_plain(p) ? "" : " but what depends on data");
  fprintf(h->out, "   Tensors are dense and row-major; inputs and outputs must not overlap");
  if (p->naliases > 0) fprintf(h->out, ", but for the pairs of %s_ALIASES", h->name);
  fprintf(h->out, ". */\n");
}

static void print_size(header *h, const char *what, nn_dim size) {
  int64_t value;
  if (nn_dim_is_const(size, &value))
    fprintf(h->out, "#define %s_%s %" PRId64 "\n", h->name, what, value);
  else
    fprintf(h->out, "/* %s_%s depends on the shapes: see %s_workspace_size */\n", h->name, what, h->name);
}

static void print_contract(header *h) {
  print_size(h, "WORKSPACE", h->p->workspace_bytes);
  print_size(h, "WORKER_WORKSPACE", nn_program_worker_bytes(h->p));
  fprintf(h->out, "#define %s_ALIGN %d\n", h->name, NNCC_RT_ALIGN);
  fprintf(h->out, "#define %s_WEIGHTS_BYTES %" PRId64 " /* %s */\n", h->name, h->p->weights_bytes,
          h->side_file ? "in a file of their own, after its 64-byte header" : "inside the object");
  fprintf(h->out, "#define %s_STACK %" PRId64 "\n", h->name, h->p->stack_bytes);
}

static void print_tensor(header *h, const char *role, int i, const char *name, const char *text, const nn_value *v) {
  int64_t count = 1;
  bool is_static = nn_type_static_count(v->type, &count);
  fprintf(h->out, "\n/* %s %d \"", role, i);
  print_comment_text(h, text);
  fprintf(h->out, "\": %s */\n", nn_type_text(h->arena, v->type));
  fprintf(h->out, "#define %s_%s_RANK %d\n", h->name, name, v->type.rank);
  if (!is_static) return;
  if (v->type.rank > 0) {
    fprintf(h->out, "#define %s_%s_DIMS {", h->name, name);
    for (int d = 0; d < v->type.rank; d++) fprintf(h->out, "%s%" PRId64, d ? ", " : "", nn_dim_value(v->type.dims[d]));
    fprintf(h->out, "}\n");
  }
  fprintf(h->out, "#define %s_%s_COUNT %" PRId64 "\n", h->name, name, count);
  fprintf(h->out, "#define %s_%s_BYTES %zu\n", h->name, name, nn_dtype_bytes(v->type.dtype, (uint64_t)count));
}

/* Pairs that may share memory, for people and as numbers. */
static void print_aliases(header *h) {
  const nn_program *p = h->p;
  if (p->naliases == 0) return;
  fprintf(h->out, "\n/* The output may be the same memory as the input, all of it: then a run takes the old contents "
                  "and leaves the\n   new ones (after an error: neither).");
  for (int i = 0; i < p->naliases; i++) {
    fprintf(h->out, "%s\n   input \"", i ? "," : "");
    print_comment_text(h, p->graph->params[p->aliases[i].input]->name);
    fprintf(h->out, "\", output \"");
    print_comment_text(h, nn_graph_output_name(p->graph, p->aliases[i].output));
    fputc('"', h->out);
  }
  fprintf(h->out, " */\n#define %s_ALIASES {", h->name);
  for (int i = 0; i < p->naliases; i++)
    fprintf(h->out, "%s{%d, %d}", i ? ", " : "", p->aliases[i].input, p->aliases[i].output);
  fprintf(h->out, "} /* {input, output} */\n#define %s_ALIASES_COUNT %d\n", h->name, p->naliases);
}

static void print_infer(header *h) {
  if (!nn_program_is_plain(h->p)) return;
  const nn_program *p = h->p;
  fprintf(h->out,
          "\n/* Runs on one thread. Returns 0, or an error code of nncc_rt.h. workspace: %s_WORKSPACE +\n   "
          "%s_WORKER_WORKSPACE bytes. */\n",
          h->name, h->name);
  fprintf(h->out, "int32_t %s_infer(", h->name);
  for (int i = 0; i < p->ninputs; i++)
    fprintf(h->out, "const %s *%s, ", c_type(p->graph->params[i]->type.dtype), h->inputs[i]);
  for (int i = 0; i < p->noutputs; i++)
    fprintf(h->out, "%s *%s, ", c_type(nn_program_output(p, i)->type.dtype), h->outputs[i]);
  fprintf(h->out, "%svoid *workspace);\n", h->side_file ? "const void *weights, " : "");
}

static void print_descriptor(header *h) {
  const nn_program *p = h->p;
  fprintf(h->out, "\n#ifdef NNCC_RT_H /* include nncc_rt.h first for these */\n");
  fprintf(h->out, "extern const nncc_rt_model %s;\n", h->name);
  fprintf(h->out, "int32_t %s_run(nncc_rt_ctx *ctx, const nncc_rt_tensor *in, nncc_rt_tensor *out);\n", h->name);
  if (p->narrower)
    fprintf(h->out, "int32_t %s_init(nncc_rt_ctx *ctx); /* sets isa if it is 0; an error if this CPU lacks it */\n",
            h->name);
  fprintf(h->out, "size_t %s_workspace_size(const nncc_rt_tensor *in, int32_t nworkers);\n", h->name);
  fprintf(h->out, "int32_t %s_output_dims(nncc_rt_ctx *ctx, const nncc_rt_tensor *in, nncc_rt_tensor *out);\n",
          h->name);
  fprintf(h->out, "#endif\n");
}

static void print_header(header *h) {
  const nn_program *p = h->p;
  print_top(h);
  fprintf(h->out, "#ifndef %s_H\n#define %s_H\n\n#include <stddef.h>\n#include <stdint.h>\n\n", h->name, h->name);
  print_contract(h);
  print_variants(h);
  for (int i = 0; i < p->ninputs; i++)
    print_tensor(h, "input", i, h->inputs[i], p->graph->params[i]->name, p->graph->params[i]);
  for (int i = 0; i < p->noutputs; i++)
    print_tensor(h, "output", i, h->outputs[i], nn_graph_output_name(p->graph, i), nn_program_output(p, i));
  print_aliases(h);
  fprintf(h->out, "\n#ifdef __cplusplus\nextern \"C\" {\n#endif\n");
  print_infer(h);
  print_descriptor(h);
  fprintf(h->out, "\n#ifdef __cplusplus\n}\n#endif\n#endif\n");
}

nn_status nn_header_write(const nn_program *p, const nn_target *t, const nn_emit_options *options, const char *path,
                          const char *weights_path) {
  nn_diags *diags = &p->module->diags;
  header h = {.p = p,
              .target = t,
              .name = options->name,
              .side_file = weights_path != NULL && p->weights_bytes > 0,
              .arena = nn_arena_new()};
  if (!h.arena) return nn_report(diags, NN_ERROR, NULL, NULL, NULL, "out of memory");
  h.used = nn_map_new(h.arena);
  name_tensors(&h);
  const char *temporary = nn_sprintf(h.arena, "%s.%ld.tmp", path, (long)getpid());
  h.out = fopen(temporary, "w");
  bool ok = h.out != NULL;
  if (ok) {
    print_header(&h);
    ok = !ferror(h.out);
    if (fclose(h.out) != 0 || !ok || rename(temporary, path) != 0) ok = false;
  }
  nn_status status =
      ok ? NN_OK : nn_report(diags, NN_ERROR, NULL, NULL, NULL, "cannot write '%s': %s", path, strerror(errno));
  if (!ok) remove(temporary);
  nn_arena_free(h.arena);
  return status;
}
