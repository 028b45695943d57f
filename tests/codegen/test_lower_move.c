/* Movement ops against plain index arithmetic: inputs are ramps, so an element says where it came from.
   Each case runs alone and fused between two negations, with one symbol and without. */
#include "tests/codegen/run_case.h"

/* What output element `index` should be: `in` is the first input. */
typedef double expectation(const nncc_rt_tensor *in, const int64_t *index, const void *how);

/* line: the op that makes %1 from %0, f32. */
static void try_move(const char *in_type, const char *out_type, const char *line, int64_t n, expectation *expect,
                     const void *how) {
  char text[1024];
  for (int fuses = 0; fuses < 2; fuses++) {
    case_text(text, sizeof text,
              "nncc 1\nconst $v : f32[] = [-7]\ngraph @main(%%x: %s) -> (%s) {\n  %%0 = neg %%x : %s\n  %s : %s\n  %%2 "
              "= neg %%1 : %s\n  return %%2\n}\n",
              in_type, out_type, in_type, line, out_type, out_type);
    run_case c = case_open(text, fuses != 0, n);
    case_run(&c);
    cr_assert_eq(c.code, 0);
    for (int64_t k = 0; k < case_count(&c.out[0]); k++) {
      int64_t index[NN_MAX_RANK] = {0};
      case_unflatten(&c.out[0], k, index);
      double wanted = expect(&c.in[0], index, how), got = case_out(&c, 0, k);
      cr_assert(wanted == got, "%s (fused %d): element %lld is %g, expected %g", line, fuses, (long long)k, got,
                wanted);
    }
    case_close(&c);
  }
}

/* ---- transpose, slice, tile, broadcast ----------------------------------------------------------- */

static double expect_transpose(const nncc_rt_tensor *in, const int64_t *index, const void *how) {
  const int *perm = how;
  int64_t inner[NN_MAX_RANK];
  for (int i = 0; i < in->rank; i++) inner[perm[i]] = index[i];
  return (double)case_flatten(in, inner);
}

Test(lower_move, transpose) {
  static const int perms[][4] = {{0, 1, 2, 3}, {3, 2, 1, 0}, {0, 2, 3, 1}, {0, 3, 1, 2},
                                 {1, 0, 2, 3}, {2, 3, 0, 1}, {1, 2, 3, 0}};
  static const int dims[] = {2, 3, 9, 17};
  for (size_t i = 0; i < sizeof perms / sizeof *perms; i++) {
    char out[64], line[96];
    const int *p = perms[i];
    case_text(out, sizeof out, "f32[%d,%d,%d,%d]", dims[p[0]], dims[p[1]], dims[p[2]], dims[p[3]]);
    case_text(line, sizeof line, "%%1 = transpose %%0 {perm=[%d,%d,%d,%d]}", p[0], p[1], p[2], p[3]);
    try_move("f32[2,3,9,17]", out, line, 1, expect_transpose, p);
  }
  static const int swap[] = {0, 2, 1};
  try_move("f32[N,3,5]", "f32[N,5,3]", "%1 = transpose %0 {perm=[0,2,1]}", 4, expect_transpose, swap);
}

/* Large enough for loops over blocks: whole blocks, rests, symbols. */
Test(lower_move, blocked_transpose) {
  static const int swap[] = {1, 0}, inner[] = {0, 2, 1}, turn[] = {2, 0, 1};
  try_move("f32[64,64]", "f32[64,64]", "%1 = transpose %0 {perm=[1,0]}", 1, expect_transpose, swap);
  try_move("f32[70,65]", "f32[65,70]", "%1 = transpose %0 {perm=[1,0]}", 1, expect_transpose, swap);
  try_move("f32[3,33,70]", "f32[3,70,33]", "%1 = transpose %0 {perm=[0,2,1]}", 1, expect_transpose, inner);
  try_move("f32[N,33,70]", "f32[N,70,33]", "%1 = transpose %0 {perm=[0,2,1]}", 3, expect_transpose, inner);
  try_move("f32[50,60,3]", "f32[3,50,60]", "%1 = transpose %0 {perm=[2,0,1]}", 1, expect_transpose, turn);
  try_move("f32[40,2*N,N]", "f32[N,40,2*N]", "%1 = transpose %0 {perm=[2,0,1]}", 21, expect_transpose, turn);
}

typedef struct affine {
  int64_t start[4], step[4];
} affine;

static double expect_slice(const nncc_rt_tensor *in, const int64_t *index, const void *how) {
  const affine *a = how;
  int64_t inner[NN_MAX_RANK];
  for (int i = 0; i < in->rank; i++) inner[i] = a->start[i] + index[i] * a->step[i];
  return (double)case_flatten(in, inner);
}

