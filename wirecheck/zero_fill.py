"""Which large tensors hold nothing but zero bytes: placeholders, holes in a sparse file. Exact, and quick on holes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from wirecheck.safetensors_header import TensorEntry
from wirecheck.snapshot import Snapshot

LARGE_BYTES, LARGE_SHARE = 1024**2, 1000
"""Smaller than a MiB and than a 1000th of all, a tensor may well be zero by design (a bias, a fresh adapter)."""
_AT_LEAST = 8
_FIRST_READ, _NEXT_READS = 4096, 1024**2


def large_tensors(snapshot: Snapshot) -> Iterator[tuple[Path, TensorEntry]]:
    """The tensors that are judged, with the file on disk they stand in: large ones of two dimensions or more.

    Where none of those is large, the largest eight, whatever their size.
    """
    matrices = [
        (file.path, tensor)
        for file in snapshot.weights
        if file.path is not None and file.problem is None
        for tensor in file.tensors
        if len(tensor.shape) > 1 and tensor.num_bytes
    ]
    least = min(LARGE_BYTES, sum(tensor.num_bytes for tensor in snapshot.tensors.values()) // LARGE_SHARE)
    large = [found for found in matrices if found[1].num_bytes >= least]
    yield from large or sorted(matrices, key=lambda found: -found[1].num_bytes)[:_AT_LEAST]


def zero_filled(snapshot: Snapshot) -> tuple[str, ...]:
    """Names of the large tensors all of whose bytes are zero, in file order. Only files on this disk are read."""
    return tuple(tensor.name for path, tensor in large_tensors(snapshot) if _is_zero(path, tensor))


_FLOAT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_SIGN = 0x80
"""The last byte of minus zero, which a float has that was multiplied by zero."""


def _is_zero(path: Path, tensor: TensorEntry) -> bool:
    """Reads up to the first number that is not zero; holes of a sparse file are stepped over."""
    begin, end, width = tensor.begin, tensor.end, _FLOAT_BYTES.get(tensor.dtype, 0)
    size = _FIRST_READ
    with path.open("rb", buffering=0) as file:
        position = _next_data(file.fileno(), begin)
        while position < end:
            file.seek(position)
            chunk = file.read(min(size, end - position))
            if not chunk or not _all_zeros(chunk, (position - begin) % width if width else 0, width):
                return False  # an end of file before `end` is no proof of zeros
            size = _NEXT_READS
            position = _next_data(file.fileno(), position + len(chunk))
    return True


def _all_zeros(chunk: bytes, offset: int, width: int) -> bool:
    """Whether every number is zero, of either sign. `offset`: of the first byte in its number; width 0: no float."""
    zeros = chunk.count(0)
    if zeros == len(chunk) or not width:
        return zeros == len(chunk)
    signs = chunk[(width - 1 - offset) % width :: width]
    return zeros + signs.count(_SIGN) == len(chunk)


def _next_data(descriptor: int, position: int) -> int:
    """The next byte at or after `position` that is not in a hole; past every tensor where only a hole is left."""
    seek_data = getattr(os, "SEEK_DATA", None)
    if seek_data is None:
        return position
    try:
        return os.lseek(descriptor, position, seek_data)
    except OSError as error:
        if error.errno == errno.ENXIO:  # no data after it
            return os.fstat(descriptor).st_size
        return position  # a file system without holes
