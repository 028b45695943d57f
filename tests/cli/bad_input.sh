# Models that cannot be compiled and outputs that cannot be written: one message that says file, node, found and
# expected, exit code 3, and nothing left behind. (On a sanitized build: no leak either.)
#   sh bad_input.sh NNCC MAKE_ONNX
set -u
nncc=$1 make_onnx=$2
. "$(dirname "$0")/expect.sh"
dir=$(mktemp -d)
trap 'cd /; rm -rf "$dir"' EXIT
cd "$dir" || exit 1
mkdir out

# fails COUNT PATTERN ARGUMENT...: the compile says so many errors, one of them PATTERN, and writes nothing
fails() {
  count=$1 pattern=$2
  shift 2
  expect 3 "^error: $pattern" "$nncc" "$@"
  must "$* gives $count errors" [ "$(grep -c '^error: ' out.txt)" = "$count" ]
  must "$* writes nothing" [ -z "$(ls -A out)" ]
}

# refuse PATTERN: the model on standard input, by compile and by check
refuse() {
  "$make_onnx" m.onnx || exit 1
  fails 1 "m.onnx: $1" m.onnx -o out/m.o
  expect 3 "^error: m.onnx: $1" "$nncc" check m.onnx
}

# ---- files ----
fails 1 'none.onnx: cannot open the file: No such file or directory' none.onnx -o out/m.o
mkdir folder.onnx
fails 1 'folder.onnx: cannot read the file: is not a regular file' folder.onnx -o out/m.o
: >empty.onnx
fails 1 'empty.onnx: the file is empty' empty.onnx -o out/m.o
echo 'not a model' >text.onnx
fails 1 'text.onnx: not a valid ONNX \(protobuf\) file: at byte [0-9]+ ' text.onnx -o out/m.o
printf 'in x 1 2\nnode Relu r x y\nout y 1 2' | "$make_onnx" good.onnx
expect 0 'good.o: compiled' "$nncc" good.onnx -o good.o
size=$(wc -c <good.onnx)
for n in 1 10 $((size / 2)) $((size - 1)); do
  head -c "$n" good.onnx >cut.onnx
  fails 1 'cut.onnx: ' cut.onnx -o out/m.o
done
printf 'in x 1 2\nnode Relu r x y\nout y 1 2' | "$make_onnx" deep.onnx 3000
must 'the deep file is about 30 kB' [ "$(wc -c <deep.onnx)" -lt 32000 ]
fails 1 'deep.onnx: not a valid ONNX .* messages are nested deeper than 64' deep.onnx -o out/m.o

# ---- nodes ----
refuse "node 'f' \(Foo\): unsupported operator 'Foo' \(domain '', opset 13\)" <<'M'
in x 1 2
node Foo f x y
out y 1 2
M
refuse "node 'r' \(Relu\): input 0 has element type bool, expected floats or integers" <<'M'
in x 9 2
node Relu r x y
out y 9 2
M
refuse "node 'c' \(Conv\): input has rank 2, expected at least 3" <<'M'
in x 1 2,3
node Conv c x,x y
out y 1 2
M
refuse "node 'a' \(Add\): nodes need each other's results, in a cycle of 2: 'a' needs 'b' needs 'a'" <<'M'
in x 1 2
node Add a x,z y
node Relu b y z
out z 1 2
M
refuse "node 'b' \(Neg\): output 'y' is defined twice, before by node 'a'" <<'M'
in x 1 2
node Relu a x y
node Neg b x y
out y 1 2
M
refuse "node 'a' \(Relu\): input 'nix' is given by no node, input or initializer" <<'M'
in x 1 2
node Relu a nix y
out y 1 2
M
refuse "node 'a' \(Add\): input 1 is missing, expected 2 inputs" <<'M'
in x 1 2
node Add a x y
out y 1 2
M
refuse "node 'a' \(Add\): shapes f32\[2,3\], f32\[4\] do not broadcast: found 3 and 4, expected equal dimensions or 1" <<'M'
in x 1 2,3
in z 1 4
node Add a x,z y
out y 1 2
M
refuse "node 'm' \(MatMul\): dimension 0 of operand 1 is 4, expected 3 \(operands: f32\[2,3\], f32\[4,5\]\)" <<'M'
in x 1 2,3
in z 1 4,5
node MatMul m x,z y
out y 1 2,5
M

# ---- sizes ----
refuse "input 'x' is f32\[4294967296,4294967296,4\]: its size in bytes overflows 64 bits" <<'M'
in x 1 4294967296,4294967296,4
node Relu r x y
out y 1 4294967296,4294967296,4
M
refuse "initializer 'w': its dimensions, 3 of them, have a product that overflows" <<'M'
in x 1 2
init w 1 4294967296,4294967296,4
node Add a x,w y
out y 1 2
M
refuse "node 'e' \(Expand\): result 0 is f32\[3000000000,3000000000\]: its size in bytes overflows 64 bits" <<'M'
in x 1 1
init s 7 2 3000000000 3000000000
node Expand e x,s y
out y 1 3000000000,3000000000
M
refuse "node 'r' \(Reshape\): result 0 is f32\[3000000000,3000000000,3000000000\]: its size in bytes overflows 64 bits" <<'M'
in x 1 2
init s 7 3 3000000000 3000000000 3000000000
node Reshape r x,s y
out y 1 3000000000,3000000000,3000000000
M

