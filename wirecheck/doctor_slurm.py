"""Whether Slurm can be asked from here, and the job that this process is in."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping

from wirecheck.machine_records import MachineCheck, bad, good

COMMANDS = ("sbatch", "srun", "sinfo")
NO_CLUSTER = "Could not establish a configuration source"
"""What they say where the package is installed and nothing else."""
LIMIT_S = 20


def slurm() -> Iterator[MachineCheck]:
    """One line; no Slurm at all is sound."""
    found = {name: path for name in COMMANDS if (path := shutil.which(name)) is not None}
    job = inside_job(os.environ)
    if not found:
        yield good("slurm", f"{job}; none of its commands is here" if job else "no Slurm here")
        return
    lacking = [name for name in COMMANDS if name not in found]
    parts = [job or "not inside a job"]
    if lacking:
        parts.append(f"not on PATH: {', '.join(lacking)}")
    if "sinfo" not in found:
        yield good("slurm", "; ".join((f"on PATH: {', '.join(found)}", *parts)))
        return
    try:
        done = subprocess.run(  # noqa: S603 - the cluster's own tool
            [found["sinfo"], "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        why = f"within {LIMIT_S} s" if isinstance(error, subprocess.TimeoutExpired) else f"({error})"
        yield bad(
            "slurm", f"`sinfo --version` does not answer {why}", "load the site's Slurm module, or ask its admins"
        )
        return
    words = (done.stdout.strip() or done.stderr.strip() or "without a word").splitlines()[0][:200]
    if done.returncode != 0 and job is None and NO_CLUSTER in done.stderr:
        yield good("slurm", "; ".join(("its commands are here, and no cluster is configured for them", *parts)))
        return
    if done.returncode != 0:
        seen = f"`sinfo --version` ends with exit code {done.returncode}: {words}"
        yield bad("slurm", seen, "load the site's Slurm module, or ask its admins")
        return
    yield good("slurm", "; ".join((words, *parts)))


def inside_job(environment: Mapping[str, str]) -> str | None:
    """The job this process is in, in words; None where it is in none."""
    if "SLURM_JOB_ID" not in environment:
        return None
    told = [f"inside job {environment['SLURM_JOB_ID']}"]
    for name, words in (
        ("SLURMD_NODENAME", "on node {}"),
        ("SLURM_CPUS_ON_NODE", "{} CPUs on the node"),
        ("SLURM_CPUS_PER_TASK", "{} CPUs a task"),
        ("SLURM_MEM_PER_NODE", "{} MiB a node"),
        ("SLURM_MEM_PER_CPU", "{} MiB a CPU"),
        ("SLURM_GPUS_ON_NODE", "{} GPUs on the node"),
    ):
        if environment.get(name):
            told.append(words.format(environment[name]))
    return ", ".join(told)
