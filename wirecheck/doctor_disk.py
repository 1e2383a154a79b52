"""The caches: whether their folders can be written, and whether what is still to be fetched fits.

A quota is asked by what it does: the bytes are reserved in a temporary file (fallocate, which writes nothing) and given
back at once.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from wirecheck.devices import size
from wirecheck.disk_room import NOT_TOLD, fallocate
from wirecheck.machine_records import MachineCheck, bad, good

UNKNOWN_BYTES = 2 * 2**30
"""Asked for where no file says what is to be fetched."""
OWN_BYTES = 64 * 2**20
"""wirecheck's own answers: some hundred kB for each pair."""
LEAST_FILES = 1000
"""A model is ten files, each there three times for a moment: a lock, a part, a link."""
_IN_MEMORY = ("tmpfs", "ramfs")
"""What is reserved there is taken from memory at once, and may have a process killed."""


def hub_cache(needed_bytes: int | None, *, offline: bool) -> Iterator[MachineCheck]:
    """The hub's cache. `needed_bytes`: what the listed models still lack there, None where none is listed."""
    from wirecheck.snapshot_hub import hub_cache as its_folder

    folder = its_folder()
    mend = "export HF_HOME=… (a folder you can write, on a disk with room)"
    if offline:
        there = folder.is_dir()
        yield good(
            "hub cache", f"{folder}: {'is there' if there else 'is not there'}; offline, nothing is written to it"
        )
        return
    yield from _folder("hub cache", folder, mend, UNKNOWN_BYTES if needed_bytes is None else needed_bytes)


def own_cache() -> Iterator[MachineCheck]:
    """wirecheck's own cache."""
    from wirecheck.cache_folder import cache_home

    yield from _folder("wirecheck cache", cache_home(), "export WIRECHECK_CACHE=… (a folder you can write)", OWN_BYTES)


def _folder(name: str, folder: Path, mend: str, needed_bytes: int) -> Iterator[MachineCheck]:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        yield bad(name, f"{folder}: {existing} is a file, not a folder", mend)
        return
    try:
        with tempfile.TemporaryFile(dir=existing, prefix=".wirecheck-") as file:
            file.write(b"wirecheck")
            file.flush()
    except OSError as error:
        yield bad(name, f"{folder}: cannot be written: {error.strerror}", mend)
        return
    made = "can be written" if existing == folder else f"is not there, and can be made in {existing}"
    yield good(name, f"{folder}: {made}; {_whose_disk(existing)}")
    yield _room(f"{name}: room", existing, mend, needed_bytes)
    yield _files(f"{name}: files", existing, mend)


def _whose_disk(folder: Path) -> str:
    try:
        same = folder.stat().st_dev == Path.home().stat().st_dev
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        return "no home folder to compare its disk with"
    return "on the disk of the home folder" if same else "on another disk than the home folder"


def _room(name: str, folder: Path, mend: str, needed_bytes: int) -> MachineCheck:
    free = shutil.disk_usage(folder).free
    seen = f"{size(free)} free, {size(needed_bytes)} asked for"
    if free < needed_bytes:
        return bad(name, seen, mend)
    try:
        told = reserved(folder, needed_bytes)
    except OSError as error:
        return bad(name, f"{seen}, and refused: {error.strerror}", mend)
    return good(name, f"{seen}; {told}")


def _files(name: str, folder: Path, mend: str) -> MachineCheck:
    if not hasattr(os, "statvfs"):
        return good(name, "how many more files it may hold is not told by this system")
    told = os.statvfs(folder)
    if told.f_files == 0:
        return good(name, "how many more files it may hold is not told by this file system")
    seen = f"{told.f_favail:,} more may be made"
    return good(name, seen) if told.f_favail >= LEAST_FILES else bad(name, seen, mend)


# --- asking for room ---------------------------------------------------------------------------------------------


def reserved(folder: Path, count: int) -> str:
    """Reserve `count` bytes there and give them back: in words, what came of it. Raises OSError where it is refused."""
    if not sys.platform.startswith("linux"):
        return "quota: not told by this system"
    if _file_system(folder) in _IN_MEMORY:
        return "it lies in memory, so nothing was reserved"
    if count == 0:
        return "nothing to reserve"
    with tempfile.TemporaryFile(dir=folder, prefix=".wirecheck-") as file:
        code = fallocate(file.fileno(), count)
        with suppress(OSError):
            os.ftruncate(file.fileno(), 0)
    if code in NOT_TOLD:
        return "quota: not told by this file system"
    if code != 0:
        raise OSError(code, os.strerror(code))
    return "granted when reserved, and given back"


def _file_system(folder: Path) -> str:
    """The kind that the folder's disk is mounted as; empty where no mount is found."""
    import psutil

    place = folder.resolve()
    mounts = [one for one in psutil.disk_partitions(all=True) if place.is_relative_to(one.mountpoint)]
    return max(mounts, key=lambda one: len(one.mountpoint)).fstype if mounts else ""
