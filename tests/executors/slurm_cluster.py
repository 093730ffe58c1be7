"""A SLURM of two nodes on this machine, for tests: its daemons run on loopback, and all they write is in one folder.

It needs the programs of Debian's packages slurmctld, slurmd, slurm-client and munge, and neither systemd nor cgroups.
"""

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
NODES = ("n1", "n2")

#: Where daemons are installed, which is not on every user's path.
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])

_CONFIGURATION = """\
ClusterName=lopbench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# A job that was requeued starts again when its credential has expired: in two minutes, were this not here.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
# Processors as they stand here, whatever the machine has.
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_min_interval=0,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait={kill_wait}
# A node that has not answered for so long is down.
SlurmdTimeout=20
MessageTimeout=60
SlurmctldTimeout=10
ReturnToService=2
TreeWidth=65533
MaxArraySize={longest}
"""


def missing():
    """Return the programs that are not installed."""
    return [program for program in PROGRAMS if shutil.which(program, path=_PATH) is None]


class Cluster:
    """Two nodes of two processors; jobs of the partition "urgent" preempt those of "main".

    Args:
        folder: An empty folder.
        longest: Number of jobs of the longest array.
    """

    def __init__(self, folder, *, longest=3):
        self.folder = Path(folder)
        self.environment = {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": _PATH}
        self._configure(longest)

    def start(self):
        """Start what does not run, and wait until both nodes are there."""
        folder = self.folder
        self._daemon(
            "munged",
            *("--force", "--num-threads=2", f"--key-file={folder}/munge.key", f"--socket={folder}/munge.socket"),
            *(f"--pid-file={folder}/munged.pid", f"--seed-file={folder}/munge.seed"),
            f"--log-file={folder}/munged.log",
        )
        self._daemon("slurmctld", "-f", self.environment["SLURM_CONF"])
        for node in NODES:
            self._daemon(node, "-f", self.environment["SLURM_CONF"], "-N", node, program="slurmd")
        end = time.monotonic() + 90
        while self._nodes_up() < len(NODES):
            if time.monotonic() > end:
                raise RuntimeError(f"the nodes are not up: {self.call('sinfo', '-N', check=False)}")
            time.sleep(0.2)

    def call(self, *command, check=True):
        """Return what a command prints."""
        done = subprocess.run(command, env={**os.environ, **self.environment}, capture_output=True, text=True)
        if check and done.returncode:
            raise RuntimeError(f"{command}: {done.stderr}")
        return done.stdout.strip()

    def queue(self):
        """Return the states of what is in the queue, by the name of the array's task."""
        lines = self.call("squeue", "-h", "-r", "-o", "%F_%K %T").splitlines()
        return dict(line.split() for line in lines)

    def kill_node(self, name):
        """End a node, with all that runs on it."""
        pids = [self._pid(name)]
        for pid, environment in self._processes():
            if f"SLURMD_NODENAME={name}" in environment:
                pids.append(pid)
        # Daemons of a job's steps, which would tell that it ended, have no such variable, and are called by the job.
        jobs = {value for _, each in self._processes() for value in each if value.startswith("SLURM_JOB_ID=")}
        here = {value for pid, each in self._processes() if pid in pids for value in each if value in jobs}
        for job in (value.partition("=")[2] for value in here):
            pids += [pid for pid, title in self._titles() if title.startswith(f"slurmstepd: [{job}.")]
        # All at once, as a node dies: a daemon that outlives its job for a moment tells that it has ended.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in reversed(pids):
                with suppress(ProcessLookupError):
                    os.kill(pid, number)

    def stop(self):
        """End all jobs and daemons."""
        with suppress(subprocess.SubprocessError, RuntimeError):
            self.call("scancel", f"--user={os.getuid()}")
        for number in (signal.SIGTERM, signal.SIGKILL):
            end = time.monotonic() + 5
            while (pids := self._ours()) and time.monotonic() < end:
                for pid in pids:
                    with suppress(ProcessLookupError):
                        os.kill(pid, number)
                time.sleep(0.2)

    def _configure(self, longest):
        folder = self.folder
        (folder / "state").mkdir(parents=True)
        key = folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(128))
        host = socket.gethostname().partition(".")[0]
        ports = _free_ports(1 + len(NODES))
        lines = _CONFIGURATION.format(
            host=host, port=ports[0], user=getpass.getuser(), folder=folder, kill_wait=20, longest=longest
        )
        for node, port in zip(NODES, ports[1:], strict=True):
            lines += f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=4096\n"
        lines += "PartitionName=main Nodes=ALL Default=YES MaxTime=60 State=UP PriorityTier=1 GraceTime=20\n"
        lines += "PartitionName=urgent Nodes=ALL MaxTime=60 State=UP PriorityTier=10 PreemptMode=OFF\n"
        (folder / "slurm.conf").write_text(lines)
        version = self.call("slurmd", "-V").split()[-1].split(".")
        is_old = (int(version[0]), int(version[1])) < (23, 11)
        (folder / "cgroup.conf").write_text("ConstrainCores=no\n" if is_old else "CgroupPlugin=disabled\n")

    def _daemon(self, name, *arguments, program=None):
        if self._pid(name) is None:
            self.call(program or name, *arguments)

    def _pid(self, name):
        """Return the process of a daemon, None if it does not run."""
        try:
            pid = int((self.folder / f"{name}.pid").read_text())
            command = Path(f"/proc/{pid}/cmdline").read_text()
        except (OSError, ValueError):
            return None
        return pid if str(self.folder) in command else None

    def _nodes_up(self):
        shown = self.call("sinfo", "-h", "-N", "-p", "main", "-o", "%t", check=False)
        return sum(state in ("idle", "mix", "alloc", "comp") for state in shown.split())

    def _processes(self):
        """Yield process ids and environments of what belongs to this cluster, commands of the tests included."""
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                environment = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
                if f"SLURM_CONF={self.environment['SLURM_CONF']}" in environment:
                    yield int(entry.name), environment

    def _titles(self):
        for pid, _ in self._processes():
            with suppress(OSError):
                yield pid, Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ")

    def _ours(self):
        daemons = ("munged", "slurmctld", "slurmd", "slurmstepd")
        found = []
        for pid, environment in self._processes():
            with suppress(OSError):
                name = Path(f"/proc/{pid}/comm").read_text().strip()
                if name in daemons or any(each.startswith("SLURM_JOB_ID=") for each in environment):
                    found.append(pid)
        return found


def _free_ports(count):
    taken = [socket.socket() for _ in range(count)]
    for each in taken:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in taken]
    for each in taken:
        each.close()
    return ports
