/* Operators about shapes: the types that come out, for constants, symbols and sizes known only while running. */
#include "load.h"

Test(onnx_move, reshape) {
  expect_type("in x 1 N,3,4\ninit s 7 2 0 -1\nnode Reshape r x,s y\nout y 1 ?,?", "f32[N,12]");
  expect_type("in x 1 N,3,4\ninit s 7 3 -1 2 6\nnode Reshape r x,s y\nout y 1 ?,?,?", "f32[N,2,6]");
  expect_type("opset 14\nin x 1 0,3\ninit s 7 2 3 0\nnode Reshape r x,s y allowzero=i:1\nout y 1 3,0", "f32[3,0]");
  expect_type("opset 4\nin x 1 2,3\nnode Reshape r x y shape=is:3,-1\nout y 1 3,2", "f32[3,2]");
  expect_type("in x 1 2,3\nin s 7 2\nnode Reshape r x,s y\nout y 1 3,2", "f32[3,2]"); /* by the declared shape */
  expect_failure("in x 1 2,3\ninit s 7 2 -1 -1\nnode Reshape r x,s y\nout y 1 ?,?", "has -1 twice");
  expect_failure("in x 1 2,3\ninit s 7 2 4 2\nnode Reshape r x,s y\nout y 1 ?,?", "the number of elements");
  expect_failure("in x 1 2,3\ninit s 7 3 2 3 0\nnode Reshape r x,s y\nout y 1 ?,?",
                 "entry 2 of the new shape is 0 (copy), the input has rank 2");
  expect_type("in x 1 2,3\nin s 7 2\nnode Reshape r x,s y\nout y 1 ?,?", "f32[d0,d1]");
}

Test(onnx_move, flatten_squeeze_unsqueeze) {
  expect_type("in x 1 2,N,4\nnode Flatten f x y axis=i:2\nout y 1 ?,4", "f32[2*N,4]");
  expect_type("in x 1 2,N,4\nnode Flatten f x y axis=i:-3\nout y 1 ?,?", "f32[1,8*N]");
  expect_type("in x 1 1,N,1\nnode Squeeze s x y\nout y 1 ?", "f32[N]");
  expect_type("in x 1 1,N,1\ninit a 7 1 -1\nnode Squeeze s x,a y\nout y 1 1,?", "f32[1,N]");
  expect_type("opset 11\nin x 1 1,3,1\nnode Squeeze s x y axes=is:0\nout y 1 3,1", "f32[3,1]");
  expect_failure("in x 1 2,3\ninit a 7 1 0\nnode Squeeze s x,a y\nout y 1 3",
                 "dimension 0, which is squeezed, is 2, expected 1");
  expect_type("in x 1 N,3\ninit a 7 2 -1 0\nnode Unsqueeze s x,a y\nout y 1 1,?,3,1", "f32[1,N,3,1]");
  expect_type("opset 11\nin x 1 3\nnode Unsqueeze s x y axes=is:0,2\nout y 1 1,3,1", "f32[1,3,1]");
  expect_failure("in x 1 3\ninit a 7 2 0 0\nnode Unsqueeze s x,a y\nout y 1 1,1,3", "axes names axis 0 twice");
}

/* A symbol may be 1, too. The declared ranks say whether it goes, with a check that it is 1. */
Test(onnx_move, squeeze_without_axes_of_symbols) {
  expect_type("in x 1 N,1\nnode Squeeze s x y\nout y 1 ?", "f32[N]");
  expect_type("in x 1 N,1\nnode Squeeze s x y\nout y 1 -", "f32[]");
}

