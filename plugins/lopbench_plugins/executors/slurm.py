"""Workers as an array of jobs of SLURM, through its own commands.

A worker is started by ``srun``, for signals before the end of a time limit reach steps alone. It saves and leaves, and
its script requeues the job: at the end of the time, and where SLURM takes the node for something else, since a job that
leaves by itself within the grace of a preemption is not requeued by SLURM. The script of a cancelled job ends with it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from lopbench import Executor, Handle, InvalidInputError, UnsupportedError, Workers, threads_of, whole

#: States in which a job does nothing more.
_OVER = ("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "DEADLINE", "OUT_OF_MEMORY", "BOOT_FAIL", "REVOKED")

#: Seconds before the end of the time at which workers are told: for a step, a checkpoint and leaving. SLURM may tell
#: them a minute earlier still.
_GRACE_S = 120

#: Least minutes of a job. Of shorter ones nothing would be left for work, and they would be queued again and again.
_LEAST_MINUTES = 5

#: Seconds between two questions to SLURM, the first and the last; they grow as the study does.
_SOON_S, _LATE_S = 0.5, 10.0

#: Seconds within which SLURM has to answer.
_PATIENCE_S = 60.0

#: Minutes of the units in which a time may be given.
_MINUTES = {"s": 1 / 60, "m": 1, "h": 60, "d": 24 * 60}

_SCRIPT = """\
#!/bin/bash
{directives}
{setup}srun --cpus-per-task="${{SLURM_CPUS_PER_TASK:-1}}" {command}
code=$?
me=${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID
case $code in
75 | 140) again=yes ;; # the time is nearly over
130 | 143) [ "$(squeue -h -j "$me" -o %T)" = RUNNING ] && again=yes ;; # preempted, and not cancelled
esac
[ "$again" = yes ] && scontrol requeue "$me"
exit $code
"""


@dataclass(frozen=True, kw_only=True)
class Slurm(Executor):
    """Submits an array of jobs, a worker each, which SLURM requeues at the end of their time and after preemption.

    Any other field is a directive: ``partition=gpu,mem=16G,exclusive=true`` makes ``#SBATCH --partition=gpu``,
    ``#SBATCH --mem=16G`` and ``#SBATCH --exclusive``, with hyphens for underscores. The jobs go on when the command
    that submitted them ends; the same command finds them again.

    Args:
        time: Time limit of a job, as in 90m, 4h, 2d or as SLURM writes it; the partition's own if empty.
        gpus: GPUs of a worker, at least 0.
        cpus: CPUs of a worker, at least 1.
        setup: A line of the shell that is run first, as in ``module load cuda``.
        directives: What else is given to sbatch, as in ``partition=gpu``.
    """

    name: ClassVar[str] = "slurm"
    others: ClassVar[str | None] = "directives"
    lasts: ClassVar[bool] = True
    time: str = ""
    gpus: int = whole(0, least=0)
    cpus: int = whole(1, least=1)
    setup: str = ""
    directives: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what would be more than one line of the script."""
        super().__post_init__()
        for text in (self.time, *self.directives):
            if not text.isprintable():
                raise InvalidInputError(f"slurm: a directive is one line of printable characters, got {text!r}")
        if (minutes := _read_minutes(self.time)) is not None and minutes < _LEAST_MINUTES:
            raise InvalidInputError(
                f"slurm: time={self.time} is too short: workers are told to save up to three minutes before the end; "
                f"give {_LEAST_MINUTES}m or more"
            )

    def start(self, workers: Workers) -> Handle:
        """Submit the array; several, one beside the other, where the site takes none so long.

        Raises:
            UnsupportedError: In SLURM's own words, if it does not take it.
        """
        handle = _Jobs([])
        try:
            for number, (first, count) in enumerate(_arrays(workers.jobs, _longest())):
                path = workers.folder / f"{workers.study}-{number}.sh"
                path.write_text(self._script(workers, first, count))
                handle.jobs.append(_slurm("sbatch", "--parsable", str(path)).strip().partition(";")[0])
        except BaseException:
            handle.kill()
            raise
        return handle.named()

    def join(self, workers: Workers, token: str) -> Handle:
        """Return a hold on jobs that were submitted before."""
        return _Jobs(token.split(","), is_new=False).named()

    def script(self, workers: Workers) -> str:
        """Return what is given to sbatch, were there no limit on the length of arrays."""
        return self._script(workers, 0, workers.jobs)

    def _script(self, workers: Workers, first: int, count: int) -> str:
        """Return the script of the workers from ``first`` on."""
        if len(workers.devices) > 1:
            raise UnsupportedError(
                f"slurm gives each worker its GPUs, so devices {', '.join(workers.devices)} cannot be shared out; "
                "write --device cuda and gpus=1"
            )
        slot = "$SLURM_ARRAY_TASK_ID" if first == 0 else f"$((SLURM_ARRAY_TASK_ID + {first}))"
        device = f"--device={workers.devices[0]}"
        variables = {**workers.environment, **threads_of(workers.threads or self.cpus)}
        setup = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
        return _SCRIPT.format(
            directives="\n".join(self._directives(workers, count)),
            setup="".join(f"{line}\n" for line in [*setup, *filter(None, [self.setup])]),
            command=f'{shlex.join([*workers.program, device])} --slot="{slot}/{workers.jobs}"',
        )

    def _directives(self, workers: Workers, count: int) -> Iterator[str]:
        log = str(workers.folder / workers.study).replace("%", "%%").replace('"', r"\"") + "-%A_%a.log"
        yield f"#SBATCH --job-name=lopbench --array=0-{count - 1}"
        yield f"#SBATCH --requeue --signal=USR2@{_GRACE_S} --open-mode=append"
        yield f'#SBATCH --output="{log}"'
        yield f"#SBATCH --cpus-per-task={self.cpus}"
        if self.gpus:
            yield f"#SBATCH --gpus-per-task={self.gpus} --ntasks=1"
        if self.time:
            yield f"#SBATCH --time={_minutes(self.time)}"
        for directive in self.directives:  # last, since they go before ours
            name, _, value = directive.partition("=")
            option = f"#SBATCH --{name.replace('_', '-')}"
            if value.lower() != "false":
                yield option if value.lower() == "true" else f"{option}={shlex.quote(value)}"


