# One, two and three threads give the same bits (--fp exact: exact_bits.py).
#   sh thread_bits.sh NNCC MODEL...
set -eu
nncc=$1
shift
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for model in "$@"; do
  for fp in strict fast; do
    for threads in 1 2 3; do
      mkdir -p "$dir/$threads"
      "$nncc" run "$model" --random 7 --fp $fp --threads $threads -o "$dir/$threads" >/dev/null
    done
    for threads in 2 3; do
      diff -r "$dir/1" "$dir/$threads" || { echo "$model, $fp: $threads threads give other bits than one"; exit 1; }
    done
    [ -n "$(ls "$dir/1")" ] || { echo "$model gave no outputs"; exit 1; }
  done
done
