# Command lines as a user types them, on a build installed into an empty prefix.
#   sh cli.sh BUILD_DIR SOURCE_DIR
set -u
build=$1 source=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failures=0

DESTDIR='' cmake --install "$build" --prefix "$dir/prefix" >/dev/null || { echo "install failed"; exit 1; }
nncc=$dir/prefix/bin/nncc
include=$dir/prefix/include
lib=$(dirname "$(find "$dir/prefix" -name libnncc_rt.a)")
cc -O1 -o "$dir/make_model" "$source/tools/demo/make_model.c" -lm && "$dir/make_model" "$dir/squeezenet.onnx" "$dir/image.ppm" || exit 1
cd "$dir" || exit 1

# expect CODE PATTERN COMMAND...: the exit code, and a line of the output (both streams)
expect() {
  code=$1 pattern=$2
  shift 2
  "$@" >out.txt 2>&1
  found=$?
  if [ "$found" != "$code" ] || { [ -n "$pattern" ] && ! grep -qE -e "$pattern" out.txt; }; then
    echo "FAILED: $*"
    echo "  exit code $found, expected $code; expected a line with: $pattern"
    sed 's/^/  | /' out.txt | head -n 12
    failures=$((failures + 1))
  fi
}
absent() { # FILE...: must not exist
  for file in "$@"; do
    [ -e "$file" ] && { echo "FAILED: $file was left behind"; failures=$((failures + 1)); }
  done
}

expect 0 '^nncc [0-9]' "$nncc" --version
expect 0 'usage: nncc MODEL -o OUT' "$nncc" --help
for verb in compile run test bench check inspect opt; do expect 0 'Options:' "$nncc" $verb --help; done
expect 2 'usage' "$nncc"
expect 2 'unknown option' "$nncc" squeezenet.onnx --no-such-option
expect 2 '-o OUT is missing' "$nncc" squeezenet.onnx

# compile, every kind of output
expect 0 'compiled' "$nncc" squeezenet.onnx -o model.o
expect 0 'compiled' "$nncc" squeezenet.onnx -o model.a
expect 0 'compiled' "$nncc" squeezenet.onnx -o model.so
[ "$(uname -m)" != x86_64 ] || expect 0 'compiled' env PATH=/nonexistent "$nncc" squeezenet.onnx -o alone.so # without a linker
expect 2 'expected 1 to 1024' "$nncc" squeezenet.onnx -o model.o --threads 0
expect 0 'compiled' "$nncc" squeezenet.onnx -o model.s --header asm.h
expect 0 'compiled' "$nncc" squeezenet.onnx -o model.ll --header ll.h
expect 0 'compiled' "$nncc" squeezenet.onnx -o side.o --weights=file
[ -s side.weights ] || { echo "FAILED: side.weights is missing"; failures=$((failures + 1)); }
printf 'nncc 1\ngraph @main(%%x: f32[8], %%u: f32[8]) -> (f32[8]) {\n  %%0 = add %%x, %%u : f32[8]\n  return %%0 {names=["y"]}\n}\n' >state.nn
expect 0 'compiled' "$nncc" state.nn -o state.o --alias x=y
expect 0 'state_ALIASES ..0, 0..' cat state.h
expect 3 "alias 'x=z': no such output" "$nncc" state.nn -o bad.o --alias x=z
expect 0 '' cc -O2 -I. "$source/tools/demo/classify.c" model.o -o classify
expect 0 'class' ./classify image.ppm
expect 0 '' cc -std=c99 -pedantic-errors -Wall -Werror -I "$include" -fsyntax-only -include nncc_rt.h -x c model.h
expect 0 '' g++ -std=c++11 -pedantic-errors -Wall -Werror -I "$include" -fsyntax-only -include nncc_rt.h -x c++ model.h
expect 0 '' g++ -std=c++11 -pedantic-errors -Wall -Werror -I "$include" -fsyntax-only -x c++ "$include/nncc.h"

# the other verbs
expect 0 'probabilities f32\[1,1000\]' "$nncc" run squeezenet.onnx --random 1 -o .
[ -s probabilities.npy ] || { echo "FAILED: probabilities.npy is missing"; failures=$((failures + 1)); }
expect 0 'probabilities' "$nncc" run squeezenet.onnx --random 1 --threads 2 --format pb -o .
[ -s probabilities.pb ] || { echo "FAILED: probabilities.pb is missing"; failures=$((failures + 1)); }
expect 0 'every value is finite' "$nncc" run squeezenet.onnx --random 1 --check-finite
expect 0 'mean f32' "$nncc" run squeezenet.onnx --random 1 --dump mean
expect 0 'no difference in the 1 values' "$nncc" run squeezenet.onnx --random 1 --compare .
expect 0 'nothing stops' "$nncc" check squeezenet.onnx
expect 0 '"ok":' "$nncc" check squeezenet.onnx --json
expect 0 'total: 12354[0-9]{2} parameters' "$nncc" inspect squeezenet.onnx
expect 0 'digraph' "$nncc" inspect squeezenet.onnx --dot
expect 0 'median_ms' "$nncc" bench squeezenet.onnx --runs 2 --json
expect 0 'fused' "$nncc" opt squeezenet.onnx
expect 0 'no pass is called|fuse' "$nncc" opt --list

# bad input: one clear message, the documented exit code, nothing left behind
expect 3 'missing.onnx.*[Nn]o such file' "$nncc" missing.onnx -o bad.o
printf 'not a model' >text.onnx
expect 3 'text.onnx' "$nncc" text.onnx -o bad.o
: >empty.onnx
expect 3 'empty' "$nncc" empty.onnx -o bad.o
head -c 1000 squeezenet.onnx >cut.onnx
expect 3 'cut.onnx' "$nncc" cut.onnx -o bad.o
expect 3 'nowhere' "$nncc" squeezenet.onnx -o nowhere/bad.o
expect 3 'suffix|\.xyz' "$nncc" squeezenet.onnx -o bad.xyz
expect 3 'nonsense' "$nncc" squeezenet.onnx -o bad.o --mcpu nonsense
expect 2 'not given' "$nncc" run squeezenet.onnx
expect 4 'found|image' "$nncc" run squeezenet.onnx image=probabilities.npy
absent bad.o bad.h nowhere bad.xyz
ls | grep -E '\.(part|tmp)' && failures=$((failures + 1))

# a host program that compiles and runs in memory, through pkg-config's flags
cat >host.c <<'C'
#include <nncc.h>
#include <stdio.h>
int main(void) {
  nncc_model *model;
  const nncc_rt_model *compiled;
  if (nncc_model_load("squeezenet.onnx", NULL, &model) != NNCC_OK || nncc_model_jit(model, NULL, &compiled) != NNCC_OK) return 1;
  printf("%s takes %s\n", compiled->outputs[0].name, compiled->inputs[0].name);
  nncc_model_free(model);
  return 0;
}
C
expect 0 '' sh -c "cc host.c -o host \$(PKG_CONFIG_PATH='$lib/pkgconfig' pkg-config --cflags --libs nncc) -Wl,-rpath,'$lib'"
expect 0 'probabilities takes image' ./host

[ $failures = 0 ] && echo "command lines: all as expected"
exit $failures
