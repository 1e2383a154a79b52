"""Weights of one commit into the hub's own cache: room made sure of first, resumed where an earlier run stopped, and
taken for whole only when their sha256 is what the hub lists.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from huggingface_hub import hf_hub_download, hf_hub_url
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import WeakFileLock, build_hf_headers  # type: ignore[attr-defined]  # documented

from wirecheck.disk_room import NOT_TOLD, fallocate
from wirecheck.errors import CouldNotCheck, HubUnreachable, OutputNotWritten
from wirecheck.snapshot_hub import repository_of
from wirecheck.snapshot_hub_calls import together
from wirecheck.snapshot_hub_repository import TIMEOUT_S, Repository
from wirecheck.weight_files import DIGEST, Listed, digest_like, is_regular, spelt_outside

Told = Callable[[int], None]
"""Told how many bytes have come; negative where some are asked for again."""

_SHA256 = 64
_BLOCK = 512
"""Bytes that st_blocks counts in."""
_ROOM_LEFT = 64 * 1024 * 1024
"""Bytes of a disk that are not filled."""


@dataclass(frozen=True)
class Wanted:
    """One file to be fetched: of which repository, at which commit."""

    repository: Repository
    commit: str
    listed: Listed

    @property
    def size(self) -> int:
        """Bytes."""
        return self.listed.size or 0

    @property
    def place(self) -> Path:
        """Where a reader finds it."""
        return self.repository.folder(self.commit) / self.listed.name

    @property
    def blob(self) -> Path:
        """Where the cache keeps its bytes."""
        return self.repository.storage / "blobs" / (self.listed.digest or "")

    @property
    def part(self) -> Path:
        """Where its first bytes wait, if an earlier run stopped. No reader takes it for the file."""
        return self.blob.with_name(f"{self.blob.name}.wirecheck.incomplete")

    @property
    def come(self) -> int:
        """Bytes of it that are there already."""
        try:
            return min(self.part.stat().st_size, self.size)
        except OSError:
            return 0

    @property
    def held(self) -> int:
        """Bytes of the disk that it has already: those that came, and those that were reserved for the others."""
        try:
            seen = self.part.stat()
        except OSError:
            return 0
        return min(max(seen.st_size, getattr(seen, "st_blocks", 0) * _BLOCK), self.size)


def wanted(name: str, commit: str, files: Sequence[Listed]) -> tuple[Wanted, ...]:
    """The files, with their places in the cache. Raises CouldNotCheck where a name or a digest is no such."""
    repository = repository_of(name, commit)
    found = tuple(Wanted(repository, commit, one) for one in files)
    for one in found:
        if one.listed.size is None or not DIGEST.fullmatch(one.listed.digest or ""):
            raise CouldNotCheck(
                f"{name}: the hub lists {one.listed.name} without size or digest, so it cannot be verified",
                next_step="see whether HF_ENDPOINT is a hub or a mirror that tells them",
            )
        if spelt_outside(one.listed.name):
            raise CouldNotCheck(f"{name}: the hub lists {one.listed.name!r}, which leads out of the model's folder")
    return found


def make_room(files: Sequence[Wanted]) -> None:
    """Make sure that the disk, its quota and its inodes take all of it. Raises OutputNotWritten, and holds nothing.

    The blocks are reserved, where the system can: what a quota refuses is refused now, before a byte has come.
    """
    if not files:
        return
    need = sum(one.size - one.held for one in files)
    folder = files[0].repository.cache
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free, inodes = shutil.disk_usage(folder).free, _inodes(folder)
    except OSError as error:
        raise OutputNotWritten(
            f"{folder}: {error.strerror}", next_step="set HF_HOME to a folder you can write"
        ) from None
    if need + _ROOM_LEFT > free:
        raise OutputNotWritten(
            f"{folder}: {need / 1e9:.1f} GB are to come, and {free / 1e9:.1f} GB are free",
            next_step="free some space, or set HF_HOME to a larger disk",
        )
    if inodes is not None and 3 * len(files) > inodes:  # the bytes, the link to them, the lock
        raise OutputNotWritten(
            f"{folder}: no inodes are left for {len(files)} files", next_step="set HF_HOME to another disk"
        )
    held: list[Wanted] = []
    try:
        for one in files:
            if len(one.listed.digest or "") == _SHA256:  # the others the client writes to a file of its own
                held.append(one)
                reserve(one.part, one.size)
    except OSError as error:
        for one in held:
            _release(one.part)
        why = "the quota" if error.errno == errno.EDQUOT else "the disk"
        raise OutputNotWritten(
            f"{folder}: {why} does not take the {need / 1e9:.1f} GB that are to come ({error.strerror})",
            next_step="free some space, or set HF_HOME to another disk",
        ) from None


def _inodes(folder: Path) -> int | None:
    """How many files the disk still takes; None where it does not count them."""
    if not hasattr(os, "statvfs"):
        return None
    seen = os.statvfs(folder)
    return seen.f_favail if seen.f_files else None


def reserve(path: Path, size: int) -> None:
    """Reserve blocks for `size` bytes of a file, whose length stays. Raises OSError where they are refused.

    Nothing is reserved where the system or the file system cannot: there only what is free has been looked at.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        number = fallocate(file.fileno(), size) if size else 0
    if number not in (0, *NOT_TOLD):
        raise OSError(number, os.strerror(number))


