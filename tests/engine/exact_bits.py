"""--fp exact: the same bits for any number of threads, at every level, on every target that can be run here, and in the interpreter.
    python3 exact_bits.py NNCC SOURCE_FOLDER MODEL..."""
import ast, math, os, random, re, shutil, struct, subprocess, sys, tempfile

nncc, source, given = sys.argv[1], sys.argv[2], sys.argv[3:]
X86 = "x86_64-pc-linux-gnu"
# triple of the object, CPU, options; triple of the host program, what runs it
TARGETS = [(X86, "x86-64", [], X86, []), (X86, "x86-64-v2", [], X86, []), (X86, "x86-64-v3", [], X86, []), (X86, "x86-64-v4", [], X86, []),
           (X86, "x86-64-v3", ["-O0"], X86, []), (X86, "x86-64-v3", ["-O1"], X86, []), (X86, "x86-64-v3", ["-O3"], X86, []),
           ("aarch64-unknown-linux-gnu", "generic", [], "aarch64-linux-gnu", ["qemu-aarch64"]),
           ("thumbv7em-none-eabihf", "cortex-m4", [], "armv7a-linux-gnueabihf", ["qemu-arm"])]
FLAGS = {"x86-64-v2": "popcnt sse4_1 sse4_2 ssse3", "x86-64-v3": "avx2 bmi2 f16c fma", "x86-64-v4": "avx512f avx512bw avx512cd avx512dq avx512vl"}
ODD = [1, 3, 7, 8, 9, 31, 33, 100, 257]


class Graph:
    """A graph of many small things: each goes into the results."""

    def __init__(self):
        self.constants, self.params, self.body, self.results, self.bytes = "", [], "", [], 0

    def param(self, *shape):
        self.params.append(f"%x{len(self.params)}: {text_of(shape)}")
        return self.params[-1].split(":")[0]

    def const(self, *shape):
        self.constants += f'const $c{self.bytes} : {text_of(shape)} = file "w.bin" {self.bytes}\n'
        self.bytes += 64
        return f"$c{self.bytes - 64}"

    def op(self, text, shape, is_result=True):
        name = f"%{self.body.count(chr(10))}"
        self.body += f"  {name} = {text} : {text_of(shape)}\n"
        self.results += [(name, shape)] if is_result else []
        return name

    def ops(self, text, *results):
        names = [f"%n{self.body.count(chr(10))}_{i}" for i in range(len(results))]
        self.body += f"  {', '.join(names)} = {text} : {', '.join(text_of(r) for r in results)}\n"
        self.results += [(name, shape) for name, shape in zip(names, results)]

    def text(self):
        types, names = ", ".join(text_of(shape) for _, shape in self.results), ", ".join(name for name, _ in self.results)
        return f"nncc 1\n{self.constants}graph @main({', '.join(self.params)}) -> ({types}) {{\n{self.body}  return {names}\n}}\n"


def text_of(shape, dtype="f32"):
    return f"{dtype}[{','.join(map(str, shape))}]"


def reductions(g):
    """Along every axis, of odd lengths."""
    for shape in [7, 5, 13], [3, 1001], [1001, 3], [2, 33, 17, 5]:
        x = g.param(*shape)
        for axes in [[i] for i in range(len(shape))] + [list(range(1, len(shape))), list(range(len(shape) - 1))]:
            for op in "sum", "prod", "max":
                g.op(f"reduce_{op} {x} {{axes={axes}}}", [1 if i in axes else n for i, n in enumerate(shape)])


def elements(g):
    x, y = g.param(257), g.param(257)
    for op in "exp tanh erf sigmoid log1p softplus sin cos tan atan sinh expm1 asinh".split():
        g.op(f"{op} {x}", [257])
    size = g.op(f"abs {x}", [257])
    for op in f"pow {size}, {y}", f"log {size}", f"sqrt {size}", f"div {x}, {y}", f"fmod {x}, {y}":
        g.op(op, [257])
    gelu = g.op(f"erf {g.op(f'mul {x}, {y}', [257], False)}", [257], False)
    g.op(f"add {g.op(f'mul {gelu}, {x}', [257], False)}, {y}", [257])


def rows(g):
    for n in ODD:
        x = g.param(3, n)
        for op in "softmax", "softmax", "log_softmax":
            g.op(f"{op} {x}", [3, n])
        g.op(f"softmax {x} {{axis=0}}", [3, n])
        g.op(f"cum_sum {x} {{axis=1}}", [3, n])
        g.op(f"cum_sum {x} {{axis=0, reverse=1}}", [3, n])
        g.ops(f"normalize {x} {{axis=1}}", [3, n], [3, 1], [3, 1])


