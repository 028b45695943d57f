# Runs ONNX test cases: at least MIN pass, none fails (a case that nncc does not support is skipped with a
# diagnosis; a crash, a wrong answer or a time-out is a failure).
#   sh conformance.sh NNCC MIN "OPTIONS" DIR...
set -eu
nncc=$1 min=$2 options=$3
shift 3
for dir in "$@"; do
  [ -d "$dir" ] || { echo "SKIP: $dir is not on this machine"; exit 77; }
done
# shellcheck disable=SC2086
"$nncc" test $options "$@" >conformance.$$ 2>&1 || true
grep -v '^passed' conformance.$$ || true
last=$(tail -n 1 conformance.$$)
rm -f conformance.$$
passed=$(echo "$last" | sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed, .*/\1/p')
failed=$(echo "$last" | sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed, .*/\2/p')
[ -n "$passed" ] || { echo "no summary line"; exit 1; }
[ "$failed" -eq 0 ] || { echo "$failed cases failed"; exit 1; }
[ "$passed" -ge "$min" ] || { echo "$passed cases passed, expected at least $min"; exit 1; }
