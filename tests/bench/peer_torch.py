#!/usr/bin/python3
"""The benchmark's runner of PyTorch (eager): the same protocol as peer.c.

  peer_torch.py MODEL THREADS NAME=FILE:DTYPE:DIMS...      (MODEL: a name that export_models.py knows)
"""
import sys
import time

import numpy as np
import torch

import export_models


def read_input(text):
    path, dtype, dims = text.split("=", 1)[1].rsplit(":", 2)
    data = np.fromfile(path, np.int64 if dtype == "7" else np.float32)
    return torch.from_numpy(data.reshape([int(d) for d in dims.split(",")]))


def tensors_of(result):
    """Results may nest: (y, (h, c))."""
    return [result] if isinstance(result, torch.Tensor) else [t for part in result for t in tensors_of(part)]


def time_once(model, inputs, clock):
    start = clock()
    result = model(*inputs)
    return (clock() - start) * 1e3, result


def write(outputs, folder):
    words = []
    for i, t in enumerate(outputs):
        t.contiguous().numpy().tofile(f"{folder}/{i}.bin")
        words.append(f"{i}:{7 if t.dtype == torch.int64 else 1}:{','.join(map(str, t.shape))}")
    return " ".join(words)


def main():
    name, threads, *specs = sys.argv[1:]
    torch.set_num_threads(int(threads))
    start = time.perf_counter()
    model, _ = export_models.build(name)
    inputs = [read_input(s) for s in specs]
    print(f"ready {(time.perf_counter() - start) * 1e3:.3f}", flush=True)
    result = None
    with torch.inference_mode():
        for line in sys.stdin:
            command, argument = line.split(None, 1)
            if command in ("run", "cpu"):
                clock = time.perf_counter if command == "run" else time.process_time
                times = []
                for _ in range(int(argument)):
                    ms, result = time_once(model, inputs, clock)
                    times.append(f"{ms:.6f}")
                print(" ".join(times), flush=True)
            else:
                print(write(tensors_of(result), argument.strip()), flush=True)


if __name__ == "__main__":
    main()
