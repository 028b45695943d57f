#!/usr/bin/python3
"""Runs small one-operator models, whose expected outputs ONNX Runtime makes on the spot, through `nncc test`.

For what the official node tests do not have: com.microsoft and ai.onnx.ml operators, recurrent layers with
every option, quantised products, old opsets, transposed convolutions, einsum equations.

  ort_cases.py NNCC [NAME..]      (NODE_PATH leads to onnxruntime-node; Debian: python3-onnx, python3-numpy)

NAME: only cases whose name holds it. Exit status 77 where ONNX Runtime is missing.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

ORT_RUN = pathlib.Path(__file__).parent.parent / "bench" / "ort_run.js"
MS, ML = "com.microsoft", "ai.onnx.ml"
DTYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "int32": TensorProto.INT32,
          "uint8": TensorProto.UINT8, "int8": TensorProto.INT8}
rng = np.random.default_rng(7)
cases = []


def f32(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def u8(*shape):
    return rng.integers(0, 256, shape).astype(np.uint8)


def i8(*shape):
    return rng.integers(-128, 128, shape).astype(np.int8)


def ints(low, high, shape, dtype=np.int64):
    return rng.integers(low, high, shape).astype(dtype)


def one(value, dtype=np.float32):
    return np.array(value, dtype)


def case(name, op, inputs, nout=1, domain="", opset=13, consts=(), wanted=None, **attrs):
    """inputs: arrays, None for one that is absent; consts: which are initializers; wanted: which outputs are named."""
    cases.append((name, op, inputs, nout, domain, opset, consts, wanted, attrs))


# ---- the cases ----------------------------------------------------------------------------------


def microsoft():
    case("fastgelu", "FastGelu", [f32(3, 8), f32(8)], domain=MS)
    case("biasgelu", "BiasGelu", [f32(3, 8), f32(8)], domain=MS)
    case("quickgelu", "QuickGelu", [f32(3, 8)], domain=MS, alpha=1.5)
    x = [f32(2, 3, 8), f32(2, 3, 8), f32(8)]
    case("skipln", "SkipLayerNormalization", x + [f32(8), f32(8)], domain=MS, epsilon=1e-5)
    case("skipln_sum", "SkipLayerNormalization", x, 4, MS, wanted=[1, 0, 0, 1])
    ids, tables = ints(0, 9, (2, 4), np.int32), [f32(9, 8), f32(6, 8)]
    mask = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], np.int32)
    segments = ints(0, 2, (2, 4), np.int32)
    case("embedln", "EmbedLayerNormalization", [ids, segments] + tables + [f32(2, 8), f32(8), f32(8), mask], 2, MS)
    case("embedln_short", "EmbedLayerNormalization", [ids, None] + tables + [None, f32(8), f32(8)], 2, MS)
    case("embedln_positions", "EmbedLayerNormalization",
         [ids, None] + tables + [None, f32(8), f32(8), None, ints(0, 6, (2, 4), np.int32)], 3, MS)
    for a in (0, 1):
        for b in (0, 1):
            case(f"fusedmatmul{a}{b}", "FusedMatMul", [f32(2, 5, 3) if a else f32(2, 3, 5), f32(2, 4, 5) if b else f32(2, 5, 4)],
                 domain=MS, transA=a, transB=b, alpha=0.5)
    case("fusedmatmul_batch", "FusedMatMul", [f32(5, 2, 3), f32(5, 2, 4)], domain=MS, transBatchA=1, transBatchB=1, transA=1)


def qlinear():
    for op in ("Add", "Mul"):  # scales that give halves, and some that do not
        for scales in ((0.1, 0.05, 0.2), (0.5, 0.125, 2), (0.0837, 0.0513, 0.3211)):
            a, b, y = (one(s) for s in scales)
            case(f"qlinear{op}{scales[0]}_u8", "QLinear" + op, [u8(8, 30, 4), a, one(121, np.uint8), u8(4), b, one(7, np.uint8), y, one(33, np.uint8)], domain=MS)
            case(f"qlinear{op}{scales[0]}_i8", "QLinear" + op, [i8(8, 30, 4), a, one(-3, np.int8), i8(8, 30, 4), b, one(17, np.int8), y, one(-33, np.int8)], domain=MS)
    x, params = u8(1, 2, 6, 6), [one(.1), one(120, np.uint8), one(.07), one(101, np.uint8)]
    case("qavgpool", "QLinearAveragePool", [x] + params, domain=MS, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    case("qavgpool_pad", "QLinearAveragePool", [x] + params, domain=MS, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
    case("qavgpool_last", "QLinearAveragePool", [u8(1, 6, 6, 2)] + params, domain=MS, kernel_shape=[3, 3], channels_last=1)
    case("qsoftmax", "QLinearSoftmax", [u8(3, 12), one(.1), one(120, np.uint8), one(1 / 256), one(0, np.uint8)], domain=MS, axis=-1, opset_attr=13)


def attention():
    b, s, d, n, p = 2, 5, 8, 2, 3
    x, w, bias, past = f32(b, s, d), f32(d, 3 * d) * .5, f32(3 * d), f32(2, b, n, p, d // n)
    tri = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]], np.int32)
    with_past = ints(0, 2, (b, s + p), np.int32) | np.array([1] + [0] * 7, np.int32)

    def add(name, inputs, nout=1, **attrs):
        case("attention" + name, "Attention", [x, w, bias] + inputs, nout, MS, num_heads=n, **attrs)
    add("", [])
    add("_causal", [], unidirectional=1)
    add("_ends", [np.array([3, 5], np.int32)])
    add("_ends_starts", [np.array([4, 5, 1, 2], np.int32)])
    add("_mask2", [tri])
    add("_mask3", [ints(0, 2, (b, s, s), np.int32)])
    add("_past", [None, past], 2, unidirectional=1)
    add("_past_mask", [with_past, past], 2, unidirectional=1)
    add("_present", [], 2)
    add("_bias", [None, None, f32(b, n, s, s)])
    add("_scale", [], scale=0.3)
    case("attention_sizes", "Attention", [x, f32(d, 20), f32(20)], domain=MS, num_heads=n, qkv_hidden_sizes=[8, 8, 4])


def ml():
    coefficients, intercepts = [float(v) for v in f32(12)], [float(v) for v in f32(3)]
    for how in ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"):
        case("classifier_" + how, "LinearClassifier", [f32(5, 4)], 2, ML, coefficients=coefficients, intercepts=intercepts,
             classlabels_ints=[7, 8, 9], post_transform=how)
        case("classifier2_" + how, "LinearClassifier", [f32(5, 4)], 2, ML, coefficients=coefficients[:4], intercepts=intercepts[:1],
             classlabels_ints=[7, 9], post_transform=how)
        case("regressor_" + how, "LinearRegressor", [f32(5, 4)], 1, ML, coefficients=coefficients, intercepts=intercepts, targets=3, post_transform=how)
    case("classifier_i64", "LinearClassifier", [ints(-4, 4, (5, 4))], 2, ML, coefficients=coefficients, intercepts=intercepts, classlabels_ints=[7, 8, 9])
    x = f32(4, 5)
    x[1], x[2] = 0, -abs(x[2])
    for how in ("MAX", "L1", "L2"):
        case("normalizer_" + how, "Normalizer", [x], 1, ML, norm=how)
    case("scaler", "Scaler", [f32(4, 3)], 1, ML, offset=[1., 2., 3.], scale=[.5, 2., 3.])
    case("scaler_1", "Scaler", [ints(-4, 4, (4, 3))], 1, ML, offset=[1.], scale=[.5])


def recurrent():
    t, b, i, h = 5, 3, 4, 6
    odd = {3: ["HardSigmoid", "Relu", "ScaledTanh"], 2: ["HardSigmoid", "LeakyRelu"], 1: ["Affine"]}
    alpha, beta = {3: [.3, .7], 2: [.3, .2], 1: [.5]}, {3: [.4, .6], 2: [.4], 1: [.1]}
    for cell, gates, nact in (("LSTM", 4, 3), ("GRU", 3, 2), ("RNN", 1, 1)):
        for direction in ("forward", "reverse", "bidirectional"):
            nd = 2 if direction == "bidirectional" else 1
            x, w, r, bias = f32(t, b, i), f32(nd, gates * h, i) * .5, f32(nd, gates * h, h) * .5, f32(nd, 2 * gates * h) * .3
            states, lengths = [f32(nd, b, h) for _ in range(2 if cell == "LSTM" else 1)], np.array([5, 2, 4], np.int32)

            def add(name, inputs, opset=14, **attrs):
                case(f"{cell}_{direction}{name}", cell, inputs, 1 + len(states), opset=opset, direction=direction, hidden_size=h, **attrs)
            add("", [x, w, r, bias, None] + states)
            add("_lengths", [x, w, r, bias, lengths] + states, consts=(1, 2, 3))
            add("_plain", [x, w, r], opset=7, consts=(1, 2))
            add("_activations", [x, w, r, bias], activations=odd[nact] * nd, activation_alpha=alpha[nact] * nd, activation_beta=beta[nact] * nd)
            if cell == "GRU":
                add("_before_reset", [x, w, r, bias, lengths] + states, linear_before_reset=1)
            if cell == "LSTM":
                add("_peepholes", [x, w, r, bias, lengths] + states + [f32(nd, 3 * h)])
                add("_input_forget", [x, w, r, bias, None] + states, input_forget=1)


def quantised():
    x, w, w_scales = u8(1, 4, 7, 7), i8(6, 2, 3, 3), (abs(f32(6)) * .02).astype(np.float32)
    for zero in (0, 128, 77):
        case(f"convinteger_{zero}", "ConvInteger", [u8(1, 3, 7, 7), u8(4, 3, 3, 3), one(120, np.uint8), one(zero, np.uint8)], opset=10, pads=[1, 0, 1, 1], consts=(1, 3))
        case(f"matmulinteger_{zero}", "MatMulInteger", [u8(2, 3, 5), u8(5, 4), one(9, np.uint8), one(zero, np.uint8)], opset=10, consts=(1, 3))
    case("qlinearconv", "QLinearConv", [x, one(.02), one(120, np.uint8), w, w_scales, np.zeros(6, np.int8), one(.3), one(99, np.uint8), ints(-3000, 3000, 6, np.int32)],
         opset=10, group=2, pads=[1, 1, 1, 1], consts=range(1, 9))
    for consts in ((), range(1, 9)):
        case(f"qlinearconv_u8_{len(consts)}", "QLinearConv", [x, one(.5), one(13, np.uint8), u8(6, 4, 3, 3), one(.5), one(120, np.uint8), one(64), one(99, np.uint8)],
             opset=10, pads=[1, 1, 1, 1], consts=consts)
    case("matmulinteger_columns", "MatMulInteger", [u8(3, 5), i8(5, 4), one(9, np.uint8), one([1, -2, 3, 4], np.int8)], opset=10, consts=(1, 3))
    case("qlinearmatmul", "QLinearMatMul", [u8(3, 5), one(.02), one(9, np.uint8), i8(5, 4), (abs(f32(4)) * .02).astype(np.float32), np.zeros(4, np.int8), one(.1), one(3, np.uint8)],
         opset=10, consts=(3, 4, 5))
    for name, v in (("", f32(3, 7)), ("_zero", np.zeros((3, 2), np.float32)), ("_positive", abs(f32(3, 7)))):
        case("dynamicquantize" + name, "DynamicQuantizeLinear", [v], 3, opset=11)
    case("quantize_axis", "QuantizeLinear", [f32(2, 3, 4) * 50, abs(f32(3)) + .1, one([1, 2, 3], np.int8)], axis=1)
    case("quantize_halves", "QuantizeLinear", [np.arange(-40, 40, dtype=np.float32) / 2, one(1), one(33, np.uint8)])
    case("dequantize_axis", "DequantizeLinear", [i8(2, 3, 4), abs(f32(4)), one([1, 2, 3, 4], np.int8)], axis=-1)
    case("dequantize_i32", "DequantizeLinear", [ints(-10**6, 10**6, (2, 3), np.int32), one(.01)])


def windows():
    x, w = f32(1, 4, 5, 5), f32(4, 3, 3, 3)
    case("convtranspose_group", "ConvTranspose", [x, w, f32(6)], opset=11, group=2, strides=[2, 2], pads=[1, 1, 0, 1], output_padding=[1, 0])
    case("convtranspose_same", "ConvTranspose", [x, w], opset=11, auto_pad="SAME_UPPER", strides=[2, 2])
    case("convtranspose_lower", "ConvTranspose", [x, f32(4, 3, 4, 4)], opset=11, auto_pad="SAME_LOWER", strides=[3, 3])
    case("convtranspose_shape", "ConvTranspose", [x, w], opset=11, output_shape=[10, 9], strides=[2, 2])
    case("convtranspose_dilated", "ConvTranspose", [f32(1, 4, 5), f32(4, 3, 3)], opset=11, dilations=[2], pads=[3, 3], strides=[2])
    case("convtranspose_crop", "ConvTranspose", [f32(1, 4, 5), f32(4, 3, 2)], opset=11, pads=[2, 2], strides=[2])
    case("convtranspose_3d", "ConvTranspose", [f32(1, 2, 3, 4, 3), f32(2, 3, 2, 2, 2)], opset=11, strides=[2, 1, 2])
    case("conv_lower", "Conv", [f32(1, 4, 7, 6), f32(8, 4, 4, 3), f32(8)], opset=11, auto_pad="SAME_LOWER", strides=[2, 2])
    case("conv_depthwise", "Conv", [f32(2, 4, 7, 6), f32(8, 1, 3, 3), f32(8)], opset=11, group=4, dilations=[2, 1])
    for p in (1, 3):
        case(f"lppool_{p}", "LpPool", [f32(1, 2, 6, 6)], opset=11, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 0, 0], p=p)
    case("globallppool", "GlobalLpPool", [f32(2, 3, 4, 4)], opset=11, p=3)
    case("maxpool_indices", "MaxPool", [f32(2, 3, 7, 7)], 2, opset=12, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1)
    case("maxpool_columns", "MaxPool", [f32(2, 3, 7, 7)], 2, opset=12, kernel_shape=[3, 3], storage_order=1, dilations=[2, 1])
    case("averagepool_ceil", "AveragePool", [f32(1, 2, 7, 7)], opset=11, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, count_include_pad=1, pads=[1, 1, 1, 1])
    case("lrn", "LRN", [f32(2, 7, 3, 3)], size=5, alpha=.3, beta=.6, bias=1.5)


def others():
    bn = [f32(2, 3, 4, 4), f32(3), f32(3), f32(3), abs(f32(3))]
    case("batchnorm_9", "BatchNormalization", bn, opset=9, epsilon=.01)
    case("batchnorm_training", "BatchNormalization", bn, 3, opset=14, training_mode=1)
    case("gemm", "Gemm", [f32(5, 3), f32(4, 5), f32(3, 1)], transA=1, transB=1, alpha=.5, beta=2.)
    for op in ("Softmax", "LogSoftmax", "Hardmax"):
        case(op + "_flat", op, [f32(2, 3, 4)], opset=11)
        case(op + "_flat0", op, [f32(2, 3, 4)], opset=11, axis=0)
        case(op + "_axis", op, [f32(2, 3, 4)], axis=1)
    case("pow_int_float", "Pow", [ints(0, 9, (3, 4), np.int32), f32(3, 4)])
    case("pow_float_int", "Pow", [f32(3, 4), ints(-3, 4, (3, 4))])
    case("pow_int_int", "Pow", [ints(-9, 9, (3, 4)), ints(0, 14, (3, 4), np.int32)])
    case("shrink_int", "Shrink", [ints(-9, 9, (3, 4), np.int32)], opset=9, lambd=1.5, bias=1.5)
    for op in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"):
        case("reduce_" + op, "Reduce" + op, [abs(f32(2, 3, 4))], opset=11, axes=[0, -1], keepdims=0)
        case("reduce_int_" + op, "Reduce" + op, [ints(1, 9, (2, 3, 4), np.int32)], opset=11, axes=[1])
    labels = [f32(3, 5, 2), ints(0, 5, (3, 2)), abs(f32(5))]
    case("nllloss", "NegativeLogLikelihoodLoss", labels, ignore_index=2)
    case("crossentropy", "SoftmaxCrossEntropyLoss", labels, 2, ignore_index=2)


def einsum():
    equations = (("ij,jk->ik", (2, 3), (3, 4)), ("...ij,...jk", (2, 3, 4), (2, 4, 5)), ("ii->i", (4, 4)), ("ii", (4, 4)),
                 ("iij->ji", (3, 3, 2)), ("i,j->ij", (3,), (4,)), ("ijk->kj", (2, 3, 4)), ("bhid,bhjd->bhij", (2, 3, 4, 5), (2, 3, 6, 5)),
                 ("ij,ij->", (3, 4), (3, 4)), ("ij,j,k->ik", (3, 4), (4,), (5,)), ("ij,jk,kl->il", (3, 4), (4, 5), (5, 2)),
                 ("...i->...", (2, 3, 4)), ("ba,ca", (2, 3), (4, 3)), ("bhwc,hkc->bhwk", (2, 3, 4, 5), (3, 6, 5)),
                 ("i...,j...->...ij", (2, 5), (3, 5)), ("abc,cde->abde", (2, 3, 4), (4, 2, 3)))
    for equation, *shapes in equations:
        name = equation.replace("->", "_to_").replace(",", "_").replace("...", "X")
        case("einsum_" + name, "Einsum", [f32(*s) for s in shapes], opset=12, equation=equation)


# ---- making and running them --------------------------------------------------------------------


def write_tensor(path, array, name):
    path.write_bytes(numpy_helper.from_array(array, name).SerializeToString())


def make_model(op, inputs, nout, domain, opset, consts, wanted, attrs):
    attrs = dict(attrs)
    opset_attr = attrs.pop("opset_attr", None)  # an attribute of that name, which make_node keeps for itself
    names = ["" if a is None else f"x{i}" for i, a in enumerate(inputs)]
    outputs = [f"y{i}" if not wanted or wanted[i] else "" for i in range(nout)]
    node = helper.make_node(op, names, outputs, domain=domain, **attrs)
    if opset_attr is not None:
        node.attribute.append(helper.make_attribute("opset", opset_attr))
    given = [(names[i], a) for i, a in enumerate(inputs) if a is not None and i not in consts]
    fixed = [numpy_helper.from_array(a, names[i]) for i, a in enumerate(inputs) if a is not None and i in consts]
    infos = [helper.make_tensor_value_info(name, DTYPES[str(a.dtype)], a.shape) for name, a in given]
    graph = helper.make_graph([node], "g", infos, [helper.make_empty_tensor_value_info(o) for o in outputs if o], fixed)
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=8), given


def run_ort(folder, given):
    specs = []
    for name, a in given:
        (folder / f"{name}.bin").write_bytes(np.ascontiguousarray(a).tobytes())
        specs.append(f"{name}={folder}/{name}.bin:{a.dtype}:{','.join(map(str, a.shape))}")
    run = subprocess.run(["node", ORT_RUN, folder / "model.onnx", folder, *specs], capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"{folder.name}: ONNX Runtime: {run.stderr.strip()}")
    return json.loads(run.stdout.strip().split("\n")[-1])


def make_case(root, name, *rest):
    folder = root / name
    data = folder / "test_data_set_0"
    data.mkdir(parents=True)
    model, given = make_model(*rest)
    save(model, str(folder / "model.onnx"))
    results = run_ort(folder, given)
    del model.graph.output[:]
    for i, r in enumerate(results):
        array = np.frombuffer((folder / f"{i}.bin").read_bytes(), dtype=r["type"]).reshape(r["dims"])
        write_tensor(data / f"output_{i}.pb", array, r["name"])
        model.graph.output.append(helper.make_tensor_value_info(r["name"], DTYPES[r["type"]], r["dims"]))
    for i, (input_name, a) in enumerate(given):
        write_tensor(data / f"input_{i}.pb", a, input_name)
    save(model, str(folder / "model.onnx"))


def main():
    nncc, *names = sys.argv[1:]
    for family in (microsoft, qlinear, attention, ml, recurrent, quantised, windows, others, einsum):
        family()
    if subprocess.run(["node", "-e", "require('onnxruntime-node')"], capture_output=True, env=os.environ).returncode:
        print("SKIP: onnxruntime-node is not here")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as root:
        for c in cases:
            if not names or any(n in c[0] for n in names):
                make_case(pathlib.Path(root), *c)
        run = subprocess.run([nncc, "test", root], capture_output=True, text=True)
    lines = run.stdout.strip().split("\n")
    print("\n".join(line for line in lines if not line.startswith("passed")))
    sys.exit(0 if ", 0 failed, 0 skipped" in lines[-1] else 1)


main()
