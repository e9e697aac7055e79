#!/usr/bin/env bash
# check_stable_abi.sh LIBRARY...: of torch they ask for functions of C alone, those of LibTorch's
# stable ABI, and of Python for nothing: what they are built with need not be what they run with.
set -euo pipefail
for library in "$@"; do
  asked=$(nm -D --undefined-only "$library" | awk '{print $NF}')
  foreign=$(grep -E '^_?Py|^_Z.*(5torch|2at|3c10|8pybind11)' <<< "$asked" | c++filt || true)
  [ -z "$foreign" ] || { echo "$library asks for:"; echo "$foreign"; exit 1; } >&2
  echo "$library: $(grep -cE '^(aoti_)?torch_' <<< "$asked" || true) functions of torch, all of C; none of Python"
done