/* Ranks further on say it: of the graph's outputs, or of what must fit. */
Test(onnx_move, squeeze_that_later_ranks_decide) {
  expect_type("in x 1 N,1\nnode Squeeze s x y\nnode Relu r y z\nout z 1 ?", "f32[N]");
  expect_type("in x 1 N,1\nnode Squeeze s x y\nnode Relu r y z\nout z 1 -", "f32[]");
  expect_type("in x 1 N,1,M\nnode Squeeze s x y\nnode Relu r y z\nout z 1 ?,?", "f32[N,M]");
  nn_module *m = load_text("in x 1 N,1\nnode Squeeze s x y\nnode Relu r y z\nout z 1 -");
  cr_expect(has_op(m, "check"));
  free_module(m);
  /* neither reading has the declared rank: the first one, and a warning */
  m = load_text("in x 1 N,1,M\nnode Squeeze s x y\nnode Relu r y z\nout z 1 ?");
  EXPECT_OK(m);
  EXPECT_DIAG(m, "N stays, also when it is 1");
  cr_expect_str_eq(result_type(m, 0), "f32[N,M]");
  free_module(m);
  /* only without N there is a concatenation */
  expect_type("in x 1 N,1,3\nnode Squeeze s x y\nnode Concat c y,b z axis=i:0\nin b 1 2\nout z 1 5", "f32[5]");
}

Test(onnx_move, axes_known_only_while_running) {
  expect_type("in x 1 2,3\nin a 7 1\nnode Unsqueeze s x,a y\nout y 1 2,1,3", "f32[2,1,3]");
  expect_type("in x 1 2,1,3\nin a 7 1\nnode Squeeze s x,a y\nout y 1 2,3", "f32[2,3]");
}

Test(onnx_move, expand_and_fill) {
  expect_type("in x 1 3,1\ninit s 7 3 2 1 6\nnode Expand e x,s y\nout y 1 2,3,6", "f32[2,3,6]");
  expect_type("in x 1 3,1\nin s 7 3\nnode Expand e x,s y\nout y 1 2,3,6", "f32[2,3,6]");
  expect_failure("in x 1 3,2\ninit s 7 1 3\nnode Expand e x,s y\nout y 1 3,3",
                 "dimension 1 of operand 0 is 2, expected 1 or 3");
  expect_type("init s 7 2 2 3\nnode ConstantOfShape c s y\nout y 1 2,3", "f32[2,3]");
  expect_type("in s 7 2\nnode ConstantOfShape c s y\nout y 1 4,N", "f32[4,d0]");
  expect_failure("init s 7 1 -2\nnode ConstantOfShape c s y\nout y 1 ?", "size 0 is -2, expected at least 0");
}

Test(onnx_move, slice) {
  expect_type("in x 1 10,N\ninit s 7 2 1 0\ninit e 7 2 -1 9223372036854775807\nnode Slice c x,s,e y\nout y 1 8,?",
              "f32[8,N]");
  expect_type("in x 1 10\ninit s 7 1 -1\ninit e 7 1 -9223372036854775807\ninit a 7 1 0\ninit t 7 1 -2\nnode Slice c "
              "x,s,e,a,t y\nout y 1 5",
              "f32[5]");
  expect_type("in x 1 10\ninit s 7 1 20\ninit e 7 1 30\nnode Slice c x,s,e y\nout y 1 ?", "f32[0]");
  expect_type("opset 9\nin x 1 4,5\nnode Slice c x y starts=is:0 ends=is:-1 axes=is:1\nout y 1 4,4", "f32[4,4]");
  expect_type("in x 1 4,5\nin s 7 1\nin e 7 1\ninit a 7 1 1\nnode Slice c x,s,e,a y\nout y 1 4,2", "f32[4,2]");
  expect_failure(
      "in x 1 4\ninit s 7 1 0\ninit e 7 1 2\ninit a 7 1 0\ninit t 7 1 0\nnode Slice c x,s,e,a,t y\nout y 1 ?",
      "steps has a 0");
  expect_failure("in x 1 4\ninit s 7 2 0 0\ninit e 7 1 2\nnode Slice c x,s,e y\nout y 1 ?",
                 "starts has 2 entries, ends 1");
}

