/* Shape rules of matmul, convolution, pools, recurrent layers and control. */
#include "tests/ir/shape_case.h"

Test(shape_matmul, all) {
  static const shape_case cases[] = {
      {"%a: f32[2,3], %b: f32[3,4]", "matmul %a, %b", "f32[2,4]", NULL},
      {"%a: f32[3,2], %b: f32[4,3]", "matmul %a, %b {trans_a=1, trans_b=1}", "f32[2,4]", NULL},
      {"%a: f32[2,3], %b: f32[4,3]", "matmul %a, %b", NULL, "is 4, expected 3"},
      {"%a: f32[N,2,3], %b: f32[1,3,4]", "matmul %a, %b", "f32[N,2,4]", NULL},
      {"%a: f32[5,2,3], %b: f32[6,3,4]", "matmul %a, %b", NULL, "is 6, expected 5"},
      {"%a: u8[2,3], %b: i8[3,4]", "matmul %a, %b", "i32[2,4]", NULL},
      {"%a: u8[2,3], %b: i16[3,4]", "matmul %a, %b", "i32[2,4]", NULL},
      {"%a: u8[2,3], %b: i32[3,4]", "matmul %a, %b", NULL, "expected element type u8"},
      {"%a: bf16[2,3], %b: bf16[3,4]", "matmul %a, %b", "bf16[2,4]", NULL},
      {"%a: f32[2,3], %b: f32[1,3,4]", "matmul %a, %b", NULL, "expected rank 2"},
      {"%a: f32[3], %b: f32[3]", "matmul %a, %b", NULL, "expected rank 2"},
      {"%a: f32[2,0], %b: f32[0,4]", "matmul %a, %b", "f32[2,4]", NULL},
      {"%a: f32[2,N], %b: f32[M,4]", "matmul %a, %b", "f32[2,4]", NULL},
  };
  CHECK_CASES(cases);
}

Test(shape_conv, all) {
  static const shape_case cases[] = {
      {"%x: f32[1,3,8,8], %w: f32[4,3,3,3]", "conv %x, %w", "f32[1,4,6,6]", NULL},
      {"%x: f32[N,3,H,W], %w: f32[4,3,3,3]", "conv %x, %w {pads=[1,1,1,1]}", "f32[N,4,H,W]", NULL},
      {"%x: f32[1,3,7], %w: f32[4,3,3]", "conv %x, %w {strides=[2], dilations=[2]}", "f32[1,4,2]", NULL},
      {"%x: f32[1,6,7], %w: f32[4,3,3]", "conv %x, %w {groups=2}", "f32[1,4,5]", NULL},
      {"%x: f32[1,6,7], %w: f32[5,3,3]", "conv %x, %w {groups=2}", NULL, "is 1, expected 0"},
      {"%x: f32[1,3,7], %w: f32[4,4,3]", "conv %x, %w", NULL, "input has 3 channels, weight expects 4"},
      {"%x: f32[1,3,2], %w: f32[4,3,3]", "conv %x, %w", NULL, "is 3, expected at most 2"},
      {"%x: f32[1,3,7], %w: f32[4,3,3]", "conv %x, %w {strides=[0]}", NULL, "strides[0] is 0"},
      {"%x: f32[1,3,7], %w: f32[4,3,3]", "conv %x, %w {strides=[1,1]}", NULL, "strides has 2 entries"},
      {"%x: f32[1,3,7], %w: f32[4,3,3]", "conv %x, %w {pads=[1]}", NULL, "pads has 1 entries, expected 2"},
      {"%x: f32[1,3,7], %w: f32[4,3,3]", "conv %x, %w {groups=0}", NULL, "groups is 0"},
      {"%x: f32[1,3], %w: f32[4,3]", "conv %x, %w", NULL, "expected rank 3 to 5"},
      {"%x: u8[1,3,7], %w: i8[4,3,3]", "conv %x, %w {pads=[-1,-1]}", "i32[1,4,3]", NULL},
      {"%x: f32[0,3,7], %w: f32[4,3,3]", "conv %x, %w", "f32[0,4,5]", NULL},
      {"%x: f32[1,3,7], %w: f32[4,3,3]", "conv %x, %w {dilations=[9223372036854775807]}", NULL, "overflows"},
  };
  CHECK_CASES(cases);
}

