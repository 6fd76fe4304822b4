#!/usr/bin/env bash
# Several "hosts" on one Linux machine, with a real Slurm or without: root, no systemd.
#
# Each host is a network + PID + UTS + mount namespace: its own address (10.77.0.x),
# hostname, process table, /dev/shm and local disk ($SLURM_TEST_DIR/local).  The hosts
# hang off a bridge in a further namespace, so their packets cannot leave it.
#
#   cluster.sh check [bare]         whether root and packages are there, those of Slurm too unless bare
#   cluster.sh bare [NODES]         hosts ctl, n1..nNODES without a Slurm
#   cluster.sh up [NODES] [GPUS]    the same with a Slurm, each node with GPUS fake GPUs; idempotent
#   cluster.sh down                 stop and remove everything; idempotent
#   cluster.sh exec HOST CMD...     run a command on a host (as if by ssh)
#   cluster.sh crash HOST           SIGKILL all its processes; its kernel still sends FIN/RST
#   cluster.sh kill HOST            power off: peers see silence
#   cluster.sh boot HOST            start it again after crash or kill
#   cluster.sh cut|heal HOST        pull / replug its cable at the switch
#   cluster.sh state                hosts and sinfo
set -euo pipefail

S=${SLURM_TEST_DIR:-${TMPDIR:-$(dirname "$(mktemp -u)")}/slurm-test-cluster}     # all state; keep it short (socket paths)
P=${SLURM_TEST_PREFIX:-st}                       # netns name prefix: one per cluster
NET=10.77.0                                      # the same in every cluster: they are isolated
SELF=$(readlink -f "${BASH_SOURCE[0]}")
export SLURM_CONF=$S/slurm.conf

log() { echo "cluster.sh: $*" >&2; }
die() { log "$*"; exit 1; }
sw() { ip netns exec "$P-sw" "$@"; }
addr() { case $1 in ctl) echo "$NET.1" ;; n[0-9]*) echo "$NET.$((10 + ${1#n}))" ;; *) die "no host $1" ;; esac; }
hosts() { cat "$S/hosts.list"; }
pid1() { cat "$S/pids/$1" 2>/dev/null || true; }
alive() { # the recorded pid lives and is in the host's network namespace (not a reused pid)
  local p; p=$(pid1 "$1")
  [ -n "$p" ] && [ -e "/run/netns/$P-$1" ] &&
    [ "$(readlink "/proc/$p/ns/net" 2>/dev/null)" = "net:[$(stat -Lc %i "/run/netns/$P-$1")]" ]
}
dead() { ! alive "$1"; }
poll() { local n=$(($1 * 20)) i; shift; for ((i = 0; i < n; i++)); do "$@" && return 0; sleep 0.05; done; return 1; }

