# The compiler writes the same bytes with any number of threads.
#   sh compile_bits.sh NNCC MODEL...
set -eu
nncc=$1
shift
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for model in "$@"; do
  for triple in native aarch64 riscv64; do
    target=$([ $triple = native ] || echo "--target $triple")
    for threads in 1 2 5; do
      # shellcheck disable=SC2086 # two words
      "$nncc" "$model" -o "$dir/$threads.o" --name model $target --threads $threads >/dev/null
    done
    for threads in 2 5; do
      cmp "$dir/1.o" "$dir/$threads.o" || { echo "$model: $threads threads write other bytes than one"; exit 1; }
    done
  done
done