Test(shape_pool, all) {
  static const shape_case cases[] = {
      {"%x: f32[1,3,8,8]", "max_pool %x {kernel=[2,2], strides=[2,2]}", "f32[1,3,4,4], i64[1,3,4,4]", NULL},
      {"%x: f32[1,3,7]", "avg_pool %x {kernel=[2], strides=[2]}", "f32[1,3,3]", NULL},
      {"%x: f32[1,3,7]", "avg_pool %x {kernel=[2], strides=[2], ceil=1}", "f32[1,3,4]", NULL},
      /* the last window would start in the right padding */
      {"%x: f32[1,3,2]", "avg_pool %x {kernel=[1], strides=[2], ceil=1}", "f32[1,3,1]", NULL},
      {"%x: f32[1,1,4]", "max_pool %x {kernel=[3], strides=[3], pads=[1,1], ceil=1}", "f32[1,1,2], i64[1,1,2]", NULL},
      {"%x: f32[1,1,1]", "max_pool %x {kernel=[2], strides=[2], ceil=1}", "f32[1,1,1], i64[1,1,1]", NULL},
      {"%x: f32[1,1,1]", "max_pool %x {kernel=[2], strides=[2]}", NULL, "is 2, expected at most 1"},
      {"%x: f32[1,3,7]", "avg_pool %x", NULL, "kernel has 0 entries, expected 1"},
      {"%x: f32[1,3,7]", "avg_pool %x {kernel=[2], pads=[2,0]}", NULL, "pads[0] is 2"},
      {"%x: f32[1,3,7]", "avg_pool %x {kernel=[2], dilations=[3], pads=[5,0]}", NULL, "pads[0] is 5"},
      {"%x: f32[1,3,7]", "avg_pool %x {kernel=[2], dilations=[3], pads=[3,0]}", "f32[1,3,7]", NULL},
      {"%x: f32[1,3,7]", "avg_pool %x {kernel=[2], pads=[-1,0]}", NULL, "pads[0] is -1"},
      {"%x: i8[1,3,7]", "avg_pool %x {kernel=[2]}", NULL, "expected float"},
      {"%x: i8[1,3,7]", "max_pool %x {kernel=[2]}", "i8[1,3,6], i64[1,3,6]", NULL},
  };
  CHECK_CASES(cases);
}

Test(shape_conv_paired, all) {
  static const shape_case cases[] = {
      {"%x: f32[N,2,H,W,16], %w: f32[3,33,16]", "conv_paired %x, %w {channels=31, outputs=48}", "f32[N,3,H,W,16]", NULL},
      {"%x: f32[1,1,9,8,4], %w: f32[2,6,4]", "conv_paired %x, %w {channels=4, outputs=5, strides=[2,3]}", "f32[1,2,5,3,4]", NULL},
      {"%x: f32[1,1,9,8,4], %w: f32[1,38,4]", "conv_paired %x, %w {channels=3, outputs=4, kernel=[3,3], pads=[1,1,1,1]}", "f32[1,1,9,8,4]", NULL},
      {"%x: f32[0,1,9,8,4], %w: f32[1,6,4]", "conv_paired %x, %w {channels=4, outputs=4}", "f32[0,1,9,8,4]", NULL},
      {"%x: f32[1,1,2,8,4], %w: f32[1,38,4]", "conv_paired %x, %w {channels=4, outputs=4, kernel=[3,3]}", NULL, "is 3, expected at most 2"},
      {"%x: f32[1,1,9,8,4], %w: f32[1,5,4]", "conv_paired %x, %w {channels=4, outputs=4}", NULL, "number of lines of a panel is 5, expected 6"},
      {"%x: f32[1,2,9,8,4], %w: f32[1,6,4]", "conv_paired %x, %w {channels=4, outputs=4}", NULL, "number of blocks is 2, expected 1"},
      {"%x: f32[1,1,9,8,4], %w: f32[2,6,4]", "conv_paired %x, %w {channels=4, outputs=4}", NULL, "number of panels is 2, expected 1"},
      {"%x: f32[1,1,9,8,4], %w: f32[1,6,8]", "conv_paired %x, %w {channels=4, outputs=4}", NULL, "number of channels of a panel is 8, expected 4"},
      {"%x: f32[1,1,9,8,4], %w: f32[1,N,4]", "conv_paired %x, %w {channels=4, outputs=4}", NULL, "found size of the weights N"},
      {"%x: f32[1,1,9,8,N], %w: f32[1,6,4]", "conv_paired %x, %w {channels=4, outputs=4}", NULL, "found size of a block N"},
      {"%x: f32[1,1,9,8,0], %w: f32[1,6,0]", "conv_paired %x, %w {channels=4, outputs=4}", NULL, "size of a block is 0"},
      {"%x: f32[1,1,9,8,4], %w: f32[1,6,4]", "conv_paired %x, %w {channels=0, outputs=4}", NULL, "channels is 0"},
      {"%x: f32[1,1,9,8,4], %w: f32[1,6,4]", "conv_paired %x, %w {channels=4}", NULL, "attribute 'outputs' of conv_paired is not given"},
      {"%x: f32[1,1,9,8,4], %w: f32[1,6,4]", "conv_paired %x, %w {channels=4, outputs=4, strides=[1]}", NULL, "strides has 1 entries, expected 2"},
      {"%x: f32[1,1,9,8,4], %w: f32[1,6,4]", "conv_paired %x, %w {channels=4, outputs=4, strides=[0,1]}", NULL, "strides[0] is 0"},
      {"%x: f32[1,1,9,8,4], %w: f32[1,6,4]", "conv_paired %x, %w {channels=4, outputs=4, kernel=[1]}", NULL, "kernel has 1 entries, expected 2"},
      {"%x: f32[1,1,9,8,4], %w: f32[1,6,4]", "conv_paired %x, %w {channels=4, outputs=4, kernel=[1,0]}", NULL, "kernel[1] is 0"},
      {"%x: f32[1,1,9,8,4], %w: f32[1,6,4]", "conv_paired %x, %w {channels=4, outputs=4, kernel=[65536,65536]}", NULL, "its kernel is too large"},
      {"%x: f32[1,1,9,8,4], %w: f16[1,6,4]", "conv_paired %x, %w {channels=4, outputs=4}", NULL, "expected element type f32"},
      {"%x: f32[1,4,9,8], %w: f32[1,6,4]", "conv_paired %x, %w {channels=4, outputs=4}", NULL, "expected rank 5"},
  };
  CHECK_CASES(cases);
}

