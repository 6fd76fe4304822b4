#!/usr/bin/env bash
# Hosts with links of their own on one Linux machine: network namespaces on a bridge that no packet leaves (root).
# ctl is 10.77.0.1, n1 10.77.0.11, n2 10.77.0.12, …; the file system and the processes are the machine's.
#
#   link.sh up NODES              hosts ctl, n1..nNODES; what was up before goes down
#   link.sh down                  remove them, and what runs on them; idempotent
#   link.sh exec HOST CMD...      run a command on a host
#   link.sh rate HOST RATE|off    limit bandwidth to and from HOST, e.g. 100mbit
#   link.sh sent HOST             bytes that HOST has sent, headers included
#
# LINK_PREFIX names a set of hosts, so that several can be up at once.
set -euo pipefail

P=${LINK_PREFIX:-link}
NET=10.77.0

die() { echo "link.sh: $*" >&2; exit 1; }
sw() { ip netns exec "$P-sw" "$@"; }
addr() { case $1 in ctl) echo "$NET.1" ;; n[0-9]*) echo "$NET.$((10 + ${1#n}))" ;; *) die "no host $1" ;; esac; }
known() { [ -e "/run/netns/$P-$1" ] || die "host $1 is not up: run link.sh up first"; }

host_up() {
  local h=$1
  ip netns add "$P-$h"
  sw ip link add "v-$h" type veth peer name eth0 netns "$P-$h"
  sw ip link set "v-$h" master br0 up
  ip -n "$P-$h" addr add "$(addr "$h")/24" dev eth0
  ip -n "$P-$h" link set lo up
  ip -n "$P-$h" link set eth0 up
}

cmd_up() {
  local n=${1:?number of nodes} i
  [ "$(id -u)" = 0 ] || die "needs root: it makes network namespaces"
  for i in ip tc; do command -v "$i" >/dev/null || die "$i is missing: apt-get install iproute2"; done
  cmd_down
  ip netns add "$P-sw"
  sw ip link set lo up
  sw ip link add br0 type bridge stp_state 0 forward_delay 0
  sw ip link set br0 up
  host_up ctl
  for ((i = 1; i <= n; i++)); do host_up "n$i"; done
}

cmd_down() {
  local ns
  for ns in $(ip netns list | awk -v p="$P-" 'index($1, p) == 1 { print $1 }'); do
    ip netns pids "$ns" | xargs -r kill -9 2>/dev/null || true
    ip netns del "$ns"
  done
}

cmd_exec() {
  local h=$1; shift
  known "$h"
  exec ip netns exec "$P-$h" "$@"
}

cmd_rate() {
  known "$1"
  sw tc qdisc del dev "v-$1" root 2>/dev/null || true
  ip netns exec "$P-$1" tc qdisc del dev eth0 root 2>/dev/null || true
  [ "$2" = off ] && return 0
  sw tc qdisc add dev "v-$1" root tbf rate "$2" burst 128kb latency 100ms
  ip netns exec "$P-$1" tc qdisc add dev eth0 root tbf rate "$2" burst 128kb latency 100ms
}

cmd_sent() {
  known "$1"
  ip netns exec "$P-$1" cat /sys/class/net/eth0/statistics/tx_bytes
}

c=${1:-}
if [ -z "$c" ] || ! declare -F "cmd_$c" >/dev/null; then sed -n '2,/^set /{/^#/p}' "$0"; exit 2; fi
shift
"cmd_$c" "$@"
