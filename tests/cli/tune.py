"""nncc tune, and --tuning: what is found is used, every candidate gives right results, bad and foreign files are refused.
    python3 tune.py NNCC"""
import os, random, re, struct, subprocess, sys, tempfile

nncc = sys.argv[1]
MODEL = """nncc 1
const $a : f32[32,3,3,3] = file "w.bin" 0
const $b : f32[48,32,3,3] = file "w.bin" 1024
const $d : f32[48,1,3,3] = file "w.bin" 64
const $m : f32[300,160] = file "w.bin" 256
graph @main(%x: f32[1,3,18,17], %y: f32[128,300]) -> (f32[1,48,18,17], f32[128,160]) {
  %0 = conv %x, $a {pads=[1,1,1,1]} : f32[1,32,18,17] loc "first"
  %1 = relu %0 : f32[1,32,18,17]
  %2 = conv %1, $b {pads=[1,1,1,1]} : f32[1,48,18,17] loc "second"
  %3 = conv %2, $d {pads=[1,1,1,1], groups=48} : f32[1,48,18,17] loc "third"
  %4 = matmul %y, $m : f32[128,160] loc "product"
  return %3, %4
}
"""
failures = 0


def check(holds, what):
    global failures
    if not holds:
        failures += 1
        print("FAILED:", what)


def run(code, pattern, *args):
    done = subprocess.run([nncc, *args], capture_output=True, text=True)
    text = done.stdout + done.stderr
    check(done.returncode == code and re.search(pattern, text), f"{' '.join(args)}: exit code {done.returncode}, expected {code}; expected '{pattern}' in\n{text[:600]}")
    return text


def write(path, text):
    open(path, "w").write(text)
    return path


def bits(*options):
    """Of the outputs."""
    os.makedirs("out", exist_ok=True)
    run(0, "output", "run", "m.nn", "--random", "3", "-o", "out", *options)
    return [open(os.path.join("out", name), "rb").read() for name in sorted(os.listdir("out"))]


def candidates(table, mark="[* ]"):
    """(knob, value, key) of all that was tried, and (knob, fallback, key); with the mark *, of what was taken."""
    for line in table.splitlines():
        head = re.match(r"([a-z]+\.[a-z]+) +(.*\d\*?)  ([a-z_]+ .*->.*)$", line)
        for value in re.findall(rf"(\d+){mark} +[\d.]+", head.group(2)) if head else []:
            yield head.group(1), value, head.group(3)


def text_of(entries):
    return "".join(f"{knob} {value} {key}\n" for knob, value, key in entries)


def check_candidates(head, table):
    tried = list(candidates(table))
    knobs = {knob for knob, _, _ in tried}
    forms = ("conv.tile", "matmul.pairs", "matmul.strassen")  # what is taken of them makes the ops that the later knobs are tried on
    head += text_of(entry for entry in candidates(table, r"\*") if entry[0] in forms)
    check(knobs - {*forms[1:]} == {"conv.tile", "tile.rows", "cache.percent", "task.percent"}, f"all knobs are tried: {knobs}")
    check(knobs & {*forms[1:]}, f"the product's forms are tried: {knobs}")  # in pairs where the CPU has use for it; else, and where that lost, Strassen's
    plain = bits("--tuning", write("forms.tune", head), "--fp", "exact")
    for knob in knobs:
        values = sorted({value for k, value, _ in tried if k == knob}, key=int)
        for value in values:  # all ops at once
            path = write("one.tune", head + text_of(entry for entry in tried if entry[:2] == (knob, value)))
            run(0, "no difference", "run", "m.nn", "--random", "3", "--compare", "interp", "--tuning", path)
            check(bits("--tuning", path) == bits("--tuning", path, "--threads", "3"), f"{knob} {value}: other bits on three threads")
            if knob not in forms:
                check(bits("--tuning", path, "--fp", "exact") == plain, f"{knob} {value}: --fp exact gives other bits")
    last = write("last.tune", head + text_of(entry for entry in tried if entry[0] == "tile.rows"))
    run(0, r"last.tune: (\d+) of \1 entries", "run", "m.nn", "--random", "3", "--tuning", last)


def check_bad(head):
    cpu = head.splitlines()[1]
    for text, code, message in ((b"", 3, "ends too early"), (b"\x08\x07 onnx", 3, "this is no tuning file"), (b"nncc tuning 2\n", 3, "version 2, expected 1"),
                                (b"nncc tuning 1\ncpu toaster wasm\n", 3, "measured on 'toaster wasm', the code is for '"), (b"nncc tuning 1\nfoo\n", 3, "expected: cpu"),
                                (f"nncc tuning 1\n{cpu}\nconv.tile x conv\n".encode(), 3, "bad.tune:3: expected: KNOB NUMBER OP"),
                                (f"nncc tuning 1\n{cpu}\nspeed 3 conv\n".encode(), 3, "bad.tune:3: no such knob"),
                                (f"nncc tuning 1\n{cpu}\nconv.tile 3\n".encode(), 3, "bad.tune:3: expected"),
                                (f"nncc tuning 1\n{cpu}\nconv.tile 99999999999999999999 conv\n".encode(), 3, "bad.tune:3: expected"),
                                (f"nncc tuning 1\n{cpu}\n# {'x' * 9000}\n".encode(), 3, "bad.tune:3: the line is too long")):
        open("bad.tune", "wb").write(text)
        run(code, re.escape(message), "m.nn", "-o", "bad.o", "--tuning", "bad.tune")
        check(not os.path.exists("bad.o"), f"bad.o was left behind: {message}")
    run(3, "cannot read the tuning file 'none.tune'", "bench", "m.nn", "--tuning", "none.tune")
    strange = write("strange.tune", head + "conv.tile 4 conv f32[1]\nconv.tile 77 conv f32[2]\n")
    run(0, "strange.tune: 0 of 2 entries are for ops of this model", "m.nn", "-o", "m.o", "--tuning", strange)
    run(3, "a tuning is of one CPU", "m.nn", "-o", "bad.o", "--tuning", strange, "--mcpu", "x86-64,x86-64-v3")
    run(3, "measured on", "m.nn", "-o", "bad.o", "--tuning", strange, "--mcpu", "cortex-m4")
    run(2, "-o FILE is missing", "tune", "m.nn")
    run(2, "expected a model", "tune", "-o", "x.tune")
    run(3, "none.nn", "tune", "none.nn", "-o", "x.tune")
    run(4, "cannot write 'none/x.tune'", "tune", "m.nn", "-o", "none/x.tune", "--fp", "exact")


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    random.seed(2)
    open("w.bin", "wb").write(struct.pack("<60000f", *[random.random() - 0.5 for _ in range(60000)]))
    write("m.nn", MODEL)
    table = run(0, r"by default [\d.]+ ms, tuned [\d.]+ ms\n.*m.tune: \d+ entries", "tune", "m.nn", "-o", "m.tune")
    text = open("m.tune").read()
    check(re.match(r"nncc tuning 1\ncpu \S+ \S+\n# 1 thread, floating point strict; m.nn: ", text), "the file's head: " + text[:200])
    head = "".join(line + "\n" for line in text.splitlines()[:2])
    entries = [line for line in text.splitlines()[2:] if not line.startswith("#")]
    run(0, f"m.tune: {len(entries)} of {len(entries)} entries", "m.nn", "-o", "m.o", "--tuning", "m.tune")
    run(0, "no difference", "run", "m.nn", "--random", "3", "--compare", "interp", "--tuning", "m.tune")
    check_candidates(head, table)
    check_bad(head)
if not failures:
    print("tune: all as expected")
sys.exit(failures > 0)
