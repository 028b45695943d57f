# Builds nncc and runs all of its tests, the same as CI does: as users get it, then the compiler once more with
# AddressSanitizer (which finds leaks, too) and UBSan.
#   sh tools/check.sh [--no-install]
set -eu
cd "$(dirname "$0")/.."

build() { # PRESET FOLDER
  cmake --preset "$1" -B "$2" -DNNCC_TESTS=ON >/dev/null
  cmake --build "$2"
}

run_tests() { ctest --test-dir "$1" --output-on-failure -j "$(nproc)"; }

sh tools/packages.sh "$@" test
build release build/check
run_tests build/check

build asan build/check-sanitized
if build/check-sanitized/nncc --version 2>&1 | grep -q 'LeakSanitizer has encountered a fatal error'; then
  echo "leaks are not looked for: the leak checker may not trace processes here"
  export ASAN_OPTIONS=detect_leaks=0
fi
UBSAN_OPTIONS=print_stacktrace=1 run_tests build/check-sanitized
