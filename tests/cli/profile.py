"""What nncc bench --profile and nncc --map say: every form parses, and the numbers fit together.
    python3 profile.py NNCC"""
import json, os, shutil, struct, subprocess, sys, tempfile, xml.etree.ElementTree as xml

MODEL = """nncc 1
symbol N
const $w : f32[64,64] = file "w.bin" 0
graph @main(%x: f32[N,64]) -> (f32[N,64], f32[N,64]) {
  %0 = matmul %x, $w : f32[N,64] loc "first <&> \\"quoted\\""
  %1 = relu %0 : f32[N,64] loc "activation"
  %2 = softmax %1 {axis=0} : f32[N,64] loc "soft"
  return %1, %2
}
"""
OPEN = """nncc 1
symbol K data
graph @main(%x: f32[64], %n: i64[1]) -> (f32[K]) {
  bind_dims %n {dims=[K]}
  %0 = slice %x {starts=[3], steps=[1], dims=[K]} : f32[K]
  %1 = neg %0 : f32[K]
  return %1
}
"""
ROWS = 48
BENCH = ["bench", "m.nn", "x=x.npy", "--runs", "5"]
failures = 0


def write_npy(path, kind, shape, data):
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    header += " " * (117 - len(header)) + "\n"
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data)


def check(holds, what):
    global failures
    if not holds:
        failures += 1
        print("FAILED:", what)


def bench(*args):
    done = subprocess.run([nncc, "bench", *args], capture_output=True, text=True)
    check(done.returncode == 0, f"bench {args}: exit code {done.returncode}: {done.stderr}")
    return done.stdout


def check_json(result, threads):
    steps = result["steps"]
    check(len(steps) >= 2, "at least two steps")
    check(abs(sum(s["share"] for s in steps) - 1) < 1e-6, "shares add up to 1")
    check(abs(sum(s["flop"] for s in steps) * 1e-9 - result["gflop"]) < 1e-9, "operations add up to the model's")
    check(sum(s["us"] for s in steps) <= 2e3 * result["median_ms"], "steps are not longer than the run")
    check(all(0 <= s["busy"] <= 1.05 and s["us"] >= 0 and s["limit_us"] >= 0 for s in steps), "shares and times are in range")
    check(result["machine"]["gflop_per_s"] > 0.1 and len(result["machine"]["reads"]) >= 2, "the machine is measured")
    product = [s for s in steps if 'first <&> "quoted"' in s["nodes"]]
    check(len(product) == 1, "the product's node is found once")
    rows = ROWS
    check(product[0]["flop"] == 2 * rows * 64 * 64 + rows * 64, f"operations of product and relu: {product[0]['flop']}")
    check(product[0]["weight_bytes"] in (4 * 64 * 64, 4 * 66 * 64), "bytes of the weights")  # in pairs each column has two more
    check(product[0]["value_bytes"] == 2 * 4 * rows * 64, "bytes read and written")
    check(result["threads"] == threads, "the number of threads")


def check_trace(path, threads):
    events = [e for e in json.load(open(path))["traceEvents"] if e["ph"] == "X"]
    steps = sorted((e for e in events if e["tid"] == 0), key=lambda e: e["ts"])
    check(steps[0]["ts"] == 0, "the first step begins at 0")
    for a, b in zip(steps, steps[1:]):
        check(abs(a["ts"] + a["dur"] - b["ts"]) < 1e-2, "each step begins where the one before ends")
    for e in events:
        if e["tid"] == 0:
            continue
        step = steps[e["args"]["step"]]
        check(step["ts"] <= e["ts"] and e["ts"] + e["dur"] <= step["ts"] + step["dur"] + 1e-2, "a worker's part lies within its step")
    check((threads > 1) == any(e["tid"] > 0 for e in events), "workers have tracks of their own if there are several")


def check_page(path):
    names = [e.tag.split("}")[1] for e in xml.parse(path).iter()]
    check(names.count("svg") >= 3 and "circle" in names and "rect" in names and "table" in names, "roofline, bars and a table")
    check("<&" not in open(path).read(), "names are escaped")


