"""Objects for several CPUs: every variant that this CPU can run gives the same results as an object for one CPU, the best
one is picked, and what the CPU lacks is refused. And objects for CPUs with forms of products of their own.
    python3 variants.py NNCC MODEL..."""
import ctypes as c, os, random, shutil, struct, subprocess, sys, tempfile

LEVELS = ["x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4"]
FLAGS = [[], "cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3".split(), "avx avx2 bmi1 bmi2 f16c fma abm movbe".split(),
         "avx512f avx512bw avx512cd avx512dq avx512vl".split()]
EINVAL = 1
# numbers of nncc_rt.h: letter of struct, largest difference relative to the largest value
TYPES = {1: ("f", 3e-4), 10: ("e", 2e-2), 11: ("d", 1e-9), 2: ("B", 1), 3: ("b", 1), 6: ("i", 0), 7: ("q", 0), 9: ("?", 0), 16: ("f", 2e-2)}
BF16 = 16


class Tensor(c.Structure):
    _fields_ = [("data", c.c_void_p), ("dims", c.POINTER(c.c_int64)), ("dtype", c.c_int32), ("rank", c.c_int32)]


class Context(c.Structure):
    _fields_ = [("workspace", c.c_void_p), ("workspace_bytes", c.c_size_t), ("weights", c.c_void_p), ("parallel_for", c.c_void_p),
                ("pool", c.c_void_p), ("nworkers", c.c_int32), ("isa", c.c_int32), ("allocate", c.c_void_p), ("release", c.c_void_p),
                ("user", c.c_void_p), ("error", c.c_int32), ("error_step", c.c_int32), ("error_node", c.c_char_p),
                ("error_what", c.c_char_p), ("found", c.c_int64), ("expected", c.c_int64), ("parallel_steps", c.c_void_p)]


class Io(c.Structure):
    _fields_ = [("name", c.c_char_p), ("dtype", c.c_int32), ("rank", c.c_int32), ("dims", c.POINTER(c.c_int64)), ("texts", c.c_void_p)]


class Model(c.Structure):
    _fields_ = [("abi", c.c_uint32), ("flags", c.c_uint32), ("name", c.c_char_p), ("ninputs", c.c_int32), ("noutputs", c.c_int32),
                ("inputs", c.POINTER(Io)), ("outputs", c.POINTER(Io))]


def flags_of_this_cpu():
    return next(line for line in open("/proc/cpuinfo") if line.startswith("flags")).split()


def level_of_this_cpu():
    words, level = flags_of_this_cpu(), 0
    while level < 4 and all(flag in words for flag in FLAGS[level]):
        level += 1
    return level


def make_tensor(io, batch, fill):
    dims = [batch if io.dims[d] < 0 else io.dims[d] for d in range(io.rank)]
    count = 1
    for d in dims:
        count *= d
    letter = TYPES[io.dtype][0]
    if io.dtype == BF16:
        pack = lambda values: b"".join(struct.pack("=f", v)[2:] for v in values)
    else:
        pack = lambda values: struct.pack(f"={count}{letter}", *values)
    value = (lambda: random.random() * 2 - 1) if letter in "fed" else (lambda: random.randrange(2 if letter == "?" else 8))
    data = c.create_string_buffer(pack([value() if fill else 0 for _ in range(count)]) + b"\0")
    array = (c.c_int64 * max(io.rank, 1))(*dims)
    return Tensor(c.cast(data, c.c_void_p), array, io.dtype, io.rank), data, array


def values_of(tensor, data):
    letter = TYPES[tensor.dtype][0]
    if tensor.dtype == BF16:
        return tuple(struct.unpack("=f", b"\0\0" + data.raw[i : i + 2])[0] for i in range(0, len(data) - 2, 2))
    return struct.unpack_from(f"={(len(data) - 2) // struct.calcsize('=' + letter)}{letter}", data)


