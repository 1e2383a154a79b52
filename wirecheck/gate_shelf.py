"""What earlier checks of the same bytes came to, kept by content: an unchanged gate runs nothing.

A key holds all that an answer depends on: the commit or digest, size and time of every weight file on disk, what was
asked, the seed, and the versions on this machine. Answers are written aside and moved; one that cannot be read is none.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from wirecheck.architectures import cache_home
from wirecheck.runner import Check, environment
from wirecheck.schema import PairResult, ProbeRun, Ran, Skipped, Subject
from wirecheck.snapshot import Snapshot
from wirecheck.whole_file import put_whole

FORMAT = 1
"""Of the files on the shelf: another number, another shelf."""
_RUNS: TypeAdapter[tuple[ProbeRun, ...]] = TypeAdapter(tuple[ProbeRun, ...])
_BY_DESIGN = ("beyond --depth", "moot after")
"""How the reasons begin for which a probe is skipped whatever the machine."""
_DEVICES = ("/dev/nvidia0", "/dev/kfd")


@dataclass(frozen=True)
class Shelf:
    """A folder of answers."""

    folder: Path
    fresh: bool = False
    """Whether nothing is taken from it; what is found is put there all the same."""

    @classmethod
    def of_user(cls, *, fresh: bool = False) -> Shelf:
        """That of the user's cache folder."""
        return cls(cache_home() / "gate", fresh=fresh)

    def whole(self, check: Check) -> PairResult | None:
        """The whole of a check, where all of it is there."""
        text = self._read(_key(check, "whole"))
        try:
            return None if text is None else PairResult.model_validate_json(text)
        except ValidationError:
            return None

    def models(self, check: Check) -> dict[Subject, tuple[ProbeRun, ...]]:
        """The runs of each model that are there."""
        found: dict[Subject, tuple[ProbeRun, ...]] = {}
        for side in _sides(check):
            text = self._read(_key(check, side))
            if text is None:
                continue
            try:
                found[side] = _RUNS.validate_json(text)
            except ValidationError:
                continue
        return found

    def keep(self, check: Check, result: PairResult) -> None:
        """Put there what would be found again. A disk that takes nothing costs time and nothing else."""
        if check.request.wire.is_own or result.status != "finished":
            return
        if all(map(_is_final, result.runs)):
            self._write(_key(check, "whole"), result.model_dump_json())
        for side in _sides(check):
            own = [run for run in result.runs if run.subject == side]
            if own and all(map(_is_final, own)):
                self._write(_key(check, side), _RUNS.dump_json(tuple(own)).decode())

    def _read(self, key: str) -> str | None:
        if self.fresh:
            return None
        try:
            return (self.folder / f"{key}.json").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None

    def _write(self, key: str, text: str) -> None:
        try:
            put_whole(self.folder / f"{key}.json", text)
        except OSError:
            return


def _is_final(run: ProbeRun) -> bool:
    """Whether the same check would end the same: it ran, or was skipped by what was asked and found."""
    return isinstance(run, Ran) or (isinstance(run, Skipped) and run.reason.startswith(_BY_DESIGN))


def _sides(check: Check) -> tuple[Subject, ...]:
    """The models whose runs may be kept apart: of a pair."""
    return () if check.b is None else ("a", "b")


def _key(check: Check, part: str) -> str:
    """Of the whole, or of the runs of model `a` or `b`, which depend on the other one in nothing."""
    request = check.request
    policy = request.policy.model_dump(mode="json", exclude={"accepted", "required", "strict"})
    if part != "whole":
        policy["expectations"] = [one for one in policy["expectations"] if one["subject"] == part]
        for of_sides in ("pins", "locked"):
            policy[of_sides] = [one for one in policy[of_sides] if one["subject"] == part]
        policy["gpus"] = []
    models = {"a": check.a, "b": check.b}
    told = {
        "format": FORMAT,
        "part": part,
        "models": [_told(one) for side, one in models.items() if one is not None and part in ("whole", side)],
        "wire": request.wire.model_dump(mode="json"),
        "train": request.train.model_dump(mode="json"),
        "policy": policy,
        "seed": request.seed,
        "environment": environment().model_dump(mode="json"),
        "devices": [name for name in _DEVICES if Path(name).exists()],
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:40]


def _told(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "ref": [snapshot.ref.kind, snapshot.ref.name, snapshot.ref.text],
        "commit": snapshot.commit,
        "files": sorted(snapshot.files),
        "weights": list(_stamps(snapshot)),
    }


def _stamps(snapshot: Snapshot) -> Iterator[Sequence[object]]:
    for file in snapshot.weights:
        seen = None
        if file.path is not None:
            try:
                stat = os.stat(file.path)  # noqa: PTH116  # follows the cache's link to the bytes themselves
                seen = [stat.st_size, stat.st_mtime_ns]
            except OSError:
                seen = None
        yield [file.name, file.problem, seen]
