#!/usr/bin/python3
"""Times nncc beside ONNX Runtime (and PyTorch on request) on the benchmark's models, and compares the outputs.

Each engine lives in a child process with the same inputs and number of threads; rounds of runs are interleaved, so
that the machine's moods hit all alike. Ratios are those of medians, above 1 where nncc is faster.

  bench.py [--build DIR] [--ort LIBRARY] [--models a,b] [--threads 1,2] [--peer ort,pytorch] [--mcpu CPU] [--json FILE]

tests/bench/README.md says what is needed and how to read the table.
"""
import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ORT_LIBRARY = "onnxruntime-node/bin/napi-v6/linux/x64/libonnxruntime.so.1"
DTYPES = {"float32": 1, "int64": 7}
BOUND = 1e-4  # of max|a-b| / max|b|


class Failure(Exception):
    """A model that an engine cannot prepare or run; the text is the reason."""


# ---- engines ----------------------------------------------------------------------------------------------------


def compile_runner(engine, folder, *libraries):
    """The runner of an engine, from tests/bench/peer*.c."""
    path = folder / f"peer_{engine}"
    subprocess.run([os.environ.get("CC", "cc"), "-std=c11", "-O2", "-D_POSIX_C_SOURCE=200809L", "-D_DEFAULT_SOURCE", f"-I{ROOT}",
                    HERE / "peer.c", HERE / f"peer_{engine}.c", "-o", path, *libraries, "-lpthread", "-ldl"], check=True)
    return path


def find_ort(given):
    folders = [HERE / "node_modules", *map(pathlib.Path, filter(None, os.environ.get("NODE_PATH", "").split(":")))]
    candidates = [pathlib.Path(given)] if given else [f / ORT_LIBRARY for f in folders]
    for path in candidates:
        if path.exists():
            return path
    sys.exit("bench.py: no ONNX Runtime; run `npm install --ignore-scripts` in tests/bench, or give --ort or NODE_PATH; "
             f"looked for {', '.join(map(str, candidates))}")


class Engine:
    """A child process that opened one model and runs it on demand."""

    def __init__(self, command, errors):
        self.errors = errors
        self.child = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
        self.times = []
        self.open_ms = float(self.answer().split()[1])

    def answer(self):
        line = self.child.stdout.readline()
        if line:
            return line
        code = self.child.wait()
        self.errors.seek(0)
        raise Failure(f"{' '.join(self.errors.read().split()) or 'no message'} (exit status {code})")

    def ask(self, text):
        self.child.stdin.write(text + "\n")
        self.child.stdin.flush()
        return self.answer()

    def run(self, count, command="run"):
        return [float(t) for t in self.ask(f"{command} {count}").split()]

    def outputs(self, folder):
        folder.mkdir(exist_ok=True)
        found = []
        for i, item in enumerate(self.ask(f"write {folder}").split()):
            _, dtype, dims = item.rsplit(":", 2)
            shape = [int(d) for d in dims.split(",")] if dims else []
            found.append(np.fromfile(folder / f"{i}.bin", np.int64 if dtype == "7" else np.float32).reshape(shape))
        return found

    def close(self):
        self.child.stdin.close()
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            self.child.kill()
        self.errors.close()


def compile_model(nncc, model, folder, options=()):
    """The shared object, the seconds that it took, and the compiler's peak memory in MB."""
    out = folder / "model.so"
    out.unlink(missing_ok=True)
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen([nncc, model, "-o", out, "--name=model", "--header=", *options], stderr=errors, stdout=errors)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        if child.returncode != 0:
            raise Failure(f"nncc, exit status {child.returncode}: {' '.join(errors.read().split())[-600:]}")
    return out, time.monotonic() - start, usage.ru_maxrss / 1024


# ---- one model --------------------------------------------------------------------------------------------------


