"""The files of one model in a folder: which are metadata, which are weights, and one digest over what was read."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from wirecheck.errors import CouldNotCheck, ModelNotFound
from wirecheck.weight_files import (
    INDEX,
    PICKLE,
    PICKLE_INDEX,
    SINGLE,
    Checkpoint,
    Format,
    WeightFile,
    broken_index,
    header_bytes,
    is_regular,
    leaves,
    read_weight_file,
    shards,
    without_index,
)

METADATA = (
    *("config.json", "generation_config.json", "special_tokens_map.json", "added_tokens.json", "*.index.json"),
    *("tokenizer*", "vocab.json", "vocab.txt", "merges.txt", "*.tiktoken", "spiece.model", "tekken.json"),
    *("chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja", "*.py"),
    *("*.model", "*.spm", "vocab.bpe", "bpe.codes", "normalizer.json", "adapter_config.json"),
)
"""What is read beside the weights. Code (`*.py`) is copied and hashed with the rest, and not executed."""

_MIB = 1024**2
MAX_TEXT_BYTES = 32 * _MIB
MAX_TOKENIZER_BYTES = 256 * _MIB
MAX_CONFIG_BYTES = 4 * _MIB
"""Of a config, which probes read again and again; the largest real ones, with lists of quantized layers, are 300 kB."""
MAX_JSON_DEPTH = 100
_TEMPLATES = "additional_chat_templates"
_HUB_CACHE = re.compile(r"^models--(?P<name>.+)$")
COMMIT = re.compile(r"^[0-9a-f]{40}\Z")


class TextUnreadable(ValueError):
    """A metadata file that is absent, no regular file, too large, or not UTF-8."""


class JsonUnreadable(ValueError):
    """A JSON file that is absent, too large, not JSON, not an object, or nested past reason."""


@dataclass(frozen=True)
class FolderContent:
    """What one folder holds: the parts of a Snapshot that come from the disk."""

    name: str | None
    """The repository's id, where the folder is one of the hub's cache."""
    commit: str
    files: tuple[str, ...]
    weights: tuple[WeightFile, ...]


def is_metadata(name: str) -> bool:
    """Whether a file is read beside the weights."""
    return any(fnmatchcase(name, pattern) and name.count("/") == pattern.count("/") for pattern in METADATA)


def max_bytes(name: str) -> int:
    """The size past which a metadata file is not read."""
    if name in ("config.json", "generation_config.json"):
        return MAX_CONFIG_BYTES
    return MAX_TOKENIZER_BYTES if name.startswith(("tokenizer", "tekken")) else MAX_TEXT_BYTES


def read_text(path: Path) -> str:
    """A metadata file as UTF-8 text. Raises TextUnreadable."""
    if not is_regular(path):
        raise TextUnreadable(f"{path.name} is not there, or is no regular file")
    size, limit = path.stat().st_size, max_bytes(path.name)
    if size > limit:
        raise TextUnreadable(f"{path.name} has {size} bytes, more than the {limit} that are read")
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise TextUnreadable(f"{path.name} is not UTF-8: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise TextUnreadable(f"{path.name} cannot be read: {error.strerror}") from None


def read_json(path: Path) -> dict[str, Any]:
    """A metadata file as a JSON object. Raises JsonUnreadable."""
    try:
        found = json.loads(read_text(path))
    except RecursionError:
        raise JsonUnreadable(f"{path.name} is nested past reason") from None
    except TextUnreadable as error:
        raise JsonUnreadable(str(error)) from None
    except ValueError as error:
        raise JsonUnreadable(f"{path.name} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise JsonUnreadable(f"{path.name} holds a JSON {type(found).__name__}, not an object")
    if _deeper_than(found, MAX_JSON_DEPTH):
        raise JsonUnreadable(f"{path.name} is nested past reason: deeper than {MAX_JSON_DEPTH} levels")
    return found


def _deeper_than(value: Any, limit: int) -> bool:
    layer = [value]
    for _ in range(limit):
        layer = [
            inner
            for outer in layer
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not layer:
            return False
    return True


_LOADED = (
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".h5",
    ".msgpack",
    ".gguf",
    ".json",
    ".jinja",
    ".py",
    ".model",
    ".spm",
)


def may_be_loaded(name: str) -> bool:
    """Whether some loader could take a file for part of a model, though the ones here do not."""
    return is_metadata(name) or name.lower().endswith(_LOADED)


def list_all(folder: Path) -> tuple[str, ...]:
    """As `list_files`, with the code in folders below, which a repository's own classes may import. Raises OSError."""
    below = [path.relative_to(folder).as_posix() for path in folder.glob("*/**/*.py")]
    return tuple(sorted({*list_files(folder), *below}))


