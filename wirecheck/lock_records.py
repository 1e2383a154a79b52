"""The records of `wirecheck lock`: what a file's models were, to the byte, when all of it was checked."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, model_validator

from wirecheck.record import Level, Outcome, Record

LOCKED_REMEDY = (
    "Bring back what is locked (`wirecheck fetch --locked`, or your own copy); only when the change is meant, lock it: "
    "`wirecheck lock`. What moved: `wirecheck lock --check`."
)
"""Of WGT13, where a lock pinned the digests."""


class LockedFile(Record):
    """One file that is read of a model."""

    name: str
    size: NonNegativeInt
    """Bytes."""
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    git_sha1: str | None = Field(default=None, pattern="^[0-9a-f]{40}$")
    """The hub's name for a file that it does not keep in LFS and that was not read."""

    @model_validator(mode="after")
    def _pinned(self) -> LockedFile:
        if self.sha256 is None and self.git_sha1 is None:
            raise ValueError(f"{self.name}: no digest")
        return self


class LockedModel(Record):
    """One model of the file, as it was."""

    name: str
    id: str
    """As the file spells it."""
    revision: str | None = None
    """As the file spells it: a commit, or a branch or tag, which may have moved since."""
    kind: Literal["hub", "folder", "gguf"]
    commit: str
    """Commit on the hub; for a folder or GGUF file, `sha256:…` over what was read."""
    files: tuple[LockedFile, ...]
    beside: tuple[str, ...] = ()
    """Files that are not read, by name: another that could be loaded may not come to them."""

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)


class LockedResult(Record):
    """What the gate said of one pair, or of one model alone (`b` None)."""

    a: str
    b: str | None = None
    outcome: Outcome
    strength: Level | None
    digest: str
    """sha256 over outcome, strength and the codes, subjects and severities of all findings."""


class Lock(Record):
    """The file format of wirecheck.lock."""

    schema_version: Literal[1] = 1
    models: tuple[LockedModel, ...] = Field(min_length=1)
    versions: tuple[tuple[str, str], ...]
    """Package, or `python`, and its version."""
    asked: str
    """sha256 over what the file asks, without what it accepts."""
    results: tuple[LockedResult, ...] = ()
    """Nothing where the lock was made without a gate."""

    def model(self, name: str) -> LockedModel | None:
        """The model of that name."""
        return next((one for one in self.models if one.name == name), None)

    def result(self, a: str, b: str | None) -> LockedResult | None:
        """What was said of that pair."""
        return next((one for one in self.results if (one.a, one.b) == (a, b)), None)


Part = Literal["config", "template", "tokenizer", "weights", "code"]


class Moved(Record):
    """One file that is no longer what is locked."""

    file: str
    part: Part
    how: Literal["changed", "added", "gone"]
    what: str
    """What of it is otherwise, in a few words."""
    matters: bool
    """Whether a check, or the job, could come to something else."""


class LockedModelNow(Record):
    """One locked model beside what its revision stands for now."""

    name: str
    id: str
    revision: str | None
    locked: str
    """Commit or digest."""
    now: str | None
    """None where it could not be read."""
    moved: tuple[Moved, ...] = ()
    why: str | None = None
    """Why it could not be read."""


class LockCheck(Record):
    """The file format of `wirecheck lock --check --json`."""

    schema_version: Literal[1] = 1
    models: tuple[LockedModelNow, ...]
    versions: tuple[tuple[str, str, str | None], ...]
    """Package, the version that is locked, and the one installed, where they differ."""

    @property
    def matters(self) -> bool:
        """Whether anything moved that could change a result."""
        return bool(self.versions) or any(one.matters for model in self.models for one in model.moved)
