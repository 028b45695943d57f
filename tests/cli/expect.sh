# What the command-line tests share. Sourced, in an empty folder; $failures counts.
failures=0

# expect CODE PATTERN COMMAND...: the exit code, and a line of the output (both streams)
expect() {
  code=$1 pattern=$2
  shift 2
  "$@" >out.txt 2>&1
  found=$?
  if [ "$found" != "$code" ] || { [ -n "$pattern" ] && ! grep -qE -e "$pattern" out.txt; }; then
    echo "FAILED: $*"
    echo "  exit code $found, expected $code; expected a line with: $pattern"
    sed 's/^/  | /' out.txt | head -n 12
    failures=$((failures + 1))
  fi
}

# must WHAT COMMAND...: a condition
must() {
  what=$1
  shift
  "$@" && return
  echo "FAILED: $what"
  failures=$((failures + 1))
}

# absent FILE...: must not exist
absent() {
  for file in "$@"; do must "$file was left behind" [ ! -e "$file" ]; done
}