def list_files(folder: Path) -> tuple[str, ...]:
    """The folder's own files and its additional chat templates, posix and sorted. Raises OSError."""
    own = [entry.name for entry in folder.iterdir() if not entry.is_dir()]
    templates = [f"{_TEMPLATES}/{entry.name}" for entry in (folder / _TEMPLATES).glob("*.jinja")]
    return tuple(sorted(own + templates))


def checkpoint(files: Iterable[str], read_index: Callable[[str], dict[str, Any]]) -> Checkpoint:
    """Which of the listed files hold the weights, in the order `from_pretrained` looks for them.

    `read_index` gives an index as an object, or raises JsonUnreadable.
    """
    files = frozenset(files)
    kinds: tuple[tuple[str, str, Format], ...] = ((SINGLE, INDEX, "safetensors"), (PICKLE, PICKLE_INDEX, "pickle"))
    for single, index, format_ in kinds:
        if single in files:
            return Checkpoint((single,), format_)
        if index in files:
            try:
                return shards(index, read_index(index), format_)
            except JsonUnreadable as error:
                return broken_index(index, format_, str(error))
    return without_index(files)


def read_weights(folder: Path, files: Iterable[str], *, fences: Sequence[Path]) -> tuple[WeightFile, ...]:
    """Every file of weights, its header read; `fences` are the folders that no name or link may leave."""
    found = checkpoint(files, lambda name: read_json(folder / name))
    return found.broken + tuple(read_weight_file(name, folder, found, fences=fences) for name in found.names)


def hub_cache(folder: Path) -> tuple[str, str, Path] | None:
    """For a snapshot in the hub's cache: repository id, commit, and the repository's folder in the cache."""
    folder = folder.resolve()  # people link a snapshot into their own folders
    if folder.parent.name != "snapshots" or not COMMIT.match(folder.name):
        return None
    match = _HUB_CACHE.match(folder.parent.parent.name)
    return None if match is None else (match["name"].replace("--", "/", 1), folder.name, folder.parent.parent)


def fences_of(storage: Path) -> tuple[Path, Path]:
    """Where the files of a repository in the hub's cache lie: its own folder, and the store that all of them share.

    huggingface_hub 2 keeps what came by Xet once, in `blobs` of the cache, and links to it.
    """
    return storage, storage.parent / "blobs"


def digest(folder: Path, files: Iterable[str], weights: Iterable[WeightFile]) -> str:
    """`sha256:…` over names, sizes and contents of the metadata, and names, sizes and headers of the weights."""
    total = hashlib.sha256()
    for name in sorted(files):
        if is_metadata(name) and is_regular(folder / name):
            _add(total, name, (folder / name).stat().st_size, _content(folder / name))
    for file in sorted(weights, key=lambda f: f.name):
        _add(total, file.name, -1 if file.size_bytes is None else file.size_bytes, header_bytes(file))
    return f"sha256:{total.hexdigest()}"


def _add(total: hashlib._Hash, name: str, size: int, content: bytes) -> None:
    total.update(f"{name}\0{size}\0".encode("utf-8", "surrogateescape") + hashlib.sha256(content).digest())


def _content(path: Path) -> bytes:
    """At most what a reader would read: a file past the bound counts by its first bytes and its size."""
    with path.open("rb") as file:
        return file.read(min(max_bytes(path.name), path.stat().st_size))  # what is asked for is set aside first


def _within(folder: Path, files: Iterable[str], fences: Sequence[Path]) -> None:
    """Raise CouldNotCheck where a metadata file is a link out of `fences`: the library would read what it leads to.

    Its text would stand in the report, though it may be a secret of whoever runs the check.
    """
    for name in filter(is_metadata, files):
        if leaves(name, folder, fences):
            raise CouldNotCheck(
                f"{folder / name} leads out of the model's folder and was not read",
                next_step="put the file itself there in place of the link",
            )


def no_links_beside(path: Path) -> None:
    """Raise CouldNotCheck where a metadata file beside a GGUF file leads elsewhere: transformers reads those, too."""
    folder = path.parent
    cached = hub_cache(folder)
    _within(folder, list_files(folder), (folder,) if cached is None else fences_of(cached[2]))


def read_folder(folder: Path) -> FolderContent:
    """Everything one folder of a model holds.

    Raises ModelNotFound where it holds nothing of a model, CouldNotCheck where a file of it is a link elsewhere.
    """
    files = list_files(folder)
    if not any(is_metadata(name) or name.endswith((".safetensors", ".bin")) for name in files):
        raise ModelNotFound(
            f"{folder} holds no file of a model", next_step="name the folder that holds config.json and the weights"
        )
    cached = hub_cache(folder)
    fences = (folder,) if cached is None else fences_of(cached[2])
    _within(folder, files, fences)
    weights = read_weights(folder, files, fences=fences)
    if cached is not None:
        return FolderContent(cached[0], cached[1], files, weights)
    return FolderContent(None, digest(folder, files, weights), files, weights)
