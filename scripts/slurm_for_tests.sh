#!/bin/sh
# A Slurm of one node on this machine, for tests/launch/test_slurm.py: as root, on Debian or Ubuntu.
#   scripts/slurm_for_tests.sh start   installs slurm-wlm and munge where they are missing, and starts the daemons
#   scripts/slurm_for_tests.sh stop    stops the daemons that "start" started
# It writes /etc/slurm/slurm.conf: never on a machine that belongs to a cluster, and it refuses where another's file lies.
set -eu

CONF=/etc/slurm/slurm.conf
MARK="# written by scripts/slurm_for_tests.sh"
STATE=/var/tmp/fewlabels-slurm
NODE=$(hostname -s)

end() {  # the process that a file names, and wait until it is gone (Z: all but gone)
    [ -f "$1" ] || return 0
    pid=$(cat "$1")
    kill "$pid" 2>/dev/null || true
    while ps -o stat= -p "$pid" | grep -q '^[^Z]'; do sleep 0.1; done
    rm -f "$1"
}

stop() {
    [ -f $STATE/slurmctld.pid ] || return 0  # nothing of ours runs
    scancel --quiet --user=root 2>/dev/null || true
    end $STATE/slurmd.pid
    end $STATE/slurmctld.pid
    end $STATE/munged.pid
    rm -f $CONF  # else each command of Slurm looks for its controller for seconds
}

install() {
    command -v sbatch >/dev/null && command -v munged >/dev/null && return
    apt-get install -y --no-install-recommends slurm-wlm munge
}

configure() {
    if [ -f $CONF ] && ! grep -q "$MARK" $CONF; then
        echo "$CONF is another's: this machine has a Slurm already" >&2
        exit 1
    fi
    stop
    rm -rf $STATE
    mkdir -p $STATE/state $STATE/spool /etc/slurm
    chmod 755 $STATE
    cat >$CONF <<END
$MARK
ClusterName=fewlabels
SlurmctldHost=$NODE(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=cred_expire=10
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
SlurmdParameters=config_overrides
StateSaveLocation=$STATE/state
SlurmdSpoolDir=$STATE/spool
SlurmctldPidFile=$STATE/slurmctld.pid
SlurmdPidFile=$STATE/slurmd.pid
SlurmctldLogFile=$STATE/slurmctld.log
SlurmdLogFile=$STATE/slurmd.log
NodeName=$NODE NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=20
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
END
}

start() {
    install
    configure
    if ! munge -n >/dev/null 2>&1; then  # a munged that runs already will do
        mkdir -p /run/munge
        chown munge:munge /run/munge
        runuser -u munge -- munged
        sleep 1
        cp /run/munge/munged.pid $STATE/munged.pid
    fi
    slurmctld
    slurmd
    for _ in $(seq 60); do
        sinfo --noheader --partition=low --format=%T 2>/dev/null | grep -q idle && exit 0
        sleep 1
    done
    echo "Slurm does not come up: see $STATE/*.log" >&2
    exit 1
}

case "${1:-}" in
start | stop) "$1" ;;
*) sed -n '2,5s/^# *//p' "$0" >&2; exit 2 ;;
esac
