"""What a model is, to the byte; what a result comes to, as a digest; and what has moved since. Prints nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from wirecheck.errors import CouldNotCheck
from wirecheck.lock_records import Lock, LockCheck, LockedFile, LockedModel, LockedModelNow, LockedResult, Moved, Part
from wirecheck.probes.lock import installed, read_of, there
from wirecheck.runner import environment
from wirecheck.schema import LockedSide, PairResult, Pin
from wirecheck.snapshot import JsonUnreadable, Snapshot
from wirecheck.weight_files import sha256_of

_SHA256 = 64
"""Hex digits."""
_HARMLESS = ("_name_or_path", "name_or_path")
"""Keys that say where a file was made, and of which nothing is loaded."""
_NAMED = 6


# --- what is locked ----------------------------------------------------------------------------------------------


def versions() -> tuple[tuple[str, str], ...]:
    """Python and every package that a result depends on, with its version here."""
    seen = environment()
    return (("python", seen.python), *seen.packages)


def lock_model(name: str, ident: str, revision: str | None, snapshot: Snapshot) -> LockedModel:
    """Every file that is read of a model with its digest. Raises CouldNotCheck where one is not whole.

    The digest of weights that the hub keeps is its own; that of every other file is of the bytes on this disk.
    """
    broken = next((file for file in snapshot.weights if file.problem is not None), None)
    if broken is not None:
        raise CouldNotCheck(
            f"{name}: {broken.name} cannot be locked: {broken.problem}: {broken.detail}",
            next_step=f"wirecheck model {ident} says what is wrong",
        )
    read = read_of(snapshot)
    return LockedModel(
        name=name,
        id=ident,
        revision=revision,
        kind=snapshot.ref.kind,
        commit=snapshot.commit,
        files=tuple(_locked_file(snapshot, file) for file in read),
        beside=tuple(file for file in there(snapshot) if file not in read),
    )


def _locked_file(snapshot: Snapshot, name: str) -> LockedFile:
    listed = next((one for one in snapshot.listed if one.name == name and one.digest), None)
    digest = "" if listed is None or listed.digest is None else listed.digest
    told = digest if len(digest) == _SHA256 else None
    path = _path(snapshot, name)
    try:
        size = path.stat().st_size if path.is_file() else None
        if listed is not None and listed.size is not None and (told or size is None):
            return LockedFile(name=name, size=listed.size, sha256=told, git_sha1=None if told else digest)
        return LockedFile(name=name, size=path.stat().st_size, sha256=sha256_of(path), git_sha1=digest or None)
    except OSError as error:
        raise CouldNotCheck(
            f"{snapshot.ref.text}: {name} cannot be locked: {error.strerror}", next_step="wirecheck fetch"
        ) from None


def _path(snapshot: Snapshot, name: str) -> Path:
    held = next((file.path for file in snapshot.weights if file.name == name), None)
    return held or snapshot.folder / name


def digest_of(result: PairResult) -> str:
    """sha256 over outcome, strength, and the codes, subjects and severities of all findings."""
    verdict = result.verdict
    found = sorted({(f.code, str(f.subject), str(f.severity)) for f in result.findings})
    return _sha256([verdict.outcome, verdict.strength, found])


def lock_result(a: str, b: str | None, result: PairResult) -> LockedResult:
    """What a result comes to."""
    verdict = result.verdict
    return LockedResult(a=a, b=b, outcome=verdict.outcome, strength=verdict.strength, digest=digest_of(result))


def digest_of_asked(asked: Mapping[str, Any]) -> str:
    """sha256 over what a file asks."""
    return _sha256(asked)


def _sha256(told: object) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


# --- what a check is asked, by a lock ----------------------------------------------------------------------------


def pins(model: LockedModel, side: Literal["a", "b"]) -> tuple[Pin, ...]:
    """The digests its files must have."""
    return tuple(Pin(subject=side, file=file.name, sha256=file.sha256, git_sha1=file.git_sha1) for file in model.files)


def locked_side(model: LockedModel, side: Literal["a", "b"]) -> LockedSide:
    """What may be read of it, and nothing else."""
    return LockedSide(subject=side, commit=model.commit, files=(*(file.name for file in model.files), *model.beside))


# --- what has moved ----------------------------------------------------------------------------------------------


def check_lock(
    lock: Lock, now: Mapping[str, Callable[[], Snapshot]], then: Mapping[str, Callable[[], Snapshot]]
) -> LockCheck:
    """Every locked model beside what its revision stands for now.

    `now` and `then` read a model by its name: as the file names it, and at the locked commit.
    """
    models = tuple(_model_now(model, now[model.name], then[model.name]) for model in lock.models)
    found = ((name, version, installed(name)) for name, version in lock.versions)
    return LockCheck(models=models, versions=tuple(one for one in found if one[1] != one[2]))


def _model_now(model: LockedModel, now: Callable[[], Snapshot], then: Callable[[], Snapshot]) -> LockedModelNow:
    told = {"name": model.name, "id": model.id, "revision": model.revision, "locked": model.commit}
    try:
        new = now()
        if new.ref.kind == "hub" and new.commit == model.commit:
            return LockedModelNow(now=new.commit, **told)
        was = lock_model(model.name, model.id, model.revision, new)
        old = then() if new.ref.kind == "hub" else None
    except CouldNotCheck as error:
        return LockedModelNow(now=None, why=error.message, **told)
    return LockedModelNow(now=new.commit, moved=tuple(_moved(model, was, old, new)), **told)


def _moved(locked: LockedModel, now: LockedModel, old: Snapshot | None, new: Snapshot) -> Iterator[Moved]:
    before = {file.name: file for file in locked.files}
    after = {file.name: file for file in now.files}
    for name in sorted(before.keys() | after.keys()):
        part = part_of(name)
        if name not in after:
            yield Moved(file=name, part=part, how="gone", what="no longer there", matters=True)
        elif name not in before:
            yield Moved(file=name, part=part, how="added", what="was not there", matters=True)
        elif _differs(before[name], after[name]):
            yield _changed(name, part, old, new)


def _differs(one: LockedFile, other: LockedFile) -> bool:
    if one.sha256 and other.sha256:
        return one.sha256 != other.sha256
    return one.git_sha1 is None or one.git_sha1 != other.git_sha1


def _changed(name: str, part: Part, old: Snapshot | None, new: Snapshot) -> Moved:
    if not name.endswith(".json") or old is None:
        return Moved(file=name, part=part, how="changed", what="other bytes", matters=True)
    try:
        was, now = old.read_json(name), new.read_json(name)
    except JsonUnreadable as error:
        return Moved(file=name, part=part, how="changed", what=str(error), matters=True)
    both = was.keys() | now.keys()
    keys = sorted(key for key in both if (key in was, was.get(key)) != (key in now, now.get(key)))
    if not keys:
        return Moved(file=name, part=part, how="changed", what="written otherwise, says the same", matters=False)
    if "chat_template" in keys:
        part = "template"
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    what = ", ".join(keys[:_NAMED]) + more
    return Moved(file=name, part=part, how="changed", what=what, matters=any(key not in _HARMLESS for key in keys))


def part_of(name: str) -> Part:
    """What of a model a file is."""
    base = name.rpartition("/")[2]
    if base in ("config.json", "generation_config.json"):
        return "config"
    if base.endswith(".jinja") or base == "chat_template.json":
        return "template"
    if base.endswith((".safetensors", ".bin", ".gguf", ".index.json")):
        return "weights"
    if base.endswith(".py"):
        return "code"
    return "tokenizer"