Test(shape_paired_weights, all) {
  static const shape_case cases[] = {
      {"%w: f32[3,20,8]", "paired_weights %w", "f32[3,22,8]", NULL},
      {"%w: f32[20,31]", "paired_weights %w {width=16}", "f32[2,33,16]", NULL},
      {"%w: f32[20,31]", "paired_weights %w", NULL, "width is 0"},
      {"%w: f32[20,N]", "paired_weights %w {width=8}", NULL, "dimension 1 of the weights is N, expected a number"},
      {"%w: f32[20]", "paired_weights %w", NULL, "expected rank 2 to 3"},
      {"%w: f64[20,31]", "paired_weights %w {width=8}", NULL, "expected element type f32"},
  };
  CHECK_CASES(cases);
}

Test(shape_products_in_pairs, all) {
  static const shape_case cases[] = {
      {"%x: f32[N,5,31], %w: f32[2,33,8]", "matmul_paired %x, %w {columns=9}", "f32[N,5,9]", NULL},
      {"%x: f32[5,31], %w: f32[2,31,8]", "matmul_paired %x, %w {columns=9}", NULL, "is 31, expected 33"},
      {"%x: f32[5,N], %w: f32[2,33,8]", "matmul_paired %x, %w {columns=9}", NULL, "the depth is N, expected a number"},
      {"%x: f32[5,31], %w: f32[2,33,N]", "matmul_paired %x, %w {columns=9}", NULL, "found panels of N columns"},
      {"%x: f32[5,31], %w: f32[2,33,8]", "matmul_paired %x, %w {columns=17}", NULL, "is 2, expected 3"},
      {"%x: f32[1,2,6,6,16], %u: f32[3,36,34,16]", "conv_winograd %x, %u {outputs=48, paired=1}", "f32[1,3,4,4,16]", NULL},
      {"%x: f32[1,2,6,6,16], %u: f32[3,36,2,16]", "conv_winograd %x, %u {outputs=48, paired=1}", NULL, "panels have 2 lines"},
      {"%x: f32[1,2,6,6,16], %u: f32[3,36,34,16]", "conv_winograd %x, %u {outputs=48}", NULL, "number of blocks is 2, expected 3"},
      {"%x: f32[1,2,6,6,16], %u: f32[3,36,34,16]", "conv_winograd %x, %u {outputs=48, paired=2}", NULL, "paired is 2"},
      {"%x: f32[1,2,6,6,8], %u: f32[3,36,18,8]", "conv_winograd %x, %u {outputs=24, paired=1}", NULL, "size of a block is 8, expected 16"},
  };
  CHECK_CASES(cases);
}