class Host:
    def __init__(self, path, batch):
        self.library = c.CDLL(path)
        self.model = Model.in_dll(self.library, "m")
        random.seed(1)
        self.ins = [make_tensor(self.model.inputs[i], batch, True) for i in range(self.model.ninputs)]
        self.outs = [make_tensor(self.model.outputs[i], batch, False) for i in range(self.model.noutputs)]
        self.context = Context(nworkers=1)
        self.tensors_in = (Tensor * max(len(self.ins), 1))(*[t[0] for t in self.ins])
        self.library.m_workspace_size.restype = c.c_size_t
        size = self.library.m_workspace_size(self.tensors_in, 1)
        self.memory = c.create_string_buffer(size + 64)
        self.context.workspace = (c.addressof(self.memory) + 63) // 64 * 64
        self.context.workspace_bytes = size

    def run(self, isa):
        self.context.isa = isa
        tensors = (Tensor * max(len(self.outs), 1))(*[t[0] for t in self.outs])
        code = self.library.m_run(c.byref(self.context), self.tensors_in, tensors)
        return code, [(data.raw, values_of(t, data)) for t, data, _ in self.outs]


failures = 0


def check(holds, what):
    global failures
    if not holds:
        failures += 1
        print("FAILED:", what)


def check_close(host, found, expected, what):
    for (tensor, _, _), (_, a), (_, b) in zip(host.outs, found, expected):
        check([x == x for x in a] == [y == y for y in b], f"{what}: NaN elsewhere")
        pairs = [(x, y) for x, y in zip(a, b) if x == x and y == y and x != y]
        most = max([1e-30] + [abs(y) for y in b if abs(y) < float("inf")]) if TYPES[tensor.dtype][1] < 1 else 1
        worst = max([0] + [abs(x - y) for x, y in pairs]) / most
        check(worst <= TYPES[tensor.dtype][1], f"{what}: differs by {worst:g}")


def compile(nncc, model, out, cpu, *options):
    subprocess.run([nncc, model, "-o", out, "--name", "m", "--mcpu", cpu, *options], check=True, stdout=subprocess.DEVNULL)


def check_model(nncc, model, cpus, level, folder):
    several, one = os.path.join(folder, "several.so"), os.path.join(folder, "one.so")
    compile(nncc, model, several, ",".join(cpus))
    compile(nncc, model, one, "x86-64")
    for path in several, one:  # a library stays loaded under its name
        os.rename(path, path + os.path.basename(model) + str(len(cpus)))
    suffix = os.path.basename(model) + str(len(cpus))
    host, plain = Host(several + suffix, 3), Host(one + suffix, 3)
    code, expected = plain.run(0)
    check(code == 0, f"{model}: one CPU: error {code}")
    order = sorted(cpus)  # names sort as levels do
    usable = [cpu for cpu in order if LEVELS.index(cpu) < level]
    results = {}
    for number, cpu in enumerate(order, 1):
        code, results[number] = host.run(number)
        if cpu in usable:
            check(code == 0, f"{model}: {cpu}: error {code}")
            check_close(host, results[number], expected, f"{os.path.basename(model)} for {cpu}")
        else:
            print(f"skipped: {cpu} of {os.path.basename(model)}: this CPU is x86-64-v{level}")
            check(code == EINVAL and host.context.error_what == b"isa", f"{model}: {cpu} is refused: error {code}")
    code, _ = host.run(len(cpus) + 1)
    check(code == EINVAL and host.context.found == len(cpus) + 1 and host.context.expected == len(usable), "no such variant")
    code, picked = host.run(0)
    if not usable:
        check(code == EINVAL, "no variant for this CPU")
        return
    check(code == 0 and [raw for raw, _ in picked] == [raw for raw, _ in results[len(usable)]], f"{model}: the widest variant is picked")
    host.context.isa = 0
    check(host.library.m_init(c.byref(host.context)) == 0 and host.context.isa == len(usable), "init sets the widest variant")
    host.context.isa = 1
    check(host.library.m_init(c.byref(host.context)) == 0 and host.context.isa == 1, "init leaves what the host set")
    check(host.library.m_init(None) == EINVAL, "init of nothing")