Test(lower_move, slice) {
  affine reverse = {{4, 0, 7}, {-1, 1, -2}}, middle = {{1, 0, 0}, {1, 1, 1}}, tail = {{0, 1, 3}, {1, 1, 1}};
  try_move("f32[5,3,8]", "f32[5,3,4]", "%1 = slice %0 {starts=[4,0,7], steps=[-1,1,-2], dims=[5,3,4]}", 1, expect_slice,
           &reverse);
  try_move("f32[5,3,8]", "f32[3,3,8]", "%1 = slice %0 {starts=[1,0,0], steps=[1,1,1], dims=[3,3,8]}", 1, expect_slice,
           &middle);
  try_move("f32[N,3,8]", "f32[N,2,5]", "%1 = slice %0 {starts=[0,1,3], steps=[1,1,1], dims=[N,2,5]}", 3, expect_slice,
           &tail);
  try_move("f32[5,3,8]", "f32[5,0,8]", "%1 = slice %0 {starts=[0,1,0], steps=[1,1,1], dims=[5,0,8]}", 1, expect_slice,
           &middle);
}

static double expect_modulo(const nncc_rt_tensor *in, const int64_t *index, const void *how) {
  int drop = *(const int *)how; /* leading dimensions that the input does not have */
  int64_t inner[NN_MAX_RANK];
  for (int i = 0; i < in->rank; i++) inner[i] = index[i + drop] % in->dims[i];
  return (double)case_flatten(in, inner);
}

Test(lower_move, tile_and_broadcast) {
  int none = 0, one = 1;
  try_move("f32[2,3]", "f32[4,9]", "%1 = tile %0 {repeats=[2,3]}", 1, expect_modulo, &none);
  try_move("f32[2,3,4]", "f32[2,6,4]", "%1 = tile %0 {repeats=[1,2,1]}", 1, expect_modulo, &none);
  try_move("f32[N,3]", "f32[2*N,3]", "%1 = tile %0 {repeats=[2,1]}", 3, expect_modulo, &none);
  try_move("f32[3,1,5]", "f32[2,3,4,5]", "%1 = broadcast %0 {dims=[2,3,4,5]}", 1, expect_modulo, &one);
  try_move("f32[1,7]", "f32[6,7]", "%1 = broadcast %0 {dims=[6,7]}", 1, expect_modulo, &none);
  try_move("f32[7,1]", "f32[7,33]", "%1 = broadcast %0 {dims=[7,33]}", 1, expect_modulo, &none);
  try_move("f32[N,1]", "f32[N,5]", "%1 = broadcast %0 {dims=[N,5]}", 3, expect_modulo, &none);
}

static double expect_flat(const nncc_rt_tensor *in, const int64_t *index, const void *how) {
  (void)in;
  const int *dims = how;
  int64_t flat = 0;
  for (int i = 0; dims[i]; i++) flat = flat * dims[i] + index[i];
  return (double)flat;
}

Test(lower_move, reshape) {
  static const int a[] = {4, 15, 0}, b[] = {5, 2, 6, 0}, c[] = {60, 0}, d[] = {1, 12, 1, 5, 0}, e[] = {3, 6, 4, 0};
  try_move("f32[4,3,5]", "f32[4,15]", "%1 = reshape %0 {dims=[4,15]}", 1, expect_flat, a);
  try_move("f32[4,3,5]", "f32[5,2,6]", "%1 = reshape %0 {dims=[5,2,6]}", 1, expect_flat, b);
  try_move("f32[4,3,5]", "f32[60]", "%1 = reshape %0 {dims=[60]}", 1, expect_flat, c);
  try_move("f32[4,3,5]", "f32[1,12,1,5]", "%1 = reshape %0 {dims=[1,12,1,5]}", 1, expect_flat, d);
  try_move("f32[N,24]", "f32[N,6,4]", "%1 = reshape %0 {dims=[N,6,4]}", 3, expect_flat, e);
}

/* ---- pad, dilate --------------------------------------------------------------------------------- */

typedef struct pad_how {
  int mode;
  int before[2], after[2];
} pad_how;

/* numpy's rule, step by step; -1: outside. */
static int64_t pad_source(int mode, int64_t at, int64_t dim) {
  if (at >= 0 && at < dim) return at;
  if (mode == 0) return -1;
  if (mode == 1) return at < 0 ? 0 : dim - 1;
  if (mode == 3) return ((at % dim) + dim) % dim;
  while (dim > 1 && (at < 0 || at >= dim)) at = at < 0 ? -at : 2 * (dim - 1) - at;
  return dim > 1 ? at : 0;
}