printf 'in x 1 1,40000,40000\nnode Softmax s x y\nnode Relu r y z\nnode Softmax t z w\nout w 1 1,40000,40000' | "$make_onnx" m.onnx
fails 1 'm.onnx: the temporaries of the model need 6[0-9]+ bytes, a 32-bit target has at most 2147483647' m.onnx -o out/m.o --target cortex-m4

# ---- external data ----
echo 0123456789abcdef >w.bin
mkdir in && cp w.bin in/w.bin && ln -s w.bin link.bin && ln -s in linked
# outside LOCATION REASON
outside() {
  printf 'external w 1 2 %s\nnode Relu r w y\nout y 1 2' "$1" | refuse "initializer 'w': external data '$1' $2"
}
outside /etc/passwd 'is an absolute path'
outside ../w.bin "leaves the model's folder"
outside in/../../w.bin "leaves the model's folder"
outside link.bin 'is a symbolic link'
outside linked/w.bin 'is a symbolic link, or behind one'
outside none.bin 'cannot be opened: No such file or directory'
outside in 'is not a regular file'
printf 'external w 1 9 w.bin\nnode Relu r w y\nout y 1 9' | refuse "initializer 'w': its data is bytes 0 to 36 of 'w.bin', which has 17"
printf 'external w 1 2 in/w.bin\nnode Relu r w y\nout y 1 2' | "$make_onnx" m.onnx
expect 0 compiled "$nncc" m.onnx -o good.o

# ---- all at once ----
"$make_onnx" five.onnx <<'M'
in x 1 2
node Foo a x p
node Foo b p q
node Bar c q r
node Relu d r s
node Baz e x t
node Qux f x u
out s 1 2
out t 1 2
out u 1 2
M
fails 5 "five.onnx: node 'f' \(Qux\): unsupported operator 'Qux'" five.onnx -o out/m.o
expect 3 '^five.onnx: 5 problems' "$nncc" check five.onnx
expect 3 '"ok":.*false' "$nncc" check five.onnx --json
must 'JSON has five errors' [ "$(grep -c '"severity":.*"error"' out.txt)" = 5 ]
must 'JSON names the nodes' [ "$(grep -cE '"node":.*"[abcef]"' out.txt)" = 5 ]
expect 0 '"ok":.*true' "$nncc" check good.onnx --json
expect 3 '"message":.*cannot open the file' "$nncc" check none.onnx --json
printf 'in x 1 2\nnode Foo a"\\b x y\nout y 1 2' | "$make_onnx" m.onnx
expect 3 '"node":.*"a\\"\\\\b"' "$nncc" check m.onnx --json

# ---- outputs that cannot be written ----
printf 'in x 1 200,10\ninit w 1 10,3 1 2 3 4 5 6 7 8 9 1 2 3 4 5 6 7 8 9 1 2 3 4 5 6 7 8 9 1 2 3\nnode MatMul m x,w y\nout y 1 200,3' | "$make_onnx" m.onnx
fails 1 "m.onnx: cannot write 'none/m.o': No such file or directory" m.onnx -o none/m.o
fails 1 "m.onnx: cannot write 'm.onnx/m.o': Not a directory" m.onnx -o m.onnx/m.o
fails 1 "m.onnx: cannot write 'none/m.h': No such file or directory" m.onnx -o out/m.o --header none/m.h
mkdir taken.o taken.h
fails 1 "m.onnx: cannot write 'taken.o': Is a directory" m.onnx -o taken.o --weights=file
absent taken.weights
fails 1 "m.onnx: cannot write 'taken.h': Is a directory" m.onnx -o out/m.o --header taken.h
fails 1 "m.onnx: output 'out/m.xyz': expected .o, .a, .so, .s or .ll" m.onnx -o out/m.xyz
expect 4 'none/y.npy: No such file' "$nncc" run m.onnx --random 1 -o none
for verb in "inspect m.onnx" "check m.onnx" "opt m.onnx" "run m.onnx --random 1" --help --version; do
  expect 4 'cannot write the output: No space left on device' sh -c "'$nncc' $verb >/dev/full"
done

# A disk that is full after some bytes: a limit on the size of files, whose signal is ignored, fails in write() as it would.
# (In units of 512 bytes.)
for limit in 0 1 4; do
  for kind in o a so s ll; do
    expect 0 "^error: m.onnx: (cannot write 'out/m.$kind': |.* failed to link)" \
      sh -c "{ (trap '' XFSZ; ulimit -f $limit; exec '$nncc' m.onnx -o out/m.$kind); echo code \$?; } 2>&1 | cat"
    must "a full disk gives code 3" grep -q '^code 3' out.txt
    must "a full disk leaves nothing of m.$kind ($limit)" [ -z "$(ls -A out)" ]
  done
done

[ $failures = 0 ] && echo "bad input: all as expected"
exit $failures
