#!/usr/bin/env bash
# Builds and links the NCCL half, and runs it as far as this machine goes: without a GPU to libtorch's words for that.
# usage: check-nccl.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=${PRERESQ_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/preresq}/venv
if ! compgen -G "$venv/lib/python3*/site-packages/nvidia/cu13/include/crt/host_defines.h" >/dev/null; then
  echo "check-nccl: installing the CUDA compiler's headers (nvidia-cuda-crt, nvidia-cuda-cccl) into $venv"
  "$venv/bin/pip" install -q 'nvidia-cuda-crt==13.0.*' 'nvidia-cuda-cccl==13.0.*'
fi
cargo build --release --workspace --bins --features worker/nccl
said=$(cargo test --release --workspace --features worker/nccl,collective/nccl --test nccl 2>&1) || { echo "$said"; exit 1; }
grep -q "test without_a_gpu_the_forming_says_so ... ok" <<<"$said" || { echo "$said"; exit 1; }
echo "check-nccl: built, linked, and formed a group as far as this machine goes"
