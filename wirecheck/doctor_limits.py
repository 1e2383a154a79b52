"""Memory and CPUs: the machine's, and what the cgroups above this process (a container, a Slurm job) leave of them.

Both kinds of cgroups are read, v2 (one tree) and v1 (a tree for each controller): kills for want of memory come from
the cgroup, whatever the machine has free.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from wirecheck.confinement import held
from wirecheck.devices import cgroup_allowances, size
from wirecheck.machine_records import MachineCheck, bad, good

CGROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
LEAST_BYTES = 2**30
"""The simulated check of a tiny model held 389 MiB at its peak; half a GiB more, for a real vocabulary."""
_NONE = 2**60
"""v1 writes a limit past this where there is none."""


@dataclass(frozen=True)
class Limits:
    """The tightest limits above this process; None where there is none."""

    memory_bytes: int | None = None
    allowed_bytes: int | None = None
    """What the cgroups still allow; pages of files count as free."""
    cpus: float | None = None
    """CPU time that may be used, in CPUs."""
    kills: int = 0
    """Processes that this cgroup's own limit has ended for want of memory."""


def memory() -> Iterator[MachineCheck]:
    """What this process can still be given."""
    import psutil

    machine, limits = psutil.virtual_memory(), of_cgroups(CGROUPS, OWN)
    free = min(int(machine.available), machine.available if limits.allowed_bytes is None else limits.allowed_bytes)
    parts = [f"{size(free)} can be had of the machine's {size(int(machine.total))}"]
    if limits.memory_bytes is not None and limits.memory_bytes < machine.total:
        parts.append(f"the cgroup's limit is {size(limits.memory_bytes)}")
    else:
        parts.append("no cgroup limits it")
    if limits.kills:
        parts.append(f"the cgroup has ended {limits.kills} process{'es' * (limits.kills > 1)} for want of memory")
    if free < LEAST_BYTES:
        mend = "end other processes, or ask for more: sbatch --mem=8G, docker run --memory=8g"
        yield bad("memory", "; ".join((*parts, f"a check takes up to {size(LEAST_BYTES)}")), mend)
    else:
        yield good("memory", "; ".join(parts))


def fence() -> Iterator[MachineCheck]:
    """What holds a process that handles models' files, tried in one; what does not hold stops no check."""
    found = held()
    words = {
        "the network": found.network,
        "files to be written": found.files,
        "other programs": found.programs,
        "more time or memory than its bounds": found.time_and_memory,
    }
    kept = [word for word, holds in words.items() if holds]
    left = [word for word, holds in words.items() if not holds]
    parts = [f"models' files are read and run without {', '.join(kept)}"] if kept else []
    if left:
        parts.append(f"not kept off here: {', '.join(left)} (Linux 5.13 or newer, with seccomp and Landlock, does)")
    yield good("fence", "; ".join(parts))


def cpus() -> Iterator[MachineCheck]:
    """CPUs this process may run on, and how much of their time."""
    there = os.cpu_count() or 1
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
    quota = of_cgroups(CGROUPS, OWN).cpus
    seen = f"{own} of the machine's {there} may be used; "
    if quota is None or quota >= own:
        yield good("cpu", seen + "no cgroup limits their time")
        return
    seen += f"the cgroup allows the time of {quota:.3g}"
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if quota < 1:
        yield bad("cpu", seen, "ask for a whole CPU: sbatch --cpus-per-task=1, docker run --cpus=1")
    elif threads.isdigit() and int(threads) > quota:
        yield bad("cpu", f"{seen}, and OMP_NUM_THREADS is {threads}", f"export OMP_NUM_THREADS={int(quota)}")
    else:
        yield good("cpu", seen)


# --- cgroups -----------------------------------------------------------------------------------------------------


def of_cgroups(root: Path, own: Path) -> Limits:
    """The limits of both kinds. `root`: where cgroups are mounted; `own`: the file that names this process's."""
    try:
        lines = own.read_text(encoding="utf-8", errors="replace")
    except OSError:
        lines = ""
    one, of_memory, of_cpu = _v2(root, own, lines), _v1_memory(root, lines), _v1_cpu(root, lines)
    return Limits(
        _least(one.memory_bytes, of_memory.memory_bytes),
        _least(one.allowed_bytes, of_memory.allowed_bytes),
        None if one.cpus is None and of_cpu is None else min(n for n in (one.cpus, of_cpu) if n is not None),
        max(one.kills, of_memory.kills),
    )


def _least(*numbers: int | None) -> int | None:
    return min((number for number in numbers if number is not None), default=None)


def _v2(root: Path, own: Path, lines: str) -> Limits:
    if not (root / "cgroup.controllers").is_file() and (root / "unified").is_dir():
        root = root / "unified"
    found = re.search(r"^0::(/.*)$", lines, re.MULTILINE)
    most, quotas = None, []
    folders = _upwards(root, found[1] if found else "/")
    for folder in folders:
        most = _least(most, _number(folder / "memory.max"))
        match _words(folder / "cpu.max"):
            case [quota, period] if quota.isdigit() and period.isdigit() and int(period):
                quotas.append(int(quota) / int(period))
    allowed = min(cgroup_allowances(root, own))
    kills = _named(folders[0] / "memory.events", "oom_kill")
    return Limits(most, None if most is None else allowed, min(quotas, default=None), kills)


def _v1_memory(root: Path, lines: str) -> Limits:
    most = allowed = None
    folders = _upwards(root / "memory", _v1_path(lines, "memory"))
    for folder in folders:
        limit, held = _number(folder / "memory.limit_in_bytes"), _number(folder / "memory.usage_in_bytes")
        if limit is None or held is None or limit >= _NONE:
            continue
        of_files = _named(folder / "memory.stat", "total_inactive_file") + _named(
            folder / "memory.stat", "total_active_file"
        )
        most, allowed = _least(most, limit), _least(allowed, max(limit - held + of_files, 0))
    return Limits(most, allowed, kills=_named(folders[0] / "memory.oom_control", "oom_kill"))


def _v1_cpu(root: Path, lines: str) -> float | None:
    quotas = []
    for folder in _upwards(root / "cpu", _v1_path(lines, "cpu")):
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        if quota is not None and quota > 0 and period:
            quotas.append(quota / period)
    return min(quotas, default=None)


def _v1_path(lines: str, controller: str) -> str:
    for line in lines.splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if controller in names.split(","):
            return path
    return "/"


def _upwards(root: Path, path: str) -> list[Path]:
    """The cgroup's folder and those above it; the root alone where a container sees no other."""
    group = root / path.strip("/")
    if ".." in group.parts or not group.is_dir():
        return [root]
    return [group, *(one for one in group.parents if one == root or root in one.parents)]


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    """The number a file holds; None for `max`, and where it cannot be read."""
    match _words(path):
        case [word] if word.lstrip("-").isdigit():
            return int(word)
    return None


def _named(path: Path, name: str) -> int:
    """The number after a name in a file of such lines; 0 where it is not there."""
    words = _words(path)
    return next((int(n) for word, n in pairwise(words) if word == name and n.isdigit()), 0)
