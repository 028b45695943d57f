# Installs the Debian packages that nncc is built and tested with, where they are missing.
#   sh tools/packages.sh [--no-install] [build|test]
# As root, or through sudo. --no-install only says what is missing (exit 1 if anything is).
set -eu

build="gcc libc6-dev cmake ninja-build pkg-config llvm-19-dev libprotobuf-c-dev protobuf-c-compiler libonnx-dev libpopt-dev libcjson-dev libzip-dev"
test="libcriterion-dev libonnx-testdata g++ python3"

no_install=
what=build
for arg in "$@"; do
  case $arg in
    --no-install) no_install=1 ;;
    build | test) what=$arg ;;
    *) echo "packages.sh: $arg: expected --no-install, build or test" >&2; exit 2 ;;
  esac
done
wanted=$build
[ "$what" = test ] && wanted="$build $test"

missing=
for package in $wanted; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
if [ -n "$no_install" ]; then
  echo "missing Debian packages:$missing"
  exit 1
fi

as_root=
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || { echo "missing Debian packages:$missing (install them as root)" >&2; exit 1; }
  as_root=sudo
fi
echo "installing:$missing"
$as_root apt-get update -qq
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
