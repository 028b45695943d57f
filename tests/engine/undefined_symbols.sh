# The object of a static model refers to nothing but memcpy, memmove, memset, memcmp, and defines nothing but
# NAME and NAME_*.
#   sh undefined_symbols.sh NNCC TRIPLE CPU MODEL...
set -eu
nncc=$1 triple=$2 cpu=$3
shift 3
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for model in "$@"; do
  "$nncc" "$model" -o "$dir/m.o" --target "$triple" --mcpu "$cpu" >/dev/null
  llvm-nm-19 --undefined-only --format=just-symbols "$dir/m.o" >"$dir/undefined"
  if grep -vxE 'memcpy|memmove|memset|memcmp|' "$dir/undefined"; then
    echo "$model for $triple $cpu needs the symbols above"
    exit 1
  fi
  llvm-nm-19 --defined-only --extern-only --format=just-symbols "$dir/m.o" >"$dir/defined"
  if grep -vxE 'm|m_.*|' "$dir/defined"; then
    echo "$model for $triple $cpu defines the symbols above"
    exit 1
  fi
done
