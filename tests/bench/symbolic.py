#!/usr/bin/python3
"""Times models with symbolic dimensions beside the same models compiled for one size, interleaved, and compares the outputs.

A ratio is the symbolic model's time over the static one's: 1.1 at most is wanted. The networks are those of export_models.py, exported once
with the dimensions of the table named.

  symbolic.py [--build DIR] [--cases a,b] [--threads 1,2] [--json FILE]      (Debian: python3-torch, python3-torchvision)
"""
import argparse
import json
import pathlib
import sys
import tempfile
import warnings

import bench
import export_models

WANTED = 1.1
BATCH, SEQUENCE, IMAGE = {0: "N"}, {1: "length"}, {2: "height", 3: "width"}

# name of the case: network, named dimensions of every input, the sizes that are timed (in the order of the dimensions)
CASES = {
    "resnet18_batch": ("resnet18", BATCH, [(1,), (4,), (16,)]),
    "mobilenet_v2_batch": ("mobilenet_v2", BATCH, [(1,), (8,)]),
    "efficientnet_b0_batch": ("efficientnet_b0", BATCH, [(1,)]),
    "cifar_cnn_batch": ("cifar_cnn_b1", BATCH, [(1,), (64,)]),
    "textcnn_batch": ("textcnn_b1", BATCH, [(1,), (50,)]),
    "textcnn_words": ("textcnn_b1", SEQUENCE, [(20,), (64,)]),
    "bert_sequence": ("bert_base_s128", SEQUENCE, [(7,), (40,), (128,), (384,)]),
    "resnet18_image": ("resnet18", IMAGE, [(224, 224), (160, 200)]),
    "mobilenet_v2_image": ("mobilenet_v2", IMAGE, [(224, 224), (160, 200)]),
    "squeezenet1_1_image": ("squeezenet1_1", IMAGE, [(224, 224)]),
}


def export(case, folder):
    """The network with named dimensions; kept in the folder of models."""
    network, axes, _ = CASES[case]
    path = folder / "symbolic" / f"{case}.onnx"
    if path.exists():
        return path
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    _, _, inputs, outputs, _, opset = export_models.MODELS[network]
    model, args = export_models.build(network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, args, str(path), opset_version=opset, input_names=[i[0] for i in inputs], output_names=outputs,
                          dynamic_axes={i[0]: axes for i in inputs})
    return path


def spec_of(case, size):
    """What bench.write_inputs takes, at this size."""
    network, axes, _ = CASES[case]
    items = []
    for name, dims, limits in export_models.MODELS[network][2]:
        dims = list(dims)
        for axis, value in zip(axes, size):
            dims[axis] = value
        items.append({"name": name, "dims": dims, "dtype": "int64" if limits else "float32", "range": limits})
    return {"name": case, "inputs": items}


def compile_twins(args, case, size, path, folder):
    shapes = [f"--shape={i['name']}={','.join(map(str, i['dims']))}" for i in spec_of(case, size)["inputs"]]
    twins = {}
    for name, options in (("symbolic", []), ("static", shapes)):
        (folder / name).mkdir(exist_ok=True)
        twins[name] = bench.compile_model(args.build / "nncc", path, folder / name, options)
    return twins


def bench_size(args, case, size, twins, threads, folder):
    arguments = bench.write_inputs(spec_of(case, size), folder)
    engines = {}
    try:
        for name, twin in twins.items():
            engines[name] = bench.Engine([args.runner, "model", twin[0], threads, *arguments], tempfile.TemporaryFile("w+"))
        bench.time_interleaved(engines, args.rounds, args.round_ms, "run")
        row = {name: bench.summary(engine) for name, engine in engines.items()}
        found = {name: engine.outputs(folder / name) for name, engine in engines.items()}
        row["error"] = bench.error_between(found["symbolic"], found["static"])
    finally:
        for engine in engines.values():
            engine.close()
    row["ratio"] = row["symbolic"]["median_ms"] / row["static"]["median_ms"]
    row["ratio_min"] = row["symbolic"]["min_ms"] / row["static"]["min_ms"]
    row["compile_s"] = {name: twin[1] for name, twin in twins.items()}
    return row


def print_row(row):
    start = f"{row['case']:22} {'x'.join(map(str, row['size'])):8} {row['threads']:3}"
    if "failure" in row:
        print(f"{start}  FAILED: {row['failure'][:160]}", flush=True)
        return
    notes = (" slow" if row["ratio_min"] > WANTED else "") + (" WRONG" if row["error"] > bench.BOUND else "")
    print(f"{start} {row['static']['min_ms']:10.3f} {row['symbolic']['min_ms']:10.3f} {row['ratio']:6.2f} {row['ratio_min']:6.2f} "
          f"{row['error']:8.1e} {row['compile_s']['static']:6.2f} {row['compile_s']['symbolic']:6.2f}{notes}", flush=True)


def bench_case(args, case, folder):
    path, rows = export(case, args.folder), []
    for size in CASES[case][2]:
        twins = None
        for threads in args.threads:
            row = {"case": case, "size": size, "threads": threads}
            try:
                twins = twins or compile_twins(args, case, size, path, folder)
                row |= bench_size(args, case, size, twins, threads, folder)
            except bench.Failure as reason:
                row["failure"] = str(reason)
            rows.append(row)
            print_row(row)
    return rows


def parse_arguments():
    parser = argparse.ArgumentParser(description="Times symbolic models beside static ones.")
    parser.add_argument("--build", type=pathlib.Path, default=bench.ROOT / "build/release", help="build folder with nncc and libnncc_rt.a")
    parser.add_argument("--folder", type=pathlib.Path, default=export_models.DEFAULT_FOLDER, help="where models are kept")
    parser.add_argument("--cases", type=lambda s: s.split(","), default=list(CASES), help=f"of {', '.join(CASES)}; default: all")
    parser.add_argument("--threads", type=lambda s: [int(t) for t in s.split(",")], default=[1])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--round-ms", type=float, default=200, help="about how long a twin runs in a round")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    args = parser.parse_args()
    if set(args.cases) - set(CASES):
        parser.error(f"--cases: not known: {', '.join(sorted(set(args.cases) - set(CASES)))}")
    return args


def main():
    args, rows = parse_arguments(), []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        args.runner = bench.compile_runner("nncc", folder, args.build / "libnncc_rt.a")
        print(f"{'case':22} {'size':8} thr  static ms   symb. ms  ratio of min    error compile s", flush=True)
        for case in args.cases:
            rows += bench_case(args, case, folder)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    return any("failure" in r or r["error"] > bench.BOUND for r in rows)


if __name__ == "__main__":
    sys.exit(main())
