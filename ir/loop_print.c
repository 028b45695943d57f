/* Kernels and programs as text. A kernel reads back with loop_parse.c:

     kernel @nnk_scale loc "Mul_3" {
       symbols N
       param %x : f32[N]
       out %y : f32[N]
       for %i in 0..N floordiv 8 {
         vector %l in 0..8 {
           %t0 = %x[%i*8 + %l]
           %y[%i*8 + %l] = %t0 * 2.0 if %t0 < 1.0
         }
       }
     }

   Numbers are i64 when they look whole and f32 when they do not; others carry their type (3:i32, 0.5:f64).
   A node that is shared inside one very large expression is given a name first, so that the text of a
   kernel is never longer than the kernel. */
#include "ir/loop.h"
#include "ir/text.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LARGE = 2000, WORTH_NAMING = 8, SIZE_CAP = 1000000 };

typedef struct printer {
  FILE *out;
  const nn_kernel *k;
  nn_arena *arena;
  int depth;
  int *size;          /* node -> nodes of its text, 0 not known yet */
  int *uses;          /* node -> uses inside the large expression at hand */
  const char **named; /* node -> name it has in the statement at hand */
  int *forget;        /* nodes with a name, for the end of the statement */
  int nforget, forget_cap;
  int nnamed;
} printer;

/* How tightly operators bind: a child with a lower level, or an equal one on the right, gets parentheses. */
enum { LEVEL_OR = 1, LEVEL_XOR, LEVEL_AND, LEVEL_COMPARE, LEVEL_SUM, LEVEL_PRODUCT, LEVEL_PRIMARY };

static const struct { const char *text; int level; } infix[NN_XOP_COUNT] = {
  [NN_X_OR] = {" | ", LEVEL_OR}, [NN_X_XOR] = {" ^ ", LEVEL_XOR}, [NN_X_AND] = {" & ", LEVEL_AND},
  [NN_X_EQ] = {" == ", LEVEL_COMPARE}, [NN_X_NE] = {" != ", LEVEL_COMPARE}, [NN_X_LT] = {" < ", LEVEL_COMPARE},
  [NN_X_LE] = {" <= ", LEVEL_COMPARE}, [NN_X_ADD] = {" + ", LEVEL_SUM}, [NN_X_SUB] = {" - ", LEVEL_SUM},
  [NN_X_MUL] = {"*", LEVEL_PRODUCT}, [NN_X_DIV] = {" / ", LEVEL_PRODUCT},
  [NN_X_FLOORDIV] = {" floordiv ", LEVEL_PRODUCT}, [NN_X_FLOORMOD] = {" mod ", LEVEL_PRODUCT},
};

/* ---- leaves --------------------------------------------------------------------------------------------- */

static bool looks_whole(const char *text) { return !strpbrk(text, ".enai"); }

static void print_float(printer *p, const nn_x *x) {
  char text[40];
  if (isnan(x->f)) strcpy(text, "nan");
  else if (isinf(x->f)) strcpy(text, x->f < 0 ? "-inf" : "inf");
  else
    for (int digits = 1; digits <= 17; digits++) {
      snprintf(text, sizeof text, "%.*g", digits, x->f);
      if (nn_round_to(x->dtype, strtod(text, NULL)) == x->f) break;
    }
  fputs(text, p->out);
  if (looks_whole(text)) fputs(".0", p->out);
  if (x->dtype != NN_F32) fprintf(p->out, ":%s", nn_dtype_name(x->dtype));
}

static void print_const(printer *p, const nn_x *x) {
  if (nn_dtype_is_float(x->dtype)) print_float(p, x);
  else if (x->dtype == NN_BOOL) fputs(x->i ? "true" : "false", p->out);
  else if (x->dtype == NN_I64) fprintf(p->out, "%" PRId64, x->i);
  else fprintf(p->out, "%" PRId64 ":%s", x->i, nn_dtype_name(x->dtype));
}

bool nn_loop_is_word(const char *word) {
  static const char *const words[] = {"if", "else", "true", "false", "nan", "inf", "mod", "floordiv", "unroll_by", "in"};
  for (size_t i = 0; i < sizeof words / sizeof *words; i++)
    if (strcmp(word, words[i]) == 0) return true;
  return false;
}

static void print_symbol(printer *p, int64_t index) {
  const char *name = p->k->module->symbols[index]->name;
  bool plain = nn_text_is_name(name) && !isdigit((unsigned char)*name) && !strchr(name, '.') && !nn_loop_is_word(name);
  fputs(plain ? name : nn_text_quote(p->arena, name), p->out);
}

/* ---- expressions ------------------------------------------------------------------------------------------- */

static void print_x(printer *p, const nn_x *x, int level);

