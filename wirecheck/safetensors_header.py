"""From the first bytes of a safetensors file to the table of its tensors. Pure: bytes in, table or error out.

Layout: 8 bytes N (little-endian), N bytes of JSON, then the tensors' bytes without gap or overlap
(https://github.com/huggingface/safetensors, README, "Format").
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

PREFIX_BYTES = 8
"""The length field in front of the JSON."""
MAX_HEADER_BYTES = 100_000_000
"""safetensors' own limit on N."""
LFS_MAGIC = b"version https://git-lfs.github.com/spec/"
"""What a Git LFS pointer file begins with."""

MOST_ELEMENTS = 2**64 - 1
"""The largest size, position and product of sizes: safetensors counts in 64 bits."""
MOST_DIMENSIONS = 64
"""Of one tensor: numpy's limit, and more than torch prints."""

_METADATA_KEY = "__metadata__"
_SHOWN_NAME = 120
"""Characters of a name that a message repeats."""
_DTYPE_BITS = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}


class HeaderError(ValueError):
    """The file is not a whole, well-formed safetensors file; the message says where."""


class HeaderMalformed(HeaderError):
    """The header is not what the safetensors format allows; the message says where."""


class FileTruncated(HeaderError):
    """The file's size is not what its own header declares: mostly it ends before, sometimes it goes on behind."""


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor as its file declares it."""

    name: str
    dtype: str
    """safetensors' own name: F32, BF16, F16, F8_E4M3, I8, …; for GGUF ggml's (Q4_K, …)."""
    shape: tuple[int, ...]
    begin: int
    """First byte, counted from the start of the file."""
    end: int
    """One past the last byte."""

    @property
    def num_bytes(self) -> int:
        """Size on file."""
        return self.end - self.begin

    @property
    def num_elements(self) -> int:
        """Product of the shape; 1 for a scalar."""
        product = 1
        for size in self.shape:
            product *= size
        return product


def is_lfs_pointer(head: bytes) -> bool:
    """Whether a file that begins with `head` is a Git LFS pointer and not the file it stands for."""
    return head.startswith(LFS_MAGIC)


def header_end(head: bytes, *, file_size: int | None = None) -> int:
    """Bytes from the start of the file to the end of its header, from its first 8 bytes.

    Raises FileTruncated where the file is shorter than that, HeaderMalformed past safetensors' limit.
    """
    if len(head) < PREFIX_BYTES:
        raise FileTruncated(f"{len(head)} bytes: shorter than the {PREFIX_BYTES} bytes of the header's length")
    declared = int.from_bytes(head[:PREFIX_BYTES], "little")
    if declared > MAX_HEADER_BYTES:
        raise HeaderMalformed(f"the header says it has {declared} bytes, the limit is {MAX_HEADER_BYTES}")
    end = PREFIX_BYTES + declared
    if file_size is not None and end > file_size:
        raise FileTruncated(f"the header ends at byte {end}, the file at {file_size}")
    return end


def parse_header(head: bytes, *, file_size: int | None) -> tuple[tuple[TensorEntry, ...], dict[str, str]]:
    """The tensors in order of their bytes, and the file's own string metadata.

    `head` holds at least the whole header; `file_size` is compared with the last offset (None: it is not known).
    Raises HeaderMalformed or FileTruncated.
    """
    data_begin = header_end(head, file_size=file_size)
    if len(head) < data_begin:
        raise FileTruncated(f"the header ends at byte {data_begin}, {len(head)} bytes were given")
    table = _decode(head[PREFIX_BYTES:data_begin])
    metadata = _metadata(table.pop(_METADATA_KEY, None))
    entries = [_entry(name, raw, data_begin) for name, raw in table.items()]
    entries.sort(key=lambda entry: (entry.begin, entry.end, entry.name))
    _check_layout(entries, data_begin, file_size)
    return tuple(entries), metadata


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise HeaderMalformed(f"{key!r} stands twice in the header")
        found[key] = value
    return found


def _no_constant(text: str) -> Any:
    raise HeaderMalformed(f"{text} is not JSON")


def _decode(raw: bytes) -> dict[str, Any]:
    try:
        table = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except HeaderMalformed:
        raise
    except RecursionError:
        raise HeaderMalformed("the header's JSON is nested past reason") from None
    except ValueError as error:
        raise HeaderMalformed(f"the header is not UTF-8 JSON: {error}") from None
    if not isinstance(table, dict):
        raise HeaderMalformed(f"the header is a JSON {type(table).__name__}, not an object")
    return table


def _metadata(raw: Any) -> dict[str, str]:
    if raw is None:
        return {}
    if not isinstance(raw, dict) or not all(isinstance(value, str) for value in raw.values()):
        raise HeaderMalformed(f"{_METADATA_KEY} is not an object of strings")
    return raw


def _is_count(value: Any) -> bool:
    """JSON's `true` is a Python int: it is none here, and neither is a number that 64 bits do not hold."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_ELEMENTS