def products(g):
    for m, k, n in (1, 257, 65), (3, 129, 33), (5, 70, 100), (33, 31, 17), (64, 128, 3), (130, 300, 70):
        x, w, v = g.param(m, k), g.const(k, n), g.const(n, k)
        g.op(f"matmul {x}, {g.param(k, n)}", [m, n])
        g.op(f"matmul {x}, {g.param(n, k)} {{trans_b=1}}", [m, n])
        y = g.op(f"add {g.op(f'matmul {x}, {w}', [m, n], False)}, {g.op(f'matmul {x}, {v} {{trans_b=1}}', [m, n], False)}", [m, n], False)
        g.op(f"tanh {y}", [m, n])
    g.op(f"matmul {g.param(256, 256)}, {g.const(256, 320)}", [256, 320])  # Strassen's, if it were allowed


def convolutions(g):
    pads = "pads=[1,1,1,1]"
    y = g.op(f"relu {g.op(f'conv {g.param(2, 3, 18, 17)}, {g.const(32, 3, 3, 3)} {{{pads}}}', [2, 32, 18, 17], False)}", [2, 32, 18, 17])
    y = g.op(f"conv {y}, {g.const(33, 32, 3, 3)} {{{pads}}}", [2, 33, 18, 17])
    y = g.op(f"conv {y}, {g.const(40, 33, 1, 1)}", [2, 40, 18, 17])
    y = g.op(f"conv {y}, {g.const(40, 1, 3, 3)} {{{pads}, groups=40}}", [2, 40, 18, 17])
    y = g.op(f"conv {y}, {g.const(24, 10, 3, 3)} {{strides=[2,2], groups=4}}", [2, 24, 8, 8])
    y = g.op(f"avg_pool {y} {{kernel=[3,3]}}", [2, 24, 6, 6])
    g.op(f"reduce_sum {y} {{axes=[2,3], keepdims=0}}", [2, 24])
    g.op(f"conv {g.param(2, 5, 65)}, {g.const(9, 5, 7)} {{pads=[3,3]}}", [2, 9, 65])
    g.op(f"conv {g.param(1, 5, 9, 11)}, {g.param(7, 5, 3, 3)} {{{pads}, strides=[2,1]}}", [1, 7, 5, 11])


def others(g):
    q, k, v = g.param(2, 3, 19, 16), g.param(2, 3, 23, 16), g.param(2, 3, 23, 16)
    p = g.op(f"softmax {g.op(f'matmul {q}, {k} {{trans_b=1}}', [2, 3, 19, 23], False)}", [2, 3, 19, 23], False)
    g.op(f"matmul {p}, {v}", [2, 3, 19, 16])
    h = g.const(3, 24)
    g.ops(f"lstm {g.param(7, 3, 96)}, {g.const(96, 24)}, {h}, {h}", [7, 3, 24], [3, 24], [3, 24])
    g.ops(f"gru {g.param(7, 3, 72)}, {g.const(72, 24)}, {h}", [7, 3, 24], [3, 24])
    x = g.param(1, 3, 9, 11)
    g.op(f'resize {x} {{dims=[1,3,20,17], mode="linear"}}', [1, 3, 20, 17])
    g.op(f'resize {x} {{dims=[1,3,5,17], mode="cubic"}}', [1, 3, 5, 17])
    g.op(f"avg_pool {g.param(1, 3, 19, 21)} {{kernel=[3,5], strides=[2,2], pads=[1,2,1,2]}}", [1, 3, 10, 11])


def models():
    for fill in reductions, elements, rows, products, convolutions, others:
        g = Graph()
        fill(g)
        yield fill.__name__, g.text()


FORMATS = {"f32": ("f", "<f4"), "f64": ("d", "<f8"), "i64": ("q", "<i8"), "i32": ("i", "<i4"), "i8": ("b", "|i1"), "u8": ("B", "|u1"), "f16": ("e", "<f2"), "bool": ("B", "|b1")}


def write_npy(path, dtype, shape, data):
    header = f"{{'descr': '{FORMATS[dtype][1]}', 'fortran_order': False, 'shape': ({','.join(map(str, shape))},), }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    open(path, "wb").write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data)


def read_npy(path):
    blob = open(path, "rb").read()
    return blob[10 + struct.unpack("<H", blob[8:10])[0] :]


