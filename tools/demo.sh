# Builds nncc, compiles a real network to model.o and model.h, links a small C program against them and runs
# it on an image.
#   sh tools/demo.sh [--no-install]
set -eu
cd "$(dirname "$0")/.."

sh tools/packages.sh "$@" build
cmake -S . -B build/release -G Ninja -DCMAKE_BUILD_TYPE=Release -DNNCC_TESTS=OFF >/dev/null
cmake --build build/release

demo=build/demo
mkdir -p "$demo"
cc -O2 -o "$demo/make_model" tools/demo/make_model.c -lm
"$demo/make_model" "$demo/squeezenet.onnx" "$demo/image.ppm"
build/release/nncc "$demo/squeezenet.onnx" -o "$demo/model.o"
cc -O2 -I "$demo" -o "$demo/classify" tools/demo/classify.c "$demo/model.o"
"$demo/classify" "$demo/image.ppm"
