/* Operators that are composed of many core ops: the types that come out, and what is refused. */
#include "load.h"

Test(onnx_compose, attention) {
  expect_type("opset 23\nin q 1 B,4,S,8\nin k 1 B,2,T,8\nin v 1 B,2,T,6\nnode Attention a q,k,v y\nout y 1 ?,?,?,?",
              "f32[B,4,S,6]");
  expect_type("opset 23\nin q 1 2,S,32\nin k 1 2,T,16\nin v 1 2,T,12\nnode Attention a q,k,v y q_num_heads=i:4 "
              "kv_num_heads=i:2\nout y 1 ?,?,?",
              "f32[2,S,24]");
  expect_type(
      "opset 23\nin q 1 1,2,S,8\nin k 1 1,2,S,8\nin p 1 1,2,P,8\nnode Attention a q,k,k,,p,p y,c\nout c 1 ?,?,?,?",
      "f32[1,2,P + S,8]");
  expect_failure("opset 23\nin q 1 2,S,30\nin k 1 2,T,16\nnode Attention a q,k,k y q_num_heads=i:4 "
                 "kv_num_heads=i:2\nout y 1 ?,?,?",
                 "q_num_heads is 4, expected a divisor of 30");
  expect_failure("opset 23\nin q 1 2,3,S,8\nin k 1 2,2,T,8\nnode Attention a q,k,k y\nout y 1 ?,?,?,?",
                 "3 heads of queries are no multiple of 2 heads of keys");
}

Test(onnx_compose, rotary_embedding) {
  expect_type("opset 23\nin x 1 2,4,S,8\nin c 1 50,4\nin s 1 50,4\nin p 7 2,S\nnode RotaryEmbedding r x,c,s,p y\nout y "
              "1 ?,?,?,?",
              "f32[2,4,S,8]");
  expect_failure("opset 23\nin x 1 2,4,S,7\nin c 1 50,3\nin s 1 50,3\nin p 7 2,S\nnode RotaryEmbedding r x,c,s,p "
                 "y\nout y 1 ?,?,?,?",
                 "7 numbers of a head are to be rotated, expected an even count");
}

Test(onnx_compose, grids) {
  expect_type("opset 20\nin x 1 N,3,8,9\nin g 1 N,H,5,2\nnode GridSample s x,g y mode=s:cubic\nout y 1 ?,?,?,?",
              "f32[N,3,H,5]");
  expect_type("opset 20\nin x 3 N,3,4,8,9\nin g 1 N,2,5,6,3\nnode GridSample s x,g y mode=s:nearest\nout y 3 ?,?,?,?,?",
              "i8[N,3,2,5,6]");
  expect_failure("opset 20\nin x 1 1,3,8,9\nin g 1 1,4,5,3\nnode GridSample s x,g y\nout y 1 ?,?,?,?",
                 "numbers of a place in the grid");
  expect_failure(
      "opset 20\nin x 1 1,3,8,9\nin g 1 1,4,5,2\nnode GridSample s x,g y padding_mode=s:wrap\nout y 1 ?,?,?,?",
      "padding_mode is 'wrap', expected zeros, border or reflection");
  expect_type("opset 20\nin t 1 N,2,3\ninit s 7 4 2 3 5 6\nnode AffineGrid a t,s y\nout y 1 2,5,6,2", "f32[2,5,6,2]");
}

Test(onnx_compose, fourier) {
  expect_type("opset 17\nin x 1 N,10,1\nnode DFT d x y axis=i:1 onesided=i:1\nout y 1 ?,6,2", "f32[N,6,2]");
  expect_type("opset 20\nin x 1 N,6,2\nnode DFT d x y inverse=i:1 onesided=i:1\nout y 1 ?,10,1", "f32[N,10,1]");
  expect_failure("opset 17\nin x 1 2,10,3\nnode DFT d x y\nout y 1 ?,?,?",
                 "the last dimension of input 0 is 3, expected 1 (real) or 2 (complex)");
  expect_type("opset 17\nin x 1 N,128,1\ninit s 7 - 8\nin w 1 16\nnode STFT d x,s,w y\nout y 1 ?,15,9,2",
              "f32[N,15,9,2]");
}
