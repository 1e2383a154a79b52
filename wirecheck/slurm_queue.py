"""The cluster's own commands: sbatch (by submitit), squeue, sacct and scancel, and what they say, in our words."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from wirecheck.errors import CouldNotCheck, OutputNotWritten, UsageError
from wirecheck.slurm_records import SlurmOptions
from wirecheck.slurm_task import Element

_LIMIT_S = 60
_ENDED = (
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"),
    *("REVOKED", "SPECIAL_EXIT", "TIMEOUT"),
)
_NEVER = ("launch failed requeued held", "JobHeldAdmin")
"""Reasons of a pending job that nobody but an administrator lifts."""
_NEXT_STEPS = (
    ("submit limit", "sacctmgr show qos format=name,maxsubmitjobsperuser  # and ask for a larger chunk"),
    ("time limit", "sinfo --format='%P %l'  # the longest time of each partition"),
    ("partition", "sinfo --summarize  # the partitions there are"),
    ("account", 'sacctmgr show associations user="$USER"  # the accounts that are yours'),
    ("qos", 'sacctmgr show associations user="$USER"  # the qualities of service that are yours'),
    ("array", "scontrol show config | grep MaxArraySize  # and ask for a larger chunk"),
    ("node configuration", "sinfo --format='%P %c %m %G'  # CPUs, memory and GPUs of the nodes"),
)
_UNREACHED = ("contact slurm controller", "timed out", "temporarily", "connection refused", "zero bytes")


@dataclass(frozen=True)
class State:
    """Of one element, as Slurm tells it."""

    name: str
    """RUNNING, PENDING, NODE_FAIL, …"""
    reason: str = ""

    @property
    def ended(self) -> bool:
        """It will not run again, unless somebody sees to it."""
        return self.name in _ENDED or (self.name == "PENDING" and self.reason.replace("_", " ") in _NEVER)


class Queue(Protocol):
    """What the collector asks of a cluster."""

    def submit(self, elements: Sequence[Element]) -> str:
        """The number of the job. Raises UsageError where it is refused, CouldNotCheck where nobody answers."""

    def states(self) -> Mapping[str, State] | None:
        """Of this run's elements that Slurm remembers, by `12_0` or `12`; None where it does not answer."""

    def accounts(self, elements: Sequence[str]) -> Mapping[str, State]:
        """The same by the cluster's accounting, where it has one."""

    def log_of(self, element: str) -> str | None:
        """The last words of an element: None where it has left no log, empty where the log says nothing."""

    def cancel(self, elements: Iterable[str]) -> None:
        """Takes them out of the queue."""

    def cancel_all(self) -> None:
        """Takes every job of this run out of the queue."""


class Slurm:
    """The cluster whose commands are on PATH. `name` is given to every job of the run, and to no other."""

    def __init__(self, folder: Path, name: str, options: SlurmOptions) -> None:
        self.folder = folder
        self.name = name
        self.options = options

    def submit(self, elements: Sequence[Element]) -> str:
        """As in Queue."""
        _need("sbatch", "srun", "squeue", "scancel")
        try:
            from submitit import SlurmExecutor
            from submitit.core.utils import FailedJobError, FailedSubmissionError
        except ImportError as error:
            raise _no_submitit() from error
        try:
            with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
                executor = SlurmExecutor(self.folder, max_num_timeout=self.options.tries)
                executor.update_parameters(**parameters(self.name, self.options))
                jobs = executor.submit_array(list(elements))
        except (FailedJobError, FailedSubmissionError) as error:
            raise refused(str(error)) from error
        except OSError as error:
            raise OutputNotWritten(f"{self.folder}: {error.strerror or error}", next_step="df -h") from error
        return str(jobs[0].job_id).partition("_")[0]

    def states(self) -> Mapping[str, State] | None:
        """As in Queue. Only this user's jobs are asked for: that is what a large controller answers quickly."""
        _need("squeue")
        words = ["squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}", f"--name={self.name}"]
        told = _said([*words, "--format=%F|%K|%T|%r"])
        return None if told is None else states_of(told)

    def accounts(self, elements: Sequence[str]) -> Mapping[str, State]:
        """As in Queue."""
        if not elements or shutil.which("sacct") is None:
            return {}
        words = ["sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State"]
        told = _said([*words, "--jobs=" + ",".join(elements)]) or ""
        rows = (line.split("|") for line in told.splitlines())
        return {row[0]: State(row[1].split()[0]) for row in rows if len(row) > 1 and row[1].strip()}

    def log_of(self, element: str) -> str | None:
        """As in Queue. What srun and submitit write there is left out."""
        try:
            with (self.folder / f"{element}_0_log.err").open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
                text = file.read().decode(errors="replace")
        except OSError:
            return None
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        own = [line for line in lines if not line.startswith(("srun:", "slurmstepd:", "submitit "))]
        return (own or [line for line in lines if "error:" in line] or [""])[-1][:300]

    def cancel(self, elements: Iterable[str]) -> None:
        """As in Queue."""
        chosen = sorted(elements)
        if chosen:
            _said(["scancel", *chosen])

    def cancel_all(self) -> None:
        """As in Queue. Raises CouldNotCheck where the cluster does not answer."""
        _need("scancel")
        if _said(["scancel", f"--user={os.getuid()}", f"--name={self.name}"]) is None:
            raise CouldNotCheck("the jobs could not be cancelled: scancel failed", next_step="scontrol ping")


