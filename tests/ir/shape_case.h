/* Tables of shape rule tests: an op in IR text, and the result types or the error that it must give. */
#ifndef NN_SHAPE_CASE_H
#define NN_SHAPE_CASE_H

#include "ir/ir.h"
#include <criterion/criterion.h>
#include <string.h>

typedef struct shape_case {
  const char *params; /* "%a: f32[2,3], .." */
  const char *op;     /* "add %a, %b {..}" */
  const char *types;  /* of the results; NULL: an error is expected */
  const char *error;  /* part of its message */
} shape_case;

static inline int count_results(const char *op) {
  nn_opcode code;
  if (!nn_opcode_find(op, strcspn(op, " "), &code)) return 1;
  return nn_op_infos[code].nout < 0 ? 0 : nn_op_infos[code].nout;
}

static inline nn_module *parse_case(const shape_case *c) {
  static const char *const results[] = {"", "%r0 = ", "%r0, %r1 = ", "%r0, %r1, %r2 = "};
  int nout = count_results(c->op);
  const char *types = c->types ? c->types : nout > 1 ? nout > 2 ? "f32[],f32[],f32[]" : "f32[],f32[]" : "f32[]";
  nn_arena *arena = nn_arena_new();
  char *text =
      nn_sprintf(arena, "nncc 1\nsymbol N max 1000\nsymbol M\ngraph @main(%s) -> () {\n  %s%s%s%s\n  return\n}\n",
                 c->params, results[nout], c->op, nout ? " : " : "", nout ? types : "");
  nn_module *m = nn_text_parse("case.nn", text, strlen(text));
  nn_arena_free(arena);
  return m;
}

static inline void check_case(const shape_case *c) {
  nn_module *m = parse_case(c);
  const char *message = m->diags.count ? m->diags.items[0].message : "(no error)";
  if (c->types)
    cr_expect_eq(m->diags.nerrors, 0, "%s with %s: %s", c->op, c->params, message);
  else
    cr_expect(strstr(message, c->error), "%s with %s: found '%s', expected '%s'", c->op, c->params, message, c->error);
  nn_module_free(m);
}

#define CHECK_CASES(cases)                                                                                             \
  for (size_t case_number = 0; case_number < sizeof(cases) / sizeof *(cases); case_number++)                           \
  check_case(&(cases)[case_number])

#endif
