/* Shape rules of pointwise ops, reductions and normalisation. */
#include "tests/ir/shape_case.h"

Test(shape_elem, pointwise) {
  static const shape_case cases[] = {
      {"%a: f32[2,3]", "relu %a", "f32[2,3]", NULL},
      {"%a: f32[]", "exp %a", "f32[]", NULL},
      {"%a: f32[0,3]", "sqrt %a", "f32[0,3]", NULL},
      {"%a: i32[2]", "exp %a", NULL, "operand 0 is i32[2], expected float"},
      {"%a: i32[2]", "not %a", NULL, "expected bool"},
      {"%a: f32[2], %b: f32[2]", "add %a, %b", "f32[2]", NULL},
      {"%a: f32[2], %b: f32[3]", "add %a, %b", NULL, "is 3, expected 2"},
      {"%a: f32[2], %b: f32[2,1]", "add %a, %b", NULL, "rank 2, expected rank 1"},
      {"%a: f32[2], %b: f64[2]", "add %a, %b", NULL, "expected element type f32"},
      {"%a: bool[2], %b: bool[2]", "add %a, %b", NULL, "expected float or signed integer"},
      {"%a: bool[2], %b: bool[2]", "and %a, %b", "bool[2]", NULL},
      {"%a: f32[N], %b: f32[4]", "mul %a, %b", "f32[4]", NULL},
      {"%a: f32[N], %b: f32[M]", "mul %a, %b", "f32[N]", NULL},
      {"%a: f32[N], %b: f32[N + 1]", "mul %a, %b", NULL, "is N + 1, expected N"},
      {"%a: f32[N], %b: f32[2000]", "mul %a, %b", NULL, "is 2000, expected N"},
      {"%a: f32[2], %b: f32[2]", "lt %a, %b", "bool[2]", NULL},
      {"%a: bool[2], %b: bool[2]", "lt %a, %b", NULL, "operand 0 is bool[2]"},
      {"%a: bool[2], %b: bool[2]", "eq %a, %b", "bool[2]", NULL},
      {"%a: f32[2]", "is_nan %a", "bool[2]", NULL},
      {"%a: i8[2]", "is_nan %a", NULL, "expected float"},
      {"%a: f32[2]", "is_inf %a {positive=0}", "bool[2]", NULL},
      {"%a: f32[2]", "is_inf %a {positive=3}", NULL, "positive is 3, expected 0 to 1"},
      {"%c: bool[2], %a: f32[2], %b: f32[2]", "select %c, %a, %b", "f32[2]", NULL},
      {"%c: i8[2], %a: f32[2], %b: f32[2]", "select %c, %a, %b", NULL, "expected element type bool"},
      {"%a: u8[2], %b: u8[2]", "shl %a, %b", "u8[2]", NULL},
  };
  CHECK_CASES(cases);
}

Test(shape_elem, cast) {
  static const shape_case cases[] = {
      {"%a: f32[2]", "cast %a {to=i64}", "i64[2]", NULL},
      {"%a: bool[2]", "cast %a {to=f16}", "f16[2]", NULL},
      {"%a: f32[2]", "cast %a", NULL, "attribute 'to' of cast is not given"},
      {"%a: f32[2]", "cast %a {to=c64}", NULL, "no conversion from f32 to c64"},
      {"%a: f32[2]", "bitcast %a {to=i32}", "i32[2]", NULL},
      {"%a: f32[2]", "bitcast %a {to=i64}", NULL, "bits of f32 (32) read as i64 (64)"},
  };
  CHECK_CASES(cases);
}

Test(shape_reduce, all) {
  static const shape_case cases[] = {
      {"%a: f32[2,3,4]", "reduce_sum %a {axes=[0,2]}", "f32[1,3,1]", NULL},
      {"%a: f32[2,3,4]", "reduce_sum %a {axes=[0,2], keepdims=0}", "f32[3]", NULL},
      {"%a: f32[2,3]", "reduce_max %a", "f32[2,3]", NULL},
      {"%a: bool[2,3]", "reduce_max %a {axes=[1]}", "bool[2,1]", NULL},
      {"%a: bool[2,3]", "reduce_sum %a {axes=[1]}", NULL, "operand 0 is bool"},
      {"%a: f32[2,3]", "reduce_sum %a {axes=[1,0]}", NULL, "axes[1] is 0, expected 2 to 1"},
      {"%a: f32[2,3]", "reduce_sum %a {axes=[2]}", NULL, "axes[0] is 2, expected 0 to 1"},
      {"%a: f32[2,3]", "reduce_sum %a {axes=[-1]}", NULL, "axes[0] is -1"},
      {"%a: f32[N,3]", "arg_max %a {axis=-1}", "i64[N,1]", NULL},
      {"%a: f32[N,3]", "arg_min %a {axis=0, keepdims=0}", "i64[3]", NULL},
      {"%a: f32[0,3]", "arg_min %a {axis=0}", NULL, "axis 0 of operand 0 is empty"},
      {"%a: f32[0,0]", "arg_min %a {axis=0}", "i64[1,0]", NULL},
      {"%a: f32[]", "arg_min %a {axis=0}", NULL, "has rank 0"},
      {"%a: i32[2,3]", "cum_sum %a {axis=1}", "i32[2,3]", NULL},
      {"%a: i32[2,3]", "cum_sum %a {axis=2}", NULL, "axis is 2, expected -2 to 1"},
  };
  CHECK_CASES(cases);
}

Test(shape_norm, all) {
  static const shape_case cases[] = {
      {"%a: f16[2,3]", "softmax %a", "f16[2,3]", NULL},
      {"%a: i8[2,3]", "softmax %a", NULL, "expected float"},
      {"%a: f32[2,3]", "log_softmax %a {axis=-3}", NULL, "axis is -3, expected -2 to 1"},
      {"%a: f16[N,3,4]", "normalize %a {axis=1}", "f16[N,3,4], f32[N,1,1], f32[N,1,1]", NULL},
      {"%a: f64[3]", "normalize %a", "f64[3], f64[1], f64[1]", NULL},
      {"%a: f32[3]", "normalize %a {epsilon=-1}", NULL, "epsilon is -1"},
  };
  CHECK_CASES(cases);
}