def write_inputs(spec, folder):
    """The arguments that name the inputs, written as raw files; the same numbers everywhere."""
    rng = np.random.default_rng(1)
    arguments = []
    for i, item in enumerate(spec["inputs"]):
        limits = item["range"]
        data = rng.standard_normal(item["dims"]) if limits is None else rng.integers(*limits, item["dims"])
        data.astype(item["dtype"]).tofile(folder / f"input{i}.bin")
        arguments.append(f"{item['name']}={folder}/input{i}.bin:{DTYPES[item['dtype']]}:{','.join(map(str, item['dims']))}")
    return arguments


def error_between(found, expected):
    """The worst max|a-b| / max|b| of all outputs."""
    if [f.shape for f in found] != [e.shape for e in expected]:
        raise Failure(f"output shapes {[f.shape for f in found]}, expected {[e.shape for e in expected]}")
    worst = 0.0
    for a, b in zip(found, expected):
        scale = float(np.abs(b).max()) if b.size else 0.0
        distance = float(np.abs(a.astype(np.float64) - b).max()) if b.size else 0.0
        worst = max(worst, distance / scale if scale else distance)
        if math.isnan(distance):
            return math.inf
    return worst


def time_interleaved(engines, rounds, round_ms, command):
    """Fills the times of all engines; who goes first alternates."""
    counts = {}
    for name, engine in engines.items():
        engine.run(2)
        counts[name] = max(1, min(2000, round(round_ms / statistics.median(engine.run(3)))))
    order = list(engines)
    for _ in range(rounds):
        for name in order:
            time.sleep(0.06)  # the other engine's threads spin for a while
            engines[name].run(2)  # its own wake up, and its data come back to the caches
            engines[name].times += engines[name].run(counts[name], command)
        order.reverse()


def summary(engine):
    return {"median_ms": statistics.median(engine.times), "min_ms": min(engine.times), "runs": len(engine.times), "open_ms": engine.open_ms}


def bench_model(args, spec, path, compiled, threads, folder):
    commands = {"ort": [args.runners["ort"], args.ort, path], "pytorch": ["/usr/bin/python3", HERE / "peer_torch.py", spec["name"]]}
    inputs = write_inputs(spec, folder)
    engines = {}
    try:
        engines["nncc"] = Engine([args.runners["nncc"], "model", compiled[0], threads, *inputs], tempfile.TemporaryFile("w+"))
        for peer in args.peer:
            engines[peer] = Engine([*commands[peer], threads, *inputs], tempfile.TemporaryFile("w+"))
        time_interleaved(engines, args.rounds, args.round_ms, "cpu" if args.cpu_time else "run")
        row = {name: summary(engine) for name, engine in engines.items()}
        found = engines["nncc"].outputs(folder / "nncc")
        row["error"] = {peer: error_between(found, engines[peer].outputs(folder / peer)) for peer in args.peer}
    finally:
        for engine in engines.values():
            engine.close()
    row["ratio"] = {peer: row[peer]["median_ms"] / row["nncc"]["median_ms"] for peer in args.peer}
    row["ratio_min"] = {peer: row[peer]["min_ms"] / row["nncc"]["min_ms"] for peer in args.peer}
    return row


# ---- the table --------------------------------------------------------------------------------------------------


def print_head(args):
    peers = "".join(f"  {p + ' med':>11} {'min ms':>9} {'ratio':>6} {'of min':>6} {'error':>8}" for p in args.peer)
    print(f"{'model':16} thr   GFLOP  {'nncc med':>11} {'min ms':>9} {'GF/s':>6}{peers}  compile s  peak MB", flush=True)


def print_row(args, row):
    start = f"{row['model']:16} {row['threads']:3} {row['gflop']:7.3f}"
    if "failure" in row:
        print(f"{start}  FAILED: {row['failure'][:160]}", flush=True)
        return
    own = row["nncc"]
    peers = "".join(f"  {row[p]['median_ms']:11.3f} {row[p]['min_ms']:9.3f} {row['ratio'][p]:6.2f} {row['ratio_min'][p]:6.2f} "
                    f"{row['error'][p]:8.1e}{'' if row['error'][p] <= BOUND else ' WRONG'}" for p in args.peer)
    print(f"{start}  {own['median_ms']:11.3f} {own['min_ms']:9.3f} {row['gflop'] / own['min_ms'] * 1e3:6.1f}{peers}  "
          f"{row['compile_s']:9.2f}  {row['compile_peak_mb']:7.0f}", flush=True)


