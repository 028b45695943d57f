#!/usr/bin/python3
"""Times single kernels of nncc beside OpenBLAS and oneDNN, interleaved in one process, and prints GFLOP/s or GB/s and the
share of the machine's peak, which is measured in the same run.

  kernels.py [--build DIR] [--threads 1,2] [--only TEXT] [--json FILE]

tests/bench/README.md says what is needed and how to read the table.
"""
import argparse
import array
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WEIGHTS = 1 << 24  # numbers in the file of constants
SQUARE = (64, 128, 256, 512, 1024, 2048)
SKINNY = ((128, 768, 3072), (128, 3072, 768), (128, 768, 768), (64, 2304, 768), (197, 3072, 768), (3136, 64, 576))
THIN = tuple((m, 4096, 4096) for m in (1, 2, 4, 8)) + ((1, 1000, 2048), (4, 768, 768))
TRANSPOSED = ((64, 64, 64), (128, 128, 64), (256, 256, 256), (1024, 1024, 1024), (128, 768, 768), (768, 3072, 128), (4, 768, 768), (768, 4, 768))
ROWS = ((1536, 128), (128, 768), (1000, 1000), (8, 65536))
PEERLESS = "none"
# images, C, H, W, O, kernel, stride, padding, groups
CONVS = ((1, 64, 56, 56, 64, 3, 1, 1, 1), (1, 256, 14, 14, 256, 3, 1, 1, 1), (1, 3, 224, 224, 64, 7, 2, 3, 1), (1, 128, 28, 28, 128, 3, 2, 1, 1),
         (1, 256, 56, 56, 64, 1, 1, 0, 1), (1, 1024, 14, 14, 256, 1, 1, 0, 1), (1, 96, 56, 56, 24, 1, 1, 0, 1),
         (1, 96, 112, 112, 96, 3, 1, 1, 96), (1, 384, 14, 14, 384, 3, 1, 1, 384), (1, 144, 56, 56, 144, 3, 2, 1, 144))


# ---- the cases: name, kind and sizes for the peers, graph, GFLOP, GB --------------------------------------------


def tensor(dims):
    return f"f32[{','.join(map(str, dims))}]"


def graph(params, body, result, constants=()):
    """IR text; body's lines end in %r. Constants: name and dims, all from the beginning of the file of weights."""
    consts = "".join(f'const ${n} : {tensor(d)} = file "weights.bin" 0\n' for n, d in constants)
    names = ", ".join(f"%{n}: {tensor(d)}" for n, d in params)
    return f"nncc 1\n{consts}graph @main({names}) -> ({tensor(result)}) {{\n" + "".join(f"  {line}\n" for line in body) + "  return %r\n}\n"


def gemm(m, n, k, is_packed, trans=""):
    """trans: of a and b, the operands that are given as their transposes."""
    a, b = (k, m) if "a" in trans else (m, k), (n, k) if "b" in trans else (k, n)
    params = [("x", a)] + ([] if is_packed else [("y", b)])
    attrs = f" {{{', '.join(f'trans_{c}=1' for c in trans)}}}" if trans else ""
    text = graph(params, [f"%r = matmul %x, {'$y' if is_packed else '%y'}{attrs} : {tensor((m, n))}"], (m, n), [("y", b)] if is_packed else ())
    kind = "packed" if is_packed else "gemm"
    name = " ".join([kind, f"{m}x{n}x{k}", *(f"{c}^T" for c in trans)])
    return name, f"{kind} {m} {n} {k} {int('a' in trans)} {int('b' in trans)}", text, 2e-9 * m * n * k, 4e-9 * (m * k + k * n + m * n)


