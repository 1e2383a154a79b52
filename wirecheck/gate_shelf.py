"""What earlier checks of the same bytes came to, kept by content: an unchanged gate runs nothing.

A key holds all that an answer depends on: the bytes of every file beside the weights, what the hub lists, size, times
and inode of every weight file on disk, what was asked, the seed, devices, and the versions on this machine. One
that cannot be read is none. A proof that all loads offline is made anew each time.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from wirecheck.cache_folder import STORE, cache_home
from wirecheck.runner import Check, Request, environment
from wirecheck.schema import PairResult, ProbeRun, Ran, Skipped, Subject, WireSpec
from wirecheck.snapshot import Snapshot
from wirecheck.snapshot_folder import is_metadata, list_files, max_bytes
from wirecheck.store import Store
from wirecheck.weight_files import is_regular, sha256_of, stamp

FORMAT = 3
"""Of the answers: another number, other keys."""
T = TypeVar("T")
RUNS: TypeAdapter[tuple[ProbeRun, ...]] = TypeAdapter(tuple[ProbeRun, ...])
_BY_DESIGN = ("beyond --depth", "moot after")
"""How the reasons begin for which a probe is skipped whatever the machine."""
_WHOLE = "whole"
"""The part of a key that is of both models."""
_SIDE = re.compile(r"\((?:a|b)\)")
"""How the reasons of `runner.why_not` name a model."""
_NVIDIA = Path("/proc/driver/nvidia")
_DEVICES = ("/dev/nvidia0", "/dev/kfd")


@dataclass(frozen=True)
class Shelf:
    """Answers in a store."""

    store: Store
    fresh: bool = False
    """Whether nothing is taken from it; what is found is put there all the same."""

    @classmethod
    def of_user(cls, *, fresh: bool = False) -> Shelf:
        """That of the user's cache folder."""
        return cls(Store(cache_home() / STORE), fresh=fresh)

    def may_take(self, request: Request) -> bool:
        """Whether an earlier answer may stand for one that is asked for now."""
        return not (self.fresh or request.policy.prove_offline)

    def whole(self, check: Check) -> PairResult | None:
        """The whole of a check, where all of it is there."""
        return self._kept(check, "whole", PairResult.model_validate_json)

    def models(self, check: Check) -> dict[Subject, tuple[ProbeRun, ...]]:
        """The runs of each model that are there."""
        kept = {side: self._kept(check, side, RUNS.validate_json) for side in _sides(check)}
        return {side: of_side(runs, side) for side, runs in kept.items() if runs is not None}

    def _kept(self, check: Check, part: str, parsed: Callable[[str], T]) -> T | None:
        """What is there of a part; None where nothing is, or it may not be taken."""
        if not self.may_take(check.request):
            return None
        return read_as(self.store.get(key_of(check, part)), parsed)

    def keep(self, check: Check, result: PairResult) -> None:
        """Put there what would be found again. A disk that takes nothing costs time and nothing else."""
        if result.status != "finished":
            return
        rows = []
        if all(map(is_final, result.runs)):
            rows.append(("whole", "pair", result.model_dump_json()))
        for side in _sides(check):
            own = [run for run in result.runs if run.subject == side]
            if own and all(map(is_final, own)):
                rows.append((side, "model", RUNS.dump_json(of_side(own, "a")).decode()))
        self._put([(check, *row) for row in rows])

    def _put(self, rows: Sequence[tuple[Check, str, str, str]]) -> None:
        """Check, part, kind and text of each; nothing of a wire of the user's own, whose code is not in the key."""
        own = [(key_of(check, part), kind, text) for check, part, kind, text in rows if not check.request.wire.is_own]
        if own:
            self.store.put_many(own)


def read_as(text: str | None, parsed: Callable[[str], T]) -> T | None:
    """What a kept text says; None where there is none, or it is of another version."""
    try:
        return None if text is None else parsed(text)
    except ValidationError:
        return None


def of_side(runs: Sequence[ProbeRun], side: Subject) -> tuple[ProbeRun, ...]:
    """A model's runs, as they would be had it stood on that side: what they are about, and the reasons that name it."""
    return tuple(
        run.model_copy(
            update={
                "subject": side,
                **({"reason": _SIDE.sub(f"({side})", run.reason)} if isinstance(run, Skipped) else {}),
                "findings": tuple(one.model_copy(update={"subject": side}) for one in run.findings),
                "facts": tuple(one.model_copy(update={"subject": side}) for one in run.facts),
            }
        )
        for run in runs
    )


def is_final(run: ProbeRun) -> bool:
    """Whether the same check would end the same: it ran, or was skipped by what was asked and found."""
    return isinstance(run, Ran) or (isinstance(run, Skipped) and run.reason.startswith(_BY_DESIGN))


def _sides(check: Check) -> tuple[Subject, ...]:
    """The models whose runs may be kept apart: of a pair."""
    return () if check.b is None else ("a", "b")


def key_of(check: Check, part: str) -> str:
    """Of the whole, or of the runs of model `a` or `b`, which depend on the other one in nothing."""
    request = check.request
    policy = request.policy.model_dump(mode="json", exclude={"accepted", "required", "strict"})
    if part != _WHOLE:
        policy["expectations"] = [one | {"subject": ""} for one in policy["expectations"] if one["subject"] == part]
        for of_sides in ("pins", "locked"):
            policy[of_sides] = [one | {"subject": ""} for one in policy[of_sides] if one["subject"] == part]
        policy["gpus"] = []
    models = {"a": check.a, "b": check.b}
    told = {
        "format": FORMAT,
        "part": part if part == _WHOLE else "model",
        "models": [_told(one) for side, one in models.items() if one is not None and part in (_WHOLE, side)],
        "wire": request.wire.model_dump(mode="json"),
        "train": request.train.model_dump(mode="json"),
        "policy": policy,
        "seed": request.seed,
        "environment": environment().model_dump(mode="json"),
        "devices": _devices(),
        "beside": _beside(request.wire),
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:40]


def _told(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "ref": [snapshot.ref.kind, snapshot.ref.name, snapshot.ref.text],
        "commit": snapshot.commit,
        "files": sorted(snapshot.files),
        "listed": sorted((one.name, one.size, one.digest) for one in snapshot.listed),
        "metadata": dict(_contents(snapshot)),
        "weights": [(file.name, file.problem, file.path and _stamp(file.path)) for file in snapshot.weights],
    }


def _contents(snapshot: Snapshot) -> Iterator[tuple[str, object]]:
    """Every file beside the weights that the folder holds, by its bytes: a cache without links can be edited."""
    if snapshot.ref.kind == "gguf":
        return
    for name in list_files(snapshot.folder):
        path = snapshot.folder / name
        if is_metadata(name) and is_regular(path):
            yield name, sha256_of(path) if path.stat().st_size <= max_bytes(name) else _stamp(path)
        else:
            yield name, None


def _stamp(path: Path) -> Sequence[int] | None:
    try:
        return stamp(path)
    except OSError:
        return None


def _beside(wire: WireSpec) -> list[object]:
    """The files of the sentence encoder that a wire reads."""
    if wire.sentence_encoder is None:
        return []
    return [(path.name, _stamp(path)) for path in sorted(Path(wire.sentence_encoder).glob("*"))]


def _devices() -> list[str]:
    """The accelerators and their driver, as the system tells them without any library."""
    told = [name for name in _DEVICES if Path(name).exists()]
    cards = (path for path in sorted(_NVIDIA.glob("**/*")) if path.name in ("version", "information"))
    return told + [path.read_text(encoding="utf-8", errors="replace") for path in cards if path.is_file()]