class _Jobs(Handle):
    """Jobs of SLURM, by their numbers; ``is_new`` if they have just been submitted."""

    def __init__(self, jobs: Sequence[str], *, is_new: bool = True) -> None:
        super().__init__()
        self.jobs = [*jobs]
        self._began, self._asked = time.monotonic(), float("-inf")
        self._are_left, self._were_left = True, is_new

    def named(self) -> Self:
        """Return itself, with what others find and stop them by."""
        self.token, self.stop_command = ",".join(self.jobs), shlex.join(["scancel", *self.jobs])
        return self

    def poll(self) -> bool:
        now = time.monotonic()
        pause = min(_LATE_S, max(_SOON_S, (now - self._began) / 10)) if self._were_left else _SOON_S
        if self._are_left and now - self._asked >= pause:
            self._asked = now
            found = _are_left(self.jobs)
            # Asked twice: once, while a node died, the queue held none of an array whose jobs went on.
            self._are_left, self._were_left = found or self._were_left, found
        return self._are_left

    def stop(self) -> None:
        """SLURM sends SIGTERM, upon which workers save and leave, and SIGKILL half a minute later."""
        self.kill()

    def kill(self) -> None:
        if self._are_left and self.jobs:
            subprocess.run(["scancel", *self.jobs], capture_output=True, check=False, timeout=_PATIENCE_S)


def _are_left(jobs: Sequence[str]) -> bool:
    """Return whether SLURM has not done with one of the jobs; that is taken to be so as long as it does not answer.

    All states are asked for. A task whose node has died is for a while in one that is not shown unasked.
    """
    try:
        lines = _slurm("squeue", "-h", "--states=all", f"--user={os.getuid()}", "-o", "%F %T").splitlines()
    except UnsupportedError:
        return True
    states = [line.split() for line in lines]
    return any(each[0] in jobs and each[-1] not in _OVER for each in states if each)


def _longest() -> int:
    """Return the number of jobs of the longest array that the site takes."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _slurm("scontrol", "show", "config"), re.MULTILINE)
    return max(1, int(found[1])) if found else 1000


def _arrays(jobs: int, longest: int) -> Iterator[tuple[int, int]]:
    """Yield the first worker and the number of workers of each array."""
    for first in range(0, jobs, longest):
        yield first, min(longest, jobs - first)


def _minutes(text: str) -> str:
    """Return a time limit as SLURM takes it: in whole minutes, if it is given in a unit."""
    return str(round(_read_minutes(text) or 0)) if text[-1:] in _MINUTES else text


def _read_minutes(text: str) -> float | None:
    """Return the minutes of a time limit, None of what only SLURM may understand.

    It is in a unit, or as SLURM writes it: minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours and
    the rest behind them.
    """
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text):
        return float(found[1]) * _MINUTES[found[2]]
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if found is None:
        return None
    days, *rest = (int(part) if part else 0 for part in found.groups())
    hours, minutes, seconds = rest
    if found[1] is None and found[4] is None:  # what comes first are minutes
        hours, minutes, seconds = 0, hours, minutes
    return days * 24 * 60 + hours * 60 + minutes + seconds / 60


def _slurm(command: str, *arguments: str) -> str:
    """Return what a command of SLURM prints.

    Raises:
        UnsupportedError: In its own words, if it fails or is not there.
    """
    try:
        done = subprocess.run(
            [command, *arguments], capture_output=True, text=True, errors="replace", check=False, timeout=_PATIENCE_S
        )
    except FileNotFoundError:
        raise UnsupportedError(
            f"slurm: there is no {command!r} on the path; run this where jobs are submitted, or choose another executor"
        ) from None
    except subprocess.TimeoutExpired:
        raise UnsupportedError(f"slurm: {command} has not answered for {_PATIENCE_S:.0f} s") from None
    if done.returncode:
        lines = [re.sub(rf"^{command}: (?:error: )?", "", line) for line in done.stderr.strip().splitlines()]
        raise UnsupportedError(f"slurm: {command} says: {'; '.join(lines) or f'exit code {done.returncode}'}")
    return done.stdout
