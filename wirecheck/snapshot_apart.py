"""Indexes, headers and GGUF metadata are read in a confined child: what they do to their reader, they do to that.

What comes back is plain JSON of names, numbers and words. A child that died, or broke a bound, is told as a file of
weights that cannot be read (WGT04): the reader itself goes on.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from wirecheck import errors
from wirecheck.errors import CouldNotCheck, WirecheckError
from wirecheck.fork_pool import Answered, Limits, NotBegun, in_forks
from wirecheck.safetensors_header import TensorEntry
from wirecheck.snapshot_folder import (
    FolderContent,
    checkpoint,
    digest,
    hub_cache,
    list_files,
    no_links_beside,
    read_folder,
    read_json,
)
from wirecheck.weight_files import INDEX, Checkpoint, WeightFile, broken_index

_CPU_S, _MEMORY = 60.0, 4 * 2**30
LIMITS = Limits(seconds=300.0, cpu_seconds=_CPU_S, data_bytes=_MEMORY, memory_bytes=1 << 46)
"""For the files of one model; a real one takes milliseconds. Mapped files are address space, which has no bound."""
_BY_SIGNAL = {
    "SIGXCPU": f"it took more than {_CPU_S:g} s of processor time",
    "SIGABRT": "it gave up (SIGABRT)",
}


class ReaderDied(Exception):
    """Reading ended the process in which it was done; the message says how."""


def folder_apart(path: Path) -> FolderContent:
    """`snapshot_folder.read_folder` in a child. Raises what that raises."""
    try:
        found = _apart(partial(_folder_told, path))
    except ReaderDied as died:
        return _unread(path, str(died))
    name, commit, files, weights = found
    return FolderContent(name, commit, tuple(files), tuple(map(_weight, weights)))


def weights_apart(read: Callable[[], tuple[WeightFile, ...]], name: str) -> tuple[WeightFile, ...]:
    """What `read` gives, made in a child; `name`: the file that is told as unreadable where the child died."""
    try:
        return tuple(map(_weight, _apart(lambda: [_told(one) for one in read()])))
    except ReaderDied as died:
        return (_lost(name, str(died)),)


def checkpoint_apart(files: Iterable[str], folder: Path) -> Checkpoint:
    """`snapshot_folder.checkpoint` of the files, an index among them read from the folder in a child."""
    listed = tuple(files)

    def told() -> list[Any]:
        found = checkpoint(listed, lambda name: read_json(folder / name))
        return [found.names, found.format, found.index, [_told(one) for one in found.broken]]

    try:
        names, format_, index, broken = _apart(told)
    except ReaderDied as died:
        return broken_index(INDEX, "safetensors", str(died))
    return Checkpoint(tuple(names), format_, index, tuple(map(_weight, broken)))


def gguf_apart(path: Path) -> tuple[str, WeightFile, dict[str, Any] | None, dict[str, str]]:
    """Commit, weights, config and origins of `gguf_file.read_gguf`, read in a child. Raises what that raises."""
    try:
        commit, weights, config, origins = _apart(partial(_gguf_told, path))
    except ReaderDied as died:
        size = path.stat().st_size
        lost = WeightFile(path.name, path, size, "gguf", problem="malformed", detail=str(died))
        return digest(path.parent, (), (lost,)), lost, None, {}
    return commit, _weight(weights), config, origins


def _apart(told: Callable[[], Any]) -> Any:
    """What `told` returns, through JSON. Raises ReaderDied, and WirecheckError's children and OSError as it does."""
    if not hasattr(os, "fork"):
        return json.loads(json.dumps(told()))
    (ended,) = in_forks(["read"], lambda _: _answer(told), jobs=1, limits=LIMITS)
    if isinstance(ended, NotBegun):
        raise CouldNotCheck(ended.why, next_step=ended.next_step)
    if not isinstance(ended, Answered):
        signal = ended.why.rpartition(" ")[2]
        raise ReaderDied(f"reading it ended the process that did: {_BY_SIGNAL.get(signal, ended.why)}")
    answer = json.loads(ended.text)
    match answer:
        case {"found": found}:
            return found
        case {"error": [str(kind), str(message), next_step]}:
            raise getattr(errors, kind)(message, next_step=next_step)
        case {"system": [int(number), str(words)]}:
            raise OSError(number, words)
        case {"memory": True}:
            raise ReaderDied(f"reading it took more than {_MEMORY >> 30} GiB of memory")
    raise ReaderDied(f"reading it failed: {answer.get('crash', 'no answer came')}")


def _answer(told: Callable[[], Any]) -> str:
    """In the child: what was found, or why it was not, as JSON. Half a surrogate pair in a file's name stays one."""
    try:
        return json.dumps({"found": told()})
    except MemoryError:
        return '{"memory": true}'
    except WirecheckError as error:
        return json.dumps({"error": [type(error).__name__, error.message, error.next_step]})
    except OSError as error:
        return json.dumps({"system": [error.errno or 0, error.strerror or type(error).__name__]})
    except BaseException as error:  # noqa: BLE001  # a panic in native code is no Exception; any is told
        return json.dumps({"crash": traceback.format_exception_only(error)[-1].strip()[:300]})


# --- both ways through JSON --------------------------------------------------------------------------------------


def _folder_told(path: Path) -> list[Any]:
    found = read_folder(path)
    return [found.name, found.commit, found.files, [_told(one) for one in found.weights]]


def _gguf_told(path: Path) -> list[Any]:
    from wirecheck.gguf_file import read_gguf

    no_links_beside(path)
    found = read_gguf(path)
    return [found.commit, _told(found.weights), found.config, found.origins]


def _told(file: WeightFile) -> list[Any]:
    path = None if file.path is None else str(file.path)
    tensors = [[one.name, one.dtype, one.shape, one.begin, one.end] for one in file.tensors]
    return [file.name, path, file.size_bytes, file.format, tensors, file.problem, file.detail]


def _weight(told: list[Any]) -> WeightFile:
    name, path, size, format_, tensors, problem, detail = told
    entries = tuple(TensorEntry(one[0], one[1], tuple(one[2]), one[3], one[4]) for one in tensors)
    return WeightFile(name, None if path is None else Path(path), size, format_, entries, problem, detail)


def _lost(name: str, why: str) -> WeightFile:
    return WeightFile(name, None, None, "safetensors", problem="malformed", detail=why)


def _unread(path: Path, why: str) -> FolderContent:
    """A folder whose weights could not be read: which files there are, and that."""
    files, cached = list_files(path), hub_cache(path)
    lost = (_lost("model.safetensors", why),)
    if cached is not None:
        return FolderContent(cached[0], cached[1], files, lost)
    return FolderContent(None, digest(path, files, lost), files, lost)
