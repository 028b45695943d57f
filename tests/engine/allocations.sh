# Compiled models do not call the allocator while they run, on one to three threads.
#   sh allocations.sh NNCC COUNT_ALLOCATIONS MODEL...
set -eu
nncc=$1 count=$2
shift 2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for model in "$@"; do
  "$nncc" "$model" -o "$dir/m.so" --name m >/dev/null
  for workers in 1 2 3; do "$count" "$dir/m.so" m $workers; done
done