cmd_check() { # what is needed and missing
  local need=() t slurm=(slurmctld:slurmctld slurmd:slurmd sbatch:slurm-client munged:munge) part="test hosts"
  [ "$(id -u)" = 0 ] || die "hosts on one machine need root: they are made of namespaces"
  if [ "${1:-}" = bare ]; then slurm=() part=test; fi
  for t in "${slurm[@]}" ip:iproute2 hostname:hostname unshare:util-linux nsenter:util-linux; do
    command -v "${t%%:*}" >/dev/null || need+=("${t##*:}")
  done
  [ ${#need[@]} = 0 ] || die "Debian packages are missing (${need[*]}): run deploy/setup/setup.sh $part"
}

write_hosts() {
  local n=$1 h i
  mkdir -p "$S"/{log,pids,local}
  chmod 755 "$S"
  { echo ctl; for ((i = 1; i <= n; i++)); do echo "n$i"; done; } > "$S/hosts.list"
  { echo "127.0.0.1 localhost"; for h in $(hosts); do echo "$(addr "$h") $h"; done; } > "$S/etc_hosts"
}

write_conf() {
  local n=$1 gpus=$2 i gres=""
  write_hosts "$n"
  mkdir -p "$S"/{state,dev,munge,spool,run}
  chmod 755 "$S/munge"
  [ -f "$S/munge/munge.key" ] || head -c 1024 /dev/urandom > "$S/munge/munge.key"
  chmod 400 "$S/munge/munge.key"
  for ((i = 1; i <= n; i++)); do mkdir -p "$S/spool/n$i"; done
  # 22.05 looks for a cgroup file system even when nothing uses it, unless told
  echo "CgroupPlugin=cgroup/v1" > "$S/cgroup.conf"
  # A GRES needs File= for Slurm to set CUDA_VISIBLE_DEVICES; a copy of /dev/null does.
  # With Count= alone slurmd reports 0 GPUs and the node goes to INVAL.
  echo "AutoDetect=off" > "$S/gres.conf"
  if [ "$gpus" -gt 0 ]; then
    for ((i = 0; i < gpus; i++)); do [ -e "$S/dev/gpu$i" ] || mknod -m 666 "$S/dev/gpu$i" c 1 3; done
    gres="Gres=gpu:fake:$gpus"
    echo "NodeName=n[1-$n] Name=gpu Type=fake File=$S/dev/gpu[0-$((gpus - 1))]" >> "$S/gres.conf"
  fi
  cat > "$S/slurm.conf" <<C
ClusterName=test
SlurmctldHost=ctl($(addr ctl))
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# cred_expire: a requeued job waits that long (120 s by default); read at start only
AuthInfo=socket=$S/munge/munge.sock,cred_expire=5
StateSaveLocation=$S/state
SlurmctldPidFile=$S/run/slurmctld.pid
SlurmctldLogFile=$S/log/slurmctld.log
SlurmdPidFile=$S/run/slurmd.%n.pid
SlurmdSpoolDir=$S/spool/%n
SlurmdLogFile=$S/log/slurmd.%n.log
SlurmdParameters=config_overrides
MailProg=/bin/true
MpiDefault=none
SwitchType=switch/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$S/jobcomp.txt
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=10000,bf_interval=1
PropagateResourceLimits=NONE
ReturnToService=1
MinJobAge=3600
KillWait=3
MessageTimeout=5
SlurmdTimeout=5
GresTypes=gpu
NodeName=DEFAULT CPUs=8 RealMemory=4096 $gres
$(for ((i = 1; i <= n; i++)); do echo "NodeName=n$i NodeAddr=$(addr "n$i")"; done)
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
C
}

switch_up() {
  ip netns add "$P-sw"
  sw ip link set lo up
  sw ip link add br0 type bridge stp_state 0 forward_delay 0
  sw ip link set br0 up
}

host_net_up() {
  local h=$1
  ip netns add "$P-$h"
  sw ip link add "v-$h" type veth peer name eth0 netns "$P-$h"
  sw ip link set "v-$h" master br0 up
  ip -n "$P-$h" addr add "$(addr "$h")/24" dev eth0
  ip -n "$P-$h" link set lo up
  ip -n "$P-$h" link set eth0 up
}

cmd__init() { # PID 1 of a host
  local h=$1 self _
  read -r self _ < /proc/self/stat                 # still the machine's /proc: our pid outside
  hostname "$h"
  umount -l /run/netns 2>/dev/null || true         # else this host would pin the others' namespaces
  mount -t proc proc /proc
  mount -t tmpfs -o mode=1777 tmpfs /dev/shm
  mount -t tmpfs -o mode=1777 tmpfs "$S/local"
  mount --bind "$S/etc_hosts" /etc/hosts
  [ -f "$S/slurm.conf" ] && case $h in
    ctl)
      rm -f "$S/munge/munge.sock"*
      munged -F --key-file="$S/munge/munge.key" --socket="$S/munge/munge.sock" --pid-file="$S/munge/munged.pid" \
        --log-file="$S/munge/munged.log" --seed-file="$S/munge/seed" --num-threads=4 </dev/null &
      until [ -S "$S/munge/munge.sock" ]; do sleep 0.02; done
      slurmctld -D </dev/null >>"$S/log/slurmctld.out" 2>&1 & ;;
    *)
      slurmd -D -N "$h" </dev/null >>"$S/log/slurmd.$h.out" 2>&1 & ;;
  esac
  echo "$self" > "$S/pids/$h.tmp" && mv "$S/pids/$h.tmp" "$S/pids/$h"
  while :; do sleep 3600 & wait $! || true; done   # bash reaps the orphans; lives until killed
}