PAIRED_CPU = "znver4"
PAIRED_FLAGS = "avx512f avx512bw avx512cd avx512dq avx512vl avx512ifma avx512vbmi avx512_vbmi2 avx512_vnni avx512_bitalg avx512_vpopcntdq avx512_bf16 gfni vaes vpclmulqdq".split()


def check_pairs(nncc, model, folder):
    """Products in pairs, of a CPU where they pay, against those of their definition."""
    paired, plain, map = (os.path.join(folder, name) for name in ("paired.so", "plain.so", "paired.json"))
    compile(nncc, model, paired, PAIRED_CPU, "--map", map)
    compile(nncc, model, plain, "x86-64", "--no-winograd")
    kernels = open(map).read()
    check("conv_paired" in kernels and "matmul_paired" in kernels, f"no products in pairs for {PAIRED_CPU}")
    if any(flag not in flags_of_this_cpu() for flag in PAIRED_FLAGS):
        print(f"skipped: products in pairs: this CPU cannot run code for {PAIRED_CPU}")
        return
    host, other = Host(paired, 3), Host(plain, 3)
    (code, found), (_, expected) = host.run(0), other.run(0)
    check(code == 0, f"{model}: {PAIRED_CPU}: error {code}")
    check_close(host, found, expected, f"{os.path.basename(model)} for {PAIRED_CPU}")