static double expect_pad(const nncc_rt_tensor *in, const int64_t *index, const void *how) {
  const pad_how *p = how;
  int64_t inner[2];
  for (int i = 0; i < 2; i++) {
    inner[i] = pad_source(p->mode, index[i] - p->before[i], in->dims[i]);
    if (inner[i] < 0) return 7;
  }
  return (double)case_flatten(in, inner);
}

Test(lower_move, pad) {
  static const char *const modes[] = {"constant", "edge", "reflect", "wrap"};
  static const pad_how pads[] = {
      {0, {1, 2}, {0, 3}}, {0, {0, 9}, {0, 9}}, {0, {-1, 1}, {2, 0}}, {0, {2, -2}, {-1, -1}}, {0, {0, 0}, {3, 0}}};
  for (int mode = 0; mode < 4; mode++)
    for (size_t i = 0; i < sizeof pads / sizeof *pads; i++) {
      pad_how p = pads[i];
      char out[64], line[160];
      p.mode = mode;
      case_text(out, sizeof out, "f32[%d,%d]", 3 + p.before[0] + p.after[0], 6 + p.before[1] + p.after[1]);
      case_text(line, sizeof line, "%%1 = pad %%0, $v {before=[%d,%d], after=[%d,%d], mode=\"%s\"}", p.before[0],
                p.before[1], p.after[0], p.after[1], modes[mode]);
      try_move("f32[3,6]", out, line, 1, expect_pad, &p);
    }
  pad_how symbolic = {0, {1, 0}, {1, 0}};
  try_move("f32[N,6]", "f32[N+2,6]", "%1 = pad %0, $v {before=[1,0], after=[1,0]}", 4, expect_pad, &symbolic);
}

static double expect_dilate(const nncc_rt_tensor *in, const int64_t *index, const void *how) {
  const int *steps = how;
  int64_t inner[2];
  for (int i = 0; i < 2; i++) {
    if (index[i] % steps[i]) return 0;
    inner[i] = index[i] / steps[i];
  }
  return (double)case_flatten(in, inner);
}

Test(lower_move, dilate) {
  static const int both[] = {2, 3}, one[] = {1, 2};
  try_move("f32[3,4]", "f32[5,10]", "%1 = dilate %0 {steps=[2,3]}", 1, expect_dilate, both);
  try_move("f32[3,4]", "f32[3,7]", "%1 = dilate %0 {steps=[1,2]}", 1, expect_dilate, one);
}

/* ---- concat -------------------------------------------------------------------------------------- */

/* Three parts along `axis` of sizes a, b, c: the second is the first plus 1000, the third is minus the first. */
static void try_concat(int axis, const int *dims, bool fuses) {
  char text[2048], type[64], out[64];
  case_text(type, sizeof type, "f32[%d,%d,%d]", dims[0], dims[1], dims[2]);
  int o[3] = {dims[0], dims[1], dims[2]};
  o[axis] *= 3;
  case_text(out, sizeof out, "f32[%d,%d,%d]", o[0], o[1], o[2]);
  case_text(text, sizeof text,
            "nncc 1\nconst $k : f32[1,1,1] = [1000]\ngraph @main(%%x: %s) -> (%s) {\n  %%k = broadcast $k "
            "{dims=[%d,%d,%d]} : %s\n"
            "  %%a = add %%x, %%k : %s\n  %%b = neg %%x : %s\n  %%c = concat %%x, %%a, %%b {axis=%d} : %s\n  %%d = neg "
            "%%c : %s\n  return %%d\n}\n",
            type, out, dims[0], dims[1], dims[2], type, type, type, axis, out, out);
  run_case c = case_open(text, fuses, 1);
  case_run(&c);
  cr_assert_eq(c.code, 0);
  for (int64_t k = 0; k < case_count(&c.out[0]); k++) {
    int64_t index[3];
    case_unflatten(&c.out[0], k, index);
    int part = (int)(index[axis] / dims[axis]);
    index[axis] %= dims[axis];
    double x = (double)case_flatten(&c.in[0], index), wanted = part == 0 ? -x : part == 1 ? -(x + 1000) : x;
    cr_assert(case_out(&c, 0, k) == wanted, "axis %d, element %lld: %g, expected %g", axis, (long long)k,
              case_out(&c, 0, k), wanted);
  }
  case_close(&c);
}

Test(lower_move, concat) {
  static const int shapes[][3] = {{2, 3, 4}, {1, 5, 9}, {3, 1, 17}, {4, 4, 1}};
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
    for (int axis = 0; axis < 3; axis++) {
      try_concat(axis, shapes[i], false);
      try_concat(axis, shapes[i], true);
    }
}

