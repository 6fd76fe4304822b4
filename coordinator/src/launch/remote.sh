# Runs a worker on this host until it ends, or until standard input does: so it learns that who started it is gone.
# Arguments: the run folder's mark, what it holds, the folder to work in, the worker's program, then the command.
mark=$1 held=$2 folder=$3 program=$4
shift 4
here=$(uname -n)
wrong() { echo "launch: $here: $1" >&2; exit 2; }
tries=0
# A network file system may need a moment to show a new file.
until [ "$(cat "$mark" 2>/dev/null)" = "$held" ]; do
  tries=$((tries + 1))
  [ "$tries" -lt 5 ] || wrong "${mark%/*} is not the run folder that the coordinator writes to; expected run.output on a file system that all hosts share, under the same path"
  ls "${mark%/*}" >/dev/null 2>&1
  sleep 1
done
cd "$folder" 2>/dev/null || wrong "$folder cannot be entered; expected the folder that the coordinator was started in, on every host"
[ -x "$program" ] || wrong "there is no program $program; expected it on every host where the coordinator has it"
exec 3<&0 </dev/null
# Slurm signals the worker too: this shell stays to tell its exit code.
trap : TERM
"$@" 3<&- &
worker=$!
echo "launch: process $worker on $here"
(
  trap '' TERM
  while read -r _; do :; done
  kill -KILL "$worker"
) <&3 >/dev/null 2>&1 &
watch=$!
exec 3<&-
wait "$worker"
code=$?
while kill -0 "$worker" 2>/dev/null; do
  wait "$worker"
  code=$?
done
kill -KILL "$watch" 2>/dev/null
exit "$code"
