"""Where real weights run: the device, the memory that can be had there, and how high it went.

torch is imported inside functions only.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from wirecheck.errors import CannotRun

if TYPE_CHECKING:
    from wirecheck.schema import Policy

Device = Literal["cpu", "cuda", "mps"]
_CGROUPS = Path("/sys/fs/cgroup")
_PROCESS = Path("/proc/self")


def choose(policy: Policy) -> Device:
    """The device real weights run on: the one asked for; for `auto` cuda, then mps, then cpu.

    CannotRun where torch has no such device here, with the option to type instead.
    """
    there = available()
    if policy.device == "auto":
        return there[0]
    if policy.device not in there:
        raise CannotRun(
            f"--device {policy.device} was asked for, and torch sees none on this machine: "
            f"`--device {there[0]}` runs the real weights here"
        )
    return policy.device


def available() -> tuple[Device, ...]:
    """The devices torch can use on this machine, the fastest first; cpu is always there."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a driver too old for this build of torch is told by a warning
        seen: dict[Device, bool] = {
            "cuda": torch.cuda.is_available(),
            "mps": torch.backends.mps.is_available(),
            "cpu": True,
        }
    return tuple(name for name, is_there in seen.items() if is_there)


def free_bytes(device: Device = "cpu") -> int:
    """Memory this process can still be given on `device`."""
    if device == "cpu":
        return _free_here()
    import torch

    if device == "mps":
        return max(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory(), 0)
    cached = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return int(torch.cuda.mem_get_info()[0]) + cached


def _free_here() -> int:
    """What the machine has free, or what this process's cgroups (a container, a Slurm job) still allow.

    Pages of files count as free: the kernel drops them when memory is asked for.
    """
    import psutil

    return min(int(psutil.virtual_memory().available), *cgroup_allowances(_CGROUPS, _PROCESS / "cgroup"))


def cgroup_allowances(root: Path, own: Path) -> tuple[int, ...]:
    """Bytes that each limited cgroup (v2) above this process still allows, never negative; 2^63 - 1 where none is.

    `root`: where the cgroups are mounted; `own`: the file that names this process's.
    """
    try:
        found = re.search(r"^0::/(.*)$", own.read_text(), re.MULTILINE)
    except OSError:
        found = None
    group = root / found[1] if found else root
    allowed = [2**63 - 1]
    for one in (group, *group.parents):
        try:
            most = int((one / "memory.max").read_text())  # "max" where there is no limit
            held = int((one / "memory.current").read_text())
            stat = dict(line.split() for line in (one / "memory.stat").read_text().splitlines())
            of_files = int(stat.get("inactive_file", 0)) + int(stat.get("active_file", 0))
            allowed.append(max(most - held + of_files, 0))
        except (OSError, ValueError):
            pass
        if one == root:
            break
    return tuple(allowed)


# --- meters ------------------------------------------------------------------------------------------------------


class Peak(NamedTuple):
    """The most memory a device held since its meter was reset."""

    allocated_bytes: int
    """In live tensors."""
    reserved_bytes: int
    """By the allocator, with what it keeps for later."""


class Meter(Protocol):
    """What can tell the peak of a device's memory."""

    @property
    def name(self) -> str:
        """The device, as its maker names it."""

    def reset(self) -> None:
        """Peaks are counted from here on."""

    def peak(self) -> Peak:
        """The peaks since the reset."""


class CudaMeter:
    """Peaks read off torch's CUDA allocator, of the current device. CannotRun where there is no such device."""

    def __init__(self) -> None:
        if "cuda" not in available():
            raise CannotRun("no CUDA device on this machine: run the same command on one that has it")

    @property
    def name(self) -> str:
        """`NVIDIA H100 80GB HBM3`."""
        import torch

        return torch.cuda.get_device_name()

    def reset(self) -> None:
        """Give back what the allocator keeps, and count from here on."""
        import torch

        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

    def peak(self) -> Peak:
        """After everything queued has run."""
        import torch

        torch.cuda.synchronize()
        return Peak(torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved())


# --- words -------------------------------------------------------------------------------------------------------


def size(count: int) -> str:
    """`16 GiB`, `3.21 GiB`, `64 MiB`, or `9 bytes`: three digits."""
    for unit, one in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= one:
            return f"{count / one:.0f} {unit}" if count >= 100 * one else f"{count / one:.3g} {unit}"
    return f"{count} bytes"
