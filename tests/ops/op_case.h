/* One op against a plain reference: builds the op from text, runs it with the loop interpreter for several
   targets (so that every form of the schedules is met) and as machine code, alone and fused between copies. */
#ifndef TEST_OP_CASE_H
#define TEST_OP_CASE_H

#include "codegen/codegen.h"
#include "passes/passes.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { OP_IO = 8 };

/* A tensor as the references see it. */
typedef struct tensor {
  nn_dtype dtype;
  int rank;
  int64_t dims[NN_MAX_RANK];
  int64_t count;
  double *v;
} tensor;

typedef struct op_case op_case;
struct op_case {
  const char *in[OP_IO];                                /* types of the operands */
  const char *out[OP_IO];                               /* of the results */
  const char *before;                                   /* statements before the op, or NULL */
  const char *line;                                     /* "conv %0, %1 {pads=[1,1]}": operands are %0, %1, .. */
  int64_t n;                                            /* value of every symbol, */
  int64_t size[2];                                      /* but H and W, if these are not 0 */
  void (*fill)(const op_case *c, int which, tensor *t); /* NULL: random numbers */
  void (*expect)(const op_case *c, const tensor *in, tensor *out);
  /* In place of expect, where results are not one set of numbers: asserts what holds of them. */
  void (*judge)(const op_case *c, const tensor *in, const tensor *out, const char *where);
  const void *how;
  double tolerance; /* relative to the largest expected value; 0: by type */
  int64_t p[8];     /* parameters for expect */
  int error;        /* expected error code of the run */
};

void op_case_run(const op_case *c);
double random_number(double low, double high); /* of the current case */
int64_t random_int(int64_t low, int64_t high); /* inclusive */
/* A formatted string that lives until the program ends. */
const char *text(const char *format, ...);

#endif
