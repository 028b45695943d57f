# Builds nncc and runs all of its tests: the same as CI does.
#   sh tools/check.sh [--no-install]
set -eu
cd "$(dirname "$0")/.."

sh tools/packages.sh "$@" test
cmake -S . -B build/check -G Ninja -DCMAKE_BUILD_TYPE=Release -DNNCC_TESTS=ON >/dev/null
cmake --build build/check
ctest --test-dir build/check --output-on-failure -j "$(nproc)"