static void print_infix(printer *p, const nn_x *x, int level) {
  int own = infix[x->op].level;
  const nn_x *right = x->a[1];
  bool minus = x->op == NN_X_ADD && x->dtype == NN_I64 && right->op == NN_X_CONST && right->i < 0 && right->i > INT64_MIN;
  if (own < level) fputc('(', p->out);
  print_x(p, x->a[0], own == LEVEL_COMPARE ? own + 1 : own);
  if (minus) {
    fprintf(p->out, " - %" PRId64, -right->i);
  } else {
    fputs(infix[x->op].text, p->out);
    print_x(p, right, own + 1);
  }
  if (own < level) fputc(')', p->out);
}

static void print_element(printer *p, const nn_buf *buf, const nn_x *index, const nn_x *mask) {
  fprintf(p->out, "%%%s[", buf->name);
  print_x(p, index, 0);
  if (mask) {
    fputs(" if ", p->out);
    print_x(p, mask, 0);
  }
  fputc(']', p->out);
}

static void print_lanes(printer *p, const nn_x *x) {
  fprintf(p->out, "%s(", nn_xop_name(x->op));
  print_element(p, x->buf, x->a[0], NULL);
  fprintf(p->out, ", %" PRId64 ")", x->i);
}

static void print_lookup(printer *p, const nn_x *x) {
  fprintf(p->out, "lookup(%%%s, ", p->k->tables[x->i].name);
  print_x(p, x->a[0], 0);
  fputc(')', p->out);
}

static void print_call(printer *p, const nn_x *x) {
  fprintf(p->out, "%s(", nn_xop_name(x->op));
  for (int i = 0; i < 3 && x->a[i]; i++) {
    if (i) fputs(", ", p->out);
    print_x(p, x->a[i], 0);
  }
  bool has_type = x->op == NN_X_CAST || x->op == NN_X_CAST_SAT || x->op == NN_X_BITCAST;
  if (has_type) fprintf(p->out, ", %s", nn_dtype_name(x->dtype));
  fputc(')', p->out);
}

static void print_x(printer *p, const nn_x *x, int level) {
  if (p->named[x->id]) {
    fprintf(p->out, "%%%s", p->named[x->id]);
    return;
  }
  switch (x->op) {
    case NN_X_CONST: print_const(p, x); break;
    case NN_X_VAR: fprintf(p->out, "%%%s", x->var->name); break;
    case NN_X_SYMBOL: print_symbol(p, x->i); break;
    case NN_X_LOAD: print_element(p, x->buf, x->a[0], x->a[1]); break;
    case NN_X_LANES_SUM: case NN_X_LANES_PROD: case NN_X_LANES_MAX: case NN_X_LANES_MIN: print_lanes(p, x); break;
    case NN_X_LOOKUP: print_lookup(p, x); break;
    default:
      if (infix[x->op].text) print_infix(p, x, level);
      else print_call(p, x);
  }
}

/* ---- very large expressions ---------------------------------------------------------------------------------- */

static int size_of(printer *p, const nn_x *x) {
  if (!x || p->size[x->id]) return x ? p->size[x->id] : 0;
  int64_t size = 1;
  for (int i = 0; i < 3; i++) size += size_of(p, x->a[i]);
  return p->size[x->id] = size > SIZE_CAP ? SIZE_CAP : (int)size;
}

static void count_uses(printer *p, const nn_x *x) {
  if (!x || p->uses[x->id]++) return;
  for (int i = 0; i < 3; i++) count_uses(p, x->a[i]);
}

static void indent(printer *p) { fprintf(p->out, "%*s", 2 * p->depth, ""); }

static const char *fresh_name(printer *p) {
  const char *name;
  do name = nn_sprintf(p->arena, "x%d", p->nnamed++);
  while (nn_kernel_has_name(p->k, name));
  return name;
}

static void name_shared(printer *p, const nn_x *x) {
  if (!x || !p->uses[x->id] || p->named[x->id]) return;
  bool shared = p->uses[x->id] > 1 && size_of(p, x) > WORTH_NAMING;
  p->uses[x->id] = 0;
  for (int i = 0; i < 3; i++) name_shared(p, x->a[i]);
  if (!shared) return;
  const char *name = fresh_name(p);
  indent(p);
  fprintf(p->out, "%%%s = ", name);
  print_x(p, x, 0);
  fputc('\n', p->out);
  p->named[x->id] = name;
  NN_PUSH(p->arena, p->forget, p->nforget, p->forget_cap, x->id);
}

static bool is_large(printer *p, const nn_stmt *s) {
  return s->kind != NN_S_WHILE && (int64_t)size_of(p, s->value) + size_of(p, s->index) + size_of(p, s->mask) > LARGE;
}

/* ---- statements ------------------------------------------------------------------------------------------------- */

static void print_block(printer *p, const nn_block *block);

static void print_body(printer *p, const nn_stmt *s) {
  fputs(" {\n", p->out);
  p->depth++;
  print_block(p, &s->body);
  p->depth--;
  indent(p);
  if (s->other.first) {
    fputs("} else {\n", p->out);
    p->depth++;
    print_block(p, &s->other);
    p->depth--;
    indent(p);
  }
  fputs("}\n", p->out);
}