/* Parts of a few microseconds each would wait for each other. */
Test(lower_move, parts_of_a_concat_are_one_parallel_loop) {
  run_case c = case_open("nncc 1\ngraph @main(%x: f32[8,30,64], %y: f32[3,30,64]) -> (f32[19,30,64]) {\n"
                         "  %0 = concat %x, %y, %x {axis=0} : f32[19,30,64]\n  %1 = neg %0 : f32[19,30,64]\n  return %1\n}\n",
                         true, 1);
  int loops = 0;
  char *text = NULL;
  size_t size;
  FILE *f = open_memstream(&text, &size);
  nn_kernel_print(f, c.p->kernels[0]);
  fclose(f);
  for (const char *at = text; (at = strstr(at, "parallel")); at++) loops++;
  cr_expect_eq(loops, 1, "%s", text);
  cr_expect_eq(c.p->nkernels, 1);
  free(text);
  case_close(&c);
}

Test(lower_move, concat_of_symbolic_parts_read_elsewhere) { /* parts are told apart element by element */
  run_case c = case_open(
      "nncc 1\ngraph @main(%x: f32[N,2], %y: f32[3,2]) -> (f32[2,N+3]) {\n  %0 = concat %x, %y {axis=0} : f32[N+3,2]\n"
      "  %1 = transpose %0 {perm=[1,0]} : f32[2,N+3]\n  return %1\n}\n",
      true, 4);
  case_run(&c);
  cr_assert_eq(c.code, 0);
  for (int i = 0; i < 2; i++)
    for (int j = 0; j < 7; j++) cr_assert_eq(case_out(&c, 0, i * 7 + j), j < 4 ? j * 2 + i : (j - 4) * 2 + i);
  case_close(&c);
}

/* ---- indices, shapes, sequences ------------------------------------------------------------------ */

Test(lower_move, iota_and_shape_of) {
  run_case c = case_open("nncc 1\ngraph @main(%x: f32[N,3]) -> (i32[2,N,4], i64[3]) {\n  %0 = iota {dtype=i32, "
                         "dims=[2,N,4], axis=1} : i32[2,N,4]\n"
                         "  %1 = shape_of {dims=[N,2*N+1,7]} : i64[3]\n  return %0, %1\n}\n",
                         false, 5);
  case_run(&c);
  cr_assert_eq(c.code, 0);
  for (int k = 0; k < 40; k++) cr_assert_eq(case_out(&c, 0, k), k / 4 % 5);
  cr_assert_eq(case_out(&c, 1, 0), 5);
  cr_assert_eq(case_out(&c, 1, 1), 11);
  cr_assert_eq(case_out(&c, 1, 2), 7);
  case_close(&c);
}

static const char *const reverse_text =
    "nncc 1\ngraph @main(%x: f32[4,3,2], %n: i64[3]) -> (f32[4,3,2]) {\n  %0 = reverse_sequence %x, %n {batch_axis=1, "
    "time_axis=0} : f32[4,3,2]\n  return %0\n}\n";

Test(lower_move, reverse_sequence) {
  run_case c = case_open(reverse_text, false, 1);
  int64_t *lengths = c.in[1].data;
  lengths[0] = 1, lengths[1] = 3, lengths[2] = 4;
  case_run(&c);
  cr_assert_eq(c.code, 0);
  for (int k = 0; k < 24; k++) {
    int t = k / 6, b = k / 2 % 3, from = t < lengths[b] ? (int)lengths[b] - 1 - t : t;
    cr_assert_eq(case_out(&c, 0, k), from * 6 + k % 6);
  }
  case_close(&c);
}

Test(lower_move, reverse_sequence_longer_than_time_is_an_error) {
  run_case c = case_open(reverse_text, false, 1);
  ((int64_t *)c.in[1].data)[2] = 5;
  case_run(&c);
  cr_assert_eq(c.code, NNCC_RT_EINDEX);
  case_close(&c);
}

Test(lower_move, four_bit_results) { /* two elements a byte: one task, no vectors */
  run_case c = case_open("nncc 1\ngraph @main(%x: i32[5,7]) -> (u4[7,5]) {\n  %0 = transpose %x {perm=[1,0]} : "
                         "i32[7,5]\n  %1 = cast %0 {to=u4} : u4[7,5]\n  return %1\n}\n",
                         true, 1);
  case_run(&c);
  cr_assert_eq(c.code, 0);
  for (int k = 0; k < 35; k++) cr_assert_eq(case_out(&c, 0, k), (k % 5 * 7 + k / 5) % 16);
  case_close(&c);
}
