#!/usr/bin/env bash
# A throw-away Slurm on one host, of Debian's packages: no systemd, no cgroup, no accounting, loopback only.
#
#   apt-get install -y --no-install-recommends slurm-wlm munge
#   NODES=2 tools/slurm_up.sh up && . "$(tools/slurm_up.sh env)" && srun hostname ; tools/slurm_up.sh wipe
#
#   up      write the configuration and start what is not running; done when every node answers
#   down    end every process of this cluster, jobs included          wipe   down, and remove the folder
#   lose N  end node N as a power cut would: its daemon and its jobs, at once
#   join N  start node N again                                        env    the file that a shell sources
#
# By environment: NODES (1), CPUS of each (4), MEM of each in MiB (4000), SLURM_LAB (folder), SLURM_LAB_PORT (16817 and
# the NODES after it), TIMEOUT (seconds until a silent node is down, 15), REQUEUE (seconds until a requeued job may
# start again, 10; at least 5). Two clusters side by side have two folders and two ranges of ports. Root or a plain user.
set -euo pipefail
NODES=${NODES:-1} CPUS=${CPUS:-4} MEM=${MEM:-4000} TIMEOUT=${TIMEOUT:-15} REQUEUE=${REQUEUE:-10}
LAB=${SLURM_LAB:-${TMPDIR:-/tmp}/slurm-lab-$(id -un)} PORT=${SLURM_LAB_PORT:-16817}
PATH=$PATH:/usr/sbin:/sbin
export SLURM_CONF=$LAB/etc/slurm.conf

say() { echo "slurm_up: $*" >&2; }
running() {
  local pid
  pid=$(cat "$LAB/run/$1.pid" 2>/dev/null) || return 1
  case $(readlink "/proc/$pid/exe" 2>/dev/null) in */munged | */slurm*) ;; *) return 1 ;; esac  # not of a defunct one
}

write_conf() {
  local range=node1 ports=$((PORT + 1)) me host n
  me=$(id -un) host=$(hostname -s)
  [ "$NODES" -gt 1 ] && range="node[1-$NODES]" ports="$((PORT + 1))-$((PORT + NODES))"
  mkdir -p "$LAB"/{etc,run,log,state}
  for n in $(seq "$NODES"); do mkdir -p "$LAB/spool/node$n"; done
  chmod 755 "$LAB" "$LAB/run"
  # cred_expire is also how long a requeued job is held, 120 s by default.
  cat >"$SLURM_CONF" <<CONF
ClusterName=lab
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$PORT
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$LAB/run/munge.sock,cred_expire=$REQUEUE
SlurmUser=$me
SlurmdUser=$me
StateSaveLocation=$LAB/state
SlurmdSpoolDir=$LAB/spool/%n
SlurmctldPidFile=$LAB/run/slurmctld.pid
SlurmdPidFile=$LAB/run/%n.pid
SlurmctldLogFile=$LAB/log/slurmctld.log
SlurmdLogFile=$LAB/log/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
JobAcctGatherParams=OverMemoryKill
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory,CR_LLN
DefMemPerCPU=200
MessageTimeout=$((TIMEOUT > 4 ? TIMEOUT / 2 : 2))
SlurmdTimeout=$TIMEOUT
KillWait=5
MinJobAge=300
JobRequeue=1
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
NodeName=$range NodeHostname=$host NodeAddr=127.0.0.1 Port=$ports CPUs=$CPUS RealMemory=$MEM State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
  printf 'CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n' >"$LAB/etc/cgroup.conf"
  [ -s "$LAB/etc/munge.key" ] || (umask 277 && head -c 128 /dev/urandom >"$LAB/etc/munge.key")
  printf 'export SLURM_CONF=%q\n' "$SLURM_CONF" >"$LAB/env"
}

ready() { [ "$(sinfo -h -N -t idle,alloc,mix -o %N 2>/dev/null | sort -u | wc -l)" -ge "$NODES" ]; }

up() {
  local tool n
  for tool in munged slurmctld slurmd sinfo; do
    command -v $tool >/dev/null ||
      { say "$tool is not here; as root: apt-get install -y --no-install-recommends slurm-wlm munge"; exit 3; }
  done
  running slurmctld || write_conf
  running munged || munged --force --key-file="$LAB/etc/munge.key" --socket="$LAB/run/munge.sock" \
    --pid-file="$LAB/run/munged.pid" --log-file="$LAB/log/munged.log" --seed-file="$LAB/run/munge.seed" --num-threads=2
  running slurmctld || slurmctld
  for n in $(seq "$NODES"); do running "node$n" || slurmd -N "node$n"; done
  for _ in $(seq 200); do
    ready && return
    running slurmctld || { say "slurmctld ended:"; tail -n 4 "$LAB/log/slurmctld.log" >&2; exit 1; }
    sleep 0.1
  done
  say "not every node answers:"; sinfo >&2; tail -n 4 "$LAB"/log/node*.log >&2
  exit 1
}

# What runs inside a job of this cluster (of node $1, where given) tells so by its environment; the daemons, slurmstepd
# among them, whose environment is overwritten by its title, by the log that they hold open.
in_jobs() {
  local file env
  for file in /proc/[0-9]*/environ; do
    env=$({ tr '\0' '\n' <"$file"; } 2>/dev/null) || continue
    grep -qxF "SLURM_CONF=$SLURM_CONF" <<<"$env" && grep -q '^SLURM_JOB_ID=' <<<"$env" || continue
    [ -z "${1:-}" ] || grep -qxF "SLURMD_NODENAME=node$1" <<<"$env" || continue
    cut -d/ -f3 <<<"$file"
  done
}
holding() { { find /proc/[0-9]*/fd -lname "$1" 2>/dev/null || true; } | cut -d/ -f3 | sort -un; }
finish() { local pid; for pid in "$@"; do kill -KILL "$pid" 2>/dev/null || true; done; }

lose() {
  finish $(holding "$LAB/log/node$1.log")
  finish $(in_jobs "$1") $(holding "$LAB/log/node$1.log")
  rm -f "$LAB/run/node$1.pid"
}

down() {
  [ -d "$LAB" ] || return 0
  finish $(holding "$LAB/log/*")
  finish $(in_jobs) $(holding "$LAB/log/*")
  rm -f "$LAB"/run/*.pid "$LAB"/run/munge.sock*
}

case ${1:-} in
  up) up ;;
  down) down ;;
  wipe) down; rm -rf "$LAB" ;;
  lose) lose "$2" ;;
  join) slurmd -N "node$2" ;;
  env) echo "$LAB/env" ;;
  *) sed -n '2,15s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
