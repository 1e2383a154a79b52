"""The files of one commit of one model, read once: from the hub, from a folder, from a GGUF file.

After a `Snapshot` is made no probe touches the network. huggingface_hub is imported in `snapshot_hub` alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from wirecheck.errors import ModelNotFound, UsageError
from wirecheck.safetensors_header import TensorEntry
from wirecheck.snapshot_apart import folder_apart, gguf_apart
from wirecheck.snapshot_folder import JsonUnreadable, TextUnreadable, list_files, read_json, read_text
from wirecheck.weight_files import Listed, WeightFile

__all__ = ["JsonUnreadable", "ModelRef", "Snapshot", "TextUnreadable", "WeightFile", "parse_ref", "take"]

_HUB_ID = re.compile(r"^[\w.-]+(/[\w.-]+)?$", re.ASCII)
_SHOWN_TEXT = 80
"""Characters of what the user typed that an error repeats."""
_SHOWN_HEX = 12
"""Hex digits of a commit or digest that a source shows."""


def short(commit: str) -> str:
    """A commit or digest as long as sources show it."""
    prefix, colon, digits = commit.rpartition(":")
    return f"{prefix}{colon}{digits[:_SHOWN_HEX]}"


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
class Snapshot:
    """The files of one commit. `folder` holds the metadata files; weights may be there or not."""

    ref: ModelRef
    commit: str
    """Commit on the hub; for a folder or GGUF file, `sha256:…` over what was read."""
    folder: Path
    files: tuple[str, ...]
    """Every file name the repository lists (hub), or the folder holds; posix, relative."""
    weights: tuple[WeightFile, ...]
    made: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    """For a GGUF file: JSON files that stand for its metadata, by name (`config.json`)."""
    origins: Mapping[str, str] = field(default_factory=dict, hash=False)
    """For a GGUF file: the metadata key that each key of the made config comes from."""
    listed: tuple[Listed, ...] = ()
    """For a repository of the hub that was asked: its files, with the digests that the hub gives."""

    def has(self, name: str) -> bool:
        """Whether the repository holds that file (for a GGUF file: or its metadata stand for it)."""
        return name in self.made or name in self.files

    def read_text(self, name: str) -> str:
        """A metadata file as text. Raises TextUnreadable."""
        return read_text(self.folder / self._held(name))

    def read_json(self, name: str) -> dict[str, Any]:
        """A metadata file as a JSON object. Raises JsonUnreadable."""
        if name in self.made:
            return dict(self.made[name])
        try:
            held = self._held(name)
        except TextUnreadable as error:
            raise JsonUnreadable(str(error)) from None
        return read_json(self.folder / held)

    def source(self, name: str, key: str | None = None) -> str:
        """`name@commit#key`, for an Evidence; where the file is made from GGUF metadata, the GGUF file and its key."""
        if name in self.made and self.ref.path is not None:
            name, key = self.ref.path.name, self.origins.get(key or "", key)
        return f"{name}@{short(self.commit)}" + (f"#{key}" if key else "")

    @cached_property
    def tensors(self) -> dict[str, TensorEntry]:
        """Every tensor of every readable weight file, by name."""
        return {tensor.name: tensor for file in self.weights for tensor in file.tensors}

    @property
    def weights_on_disk(self) -> bool:
        """Whether every weight file is whole and on this disk."""
        return bool(self.weights) and all(f.path is not None and f.problem is None for f in self.weights)

    def _held(self, name: str) -> str:
        if name not in self.files:
            raise TextUnreadable(f"{name} is not there")
        return name


def parse_ref(text: str) -> ModelRef:
    """A folder, a `.gguf` file, or a hub id with an optional `@revision`. Raises UsageError, ModelNotFound.

    A folder wins over the hub where it is there, or where the text is spelt as a path (`./`, `../`, `/`, `~`).
    """
    if not text.strip() or not text.isprintable():
        raise UsageError(f"{text!r} names no model", next_step="give org/name, a folder, or a .gguf file")
    path = Path(os.path.expanduser(text))  # noqa: PTH111  # Path.expanduser raises for an unknown user
    try:
        is_folder = path.is_dir()
    except OSError as error:  # a name past the system's limit, a folder that may not be entered
        shown = text if len(text) <= _SHOWN_TEXT else text[:_SHOWN_TEXT] + "…"
        raise ModelNotFound(
            f"{shown} cannot be looked at: {error.strerror}", next_step="check the name, and who may enter its folder"
        ) from None
    if is_folder:
        return ModelRef(text, "folder", path.absolute().resolve().name, path)
    if text.lower().endswith(".gguf"):
        return ModelRef(text, "gguf", path.name, path)
    name, at, revision = text.partition("@")
    spelt_as_path = text.startswith((".", "/", "~")) or path.is_file() or not _HUB_ID.match(name)
    if "://" in text:
        raise UsageError(f"{text} is an address, not a model's id", next_step="give the id alone: org/name")
    if spelt_as_path:
        return ModelRef(text, "folder", path.name, path)
    if at and (not revision or ".." in revision):
        raise UsageError(f"{text}: what stands after the @ is no revision", next_step=f"give {name}, or {name}@main")
    return ModelRef(text, "hub", name, revision=revision or None)


def take(ref: ModelRef, *, offline: bool = False) -> Snapshot:
    """Read a model's snapshot. Raises CouldNotCheck's children."""
    try:
        match ref.kind:
            case "hub":
                return _take_hub(ref, offline=offline)
            case "gguf":
                return _take_gguf(ref)
            case "folder":
                return _take_folder(ref)
    except OSError as error:
        raise ModelNotFound(
            f"{ref.text} cannot be read: {error.strerror or type(error).__name__}",
            next_step="check who may read its files",
        ) from error


def _take_folder(ref: ModelRef) -> Snapshot:
    assert ref.path is not None
    path = ref.path
    if path.is_file():
        step = f"give its folder: {path.parent}" if path.suffix else "give a folder"
        raise ModelNotFound(f"{ref.text} is a file, neither a folder nor a .gguf file", next_step=step)
    if not path.is_dir():
        raise ModelNotFound(f"there is no folder {ref.text}", next_step="check the path, or give a hub id: org/name")
    names = list_files(path)
    ggufs = [name for name in names if name.lower().endswith(".gguf")]
    if ggufs and "config.json" not in names and not any(name.endswith(".safetensors") for name in names):
        if len(ggufs) > 1:
            raise ModelNotFound(
                f"{ref.text} holds {len(ggufs)} GGUF files", next_step=f"name one of them: {path / ggufs[0]}"
            )
        return _take_gguf(ModelRef(ref.text, "gguf", ggufs[0], path / ggufs[0]))
    content = folder_apart(path)
    if content.name is not None:
        ref = ModelRef(ref.text, "folder", content.name, path)
    return Snapshot(ref, content.commit, path, content.files, content.weights)


def _take_gguf(ref: ModelRef) -> Snapshot:
    assert ref.path is not None
    if not ref.path.is_file():
        raise ModelNotFound(f"there is no file {ref.text}", next_step="check the path")
    commit, weights, config, origins = gguf_apart(ref.path)
    made = {} if config is None else {"config.json": config}
    return Snapshot(ref, commit, ref.path.parent, (ref.path.name,), (weights,), made=made, origins=origins)


def _take_hub(ref: ModelRef, *, offline: bool) -> Snapshot:
    from wirecheck.snapshot_hub import fetch

    content = fetch(ref.name, ref.revision, offline=offline)
    return Snapshot(ref, content.commit, content.folder, content.files, content.weights, listed=content.listed)