def make_inputs(path, folder):
    """Files, and all contents one behind the other. Small integers; floats of sizes that lose bits when they are added."""
    files, raw = [], b""
    for name, dtype, dims in re.findall(r"%(\w+): (\w+)\[([\d,]*)\]", re.search(r"@main\((.*?)\) ->", open(path).read()).group(1)):
        shape = [int(d) for d in dims.split(",") if d]
        count = math.prod(shape)
        is_float = dtype[0] == "f"
        data = struct.pack(f"<{count}{FORMATS[dtype][0]}", *[random.gauss(0, 1) * random.choice([1, 1, 3]) if is_float else random.randrange(2) for _ in range(count)])
        file = os.path.join(folder, name + ".npy")
        write_npy(file, dtype, shape, data)
        files.append(f"{name}={file}")
        raw += data
    return files, raw


def run_nncc(path, files, options, folder):
    out = os.path.join(folder, "out")
    shutil.rmtree(out, ignore_errors=True)
    os.mkdir(out)
    done = subprocess.run([nncc, "run", path, *files, "--fp", "exact", "-o", out, *options], capture_output=True, text=True)
    if done.returncode:
        return done.stderr.strip()[:200]
    names = [line.split()[0] for line in done.stdout.splitlines()]
    return b"".join(read_npy(os.path.join(out, re.sub(r"[^\w.-]", "_", name) + ".npy")) for name in names)


def host_cpu_has(cpu):
    words = next((line for line in open("/proc/cpuinfo") if line.startswith("flags")), "").split()
    return os.uname().machine == "x86_64" and all(flag in words for flag in FLAGS.get(cpu, "").split())


def usable_targets(folder):
    hosts, usable = {}, []
    for triple, cpu, options, host, runner in TARGETS:
        reason = None
        if runner and not shutil.which(runner[0]):
            reason = f"{runner[0]} is not installed"
        elif not runner and not host_cpu_has(cpu):
            reason = "this machine is none"
        elif not (shutil.which("clang") and shutil.which("ld.lld")):
            reason = "clang or lld is not installed"
        elif host not in hosts:
            hosts[host] = os.path.join(folder, host + ".o")
            subprocess.run(["clang", "--target=" + host, "-O1", "-ffreestanding", "-fno-stack-protector", "-fno-builtin", "-I", source, "-c",
                            os.path.join(source, "tests/engine/exact_host.c"), "-o", hosts[host]], check=True)
        if reason:
            print(f"skipped: {cpu}: {reason}")
        else:
            usable.append((triple, cpu, options, hosts[host], runner))
    return usable


def run_target(path, raw, target, folder):
    triple, cpu, options, host, runner = target
    object_file, program = os.path.join(folder, "m.o"), os.path.join(folder, "m.elf")
    done = subprocess.run([nncc, path, "-o", object_file, "--name", "m", "--fp", "exact", "--target", triple, "--mcpu", cpu, *options], capture_output=True, text=True)
    if done.returncode:
        return done.stderr.strip()[:200]
    subprocess.run(["ld.lld", "-static", host, object_file, "-o", program], check=True)
    done = subprocess.run([*runner, program], input=raw, capture_output=True)
    return done.stdout if done.returncode == 0 else f"exit code {done.returncode}"


failures = 0


def check(found, expected, what):
    global failures
    if found == expected:
        return
    failures += 1
    words = f"{len(found)} bytes, expected {len(expected)}" if isinstance(found, bytes) and len(found) != len(expected) else found if isinstance(found, str) else ""
    if isinstance(found, bytes) and not words:
        words = f"{sum(a != b for a, b in zip(found, expected))} of {len(found)} bytes differ"
    print(f"FAILED: {what}: {words}")


with tempfile.TemporaryDirectory() as folder:
    random.seed(3)
    open(os.path.join(folder, "w.bin"), "wb").write(struct.pack("<90000f", *[random.gauss(0, 0.5) for _ in range(90000)]))
    paths = list(given)
    for name, text in models():
        paths.append(os.path.join(folder, name + ".nn"))
        open(paths[-1], "w").write(text)
    targets = usable_targets(folder)
    for path in paths:
        name = os.path.basename(path)
        files, raw = make_inputs(path, folder)
        expected = run_nncc(path, files, ["--interp"], folder)
        if isinstance(expected, str) or not expected:
            failures += 1
            print(f"FAILED: {name} in the interpreter: {expected}")
            continue
        for threads in "1", "2", "3":
            check(run_nncc(path, files, ["--threads", threads], folder), expected, f"{name} on {threads} threads")
        for target in targets:
            check(run_target(path, raw, target, folder), expected, f"{name} for {target[1]} {' '.join(target[2])}")
if not failures:
    print(f"exact: the same bits of {len(paths)} models in the interpreter, on 1 to 3 threads, and on {', '.join(sorted({t[1] for t in targets}))}")
sys.exit(failures > 0)