def check_symbols():
    """Kernels of code in memory by name: in the map that perf reads, and in GDB."""
    process = subprocess.Popen([nncc, *BENCH, "--symbols"], stdout=subprocess.DEVNULL)
    check(process.wait() == 0, "bench --symbols")
    path = f"/tmp/perf-{process.pid}.map"
    lines = [line.split() for line in open(path)]
    os.remove(path)
    names = [line[2] for line in lines]
    check(any(n.startswith("nnk_matmul") for n in names) and any("__task_" in n for n in names), f"kernels and tasks in the map: {names}")
    check(all(int(size, 16) > 0 and int(address, 16) > 4096 for address, size, _ in lines), "each function has a place and a size")
    if not shutil.which("gdb"):
        print("skipped: GDB is not installed")
        return
    kernel = next(n for n in names if n.startswith("nnk_matmul") and "__task_" not in n)
    script = ["-ex", "set breakpoint pending on", "-ex", f"break {kernel}", "-ex", "run", "-ex", "backtrace", "-ex", "kill"]
    done = subprocess.run(["gdb", "-nx", "-q", "-batch", *script, "--args", nncc, *BENCH, "--symbols"], capture_output=True, text=True)
    check(f"in {kernel} ()" in done.stdout, f"GDB stops in {kernel}: {done.stdout[-400:]} {done.stderr[-400:]}")


def check_data_dependent():
    """Sizes that only the run knows."""
    open("open.nn", "w").write(OPEN)
    write_npy("n.npy", "<i8", (1,), struct.pack("<q", 13))
    result = json.loads(bench("open.nn", "n=n.npy", "--runs", "2", "--profile", "--json"))
    calls = [s for s in result["steps"] if s["kernel"].startswith("nnk_")]
    check([(s["flop"], s["value_bytes"]) for s in calls] == [(13, 2 * 4 * 13)], f"13 elements: {calls}")


def check_map():
    done = subprocess.run([nncc, "m.nn", "-o", "m.o", "--map", "m.json"], capture_output=True, text=True)
    check(done.returncode == 0, f"compiling with --map: {done.stderr}")
    result = json.load(open("m.json"))
    symbols = subprocess.run(["nm", "m.o"], capture_output=True, text=True).stdout.split()
    calls = [s for s in result["steps"] if s["kind"] == "call"]
    check(result["model"] == "m" and len(calls) >= 2, "the map has the name and the kernel calls")
    for call in calls:
        check(len(call["kernels"]) == 1 and call["kernels"][0] in symbols, f"{call['kernels']} are symbols of the object")
    nodes = [n["name"] for s in result["steps"] for n in s["nodes"]]
    check(sorted(nodes) == ["activation", 'first <&> "quoted"', "soft"], f"each node once: {nodes}")
    done = subprocess.run([nncc, "m.nn", "-o", "bad.o", "--map", "nowhere/m.json"], capture_output=True, text=True)
    check(done.returncode == 3 and "nowhere/m.json" in done.stderr, "a map that cannot be written is an error")
    check(not os.path.exists("bad.o") and not os.path.exists("bad.h"), "and leaves nothing behind")


with tempfile.TemporaryDirectory() as folder:
    nncc = os.path.abspath(sys.argv[1])
    os.chdir(folder)
    open("w.bin", "wb").write(bytes(4 * 64 * 64))
    open("m.nn", "w").write(MODEL)
    write_npy("x.npy", "<f4", (ROWS, 64), bytes(4 * ROWS * 64))  # the symbolic dimension is bound by the input
    common = BENCH[1:]
    check_map()
    check_symbols()
    check_data_dependent()
    for threads in 1, 2:
        table = bench(*common, "--threads", str(threads), "--profile", "--profile-to", "p.json")
        check("roof %" in table and "activation" in table, "a table on the terminal")
        check_json(json.load(open("p.json")), threads)
        for how in [], ["--aot"]:
            check_json(json.loads(bench(*common, *how, "--threads", str(threads), "--profile", "--json")), threads)
        bench(*common, "--threads", str(threads), "--profile-to", "p.trace")
        check_trace("p.trace", threads)
        bench(*common, "--threads", str(threads), "--profile-to", "p.html")
        check_page("p.html")
if not failures:
    print("profiles: all as expected")
sys.exit(failures > 0)
