"""A model's files of weights on this disk: which they are, and what each one's header says.

Pickles are listed and never opened; tensor bytes are never read here.
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from wirecheck.safetensors_header import (
    PREFIX_BYTES,
    FileTruncated,
    HeaderError,
    HeaderMalformed,
    TensorEntry,
    header_end,
    is_lfs_pointer,
    parse_header,
)

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLE, PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"

Format = Literal["safetensors", "gguf", "pickle"]
Problem = Literal["missing", "truncated", "lfs-pointer", "malformed"]
_SHARD = re.compile(r"\d-of-\d+\.safetensors$")
DIGEST = re.compile(r"^([0-9a-f]{40}|[0-9a-f]{64})$")
"""git's blob sha1, or a sha256."""
_SHA256_HEX = 64
_CHUNK = 4 * 1024 * 1024
_POINTER_BYTES = 1024
"""A Git LFS pointer is some 130 bytes; a larger file is none."""


@dataclass(frozen=True)
class Listed:
    """One file as the hub lists it."""

    name: str
    size: int | None
    digest: str | None
    """sha256 of a file in LFS, else git's blob sha1; None where the hub tells none."""


@dataclass(frozen=True)
class WeightFile:
    """One file of weights: what it should be, what it is, and what is wrong with it."""

    name: str
    path: Path | None
    """Where its bytes are on this disk; None when only the header was read (hub) or the file is missing."""
    size_bytes: int | None
    format: Format
    tensors: tuple[TensorEntry, ...] = ()
    problem: Problem | None = None
    detail: str = ""
    """For a problem: what was seen, in one sentence."""


@dataclass(frozen=True)
class Checkpoint:
    """The files that `from_pretrained` would open, in the order of their names."""

    names: tuple[str, ...]
    format: Format
    index: str | None = None
    """The index that names them, where there is one."""
    broken: tuple[WeightFile, ...] = ()
    """In place of names: an index that cannot be followed or is not there."""


def is_regular(path: Path) -> bool:
    """Whether it is a file with bytes (a link is followed): no pipe or device, which could block a reader."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def sha256_of(path: Path) -> str:
    """The digest of a file's bytes, which one process reads once while size, times and inode stay. Raises OSError."""
    return _sha256(path, stamp(path))


def stamp(path: Path) -> tuple[int, ...]:
    """What changes with a file's bytes, of a link with those it leads to. Raises OSError.

    The system itself sets the time of change, whoever copies the others.
    """
    seen = path.stat()
    return seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino, seen.st_dev


@lru_cache(maxsize=4096)
def _sha256(path: Path, _stamp: tuple[int, ...]) -> str:
    return _read_sha256(path)


def _read_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_sha1_of(path: Path) -> str:
    """git's name for a file's bytes: sha1 over their number and the bytes. Raises OSError."""
    total = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            total.update(chunk)
    return total.hexdigest()


def digest_like(path: Path, like: str) -> str:
    """sha256 of the file, or git's blob sha1, whichever `like` is, read anew. Raises OSError."""
    return _read_sha256(path) if len(like) == _SHA256_HEX else git_sha1_of(path)


def spelt_outside(name: str) -> bool:
    """Whether a file name, as an index or a listing writes it, is none of a file below the folder."""
    path = PurePosixPath(name)
    return not name or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name


def leaves(name: str, root: Path, fences: Sequence[Path]) -> bool:
    """Whether a file name, as an index writes it, leads out of all `fences`, by its spelling or through a link."""
    if spelt_outside(name):
        return True
    try:
        there = (root / name).resolve()
        return not any(there.is_relative_to(fence.resolve()) for fence in fences)
    except (OSError, RuntimeError, ValueError):  # a link that turns in a circle, a name that no system can spell
        return True


def shards(index_name: str, index: dict[str, Any], format_: Format) -> Checkpoint:
    """The shards an index names."""
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(v, str) for v in weight_map.values()):
        detail = "its weight_map is not an object that gives each tensor a file name"
        return broken_index(index_name, format_, detail)
    if not all(map(_is_text, weight_map.values())):
        return broken_index(index_name, format_, "a file name in its weight_map is not Unicode text")
    return Checkpoint(tuple(sorted(set(weight_map.values()))), format_, index_name)


def _is_text(name: str) -> bool:
    """JSON can spell half of a surrogate pair, which no file is named by and no report can hold."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def broken_index(index_name: str, format_: Format, detail: str, problem: Problem = "malformed") -> Checkpoint:
    """An index that cannot be followed, as the one weight file there is to speak of."""
    return Checkpoint((), format_, index_name, (WeightFile(index_name, None, None, format_, (), problem, detail),))


def without_index(files: Iterable[str]) -> Checkpoint:
    """Where neither a single file nor an index is listed: loose pickles, shards that lost their index, or nothing."""
    files = tuple(files)
    stray = sorted(filter(_SHARD.search, files))
    if stray:
        detail = f"{len(stray)} shards are there (the first is {stray[0]}), the index that joins them is not"
        return broken_index(INDEX, "safetensors", detail, "missing")
    return Checkpoint(tuple(sorted(f for f in files if f.startswith("pytorch_model") and f.endswith(".bin"))), "pickle")


def read_weight_file(name: str, root: Path, found: Checkpoint, *, fences: Sequence[Path]) -> WeightFile:
    """One file below `root`, its header read; a name or link that leads out of `fences` is refused and never opened."""
    if leaves(name, root, fences):
        detail = f"{name!r} leads out of the model's folder and was not read"
        return WeightFile(name, None, None, found.format, problem="malformed", detail=detail)
    path = root / name
    if not is_regular(path):
        why = f"{found.index} names it, and it is not there" if found.index else "it is no regular file"
        return WeightFile(name, None, None, found.format, problem="missing", detail=why)
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_POINTER_BYTES)
        if is_lfs_pointer(head):
            return lfs_pointer(name, path, size, found.format)
        if found.format == "pickle":
            return WeightFile(name, path, size, found.format)
        with suppress(HeaderError):  # told by from_header, which sees the same bytes
            head += file.read(max(0, header_end(head, file_size=size) - len(head)))
    return from_header(name, path, size, head)


def lfs_pointer(name: str, path: Path | None, size: int, format_: Format) -> WeightFile:
    """A file that is only a Git LFS pointer."""
    detail = f"its {size} bytes are a Git LFS pointer, not the weights"
    return WeightFile(name, path, size, format_, problem="lfs-pointer", detail=detail)


def from_header(name: str, path: Path | None, size: int | None, head: bytes) -> WeightFile:
    """A safetensors file from its first bytes, which hold the whole header."""
    try:
        tensors, _ = parse_header(head, file_size=size)
    except HeaderMalformed as error:
        return WeightFile(name, path, size, "safetensors", problem="malformed", detail=str(error))
    except FileTruncated as error:
        return WeightFile(name, path, size, "safetensors", problem="truncated", detail=str(error))
    return WeightFile(name, path, size, "safetensors", tensors)


def header_bytes(file: WeightFile) -> bytes:
    """The header of a safetensors file on disk, for a digest; b"" where there is none to read."""
    if file.path is None or file.format != "safetensors" or file.problem is not None:
        return b""
    with file.path.open("rb") as opened:
        head = opened.read(PREFIX_BYTES)
        return head + opened.read(int.from_bytes(head, "little"))
