#!/usr/bin/env bash
# Feeds damaged files to every reader that needs no libtorch: weights, index, picture, video, manifest, labels. What breaks one
# is kept under fuzz/artifacts and ends the script.
# usage: fuzz.sh [SECONDS] [TARGET]…    (default: 60 seconds for each)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
cache=${PRERESQ_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/preresq}
seconds=${1:-60}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- weights index picture video manifest labels
say() { printf 'fuzz: %s\n' "$*"; }

if [ ! -x "$cache/tools/bin/cargo-fuzz" ]; then
  say "installing cargo-fuzz into $cache/tools"
  cargo install -q cargo-fuzz --version 0.13.2 --locked --root "$cache/tools"
fi

# A small whole file of each kind to start from.
seeds() {
  local to=$1/$2
  mkdir -p "$to"
  case $2 in
    weights)
      printf '\74\0\0\0\0\0\0\0{"a":{"dtype":"BF16","shape":[2,1],"data_offsets":[0,4]}}   1234' >"$to/bf16"
      printf '\2\0\0\0\0\0\0\0{}' >"$to/none" ;;
    index)
      echo '{"metadata":{"total_size":5},"weight_map":{"a":"x","b":"x"}}' >"$to/whole"
      echo '{"weight_map":{"a":"../x"}}' >"$to/outside" ;;
    picture) cp "$root"/crates/vision/tests/fixtures/*.{jpg,png,webp,gif,bmp,tif} "$to" ;;
    video) cp "$root"/crates/vision/tests/fixtures/videos/*.{mp4,mkv,ts,h264,avi,webm,m4a} "$to" ;;
    manifest)
      echo '{"id":1,"dataset_name":"d","image":["I01_01_01.png"],"conversations":[{"from":"human","value":"<image>"},{"from":"gpt","value":4.6}]}' >"$to/line"
      echo '[{"image":["v/a_0.png","v/a_1.png"],"conversations":[{"from":"gpt","value":"3.5"}]}]' >"$to/array" ;;
    labels)
      printf 'a.png 3.5\nr.png b.png 4 0.5\nc.mp4, 2\n' >"$to/lines" ;;
    *) printf 'fuzz: unknown target "%s", expected weights, index, picture, video, manifest or labels\n' "$2" >&2; exit 2 ;;
  esac
}

# In memory where there is a place for it: targets that open files write one for every trial.
shm=/dev/shm; [ -w "$shm" ] || shm=${TMPDIR:-/tmp}
corpus=$(mktemp -d -p "$shm")
trap 'rm -rf "$corpus"' EXIT
mkdir "$corpus/files"
cd "$root/fuzz"
export TMPDIR=$corpus/files CARGO_TARGET_DIR=$cache/fuzz PATH=$cache/tools/bin:$PATH RUSTC_BOOTSTRAP=1
for target in "$@"; do
  seeds "$corpus" "$target"
  say "$target: $seconds seconds"
  # Without a sanitizer: the readers are safe Rust, and a stable compiler has none.
  cargo fuzz run -s none "$target" "$corpus/$target" -- \
    -max_total_time="$seconds" -max_len=65536 -rss_limit_mb=4096 -timeout=30 -print_final_stats=1
done
say "nothing broke: $*"