static void print_loop(printer *p, const nn_stmt *s) {
  static const char *const kinds[] = {"for", "parallel", "unroll", "vector"};
  fprintf(p->out, "%s %%%s in ", kinds[s->loop], s->var->name);
  print_x(p, s->lo, 0);
  fputs("..", p->out);
  print_x(p, s->hi, 0);
  if (s->unroll_by) fprintf(p->out, " unroll_by %d", s->unroll_by);
  print_body(p, s);
}

static void print_condition(printer *p, const char *word, const nn_stmt *s) {
  fprintf(p->out, "%s ", word);
  print_x(p, s->value, 0);
  print_body(p, s);
}

static void print_keep(printer *p, const nn_stmt *s) {
  fprintf(p->out, "keep %%%s for ", s->buf->name);
  print_x(p, s->value, 0);
  print_body(p, s);
}

static void print_assignment(printer *p, const nn_stmt *s) {
  if (s->kind == NN_S_LET) fprintf(p->out, "%%%s", s->var->name);
  else print_element(p, s->buf, s->index, NULL);
  fputs(" = ", p->out);
  print_x(p, s->value, 0);
  if (s->mask) {
    fputs(" if ", p->out);
    print_x(p, s->mask, 0);
  }
  fputc('\n', p->out);
}

static void print_prefetch(printer *p, const nn_stmt *s) {
  fputs(s->is_near ? "prefetch near " : "prefetch ", p->out);
  print_element(p, s->buf, s->index, NULL);
  fputc('\n', p->out);
}

static void print_stmt(printer *p, const nn_stmt *s) {
  const nn_x *all[] = {s->index, s->value, s->mask};
  bool large = is_large(p, s);
  for (int i = 0; large && i < 3; i++) count_uses(p, all[i]);
  for (int i = 0; large && i < 3; i++) name_shared(p, all[i]);
  indent(p);
  switch (s->kind) {
    case NN_S_LOOP: print_loop(p, s); break;
    case NN_S_IF: print_condition(p, "if", s); break;
    case NN_S_WHILE: print_condition(p, "while", s); break;
    case NN_S_KEEP: print_keep(p, s); break;
    case NN_S_PREFETCH: print_prefetch(p, s); break;
    case NN_S_AHEAD: fprintf(p->out, "ahead %" PRId64 "\n", s->value->i); break;
    case NN_S_TRANSPOSE: fprintf(p->out, "transpose %%%s\n", s->buf->name); break;
    case NN_S_FAIL: fprintf(p->out, "fail %" PRId64 "\n", s->value->i); break;
    default: print_assignment(p, s);
  }
  while (p->nforget) p->named[p->forget[--p->nforget]] = NULL;
}

static void print_block(printer *p, const nn_block *block) {
  for (const nn_stmt *s = block->first; s; s = s->next) print_stmt(p, s);
}

static void print_symbols(printer *p) {
  for (int i = 0; i < p->k->nsymbols; i++) {
    fputs(i ? ", " : "  symbols ", p->out);
    print_symbol(p, p->k->symbols[i]);
  }
  if (p->k->nsymbols) fputc('\n', p->out);
}

static void print_buf(printer *p, const nn_buf *buf) {
  static const char *const spaces[] = {"param", "workspace", "worker", "reg"};
  const char *space = buf->space == NN_BUF_PARAM && buf->is_output ? "out" : spaces[buf->space];
  fprintf(p->out, "  %s %%%s : %s[%s]\n", space, buf->name, nn_dtype_name(buf->dtype), nn_dim_text(p->arena, buf->count));
}

static void print_table(printer *p, const nn_table *table) {
  fprintf(p->out, "  table %%%s = ", table->name);
  for (int i = 0; i < table->count; i++) fprintf(p->out, "%s%" PRId32, i ? ", " : "", table->values[i]);
  fputc('\n', p->out);
}

void nn_kernel_print(FILE *out, const nn_kernel *k) {
  printer p = {.out = out, .k = k, .arena = nn_arena_new(), .depth = 1};
  if (!p.arena) return;
  nn_c_locale saved = nn_enter_c_locale();
  p.size = NN_NEW_ARRAY(p.arena, int, k->nxs + 1);
  p.uses = NN_NEW_ARRAY(p.arena, int, k->nxs + 1);
  p.named = NN_NEW_ARRAY(p.arena, const char *, k->nxs + 1);
  fprintf(out, "kernel @%s", nn_text_is_name(k->name) ? k->name : nn_text_quote(p.arena, k->name));
  if (k->loc && *k->loc) fprintf(out, " loc %s", nn_text_quote(p.arena, k->loc));
  fputs(" {\n", out);
  print_symbols(&p);
  for (int i = 0; i < k->nbufs; i++) print_buf(&p, k->bufs[i]);
  for (int i = 0; i < k->ntables; i++) print_table(&p, &k->tables[i]);
  print_block(&p, &k->body);
  fputs("}\n", out);
  nn_leave_c_locale(saved);
  nn_arena_free(p.arena);
}