def _shown(text: str) -> str:
    """A stranger's name in a message of one line: whole where it can be printed and is no novel."""
    cut = text if len(text) <= _SHOWN_NAME else text[: _SHOWN_NAME - 1] + "…"
    return cut if cut.isprintable() else repr(cut)


def _entry(tensor: str, raw: Any, data_begin: int) -> TensorEntry:
    name = _shown(tensor)
    try:
        tensor.encode("utf-8")
    except UnicodeEncodeError:
        raise HeaderMalformed(f"the tensor name {name} is not Unicode text") from None
    if not isinstance(raw, dict):
        raise HeaderMalformed(f"{name}: its entry is not an object")
    dtype, shape, offsets = raw.get("dtype"), raw.get("shape"), raw.get("data_offsets")
    if not isinstance(dtype, str) or not dtype:
        raise HeaderMalformed(f"{name}: its dtype is not a string")
    if not isinstance(shape, list) or not all(map(_is_count, shape)):
        raise HeaderMalformed(f"{name}: its shape is not a list of sizes")
    _check_size(name, shape)
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_count, offsets)):  # noqa: PLR2004
        raise HeaderMalformed(f"{name}: its data_offsets are not two byte positions")
    begin, end = offsets
    if begin > end:
        raise HeaderMalformed(f"{name}: begins at byte {begin}, ends before it at {end}")
    entry = TensorEntry(tensor, dtype, tuple(shape), data_begin + begin, data_begin + end)
    bits = _DTYPE_BITS.get(dtype)
    # A dtype newer than this table is no error: its bytes still count, from the offsets.
    if bits is not None and entry.num_elements * bits != entry.num_bytes * 8:
        raise HeaderMalformed(f"{name}: {entry.num_bytes} bytes cannot hold {_shown(dtype)} of shape {list(shape)}")
    return entry


def _check_size(name: str, shape: list[int]) -> None:
    """As safetensors does, in the order of the dimensions: a product past 64 bits is no size, whatever follows."""
    if len(shape) > MOST_DIMENSIONS:
        raise HeaderMalformed(f"{name}: has {len(shape)} dimensions, the limit is {MOST_DIMENSIONS}")
    product = 1
    for size in shape:
        product *= size
        if product > MOST_ELEMENTS:
            raise HeaderMalformed(f"{name}: its shape {shape} has more elements than 64 bits count")


def _check_layout(entries: list[TensorEntry], data_begin: int, file_size: int | None) -> None:
    """Tensors in order of their bytes must follow each other exactly, and fill the file."""
    end = data_begin
    for entry in entries:
        if entry.begin != end:
            kind = "overlaps the one before it" if entry.begin < end else "leaves a gap before it"
            raise HeaderMalformed(f"{_shown(entry.name)}: begins at byte {entry.begin}, {kind}, which ends at {end}")
        end = entry.end
    if file_size is None or end == file_size:
        return
    if end > file_size:
        raise FileTruncated(f"the tensors end at byte {end}, the file at {file_size}")
    raise FileTruncated(f"the tensors end at byte {end}, the file holds {file_size - end} more")
