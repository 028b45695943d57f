/* Shape rules of movement and of indexing. */
#include "tests/ir/shape_case.h"

Test(shape_move, same_elements) {
  static const shape_case cases[] = {
      {"%a: f32[3]", "broadcast %a {dims=[2,3]}", "f32[2,3]", NULL},
      {"%a: f32[1,3]", "broadcast %a {dims=[N,3]}", "f32[N,3]", NULL},
      {"%a: f32[N]", "broadcast %a {dims=[5]}", "f32[5]", NULL},
      {"%a: f32[2]", "broadcast %a {dims=[5]}", NULL, "is 2, expected 1 or 5"},
      {"%a: f32[2,2]", "broadcast %a {dims=[2]}", NULL, "to rank 1, expected rank 2 or more"},
      {"%a: f32[2,3]", "reshape %a {dims=[3,2]}", "f32[3,2]", NULL},
      {"%a: f32[1]", "reshape %a", "f32[]", NULL},
      {"%a: f32[2,3]", "reshape %a {dims=[7]}", NULL, "is 6, expected 7"},
      {"%a: f32[N,4]", "reshape %a {dims=[2*N,2]}", "f32[2*N,2]", NULL},
      {"%a: f32[N,4]", "reshape %a {dims=[M]}", "f32[M]", NULL},
      {"%a: f32[N]", "reshape %a {dims=[-1,N]}", NULL, "is -1, expected 0 or more"},
      {"%a: f32[2,3,4]", "transpose %a {perm=[2,0,1]}", "f32[4,2,3]", NULL},
      {"%a: f32[2,3]", "transpose %a {perm=[0,0]}", NULL, "perm[1] is 0, expected a permutation"},
      {"%a: f32[2,3]", "transpose %a {perm=[0]}", NULL, "perm has 1 entries, expected 2"},
      {"%a: f32[2,3]", "transpose %a {perm=[0,5]}", NULL, "perm[1] is 5"},
  };
  CHECK_CASES(cases);
}

Test(shape_move, slice) {
  static const shape_case cases[] = {
      {"%a: f32[5]", "slice %a {starts=[1], steps=[2], dims=[2]}", "f32[2]", NULL},
      {"%a: f32[5]", "slice %a {starts=[4], steps=[-1], dims=[5]}", "f32[5]", NULL},
      {"%a: f32[5]", "slice %a {starts=[5], steps=[1], dims=[0]}", "f32[0]", NULL},
      {"%a: f32[5]", "slice %a {starts=[1], steps=[2], dims=[3]}", NULL, "is 6, expected at most 5"},
      {"%a: f32[5]", "slice %a {starts=[-1], steps=[1], dims=[1]}", NULL, "is 0, expected at most -1"},
      {"%a: f32[5]", "slice %a {starts=[3], steps=[-1], dims=[5]}", NULL, "is 0, expected at most -1"},
      {"%a: f32[5]", "slice %a {starts=[3], steps=[0], dims=[1]}", NULL, "steps[0] is 0"},
      {"%a: f32[5]", "slice %a {starts=[3], steps=[1,1], dims=[1]}", NULL, "steps has 2 entries"},
      {"%a: f32[5]", "slice %a {starts=[1], steps=[9223372036854775807], dims=[3]}", NULL, "overflows"},
      {"%a: f32[N]", "slice %a {starts=[1], steps=[1], dims=[N - 1]}", "f32[N - 1]", NULL},
      {"%a: f32[N]", "slice %a {starts=[0], steps=[1], dims=[N + 1]}", NULL, "is N + 1, expected at most N"},
  };
  CHECK_CASES(cases);
}

Test(shape_move, growth) {
  static const shape_case cases[] = {
      {"%a: f32[2,3], %v: f32[]", "pad %a, %v {before=[0,1], after=[2,0]}", "f32[4,4]", NULL},
      {"%a: f32[5], %v: f32[]", "pad %a, %v {before=[-2], after=[-2]}", "f32[1]", NULL},
      {"%a: f32[5], %v: f32[]", "pad %a, %v {before=[-3], after=[-3]}", NULL, "is -1, expected 0 or more"},
      {"%a: f32[5], %v: f32[1]", "pad %a, %v {before=[0], after=[0]}", NULL, "expected rank 0"},
      {"%a: f32[5], %v: f32[]", "pad %a, %v {before=[0], after=[0], mode=\"mirror\"}", NULL,
       "expected one of constant, reflect"},
      {"%a: f32[0], %v: f32[]", "pad %a, %v {before=[1], after=[0], mode=\"edge\"}", NULL, "is empty"},
      {"%a: f32[2,3], %b: f32[2,N]", "concat %a, %b {axis=1}", "f32[2,N + 3]", NULL},
      {"%a: f32[2,3], %b: f32[4,3]", "concat %a, %b {axis=1}", NULL, "is 4, expected 2"},
      {"%a: f32[2,3], %b: f32[N,3]", "concat %b, %a {axis=-1}", "f32[2,6]", NULL},
      {"%a: f32[2,3], %b: i8[2,3]", "concat %a, %b {axis=0}", NULL, "expected element type f32"},
      {"%a: f32[], %b: f32[]", "concat %a, %b {axis=0}", NULL, "has rank 0"},
      {"%a: f32[2]", "concat %a", NULL, "attribute 'axis' of concat is not given"},
      {"%a: f32[2,3]", "tile %a {repeats=[2,0]}", "f32[4,0]", NULL},
      {"%a: f32[2]", "tile %a {repeats=[-1]}", NULL, "repeats[0] is -1"},
      {"%a: f32[2]", "tile %a {repeats=[5000000000000000000]}", NULL, "overflows"},
      {"%a: f32[3,0]", "dilate %a {steps=[2,2]}", "f32[5,0]", NULL},
      {"%a: f32[3]", "dilate %a {steps=[0]}", NULL, "steps[0] is 0, expected at least 1"},
      {"", "iota {dtype=i64, dims=[2,3], axis=1}", "i64[2,3]", NULL},
      {"", "iota {dtype=bool, dims=[2], axis=0}", NULL, "dtype is bool"},
      {"", "iota {dtype=i64, dims=[], axis=0}", NULL, "rank 0"},
      {"", "shape_of {dims=[N, 3]}", "i64[2]", NULL},
      {"%a: i64[2]", "shape_of %a", NULL, "has 1 operands, expected at most 0"},
  };
  CHECK_CASES(cases);
}

