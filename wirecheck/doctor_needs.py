"""Which packages a model's tokenizer files and its code need: read from their bytes, nothing of them is run."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import NamedTuple

from wirecheck.safetensors_header import is_lfs_pointer
from wirecheck.snapshot import JsonUnreadable, Snapshot, TextUnreadable
from wirecheck.weight_files import is_regular

_HEAD_BYTES = 4096
_TIKTOKEN = re.compile(rb"^[A-Za-z0-9+/]+={0,2} \d+\r?\n")
"""A tiktoken file: on each line a token in base64 and its rank."""
_SENTENCEPIECE = (0x0A, 0x12, 0x1A, 0x22, 0x2A)
"""First bytes of a SentencePiece model, a protobuf: the tags of its fields 1 to 5."""
_MODULES = {"protobuf": "google.protobuf", "mistral-common": "mistral_common"}
"""Packages whose module has another name."""


class Needs(NamedTuple):
    """What was read, and what it comes to."""

    seen: str
    lacking: tuple[str, ...] = ()
    """Packages to install."""
    mend: str | None = None
    """For files that cannot be told: what to do."""


_TEKKEN = "tekken.json"
_AGAIN = "fetch that file again: hf download, or git lfs pull"
_NOTHING = Needs("no file that takes another package")


def of_tokenizer(found: Snapshot) -> Needs:
    """The packages without which transformers makes no tokenizer of the files."""
    if found.ref.kind == "gguf":
        return Needs("made from the GGUF file's metadata, which takes no other package")
    if found.has("tokenizer.json"):
        return Needs("tokenizer.json, which takes no other package")
    if found.has(_TEKKEN):
        return _of_tekken(found)
    names = [name for name in found.files if name.endswith((".model", ".tiktoken")) and "/" not in name]
    return _by_bytes(found, min(names, key=lambda one: (one != "tokenizer.model", one))) if names else _NOTHING


def _of_tekken(found: Snapshot) -> Needs:
    """transformers reads it by itself where it lists its special tokens; an older one it does not."""
    try:
        lists_its_own = "special_tokens" in found.read_json(_TEKKEN)
    except JsonUnreadable as error:
        return Needs(str(error), mend=_AGAIN)
    return _with(_TEKKEN, () if lists_its_own else ("mistral-common",))


def _by_bytes(found: Snapshot, name: str) -> Needs:
    """What kind of file it is, whatever its name."""
    path = found.folder / name
    if not is_regular(path):
        return Needs(f"{name} is listed, and is not on this disk", mend=_AGAIN)
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if is_lfs_pointer(head):
        return Needs(f"{name} is a Git LFS pointer, not the tokenizer", mend="git lfs pull")
    if _TIKTOKEN.match(head):
        return _with(f"{name}, a tiktoken file", ("tiktoken",))
    if head[:1] and head[0] in _SENTENCEPIECE:
        return _with(f"{name}, a SentencePiece model, and no tokenizer.json", ("sentencepiece", "protobuf"))
    return Needs(f"{name} is neither a SentencePiece model nor a tiktoken file", mend=_AGAIN)


def of_code(found: Snapshot) -> Needs:
    """The packages that the repository's own code imports, unless it does so on a condition or catches the failure."""
    asked: set[str] = set()
    files = [name for name in found.files if name.endswith(".py") and "/" not in name]
    for name in files:
        try:
            asked |= set(_imports(ast.parse(found.read_text(name)).body))
        except (TextUnreadable, SyntaxError, ValueError, RecursionError) as error:
            return Needs(f"{name} cannot be read: {error}", mend=_AGAIN)
    own = {name.removesuffix(".py") for name in files}
    return _with(f"{len(files)} Python files of the repository", sorted(asked - own - sys.stdlib_module_names))


def _imports(body: Iterable[ast.stmt]) -> Iterator[str]:
    """Top-level names of the modules imported by these statements and by what they always lead to."""
    for node in body:
        match node:
            case ast.Import():
                yield from (alias.name.partition(".")[0] for alias in node.names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module.partition(".")[0]
            case ast.ClassDef() | ast.With():
                yield from _imports(node.body)


def _with(seen: str, packages: Iterable[str]) -> Needs:
    needed = tuple(packages)
    takes = f"takes {', '.join(needed)}" if needed else "takes no other package"
    return Needs(f"{seen}: {takes}", tuple(name for name in needed if not importable(_MODULES.get(name, name))))


def importable(module: str) -> bool:
    """Whether that module would be found; it is not imported, but for the packages above it."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # the package above is not there; a module made by hand
        return False
