# A cache of kernels changes nothing but the time: cold, warm, damaged, and with several writers.
#   sh kernel_cache.sh NNCC MODEL...
set -eu
nncc=$1
shift
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
same() { cmp "$dir/expected.o" "$dir/$1" || { echo "$model: other bytes with a $2 cache"; exit 1; }; }
compile() { "$nncc" "$model" -o "$dir/$1" --name model --cache "$dir/cache" 2>"$dir/messages" >/dev/null; }

for model in "$@"; do
  rm -rf "$dir/cache"
  "$nncc" "$model" -o "$dir/expected.o" --name model >/dev/null
  compile cold.o
  same cold.o cold
  files=$(ls "$dir/cache")
  [ -n "$files" ] || { echo "$model: nothing was kept"; exit 1; }
  chmod a-w "$dir/cache"/*
  compile warm.o
  same warm.o warm
  [ "$files" = "$(ls "$dir/cache")" ] || { echo "$model: other files after a second compilation"; exit 1; }

  i=0
  for file in "$dir/cache"/*; do
    chmod u+w "$file"
    size=$(stat -c %s "$file")
    i=$((i + 1))
    case $((i % 4)) in
    0) : >"$file" ;;
    1) truncate -s $((size / 2)) "$file" ;;
    2) printf 'X' | dd of="$file" bs=1 seek=$((size - 9)) conv=notrunc 2>/dev/null ;;
    3) printf 'more' >>"$file" ;;
    esac
  done
  compile damaged.o
  same damaged.o damaged
  compile repaired.o
  same repaired.o repaired

  rm -rf "$dir/cache"
  for k in 1 2 3 4; do "$nncc" "$model" -o "$dir/$k.o" --name model --cache "$dir/cache" >/dev/null & done
  wait
  for k in 1 2 3 4; do same $k.o shared; done
  ! ls "$dir/cache" | grep -q tmp || { echo "$model: temporary files were left"; exit 1; }
done

: >"$dir/file"
"$nncc" "$1" -o "$dir/none.o" --name model --cache "$dir/file" >"$dir/messages" 2>&1
grep -q "is not a folder" "$dir/messages" || { echo "a cache that is a file: no warning"; exit 1; }
NNCC_CACHE=$dir/by_environment "$nncc" "$1" -o "$dir/environment.o" --name model >/dev/null
[ -n "$(ls "$dir/by_environment")" ] || { echo "NNCC_CACHE was not used"; exit 1; }