def rows(kind, r, c):
    t, op = tensor((r, c)), {"softmax": "softmax %x {axis=1}", "norm": "normalize %x {axis=1, epsilon=1e-05}"}
    if kind == "sum":
        body, result = [f"%r = reduce_sum %x {{axes=[1]}} : {tensor((r, 1))}"], (r, 1)
    elif kind == "gelu":
        body, result = [f"%0 = mul %x, $s : {t}", f"%1 = erf %0 : {t}", f"%2 = add %1, $o : {t}", f"%3 = mul %2, $h : {t}", f"%r = mul %3, %x : {t}"], (r, c)
        body = [f"%s{i} = broadcast ${name} {{dims=[{r},{c}]}} : {t}" for i, name in enumerate("soh")] + [
            line.replace("$s", "%s0").replace("$o", "%s1").replace("$h", "%s2") for line in body]
    elif kind == "norm":
        body, result = [f"%r, %mean, %scale = {op[kind]} : {t}, {tensor((r, 1))}, {tensor((r, 1))}"], (r, c)
    else:
        body, result = [f"%r = {op[kind]} : {t}"], (r, c)
    text = graph([("x", (r, c))], body, result)
    if kind == "gelu":
        text = text.replace("nncc 1\n", "nncc 1\n" + "".join(f"const ${n} : f32[] = [{v}]\n" for n, v in (("s", 0.70710678), ("o", 1.0), ("h", 0.5))))
    return f"{kind} {r}x{c}", f"{kind} {r} {c}", text, 0, 4e-9 * (r * c + result[0] * result[1])


def transpose(r, c):
    text = graph([("x", (r, c))], [f"%r = transpose %x {{perm=[1, 0]}} : {tensor((c, r))}"], (c, r))
    return f"transpose {r}x{c}", f"transpose {r} {c}", text, 0, 8e-9 * r * c


def attention(heads, queries, keys, size):
    """softmax(q k^T) v, of one image."""
    q, kv, scores = (heads, queries, size), (heads, keys, size), (heads, queries, keys)
    body = [f"%s = matmul %q, %k {{trans_b=1}} : {tensor(scores)}", f"%p = softmax %s {{axis=2}} : {tensor(scores)}", f"%r = matmul %p, %v : {tensor(q)}"]
    text = graph([("q", q), ("k", kv), ("v", kv)], body, q)
    return f"attention {heads}x{queries}x{keys}x{size}", PEERLESS, text, 4e-9 * heads * queries * keys * size, 8e-9 * heads * (queries + keys) * size


