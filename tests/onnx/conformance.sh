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
grep '^FAILED' conformance.$$ | awk '{print $2}' | sort >failed.$$ || true
grep '^passed' conformance.$$ | awk '{print $2}' | sort >passed.$$ || true
rm -f conformance.$$
passed=$(echo "$last" | sed -n 's/^\([0-9]*\) passed, .*/\1/p')
known=$(dirname "$0")/known_faults.txt
new=$(grep -vxFf "$known" failed.$$ || true)
healed=$(grep -xFf "$known" passed.$$ || true)
rm -f failed.$$ passed.$$
[ -n "$passed" ] || { echo "no summary line"; exit 1; }
[ -z "$new" ] || { echo "failed:" $new; exit 1; }
[ -z "$healed" ] || { echo "pass, but are listed in known_faults.txt:" $healed; exit 1; }
[ "$passed" -ge "$min" ] || { echo "$passed cases passed, expected at least $min"; exit 1; }
