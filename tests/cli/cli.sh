# Command lines as a user types them, on a build installed into an empty prefix.
#   sh cli.sh BUILD_DIR SOURCE_DIR CC     CC: compiles what links libnncc
set -u
build=$1 source=$2 cc=$3
. "$(dirname "$0")/expect.sh"
dir=$(mktemp -d)
trap 'cd /; rm -rf "$dir"' EXIT

DESTDIR='' cmake --install "$build" --prefix "$dir/prefix" >/dev/null || { echo "install failed"; exit 1; }
nncc=$dir/prefix/bin/nncc
include=$dir/prefix/include
lib=$(dirname "$(find "$dir/prefix" -name libnncc_rt.a)")
cc -O1 -o "$dir/make_model" "$source/tools/demo/make_model.c" -lm && "$dir/make_model" "$dir/squeezenet.onnx" "$dir/image.ppm" || exit 1
cd "$dir" || exit 1

expect 0 '^nncc [0-9]' "$nncc" --version
expect 0 'usage: nncc MODEL -o OUT' "$nncc" --help
for verb in compile run test bench check inspect opt; do
  expect 0 'Options:' "$nncc" $verb --help
  for option in $(grep -oE -e '--[a-z-]+' out.txt); do
    must "the man page lacks $option of $verb" sh -c "tr -d '\\\\' <'$dir/prefix/share/man/man1/nncc.1' | grep -q -e '$option'"
  done
done
expect 2 'usage' "$nncc"
expect 2 'unknown option' "$nncc" squeezenet.onnx --no-such-option
expect 2 '-o OUT is missing' "$nncc" squeezenet.onnx

# compile, every kind of output
expect 0 'compiled' "$nncc" squeezenet.onnx -o model.o
expect 0 'compiled' "$nncc" squeezenet.onnx -o model.a
expect 0 'compiled' "$nncc" squeezenet.onnx -o with.o --map with.json
expect 0 'compiled' "$nncc" squeezenet.onnx -o without.o --no-winograd --map without.json
must "no convolution is in Winograd's form" grep -q conv_winograd with.json
must "a convolution is in Winograd's form all the same" sh -c '! grep -q winograd without.json'
expect 0 'floating point exact' "$nncc" squeezenet.onnx -o exact.o --fp exact --map exact.json
must "the header does not say what is promised" grep -q 'floating point exact' exact.h
must "a convolution of --fp exact is in Winograd's form" sh -c '! grep -q winograd exact.json'
for verb in run bench test compile; do
  expect 2 "nncc $verb: --fp loose: expected strict, exact or fast" "$nncc" $verb squeezenet.onnx --fp loose
done
expect 0 'compiled' "$nncc" squeezenet.onnx -o model.so
[ "$(uname -m)" != x86_64 ] || expect 0 'compiled' env PATH=/nonexistent "$nncc" squeezenet.onnx -o alone.so # without a linker
expect 3 'cannot write .*limited.o.*File too large' sh -c "ulimit -f 100; '$nncc' squeezenet.onnx -o limited.o"
expect 3 'cannot write .*limited.so.*File too large' sh -c "ulimit -f 100; '$nncc' squeezenet.onnx -o limited.so"
absent limited.o* limited.so*
expect 2 'expected 1 to 1024' "$nncc" squeezenet.onnx -o model.o --threads 0
expect 0 'compiled' "$nncc" squeezenet.onnx -o model.s --header asm.h
expect 0 'compiled' "$nncc" squeezenet.onnx -o model.ll --header ll.h
expect 0 'compiled' "$nncc" squeezenet.onnx -o side.o --weights=file
must "side.weights is missing" [ -s side.weights ]
printf 'nncc 1\ngraph @main(%%x: f32[8], %%u: f32[8]) -> (f32[8]) {\n  %%0 = add %%x, %%u : f32[8]\n  return %%0 {names=["y"]}\n}\n' >state.nn
expect 0 'compiled' "$nncc" state.nn -o state.o --alias x=y
expect 0 'state_ALIASES ..0, 0..' cat state.h
expect 0 'compiled .* for x86-64, x86-64-v3, floating point strict$' "$nncc" state.nn -o several.a --mcpu x86-64-v3,x86-64
expect 0 'compiled .* for cortex-m4, floating point strict$' "$nncc" state.nn -o state.o --target thumbv7em-none-eabihf
expect 0 'several_ISA_X86_64_V3 2' cat several.h
expect 0 'T several_init' nm several.a
expect 3 "alias 'x=z': no such output" "$nncc" state.nn -o bad.o --alias x=z
expect 0 '' cc -O2 -I. "$source/tools/demo/classify.c" model.o -o classify
expect 0 'class' ./classify image.ppm
expect 0 '' cc -std=c99 -pedantic-errors -Wall -Werror -I "$include" -fsyntax-only -include nncc_rt.h -x c model.h
expect 0 '' g++ -std=c++11 -pedantic-errors -Wall -Werror -I "$include" -fsyntax-only -include nncc_rt.h -x c++ model.h
expect 0 '' g++ -std=c++11 -pedantic-errors -Wall -Werror -I "$include" -fsyntax-only -x c++ "$include/nncc.h"

# the other verbs
expect 0 'probabilities f32\[1,1000\]' "$nncc" run squeezenet.onnx --random 1 -o .
must "probabilities.npy is missing" [ -s probabilities.npy ]
expect 0 'probabilities' "$nncc" run squeezenet.onnx --random 1 --threads 2 --format pb -o .
must "probabilities.pb is missing" [ -s probabilities.pb ]
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
expect 0 'fire2.squeeze.conv +[0-9]+ +[0-9]+ +[0-9]+\.\.[0-9]' "$nncc" inspect squeezenet.onnx --memory
expect 0 'workspace [0-9]+ bytes' "$nncc" inspect squeezenet.onnx --target thumbv7em-none-eabihf --mcpu cortex-m4
expect 0 'nothing stops' "$nncc" check squeezenet.onnx --target aarch64

# wrong arguments (bad models: bad_input.sh)
expect 3 'nonsense' "$nncc" squeezenet.onnx -o bad.o --mcpu nonsense
expect 2 'not given' "$nncc" run squeezenet.onnx
expect 4 'found|image' "$nncc" run squeezenet.onnx image=probabilities.npy
expect 2 "no input 'nix'" "$nncc" run squeezenet.onnx nix=probabilities.npy
expect 2 'given twice' "$nncc" run squeezenet.onnx image=probabilities.npy image=probabilities.npy
expect 2 'more files than inputs' "$nncc" run squeezenet.onnx image=probabilities.npy probabilities.npy
expect 2 'probabilities.txt: not a' "$nncc" run squeezenet.onnx probabilities.txt
expect 3 '--dump nix: the model computes no value of this name' "$nncc" run squeezenet.onnx --random 1 --dump nix
expect 2 'number' "$nncc" run squeezenet.onnx --random 1 --threads 0
expect 2 'number' "$nncc" bench squeezenet.onnx --runs many
expect 2 'positive numbers' "$nncc" test . --jobs 0
expect 3 'sizes of ONNX models' "$nncc" inspect state.nn --dim N=4
absent bad.o bad.h
must "no temporary file is left" sh -c '! ls | grep -E "\.(part|tmp)"'

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
expect 0 '' sh -c "$cc host.c -o host \$(PKG_CONFIG_PATH='$lib/pkgconfig' pkg-config --cflags --libs nncc) -Wl,-rpath,'$lib'"
expect 0 'probabilities takes image' ./host

[ $failures = 0 ] && echo "command lines: all as expected"
exit $failures