def conv(n, c, h, w, o, k, s, p, g):
    y = (n, o, (h + 2 * p - k) // s + 1, (w + 2 * p - k) // s + 1)
    op = f"conv %x, $w {{strides=[{s}, {s}], pads=[{p}, {p}, {p}, {p}], groups={g}}}"
    text = graph([("x", (n, c, h, w))], [f"%r = {op} : {tensor(y)}"], y, [("w", (o, c // g, k, k))])
    gflop = 2e-9 * y[0] * y[1] * y[2] * y[3] * (c // g) * k * k
    name = f"conv {c}x{h}x{w} to {o}, {k}x{k}" + (f" /{s}" if s > 1 else "") + (f" in {g} groups" if g > 1 else "")
    return name, f"conv {n} {c} {h} {w} {o} {k} {s} {p} {g}", text, gflop, 0


def all_cases():
    for packed in (True, False):
        for m, n, k in [(s, s, s) for s in SQUARE] + list(SKINNY) + list(THIN):
            yield gemm(m, n, k, packed)
    for trans in ("a", "b", "ab"):
        for m, n, k in TRANSPOSED:
            yield gemm(m, n, k, False, trans)
    for kind in ("softmax", "norm", "gelu", "sum"):
        for r, c in ROWS:
            yield rows(kind, r, c)
    for r, c in ((1024, 1024), (768, 128), (4000, 100)):
        yield transpose(r, c)
    for heads, queries, keys, size in ((12, 128, 128, 64), (12, 197, 197, 64), (12, 1, 512, 64), (8, 1024, 1024, 64)):
        yield attention(heads, queries, keys, size)
    for sizes in CONVS:
        yield conv(*sizes)


# ---- running ----------------------------------------------------------------------------------------------------


def write_weights(folder):
    rng = random.Random(1)
    block = array.array("f", (rng.uniform(-1, 1) for _ in range(1 << 18)))
    with open(folder / "weights.bin", "wb") as f:
        for _ in range(WEIGHTS >> 18):
            f.write(block.tobytes())


def compile_runner(build, folder):
    path = folder / "kernels"
    subprocess.run([os.environ.get("CC", "cc"), "-std=c11", "-O3", "-march=native", "-ffp-contract=fast", "-w", "-D_GNU_SOURCE", f"-I{ROOT}", HERE / "kernels.c",
                    HERE / "kernels_dnnl.c", "-o", path, build / "libnncc_rt.a", "-lopenblas", "-ldnnl", "-lm", "-lpthread", "-ldl"], check=True)
    return path


def start_runner(path, threads, folder, args):
    env = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
    env |= {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    command = [path, str(threads), folder / "weights.bin", str(args.batch_ms), str(args.rounds), "cpu" if args.cpu_time else "wall"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)


def ask(child, text):
    child.stdin.write(text + "\n")
    child.stdin.flush()
    line = child.stdout.readline()
    if not line:
        sys.exit(f"kernels.py: the runner stopped at: {text}")
    return line.split()


def compile_case(args, text, folder):
    (folder / "kernel.nn").write_text(text)
    done = subprocess.run([args.build / "nncc", folder / "kernel.nn", "-o", folder / "kernel.so", "--name=kernel", "--header="], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"kernels.py: nncc: {done.stderr}\n{text}")
    return folder / "kernel.so"


def measure(args, child, case, folder):
    name, kind, text, gflop, gbyte = case
    words = ask(child, f"case {compile_case(args, text, folder)} {kind}")
    row = {"name": name, "gflop": gflop, "gbyte": gbyte, "error": float(words.pop())}
    words.pop()
    for i in range(0, len(words), 3):
        row[words[i]] = {"median_us": float(words[i + 1]), "min_us": float(words[i + 2])}
    return row


def print_row(row, peak):
    """Work per second from the minimum; the bound is the slower of computing and reading."""
    floor = max(row["gflop"] / peak[0], row["gbyte"] / peak[1]) * 1e6
    is_compute = row["gflop"] / peak[0] * 1e6 == floor
    work, unit = (row["gflop"], "GF/s") if is_compute else (row["gbyte"], "GB/s")
    own = row["nncc"]
    text = f"{row['name']:42} {own['median_us']:10.1f} {own['min_us']:10.1f} {work / own['min_us'] * 1e6:8.1f} {unit} {floor / own['min_us']:5.0%}"
    for peer in ("openblas", "onednn"):
        text += f" {row[peer]['median_us']:10.1f} {row[peer]['median_us'] / own['median_us']:6.2f}" if peer in row else f" {'':17}"
    print(f"{text} {row['error']:9.1e}", flush=True)


def main():
    parser = argparse.ArgumentParser(description="Times single kernels.")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release", help="build folder with nncc and libnncc_rt.a")
    parser.add_argument("--threads", type=lambda s: [int(t) for t in s.split(",")], default=[1])
    parser.add_argument("--only", default="", help="cases whose name holds this text; several, separated by commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-ms", type=float, default=20)
    parser.add_argument("--cpu-time", action="store_true", help="CPU time instead of wall-clock time, on a busy machine; one thread only")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    args = parser.parse_args()
    if args.cpu_time and args.threads != [1]:
        parser.error("--cpu-time: expected --threads 1, since waiting threads burn CPU time too")
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_weights(folder)
        runner = compile_runner(args.build, folder)
        for threads in args.threads:
            child = start_runner(runner, threads, folder, args)
            peak = [float(x) for x in ask(child, "machine")]
            print(f"{threads} thread(s): {peak[0]:.1f} GFLOP/s f32, {peak[1]:.1f} GB/s read from memory")
            print(f"{'':42} {'median us':>10} {'min us':>10} {'':13} {'peak':>5} {'OpenBLAS':>10} {'ratio':>6} {'oneDNN':>10} {'ratio':>6} {'error':>9}")
            for case in all_cases():
                if any(text in case[0] for text in args.only.split(",")):
                    row = measure(args, child, case, folder)
                    print_row(row, peak)
                    found.append({"threads": threads, "peak_gflops": peak[0], "peak_gbs": peak[1], **row})
            child.stdin.close()
            child.wait()
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