def _release(path: Path) -> None:
    """Give back what was reserved beyond the bytes that are there."""
    try:
        size = path.stat().st_size
        if size == 0:
            path.unlink()
        else:
            os.truncate(path, size)
    except OSError:
        return  # nothing was reserved there


def download(files: Sequence[Wanted], told: Told) -> None:
    """Every file into the cache, whole and verified. Raises CouldNotCheck's children; what has come is kept.

    Bytes that several of them share come once.
    """
    blobs = {one.blob: one for one in files}
    together([partial(_come, one, told) for one in blobs.values() if len(one.listed.digest or "") == _SHA256])
    for one in files:
        _put(one)


def _come(one: Wanted, told: Told) -> None:
    """The bytes into the blob. A copy with another digest is asked for once more. Raises HubUnreachable."""
    for attempt in (1, 2):
        try:
            one.repository.ask(partial(_bytes, one, told), one.listed.name, one.size)
        except _Altered:
            if attempt == 2:  # noqa: PLR2004
                raise _altered(one) from None
        else:
            return


class _Altered(Exception):
    """What came has not the digest that the hub lists."""


def _bytes(one: Wanted, told: Told) -> None:
    """From where they stopped, alone; the part gets the blob's name when its digest is right. Raises _Altered."""
    with _alone(one):
        if is_regular(one.blob):
            if verify(one.blob, one.listed):  # another process was first
                one.part.unlink(missing_ok=True)
                return
            one.blob.unlink()
        with one.part.open("r+b" if one.part.exists() else "w+b") as file:
            begin = file.seek(0, os.SEEK_END)
            if begin > one.size:
                begin = file.truncate(0)
            file.seek(begin)
            repository = one.repository
            http_get(
                hf_hub_url(repository.name, one.listed.name, revision=one.commit, endpoint=repository.endpoint),
                _Counted(file, told),  # type: ignore[arg-type]  # of a file it uses write, seek, tell and truncate
                resume_size=begin,
                headers=build_hf_headers(),
                expected_size=one.size,
                displayed_filename=one.listed.name,
            )
        if not verify(one.part, one.listed):
            told(-one.come)
            one.part.unlink(missing_ok=True)
            raise _Altered
        os.replace(one.part, one.blob)  # noqa: PTH105 - one atomic move, by its own name


@contextmanager
def _alone(one: Wanted) -> Iterator[None]:
    """No other process writes to that part meanwhile (where the file system honours locks); it is waited for."""
    lock = one.repository.cache / ".locks" / one.repository.storage.name / f"{one.part.name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    one.part.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):  # as long as the caller's own patience lasts
        yield


def _put(one: Wanted) -> None:
    """The file to its place at the commit, by the client's own way; what lies there already counts if it is right."""
    if not verify(one.place, one.listed):
        one.place.unlink(missing_ok=True)
    one.repository.ask(partial(_link, one), one.listed.name, one.size)
    if not verify(one.place, one.listed):
        one.place.unlink(missing_ok=True)
        raise _altered(one)


def _altered(one: Wanted) -> HubUnreachable:
    return HubUnreachable(
        f"{one.repository.name}: the bytes of {one.listed.name} are not those the hub lists ({one.listed.digest})",
        next_step="try again; a proxy or mirror in between may serve an altered copy",
    )


class _Counted:
    """A file that tells how many bytes are written to it."""

    def __init__(self, file: BinaryIO, told: Told) -> None:
        self._file, self._told = file, told

    def write(self, data: bytes) -> int:
        """As a file's."""
        self._told(len(data))
        return self._file.write(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As a file's."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As a file's."""
        return self._file.tell()

    def truncate(self, size: int | None = None) -> int:
        """As a file's."""
        before = self._file.seek(0, os.SEEK_END)
        after = self._file.truncate(size)
        self._file.seek(min(before, after))
        self._told(after - before)
        return after


def _link(one: Wanted) -> None:
    """The client's own way from the commit to the bytes; what it does not find in the cache it downloads."""
    hf_hub_download(
        one.repository.name,
        one.listed.name,
        revision=one.commit,
        endpoint=one.repository.endpoint,
        cache_dir=one.repository.cache,
        etag_timeout=TIMEOUT_S,
    )


def verify(path: Path, listed: Listed) -> bool:
    """Whether a file on this disk has the bytes that the hub lists: sha256, or for a file outside LFS git's sha1."""
    if not is_regular(path) or path.stat().st_size != listed.size:
        return False
    return digest_like(path, listed.digest or "") == listed.digest
