"""This machine, as far as a check needs it: versions, memory, accelerator, cache, access to the hub. No network."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

NEEDED = ("torch", "transformers", "tokenizers", "safetensors", "huggingface_hub", "gguf")


@dataclass(frozen=True)
class MachineCheck:
    """One thing looked at, what was seen, and the command that mends it where it is not sound."""

    name: str
    sound: bool
    seen: str
    mend: str | None = None


def examine() -> tuple[MachineCheck, ...]:
    """Every check, in reading order."""
    return tuple(_checks())


def _checks() -> Iterator[MachineCheck]:
    version = sys.version.split()[0]
    yield MachineCheck("python", sys.version_info >= (3, 11), version, "install Python 3.11 or newer")
    for package in NEEDED:
        yield _package(package)
    yield _memory()
    yield _accelerator()
    yield _cache()
    yield _hub_access()


def _package(name: str) -> MachineCheck:
    try:
        return MachineCheck(name, True, metadata.version(name))
    except metadata.PackageNotFoundError:
        return MachineCheck(name, False, "not installed", f"pip install {name}")


def _memory() -> MachineCheck:
    import psutil

    seen = psutil.virtual_memory()
    return MachineCheck("memory", True, f"{seen.available / 2**30:.1f} GiB free of {seen.total / 2**30:.1f} GiB")


def _accelerator() -> MachineCheck:
    try:
        import torch
    except ImportError as error:
        return MachineCheck(
            "accelerator", False, f"torch does not load: {error}", "pip install --force-reinstall torch"
        )
    if torch.cuda.is_available():
        return MachineCheck("accelerator", True, f"{torch.cuda.get_device_name(0)} x{torch.cuda.device_count()}")
    return MachineCheck("accelerator", True, "none: checks run on the CPU, nothing is measured")


def _cache() -> MachineCheck:
    from wirecheck.snapshot_hub import hub_cache

    folder = hub_cache()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return MachineCheck("hub cache", False, f"{folder}: {error.strerror}", "set HF_HOME to a folder you can write")
    sound = free > 2 * 2**30
    return MachineCheck("hub cache", sound, f"{folder}: {free / 2**30:.1f} GiB free", "set HF_HOME to a larger disk")


def _hub_access() -> MachineCheck:
    from wirecheck.snapshot_hub import is_offline, token_present

    if is_offline():
        return MachineCheck("hub access", True, "offline (HF_HUB_OFFLINE is set)")
    return MachineCheck("hub access", True, "a token is set" if token_present() else "no token: gated models refuse")
