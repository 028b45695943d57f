#!/usr/bin/python3
"""Compares nncc with ONNX Runtime on the nine light networks with pseudo-random weights.

The official light models have constant weights, under which many mistakes do not show. Here each weight becomes a
He-scaled pseudo-random tensor; the outputs and the last tensor before Softmax must agree to
max|a-b| / max|b| <= 1e-4.

  light_random.py NNCC LIGHT_DIR      (NODE_PATH leads to onnxruntime-node; Debian: python3-onnx, python3-numpy)
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import numpy_helper

BOUND = 1e-4


def role_of(graph, name):
    """What a weight is used for: ('Conv', 1) and so on; views are looked through."""
    for node in graph.node:
        for i, used in enumerate(node.input):
            if used == name:
                if node.op_type in ("Unsqueeze", "Reshape"):
                    return role_of(graph, node.output[0])
                return node.op_type, i
    return None, 0


def random_weight(rng, role, shape):
    op, i = role
    if op == "BatchNormalization":
        return {1: rng.uniform(0.8, 1.2, shape), 4: rng.uniform(0.5, 1.5, shape)}.get(i, rng.normal(0, 0.1, shape))
    if op == "Mul":
        return rng.uniform(0.8, 1.2, shape)
    if op in ("Conv", "Gemm") and len(shape) >= 2:
        fan_in = int(np.prod(shape[1:]))
        return rng.normal(0, np.sqrt(2 / fan_in), shape)
    return rng.normal(0, 0.05, shape)


def randomise(model, seed):
    graph = model.graph
    rng = np.random.default_rng(seed)
    shapes = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    kept = []
    for node in graph.node:
        if node.op_type != "ConstantOfShape":
            kept.append(node)
            continue
        shape = tuple(int(d) for d in shapes[node.input[0]])
        value = random_weight(rng, role_of(graph, node.output[0]), shape).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
    del graph.node[:]
    graph.node.extend(kept)
    for node in graph.node:
        if node.op_type == "Softmax":
            graph.output.append(onnx.helper.make_tensor_value_info(node.input[0], onnx.TensorProto.FLOAT, None))
    return model


def inputs_of(graph):
    known = {t.name for t in graph.initializer}
    return [i for i in graph.input if i.name not in known]


def compare(nncc, path, seed, folder):
    model = randomise(onnx.load(path), seed)
    onnx.save(model, f"{folder}/model.onnx")
    (x,) = inputs_of(model.graph)
    dims = [d.dim_value for d in x.type.tensor_type.shape.dim]
    data = np.random.default_rng(seed).uniform(-1, 1, dims).astype(np.float32)
    np.save(f"{folder}/x.npy", data)
    data.tofile(f"{folder}/x.bin")
    spec = f"{x.name}={folder}/x.bin:float32:{','.join(map(str, dims))}"
    here = pathlib.Path(__file__).parent
    listed = subprocess.run(["node", here / "ort_run.js", f"{folder}/model.onnx", folder, spec], check=True, capture_output=True, text=True)
    subprocess.run([nncc, "run", f"{folder}/model.onnx", f"{x.name}={folder}/x.npy", "-o", folder], check=True, capture_output=True)
    worst = 0.0
    for i, out in enumerate(json.loads(listed.stdout)):
        expected = np.fromfile(f"{folder}/{i}.bin", np.float32)
        name = "".join(c if c.isalnum() or c in "-." else "_" for c in out["name"])
        found = np.load(f"{folder}/{name}.npy").ravel()
        worst = max(worst, float(np.abs(found - expected).max() / np.abs(expected).max()))
    return worst


def main():
    nncc, light = sys.argv[1:3]
    failed = 0
    for seed, path in enumerate(sorted(pathlib.Path(light).glob("*/model.onnx"))):
        with tempfile.TemporaryDirectory() as folder:
            worst = compare(nncc, path, seed, folder)
        ok = worst <= BOUND
        failed += not ok
        print(f"{'passed' if ok else 'FAILED'} {path.parent.name:24} max|a-b| / max|b| = {worst:.2e}", flush=True)
    print(f"{seed + 1 - failed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