def print_means(args, rows):
    for threads in args.threads:
        for peer in args.peer:
            ratios = [r["ratio"][peer] for r in rows if r["threads"] == threads and "ratio" in r]
            if ratios:
                mean = math.exp(statistics.fmean(map(math.log, ratios)))
                print(f"geometric mean of {len(ratios)} ratios to {peer}, {threads} thread(s): {mean:.3f}; below 1: {sum(r < 1 for r in ratios)}")


def bench_all(args, folder):
    rows = []
    print_head(args)
    for name in args.models:
        spec = json.loads((args.folder / f"{name}.json").read_text())
        path = args.folder / f"{name}.onnx"
        compiled = None
        for threads in args.threads:
            row = {"model": name, "threads": threads, "gflop": spec["gflop"]}
            try:
                compiled = compiled or compile_model(args.build / "nncc", path, folder, [f"--mcpu={args.mcpu}"] if args.mcpu else [])
                row |= {"compile_s": compiled[1], "compile_peak_mb": compiled[2]}
                row |= bench_model(args, spec, path, compiled, threads, folder)
            except Failure as reason:
                row["failure"] = str(reason)
            rows.append(row)
            print_row(args, row)
    return rows


def known_models(folder):
    """All that were exported; the small ones first."""
    return [p.stem for p in sorted(folder.glob("*.json"), key=lambda p: json.loads(p.read_text())["gflop"]) if p.with_suffix(".onnx").exists()]


def parse_arguments():
    parser = argparse.ArgumentParser(description="Times nncc beside other engines.")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release", help="build folder with nncc and libnncc_rt.a")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "build/bench/models", help="what export_models.py wrote")
    parser.add_argument("--ort", help="libonnxruntime.so.1")
    parser.add_argument("--models", type=lambda s: s.split(","), help="default: all in the folder")
    parser.add_argument("--threads", type=lambda s: [int(t) for t in s.split(",")], default=[1])
    parser.add_argument("--peer", type=lambda s: s.split(","), default=["ort"], help="ort, pytorch")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--round-ms", type=float, default=300, help="about how long an engine runs in a round")
    parser.add_argument("--cpu-time", action="store_true", help="CPU time instead of wall-clock time; one thread only")
    parser.add_argument("--mcpu", help="what nncc compiles for; default: the host")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    args = parser.parse_args()
    known = known_models(args.folder)
    args.models = args.models or known
    unknown = set(args.models) - set(known)
    if unknown or not known:
        parser.error(f"not in {args.folder}: {', '.join(sorted(unknown)) or 'any model'}; export_models.py writes them")
    if set(args.peer) - {"ort", "pytorch"}:
        parser.error("--peer: expected ort or pytorch")
    if args.cpu_time and args.threads != [1]:
        parser.error("--cpu-time: expected --threads 1, since waiting threads burn CPU time too")
    for name in ("nncc", "libnncc_rt.a"):
        if not (args.build / name).exists():
            parser.error(f"--build: no {name} in {args.build}")
    return args


def main():
    args = parse_arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        args.runners = {"nncc": compile_runner("nncc", folder, args.build / "libnncc_rt.a"), "ort": None}
        if "ort" in args.peer:
            args.ort = find_ort(args.ort)
            args.runners["ort"] = compile_runner("ort", folder)
        rows = bench_all(args, folder)
    print_means(args, rows)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    return any("failure" in r or max(r["error"].values(), default=0) > BOUND for r in rows)


if __name__ == "__main__":
    sys.exit(main())