Test(onnx_move, split) {
  expect_type("in x 1 6\nnode Split s x a,b\nout a 1 3\nout b 1 3", "f32[3]");
  expect_type("in x 1 6\ninit z 7 2 2 4\nnode Split s x,z a,b\nout b 1 4", "f32[4]");
  expect_type("opset 18\nin x 1 7\nnode Split s x a,b,c num_outputs=i:3\nout c 1 1", "f32[1]");
  expect_type("in x 1 0\ninit z 7 2 0 0\nnode Split s x,z a,b\nout b 1 ?", "f32[0]");
  expect_failure("in x 1 7\nnode Split s x a,b\nout a 1 3", "number of equal parts times their size is 6, expected 7");
  expect_failure("in x 1 7\ninit z 7 2 2 4\nnode Split s x,z a,b\nout a 1 2",
                 "sum of the sizes of the parts is 6, expected 7");
}

Test(onnx_move, pad) {
  expect_type("in x 1 N,3\ninit p 7 4 0 1 0 2\nnode Pad q x,p y\nout y 1 ?,6", "f32[N,6]");
  expect_type("opset 18\nin x 1 N,3\ninit p 7 2 -1 2\ninit v 1 - 1\ninit a 7 1 -1\nnode Pad q x,p,v,a y\nout y 1 ?,4",
              "f32[N,4]");
  expect_type("opset 2\nin x 1 2,3\nnode Pad q x y pads=is:1,0,1,0\nout y 1 4,3", "f32[4,3]");
  expect_type("in x 1 2,3\nin p 7 4\nnode Pad q x,p y\nout y 1 4,5", "f32[4,5]");
  expect_failure("in x 1 2,3\ninit p 7 4 0 0 0 0\nnode Pad q x,p y mode=s:mirror\nout y 1 2,3",
                 "mode is 'mirror', expected constant");
  expect_failure("in x 1 2,3\ninit p 7 3 0 0 0\nnode Pad q x,p y\nout y 1 2,3", "pads has 3 entries, expected 4");
  expect_type("opset 18\nin x 1 5,4\ninit s 7 2 2 7\nnode CenterCropPad q x,s y\nout y 1 2,7", "f32[2,7]");
}

Test(onnx_move, rearrange) {
  expect_type("in x 1 N,8,2,3\nnode DepthToSpace d x y blocksize=i:2\nout y 1 ?,2,4,6", "f32[N,2,4,6]");
  expect_type("in x 1 N,2,4,6\nnode SpaceToDepth d x y blocksize=i:2\nout y 1 ?,8,2,3", "f32[N,8,2,3]");
  expect_failure("in x 1 1,6,2,3\nnode DepthToSpace d x y blocksize=i:2\nout y 1 1,1,4,6",
                 "channels in whole blocks is 4, expected 6");
  expect_type("in x 1 2,3\ninit r 7 2 2 1\nnode Tile t x,r y\nout y 1 4,3", "f32[4,3]");
  expect_type("in x 1 2,3\nin r 7 2\nnode Tile t x,r y\nout y 1 4,3", "f32[4,3]");
  expect_type("in x 1 2,3\nnode Transpose t x y\nout y 1 3,2", "f32[3,2]");
  expect_type("opset 14\nin x 1 2,3\nnode Trilu t x y upper=i:0\nout y 1 2,3", "f32[2,3]");
}