Test(shape_move, resize) {
  static const shape_case cases[] = {
      {"%a: f32[1,1,2,2]", "resize %a {dims=[1,1,4,4], mode=\"linear\"}", "f32[1,1,4,4]", NULL},
      {"%a: f32[2], %s: f32[1]", "resize %a, %s {dims=[4]}", "f32[4]", NULL},
      {"%a: f32[2], %s: f32[2]", "resize %a, %s {dims=[4]}", NULL, "is 2, expected 1"},
      {"%a: f32[2], %r: f32[2]", "resize %a, _, %r {dims=[4]}", "f32[4]", NULL},
      {"%a: f32[2]", "resize %a {dims=[4], scales=[0]}", NULL, "scales[0] is 0"},
      {"%a: f32[2]", "resize %a {dims=[4], mode=\"lanczos\"}", NULL, "expected one of nearest"},
      {"%a: f32[0]", "resize %a {dims=[4]}", NULL, "is empty"},
      {"%a: f32[2,3], %n: i64[3]", "reverse_sequence %a, %n", "f32[2,3]", NULL},
      {"%a: f32[2,3], %n: i64[2]", "reverse_sequence %a, %n", NULL, "is 2, expected 3"},
      {"%a: f32[2,3], %n: i64[3]", "reverse_sequence %a, %n {time_axis=1}", NULL, "both 1"},
  };
  CHECK_CASES(cases);
}

Test(shape_index, gather) {
  static const shape_case cases[] = {
      {"%a: f32[5,6], %i: i64[2,3]", "gather %a, %i {axis=1}", "f32[5,2,3]", NULL},
      {"%a: f32[5,6], %i: i64[]", "gather %a, %i", "f32[6]", NULL},
      {"%a: f32[5,6], %i: i32[2]", "gather %a, %i", NULL, "expected element type i64"},
      {"%a: f32[], %i: i64[2]", "gather %a, %i", NULL, "rank 0"},
      {"%a: f32[1,1,1,1,1,1,1], %i: i64[1,1,1,1,1,1,1]", "gather %a, %i", NULL, "rank 13"},
      {"%a: f32[5,6], %i: i64[2,6]", "gather_elements %a, %i", "f32[2,6]", NULL},
      {"%a: f32[5,6], %i: i64[2,7]", "gather_elements %a, %i", NULL, "is 7, expected at most 6"},
      {"%a: f32[5,6,7], %i: i64[4,2]", "gather_nd %a, %i", "f32[4,7]", NULL},
      {"%a: f32[5,6,7], %i: i64[5,1]", "gather_nd %a, %i {batch_dims=1}", "f32[5,7]", NULL},
      {"%a: f32[5,6], %i: i64[4,3]", "gather_nd %a, %i", NULL, "is 3, expected a number from 1 to 2"},
      {"%a: f32[5,6], %i: i64[4,N]", "gather_nd %a, %i", NULL, "is N, expected a number"},
      {"%a: f32[5,6,7], %i: i64[4,1]", "gather_nd %a, %i {batch_dims=1}", NULL, "is 4, expected 5"},
  };
  CHECK_CASES(cases);
}

Test(shape_index, scatter_and_search) {
  static const shape_case cases[] = {
      {"%a: f32[5], %i: i64[2], %u: f32[2]", "scatter_elements %a, %i, %u", "f32[5]", NULL},
      {"%a: f32[5], %i: i64[2], %u: f32[3]", "scatter_elements %a, %i, %u", NULL, "is 3, expected 2"},
      {"%a: bool[5], %i: i64[2], %u: bool[2]", "scatter_elements %a, %i, %u {reduction=\"add\"}", NULL, "is bool[5]"},
      {"%a: f32[5], %i: i64[2], %u: f32[2]", "scatter_elements %a, %i, %u {reduction=\"avg\"}", NULL,
       "expected one of none"},
      {"%a: f32[5,6], %i: i64[3,1], %u: f32[3,6]", "scatter_nd %a, %i, %u", "f32[5,6]", NULL},
      {"%a: f32[5,6], %i: i64[3,1], %u: f32[3]", "scatter_nd %a, %i, %u", NULL, "expected rank 2"},
      {"%a: f32[5,N]", "top_k %a {k=[3], axis=0}", "f32[3,N], i64[3,N]", NULL},
      {"%a: f32[5,N]", "top_k %a {k=[6], axis=0}", NULL, "k is 6, expected at most 5"},
      {"%a: f32[5]", "top_k %a {k=[-1]}", NULL, "is -1, expected 0 or more"},
      {"%a: f32[5]", "top_k %a", NULL, "k has 0 entries, expected 1"},
      {"%a: bool[2,N]", "non_zero %a", "i64[2,2*N], i64[]", NULL},
  };
  CHECK_CASES(cases);
}
