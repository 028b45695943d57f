/* What the tests of the importer share: load a model written by onnx_writer.h, look at its diagnostics and IR. */
#ifndef LOAD_H
#define LOAD_H

#include <criterion/criterion.h>
#include <stdlib.h>

#include "frontend/onnx.h"
#include "onnx_writer.h"

nn_module *load_pb(pb model); /* frees the bytes with the module: free_module */
nn_module *load_text(const char *text);
nn_module *load_pinned(const char *text, const char *const *dims, const char *const *shapes);
void free_module(nn_module *m);
int count_diags(const nn_module *m, const char *part); /* whose message holds part */
const char *all_diags(nn_module *m);
/* The type of the i-th result of main, as text. */
const char *result_type(nn_module *m, int i);
bool has_op(const nn_module *m, const char *op);

#define EXPECT_OK(m) cr_expect((m)->diags.nerrors == 0, "%s", all_diags(m))
#define EXPECT_DIAG(m, part)                                                                                           \
  cr_expect(count_diags((m), (part)) == 1, "expected once: %s\nfound: %s", (part), all_diags(m))

/* Loads a model that must fail with one error that says this. */
void expect_failure(const char *text, const char *part);
/* Loads a model that must be fine, with a first result of this type. */
void expect_type(const char *text, const char *type);

#endif
