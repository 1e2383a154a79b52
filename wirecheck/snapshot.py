"""The files of one commit of one model, read once: from the hub, from a folder, from a GGUF file.

After a `Snapshot` is made no probe touches the network. The sole importer of huggingface_hub.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from wirecheck.safetensors_header import TensorEntry


@dataclass(frozen=True)
class ModelRef:
    """What the user typed, taken apart."""

    text: str
    kind: Literal["hub", "folder", "gguf"]
    name: str
    """Repository id, or the last part of the path."""
    path: Path | None = None
    """The folder or GGUF file."""
    revision: str | None = None
    """The revision asked for, for a hub id."""


@dataclass(frozen=True)
class WeightFile:
    """One file of weights: what it should be, what it is, and what is wrong with it."""

    name: str
    path: Path | None
    """Where its bytes are on this disk; None when only the header was read (hub) or the file is missing."""
    size_bytes: int | None
    format: Literal["safetensors", "gguf", "pickle"]
    tensors: tuple[TensorEntry, ...] = ()
    problem: Literal["missing", "truncated", "lfs-pointer", "malformed"] | None = None
    detail: str = ""
    """For a problem: what was seen, in one sentence."""


class JsonUnreadable(ValueError):
    """A JSON file that is absent, too large, not JSON, not an object, or nested past reason."""


@dataclass(frozen=True)
class Snapshot:
    """The files of one commit. `folder` holds the metadata files; weights may be there or not."""

    ref: ModelRef
    commit: str
    """Commit on the hub; for a folder or GGUF file, `sha256:…` over what was read."""
    folder: Path
    files: tuple[str, ...]
    """Every file name the repository lists (hub), or the folder holds; posix, relative."""
    weights: tuple[WeightFile, ...]

    def has(self, name: str) -> bool: ...

    def read_text(self, name: str) -> str: ...

    def read_json(self, name: str) -> dict[str, Any]: ...

    def source(self, name: str, key: str | None = None) -> str:
        """`name@commit#key`, for an Evidence."""
        ...

    @property
    def tensors(self) -> dict[str, TensorEntry]: ...

    @property
    def weights_on_disk(self) -> bool: ...


def parse_ref(text: str) -> ModelRef: ...


def take(ref: ModelRef, *, offline: bool = False) -> Snapshot:
    """Read a model's snapshot. Raises CouldNotCheck's children."""
    ...