cmd_boot() {
  local h=$1
  alive "$h" && return 0
  rm -f "$S/pids/$h"
  [ -e "/run/netns/$P-$h" ] || host_net_up "$h"
  setsid ip netns exec "$P-$h" unshare --mount --uts --pid --fork --propagation private \
    bash "$SELF" _init "$h" </dev/null >>"$S/log/init.$h.out" 2>&1 &
  disown
  poll 10 test -s "$S/pids/$h" || die "host $h did not start; see $S/log"
}
cmd_crash() {
  if alive "$1"; then kill -9 "$(pid1 "$1")"; poll 10 dead "$1" || die "$1 does not die"; fi
  rm -f "$S/pids/$1"
}
cmd_kill() {
  sw ip link del "v-$1" 2>/dev/null || true        # first the cable, so that no FIN gets out
  cmd_crash "$1"
  [ ! -e "/run/netns/$P-$1" ] || ip netns del "$P-$1"
}
cmd_exec() {
  local h=$1; shift
  alive "$h" || die "host $h is down"
  exec nsenter -t "$(pid1 "$h")" --net --uts --pid --mount --wdns="$PWD" -- "$@"
}

ready() { [ "$(bash "$SELF" exec ctl sinfo -h -o %T 2>/dev/null | sort -u)" = idle ]; }
all_alive() { local h; for h in $(hosts); do alive "$h" || return 1; done; }

cmd_bare() {
  local h
  cmd_check bare
  cmd_down
  rm -f "$S/slurm.conf"
  write_hosts "${1:-3}"
  switch_up
  for h in $(hosts); do cmd_boot "$h"; done
}

cmd_up() {
  local n=${1:-3} gpus=${2:-2} h
  cmd_check
  mkdir -p "$S"; exec 9>"$S.lock"; flock 9
  if [ "$(cat "$S/up" 2>/dev/null)" = "$n $gpus" ] && all_alive && ready; then return 0; fi
  cmd_down
  write_conf "$n" "$gpus"
  switch_up
  for h in $(hosts); do cmd_boot "$h" 9>&-; done
  poll 30 ready || { cmd_state >&2 || true; tail -n 5 "$S"/log/*.out >&2; die "cluster not ready"; }
  echo "$n $gpus" > "$S/up"
}

cmd_down() {
  local h ns
  if [ -f "$S/hosts.list" ]; then for h in $(hosts); do cmd_kill "$h"; done; fi
  for ns in $(ip netns list 2>/dev/null | awk -v p="$P-" 'index($1, p) == 1 { print $1 }'); do
    ip netns pids "$ns" 2>/dev/null | xargs -r kill -9 2>/dev/null || true
    ip netns del "$ns"
  done
  rm -rf "${S:?}"/{up,state,spool,pids,run,munge,dev,hosts.list,jobcomp.txt,log.old}
  if [ -d "$S/log" ]; then mv "$S/log" "$S/log.old"; fi
}

cmd_cut() { sw ip link set "v-$1" nomaster; }
cmd_heal() { sw ip link set "v-$1" master br0; }
cmd_state() {
  local h
  for h in $(hosts); do echo "$h $(addr "$h") $(alive "$h" && echo up || echo down)"; done
  bash "$SELF" exec ctl sinfo -N -o '%N %T %G %E'
}

c=${1:-}
if [ -z "$c" ] || ! declare -F "cmd_$c" >/dev/null; then sed -n '2,/^set /{/^#/p}' "$SELF"; exit 2; fi
shift
"cmd_$c" "$@"