EMULATED = [("qemu64", 1), ("Nehalem", 2), ("Haswell", 3)]  # QEMU has no AVX-512
PICK = """
import ctypes, sys
context = (ctypes.c_int32 * 64)()
code = ctypes.CDLL(sys.argv[1]).m_init(context)
print(code, context[%d])
""" % (Context.isa.offset // 4)


def check_detection(nncc, model, folder):
    """What the object takes an emulated CPU for."""
    if not shutil.which("qemu-x86_64"):
        print("skipped: other CPUs than this one: qemu-user is not installed")
        return
    path = os.path.join(folder, "emulated.so")
    subprocess.run([nncc, model, "-o", path, "--name", "m", "--mcpu", ",".join(LEVELS)], check=True, stdout=subprocess.DEVNULL)
    for cpu, expected in EMULATED:
        command = ["qemu-x86_64", "-cpu", cpu, os.path.realpath(sys.executable), "-c", PICK, path]
        found = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.strip()
        check(found == f"0 {expected}", f"{cpu} is x86-64-v{expected}: found '{found}'")


CONV = """nncc 1
const $a : f32[32,3,3,3] = file "w.bin" 0
const $b : f32[32,32,3,3] = file "w.bin" 1024
const $c : f32[40,32,1,1] = file "w.bin" 512
const $d : f32[40,1,3,3] = file "w.bin" 64
graph @main(%x: f32[2,3,18,17]) -> (f32[2,40,18,17]) {
  %0 = conv %x, $a {pads=[1,1,1,1]} : f32[2,32,18,17]
  %1 = relu %0 : f32[2,32,18,17]
  %2 = conv %1, $b {pads=[1,1,1,1]} : f32[2,32,18,17]
  %3 = add %2, %1 : f32[2,32,18,17]
  %4 = conv %3, $c : f32[2,40,18,17]
  %5 = conv %4, $d {pads=[1,1,1,1], groups=40} : f32[2,40,18,17]
  return %5
}
"""
PAIRS = """nncc 1
symbol N
const $a : f32[128,64,1,1] = file "w.bin" 0
const $b : f32[64,16,3,3] = file "w.bin" 512
const $c : f32[80,128] = file "w.bin" 1024
graph @main(%x: f32[N,16,19,18], %y: f32[70,80]) -> (f32[N,128,10,9], f32[70,128]) {
  %0 = conv %x, $b {pads=[1,1,1,1], strides=[2,2]} : f32[N,64,10,9]
  %1 = relu %0 : f32[N,64,10,9]
  %2 = conv %1, $a : f32[N,128,10,9]
  %3 = sigmoid %2 : f32[N,128,10,9]
  %4 = mul %2, %3 : f32[N,128,10,9]
  %5 = matmul %y, $c : f32[70,128]
  return %4, %5
}
"""
DENSE = """nncc 1
symbol N
const $a : f32[70,100] = file "w.bin" 0
const $b : f32[100,33] = file "w.bin" 256
graph @main(%x: f32[N,20,70]) -> (f32[N,20,33]) {
  %0 = reshape %x {dims=[20*N,70]} : f32[20*N,70]
  %1 = matmul %0, $a : f32[20*N,100]
  %2 = tanh %1 : f32[20*N,100]
  %3 = matmul %2, $b : f32[20*N,33]
  %4 = softmax %3 : f32[20*N,33]
  %5 = reshape %4 {dims=[N,20,33]} : f32[N,20,33]
  return %5
}
"""
RECURRENT = """nncc 1
const $r : f32[96,24] = file "w.bin" 0
const $h : f32[3,24] = file "w.bin" 128
graph @main(%x: f32[7,3,96]) -> (f32[7,3,24], f32[3,24]) {
  %0, %1, %2 = lstm %x, $r, $h, $h : f32[7,3,24], f32[3,24], f32[3,24]
  return %0, %2
}
"""
ATTENTION = """nncc 1
graph @main(%q: f32[2,3,19,16], %k: f32[2,3,23,16], %v: f32[2,3,23,16]) -> (f32[2,3,19,16]) {
  %0 = matmul %q, %k {trans_b=1} : f32[2,3,19,23]
  %1 = softmax %0 : f32[2,3,19,23]
  %2 = matmul %1, %v : f32[2,3,19,16]
  return %2
}
"""

level = level_of_this_cpu()
if level == 0:
    print("skipped: no x86-64 CPU")
    sys.exit(77)
with tempfile.TemporaryDirectory() as folder:
    random.seed(2)
    open(os.path.join(folder, "w.bin"), "wb").write(struct.pack("=12000f", *[random.random() - 0.5 for _ in range(12000)]))
    models = sys.argv[2:]
    for name, text in ("conv", CONV), ("recurrent", RECURRENT), ("attention", ATTENTION), ("dense", DENSE):
        models.append(os.path.join(folder, name + ".nn"))
        open(models[-1], "w").write(text)
    for model in models:
        check_model(sys.argv[1], model, LEVELS, level, folder)
    check_model(sys.argv[1], models[-1], ["x86-64-v3", "x86-64"], level, folder)
    pairs = os.path.join(folder, "pairs.nn")
    open(pairs, "w").write(PAIRS)
    check_pairs(sys.argv[1], pairs, folder)
    check_detection(sys.argv[1], models[-1], folder)
    refused = lambda cpus, out="bad.o": subprocess.run([sys.argv[1], models[-1], "-o", os.path.join(folder, out), "--mcpu", cpus], capture_output=True, text=True)
    for cpus, out, text in (("x86-64,znver3", "bad.o", "'znver3' cannot be one of several"), ("x86-64,x86-64", "bad.o", "named twice"),
                            ("x86-64,x86-64-v3", "bad.ll", "several CPUs")):
        done = refused(cpus, out)
        check(done.returncode == 3 and text in done.stderr, f"{cpus} into {out}: {done.stderr}")
        check(not os.path.exists(os.path.join(folder, out)), f"{out} was left behind")
if not failures:
    print(f"variants: all as expected, on x86-64-v{level}")
sys.exit(failures > 0)
