#!/usr/bin/env bash
# check_symbols.sh BUILD_DIR: what a stub exports belongs to its instruction set. A weak symbol
# that two stubs share (an inline function of the standard library, say) would be merged by the
# linker, and a machine without AVX-512 might then run the copy that was compiled for it.
set -euo pipefail
mapfile -t objects < <(find "$1" -name 'stub_*.o')
[ "${#objects[@]}" -gt 0 ] || { echo "no stub objects under $1" >&2; exit 1; }
for object in "${objects[@]}"; do
  set_name=$(basename "$object" | sed -E 's/stub_([a-z0-9]+)\..*/\1/')
  foreign=$(nm -C --defined-only "$object" | grep -E ' [WVu] ' | grep -v "::isa_$set_name::" || true)
  [ -z "$foreign" ] || { echo "$object defines symbols that are not its own:"; echo "$foreign"; exit 1; } >&2
  echo "stub_$set_name: $(nm --defined-only "$object" | grep -cE ' [A-Z] ' ) exported, none shared"
done
