#!/usr/bin/python3
"""How compiled models start, and how little they need, beside ONNX Runtime:

- start: process start to the first result, less one median run, file cache warm; the model is linked into the program
- peak: the process's peak memory, at most packed weights + planned workspace + 5 MB
- code: bytes of machine code and tables in the object, weights left out
- compile: seconds and peak memory of `nncc MODEL -o model.o`

  startup.py [--build DIR] [--ort LIBRARY] [--folder DIR] [--models a,b] [--repeat N] [--json FILE]

Figures beyond their bar are marked with !. tests/bench/README.md tells more.
"""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

import bench

HERE, ROOT = bench.HERE, bench.ROOT
CIFAR_START_MS, START_SHARE = 3.0, 0.1
CODE_BARS = {"cifar_cnn_b1": 64 << 10, "resnet50": 512 << 10}
COMPILE_BARS_S = {"resnet50": 3.0, "bert_base_s128": 3.0}
COMPILE_BAR_S, PEAK_SLACK_MB, COMPILE_SLACK_MB = 6.0, 5.0, 150.0
MB = 1e6


def compile_c(*arguments):
    subprocess.run([os.environ.get("CC", "cc"), "-std=c11", "-O2", "-D_POSIX_C_SOURCE=200809L", "-D_DEFAULT_SOURCE", f"-I{ROOT}", *arguments],
                   check=True)


def compile_object(nncc, model, folder):
    """The object; the seconds it took, and the compiler's peak memory in MB."""
    out = folder / "model.o"
    out.unlink(missing_ok=True)
    start = time.monotonic()
    child = subprocess.Popen([nncc, model, "-o", out, "--name=model"], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise bench.Failure(f"nncc, exit status {child.returncode}")
    return out, time.monotonic() - start, usage.ru_maxrss * 1024 / MB


def code_bytes(path):
    """Sections that are loaded, but for the weights'."""
    text = subprocess.run(["readelf", "-SW", path], check=True, capture_output=True, text=True).stdout
    total = 0
    for name, size, flags in re.findall(r"\] (\S+) +\S+ +[0-9a-f]+ [0-9a-f]+ ([0-9a-f]+) [0-9a-f]+ +(\w*)", text):
        if "A" in flags and not name.endswith(".nncc_weights"):
            total += int(size, 16)
    return total


def header_numbers(path):
    """Weights and workspace in MB, as the header says."""
    text = path.read_text()

    def number(name):
        found = re.search(rf"^#define model_{name} \(?(\d+)", text, re.MULTILINE)
        return int(found.group(1)) if found else 0

    return number("WEIGHTS_BYTES") / MB, (number("WORKSPACE") + number("WORKER_WORKSPACE")) / MB


def launch(args, command, runs):
    """Medians over the repeats of the start's and a run's milliseconds; the least of the peaks in MB."""
    rows = []
    for _ in range(args.repeat):
        done = subprocess.run(list(map(str, [args.launcher, runs, *command])), capture_output=True, text=True)
        if done.returncode != 0:
            raise bench.Failure(" ".join(done.stderr.split())[-300:])
        first, median, peak_kb = map(float, done.stdout.split())
        rows.append((first - median, median, peak_kb * 1024 / MB))
    return statistics.median(r[0] for r in rows), statistics.median(r[1] for r in rows), min(r[2] for r in rows)


def measure(args, name, folder):
    spec = json.loads((args.folder / f"{name}.json").read_text())
    path = args.folder / f"{name}.onnx"
    out, seconds, compile_peak = compile_object(args.build / "nncc", path, folder)
    host = folder / "host"
    compile_c(HERE / "peer.c", HERE / "peer_nncc.c", "-DPEER_LINKED", out, args.build / "libnncc_rt.a", "-o", host, "-lpthread", "-ldl")
    inputs = bench.write_inputs(spec, folder)
    runs = max(5, min(200, round(2000 / max(1, spec["gflop"] * 20))))
    weights, workspace = header_numbers(folder / "model.h")
    row = {"model": name, "compile_s": seconds, "compile_peak_mb": compile_peak, "file_mb": path.stat().st_size / MB, "weights_mb": weights,
           "workspace_mb": workspace, "code_bytes": code_bytes(out)}
    row["start_ms"], row["run_ms"], row["peak_mb"] = launch(args, [host, "model", "-", 1, *inputs], runs)
    if args.ort:
        row["ort_start_ms"], row["ort_run_ms"], row["ort_peak_mb"] = launch(args, [args.runner, args.ort, path, 1, *inputs], runs)
    return row


def bars(row):
    """The most that each figure may be."""
    name = row["model"]
    start = CIFAR_START_MS if name == "cifar_cnn_b1" else START_SHARE * row["ort_start_ms"] if "ort_start_ms" in row else float("inf")
    return {"start_ms": start, "peak_mb": row["weights_mb"] + row["workspace_mb"] + PEAK_SLACK_MB, "code_bytes": CODE_BARS.get(name, float("inf")),
            "compile_s": COMPILE_BARS_S.get(name, COMPILE_BAR_S), "compile_peak_mb": 1.2 * row["file_mb"] + COMPILE_SLACK_MB}


def print_row(row):
    limits = bars(row)

    def cell(key, width, digits, scale=1.0):
        mark = "!" if row[key] > limits[key] else " "
        limit = f"{limits[key] / scale:.{digits}f}" if limits[key] != float("inf") else "-"
        return f"{row[key] / scale:{width}.{digits}f} /{limit:>{width}}{mark}"

    ort = f"{row['ort_start_ms']:9.1f} {row['ort_peak_mb']:8.1f}" if "ort_start_ms" in row else ""
    print(f"{row['model']:16} {cell('start_ms', 7, 2)} {cell('peak_mb', 6, 1)} {cell('code_bytes', 5, 0, 1024)} "
          f"{cell('compile_s', 5, 2)} {cell('compile_peak_mb', 5, 0)} {ort}", flush=True)


def parse_arguments():
    parser = argparse.ArgumentParser(description="Measures start-up, memory, code size and compile time of compiled models.")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release", help="build folder with nncc and libnncc_rt.a")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "build/bench/models", help="what export_models.py wrote")
    parser.add_argument("--ort", help="libonnxruntime.so.1; 'none' to leave ONNX Runtime out")
    parser.add_argument("--models", type=lambda s: s.split(","), help="default: all in the folder")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    args = parser.parse_args()
    args.models = args.models or bench.known_models(args.folder)
    args.ort = None if args.ort == "none" else bench.find_ort(args.ort)
    return args


def main():
    args = parse_arguments()
    rows = []
    print(f"{'model':16} {'start ms / bar':>17} {'peak MB / bar':>15} {'code KB / bar':>13} {'compile s / bar':>14} {'peak MB / bar':>13} "
          f"{'ORT start':>9} {'peak MB':>8}")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        args.launcher = folder / "launch"
        compile_c(HERE / "launch.c", "-o", args.launcher)
        if args.ort:
            args.runner = bench.compile_runner("ort", folder)
        for model in args.models:
            try:
                rows.append(measure(args, model, folder))
                print_row(rows[-1])
            except bench.Failure as reason:
                rows.append({"model": model, "failure": str(reason)})
                print(f"{model:16} FAILED: {reason}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    return any("failure" in r or any(r[k] > limit for k, limit in bars(r).items()) for r in rows)


if __name__ == "__main__":
    sys.exit(main())