def parameters(name: str, options: SlurmOptions) -> dict[str, Any]:
    """What submitit is told. The element is a step of its own (srun), which alone gets Slurm's warning."""
    return {
        "job_name": name,
        "partition": options.partition,
        "time": options.minutes,
        "nodes": 1,
        "ntasks_per_node": 1,
        "cpus_per_task": options.cpus,
        "gpus_per_node": options.gpus or None,
        "mem": options.memory,
        "array_parallelism": options.array,
        "signal_delay_s": min(options.warning_s, options.minutes * 30),
        "wckey": None,
        # since 22.05 srun does not take the job's CPUs for its own
        "srun_args": [f"--cpus-per-task={options.cpus}"],
        "additional_parameters": {"requeue": True, **options.extra},
    }


def refused(told: str) -> UsageError | CouldNotCheck:
    """What sbatch said, in one line, and what to try next."""
    lines = [re.sub(r"^sbatch: (fatal: |error: )*", "", line).strip() for line in told.splitlines()]
    said = "; ".join(dict.fromkeys(line for line in lines if line)) or "no word of why"
    small = said.lower()
    if any(word in small for word in _UNREACHED):
        return CouldNotCheck(f"Slurm does not answer: {said}", next_step="scontrol ping")
    steps = [step for word, step in _NEXT_STEPS if word in small]
    return UsageError(f"sbatch refused the job: {said}", next_step=(steps or ["sbatch --help"])[0])


def states_of(told: str) -> dict[str, State]:
    """By element, out of squeue's `job|index|state|reason`; the index of a job that is no array is N/A."""
    found = {}
    for line in told.splitlines():
        job, index, state, reason = (*line.strip().split("|", 3), "", "", "", "")[:4]
        if job.isdigit() and state:
            found[f"{job}_{index}" if index.isdigit() else job] = State(state, reason)
    return found


def pickled(work: Callable[[str], str]) -> bytes:
    """A function, with its code where it is not importable by name. Raises UsageError where submitit is not there."""
    try:
        import cloudpickle
    except ImportError as error:
        raise _no_submitit() from error
    return bytes(cloudpickle.dumps(work))


def _no_submitit() -> UsageError:
    return UsageError(
        "jobs are submitted by the package submitit, which is not installed",
        next_step="pip install 'wirecheck[slurm]'",
    )


def _need(*commands: str) -> None:
    for command in commands:
        if shutil.which(command) is None:
            raise UsageError(
                f"{command} is not on PATH: this is no machine from which Slurm can be asked",
                next_step="load the site's Slurm module, or log in to the cluster: wirecheck doctor",
            )


def _said(words: Sequence[str]) -> str | None:
    """Standard output; None where the command fails, which for these means that the controller does not answer."""
    try:
        done = subprocess.run(  # noqa: S603 - the cluster's own tools
            words, capture_output=True, text=True, errors="replace", timeout=_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
