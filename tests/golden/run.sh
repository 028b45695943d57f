# Golden IR: each FILE.nn holds its input and, in lines that start with "#> ", the text expected after the passes of
# its "#! passes=..." line.
#   sh run.sh NNCC FILE...      (UPDATE=1 rewrites the expectations)
set -u
nncc=$1
shift
failed=0
for file in "$@"; do
  passes=$(sed -n 's/^#! passes=//p' "$file")
  cpu=$(sed -n 's/^#! mcpu=//p' "$file")
  if ! "$nncc" opt "$file" --target=x86_64-pc-linux-gnu --mcpu="${cpu:-x86-64-v3}" --passes="$passes" --verify-each >golden.$$ 2>golden.err.$$; then
    echo "$file:"; cat golden.err.$$; failed=1
  elif [ -n "${UPDATE:-}" ]; then
    { grep -v '^#>' "$file"; sed "s/^/#> /; s/ *$//" golden.$$; } >"$file.new" && mv "$file.new" "$file"
  elif ! sed -n "s/^#> \{0,1\}//p" "$file" | diff -u - golden.$$; then
    echo "$file: the IR after $passes is not as expected (- expected, + found)"; failed=1
  fi
  rm -f golden.$$ golden.err.$$
done
exit $failed