Test(onnx_move, generated) {
  expect_type("init a 7 - 3\ninit b 7 - 10\ninit c 7 - 2\nnode Range r a,b,c y\nout y 7 ?", "i64[4]");
  expect_type("init a 7 - 10\ninit b 7 - 3\ninit c 7 - -2\nnode Range r a,b,c y\nout y 7 ?", "i64[4]");
  expect_type("init a 1 - 1\ninit b 1 - 2\ninit c 1 - 0.3\nnode Range r a,b,c y\nout y 1 ?", "f32[4]");
  expect_type("in a 1 -\nin b 1 -\nin c 1 -\nnode Range r a,b,c y\nout y 1 2", "f32[2]");
  expect_failure("init a 7 - 3\ninit b 7 - 10\ninit c 7 - 0\nnode Range r a,b,c y\nout y 7 ?", "delta is 0");
  expect_type("in x 1 N,3\nnode Shape s x y start=i:-1\nout y 7 1", "i64[1]");
  expect_type("in x 1 N,3\nnode Size s x y\nout y 7 -", "i64[]");
  expect_type("node Constant c - y value_ints=is:1,2,3\nout y 7 3", "i64[3]");
  expect_type("node Constant c - y value_float=f:2\nout y 1 -", "f32[]");
  expect_failure("node Constant c - y\nout y 1 -", "none of the attributes value");
  expect_type("opset 17\ninit n 7 - 10\nnode HannWindow h n y\nout y 1 10", "f32[10]");
  expect_type("in x 1 3,4\nnode EyeLike e x y dtype=i:7\nout y 7 3,4", "i64[3,4]");
}

Test(onnx_move, resize) {
  expect_type("in x 1 1,1,N,4\ninit s 1 4 1 1 2 0.5\nnode Resize r x,,s y\nout y 1 1,1,?,2", "f32[1,1,2*N,2]");
  expect_type("in x 1 1,1,2,4\ninit s 7 4 1 1 7 8\nnode Resize r x,,,s y mode=s:linear\nout y 1 1,1,7,8",
              "f32[1,1,7,8]");
  expect_type("opset 18\nin x 1 1,1,4,5\ninit s 7 2 8 9\nnode Resize r x,,,s y axes=is:2,3 "
              "keep_aspect_ratio_policy=s:not_larger\nout y 1 1,1,7,9",
              "f32[1,1,7,9]");
  expect_type("opset 10\nin x 1 1,1,2,2\ninit s 1 4 1 1 2 2\nnode Resize r x,s y\nout y 1 1,1,4,4", "f32[1,1,4,4]");
  expect_type("opset 7\nin x 1 1,1,2,2\nnode Upsample r x y scales=fs:1,1,2,3\nout y 1 1,1,4,6", "f32[1,1,4,6]");
  expect_type("in x 1 1,1,2,4\nin s 1 4\nnode Resize r x,,s y\nout y 1 1,1,4,8", "f32[1,1,4,8]");
  expect_failure("in x 1 1,1,2,4\nnode Resize r x y\nout y 1 1,1,4,8", "neither scales nor sizes are given");
  expect_failure("in x 1 2,4\ninit s 1 2 1 -1\nnode Resize r x,,s y\nout y 1 ?,?", "scales has an entry of -1");
}

Test(onnx_move, indexing) {
  expect_type("in x 1 5,N\nin i 6 2,2\nnode Gather g x,i y axis=i:1\nout y 1 5,2,2", "f32[5,2,2]");
  expect_failure("in x 1 5,N\nin i 1 2\nnode Gather g x,i y\nout y 1 2,?",
                 "input 1 is f32, expected indices of i32 or i64");
  expect_type("in x 1 4,5\nnode NonZero z x y\nout y 7 2,?", "i64[2,d0]");
  expect_type("in x 1 4,5\nin c 9 3\nnode Compress z x,c y axis=i:0\nout y 1 2,5", "f32[2,5]");
  expect_type("in x 7 3\ninit d 7 - 5\ninit v 1 2 0 1\nnode OneHot o x,d,v y\nout y 1 3,5", "f32[3,5]");
  expect_type("in x 1 3,9\ninit k 7 1 4\nnode TopK t x,k y,i\nout y 1 3,4\nout i 7 3,4", "f32[3,4]");
  expect_type("opset 9\nin x 1 3,9\nnode TopK t x y,i k=i:2 axis=i:0\nout i 7 2,9", "i64[2,9]");
  expect_failure("in x 1 3,9\ninit k 7 1 10\nnode TopK t x,k y,i\nout y 1 3,4", "k is 10, expected at most 9");
}