Test(shape_rnn, all) {
  static const shape_case cases[] = {
      {"%x: f32[T,B,20], %r: f32[20,5], %h: f32[B,5], %c: f32[B,5]", "lstm %x, %r, %h, %c",
       "f32[T,B,5], f32[B,5], f32[B,5]", NULL},
      {"%x: f32[7,2,20], %r: f32[20,5], %h: f32[2,5], %c: f32[2,5], %p: f32[15]", "lstm %x, %r, %h, %c, _, %p",
       "f32[7,2,5], f32[2,5], f32[2,5]", NULL},
      {"%x: f32[7,2,20], %r: f32[3,20,2], %h: f32[2,5], %c: f32[2,5]", "lstm %x, %r, %h, %c",
       "f32[7,2,5], f32[2,5], f32[2,5]", NULL},
      {"%x: f32[7,2,20], %r: f32[3,20,2], %h: f32[2,5], %c: f32[2,5], %p: f32[15]", "lstm %x, %r, %h, %c, _, %p",
       "f32[7,2,5], f32[2,5], f32[2,5]", NULL},
      {"%x: f32[7,2,15], %r: f32[3,15,2], %h: f32[2,5], %b: f32[15]", "gru %x, %r, %h, _, %b", "f32[7,2,5], f32[2,5]",
       NULL},
      {"%x: f32[7,2,20], %r: f32[2,20,2], %h: f32[2,5], %c: f32[2,5]", "lstm %x, %r, %h, %c", NULL, "is 2, expected 3"},
      {"%x: f32[7,2,20], %r: f32[1,20,W], %h: f32[2,5], %c: f32[2,5]", "lstm %x, %r, %h, %c", NULL,
       "found panels of W units"},
      {"%x: f32[7,2,19], %r: f32[20,5], %h: f32[2,5], %c: f32[2,5]", "lstm %x, %r, %h, %c", NULL, "is 19, expected 20"},
      {"%x: f32[7,2,20], %r: f32[20,5], %h: f32[2,5], %c: f32[2,5], %n: i64[3]", "lstm %x, %r, %h, %c, %n", NULL,
       "is 3, expected 2"},
      {"%x: f32[7,2,20], %r: f32[20,5], %h: f32[2,5]", "lstm %x, %r, %h, _", NULL, "operand 3 of lstm is missing"},
      {"%x: f32[7,2,15], %r: f32[15,5], %h: f32[2,5]", "gru %x, %r, %h {activations=[\"Sigmoid\", \"Tanh\"]}",
       "f32[7,2,5], f32[2,5]", NULL},
      {"%x: f32[7,2,15], %r: f32[15,5], %h: f32[2,5]", "gru %x, %r, %h {activations=[\"Sigmoid\"]}", NULL,
       "activations has 1 entries, expected 2"},
      {"%x: f32[7,2,15], %r: f32[15,5], %h: f32[2,5]", "gru %x, %r, %h {activations=[\"Sigmoid\", \"Gelu\"]}", NULL,
       "activations is 'Gelu'"},
      {"%x: f32[7,2,5], %r: f32[5,5], %h: f32[2,5]", "rnn %x, %r, %h", "f32[7,2,5], f32[2,5]", NULL},
  };
  CHECK_CASES(cases);
}

Test(shape_control, all) {
  static const shape_case cases[] = {
      {"%a: i64[2]", "bind_dims %a {dims=[N, 3]}", "", NULL},
      {"%a: i64[2]", "bind_dims %a {dims=[N]}", NULL, "is 2, expected 1"},
      {"%a: i32[1]", "bind_dims %a {dims=[N]}", NULL, "expected element type i64"},
      {"", "check {kind=\"le\", found=[N], expected=[M]}", "", NULL},
      {"", "check {kind=\"gt\", found=[N], expected=[M]}", NULL, "expected one of eq, le, broadcast"},
      {"", "check {found=[N], expected=[M, 2]}", NULL, "expected has 2 entries, expected 1"},
  };
  CHECK_CASES(cases);
}
