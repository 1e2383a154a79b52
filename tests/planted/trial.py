"""One case run through the engine that `wirecheck model` and `wirecheck pair` run, and what it comes to."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tests.planted.cases import Asked, Case, Folder, Harmless, Plant, nothing
from wirecheck.runner import Check, Request, Silent
from wirecheck.schema import Crashed, Outcome, PairResult, Policy, ProbeRun, Severity, TrainSpec, WireSpec
from wirecheck.snapshot import Snapshot, parse_ref, take
from wirecheck.verdict import judge

GRAVE = (Severity.BLOCK, Severity.WARN)
_TRAIN: dict[str, Any] = {"batch": 2, "context": 8, "answer": 8, "dtype": "float32"}
OWN = {"name": "tests.tiny_wires:TinyWire"}
"""The sound wire beside which a broken wire of a user's own is put."""
_WIRE: dict[str, Any] = {"latent_length": 4, "latent_width": 64, "max_bytes": 128}

Told = tuple[str, str, str]
"""(code, severity, subject) of a finding that is not ok."""
Kind = Literal["found", "missed", "misnamed", "silent", "alarm"]


@dataclass(frozen=True)
class Seen:
    """What one check said."""

    told: frozenset[Told]
    outcome: str
    """The verdict, or `exit N` of a command that ended before one."""
    strict: str
    """The verdict with --strict."""
    claims: tuple[str, ...] = ()
    """The claims of blocks and warnings, and why probes crashed."""


@dataclass(frozen=True)
class Result:
    """What came of a case."""

    kind: Kind
    new: tuple[Told, ...]
    """What was said of the changed model and not of the sound one."""
    gone: tuple[Told, ...]
    """The other way round, blocks and warnings only."""
    outcome: str
    strict: str
    wrong_verdict: str = ""
    """Why the verdict does not follow from what was planted; empty where it does."""
    claims: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)


class Bench:
    """Where cases are run: the sound models, a place to work, and what is said of the sound models, kept."""

    def __init__(self, bases: Mapping[str, Path], room: Path) -> None:
        self.bases, self.room = bases, room
        self._sound: dict[Any, tuple[Seen, PairResult]] = {}

    def run(self, case: Case) -> Result:
        """One case, and the sound model it was made from."""
        begin = time.perf_counter()
        shutil.rmtree(self.room, ignore_errors=True)
        self.room.mkdir(parents=True)
        place = self.room / "model"
        shutil.copytree(self.bases[case.base], place)
        policy = dict(case.policy)
        if isinstance(case, Plant) and case.ask_policy is not None:
            policy |= case.ask_policy(Folder(place))
        case.change(Folder(place))
        if isinstance(case, Plant) and case.command is not None:
            return self._ended(case, place, begin)
        other = None if case.beside is None else self.bases[case.beside]
        sound, of_models = self.sound(case)
        same = other is not None and case.change is nothing and not (case.train or getattr(case, "against", None))
        known = of_models.runs if same else ()
        seen, _ = _check(case, place, other, policy, known=known)
        result = compare(case, sound, seen)
        return Result(**(vars(result) | {"seconds": time.perf_counter() - begin}))

    def sound(self, case: Case) -> tuple[Seen, PairResult]:
        """What is said of the sound model (and wire), asked without what a plant asks otherwise."""
        wire = OWN if ":" in case.wire.get("name", "") else {}
        plain = Asked(depth=case.depth, wire=wire) if isinstance(case, Plant) else case
        base, beside = (case.against if isinstance(case, Plant) else None) or (case.base, case.beside)
        key = (base, beside, case.depth, *(repr(sorted(part.items())) for part in _options(plain)))
        if key not in self._sound:
            other = None if beside is None else self.bases[beside]
            asked = {name: getattr(plain, name) for name in ("depth", "policy", "train", "wire")}
            self._sound[key] = _check(Case(base=base, what="", **asked), self.bases[base], other, dict(plain.policy))
        return self._sound[key]

    def _ended(self, case: Plant, place: Path, begin: float) -> Result:
        assert case.command is not None
        empty = self.room / "empty"
        empty.mkdir()
        code, words = case.command(place, empty)
        right = code == case.exit and case.said in words
        outcome = f"exit {code}"
        wrong = "" if code else "the command ended as if all were well"
        new = ((case.code, "block", "a"),) if right else ()
        return Result(
            "found" if right else "missed", new, (), outcome, outcome, wrong, (words[-200:],),
            time.perf_counter() - begin,
        )  # fmt: skip


def _options(asked: Asked) -> tuple[Mapping[str, Any], ...]:
    return asked.policy, asked.train, asked.wire


def compare(case: Case, sound: Seen, seen: Seen) -> Result:
    """The judgement on a case: a pure function of what was said of the sound model and of the changed one."""
    new = tuple(sorted(seen.told - sound.told))
    gone = tuple(sorted(told for told in sound.told - seen.told if told[1] in GRAVE))
    grave = [told for told in new if told[1] in GRAVE]
    common: dict[str, Any] = {"new": new, "gone": gone, "outcome": seen.outcome, "strict": seen.strict}
    common["claims"] = seen.claims
    if isinstance(case, Plant):
        hit = any(told[:2] == (case.code, case.severity) for told in new)
        kind: Kind = "found" if hit else "misnamed" if grave else "missed"
        return Result(kind=kind, wrong_verdict=_wrong(case, seen), **common)
    assert isinstance(case, Harmless)
    more_notes = [told for told in new if told[1] not in GRAVE and told[0] not in case.notes]
    same = (seen.outcome, seen.strict) == (sound.outcome, sound.strict)
    quiet = not grave and not more_notes and not gone and same
    wrong = "" if same else f"the verdict was {sound.outcome}, with --strict {sound.strict}"
    return Result(kind="silent" if quiet else "alarm", wrong_verdict=wrong, **common)


def _wrong(case: Plant, seen: Seen) -> str:
    if case.severity is Severity.BLOCK and seen.outcome != Outcome.INCOMPATIBLE:
        return f"a planted block came out {seen.outcome}"
    if case.severity is Severity.WARN and seen.strict == Outcome.COMPATIBLE:
        return "a planted warning came out compatible with --strict"
    return ""


def _check(
    case: Case, a: Path, b: Path | None, policy: dict[str, Any], *, known: Sequence[ProbeRun] = ()
) -> tuple[Seen, PairResult]:
    asked = Policy(**{"depth": case.depth, "required": case.depth, "device": "cpu", **policy})
    request = Request(
        wire=WireSpec(**(_WIRE | dict(case.wire))),
        train=TrainSpec(**(_TRAIN | dict(case.train))),
        policy=asked,
        seed=0,
        command="soundness",
    )
    first = _taken(a)
    if isinstance(case, Plant) and case.ref is not None:
        first = replace(first, ref=parse_ref(case.ref))
    held = {side: [run for run in known if run.subject == side] for side in ("a", "b")} if known else {}
    check = Check(request, first, None if b is None else _taken(b), Silent(), known=held)
    with _classes(case):
        result = check.run()
    return _seen(check, result, asked), result


def _taken(folder: Path) -> Snapshot:
    return take(parse_ref(str(folder)), offline=True)


def _seen(check: Check, result: PairResult, policy: Policy) -> Seen:
    told = {
        (finding.code, str(finding.severity), str(finding.subject))
        for run in result.runs
        for finding in run.findings
        if finding.severity is not Severity.OK
    }
    strict = judge(result.runs, check.expected, policy.model_copy(update={"strict": True}))
    claims = [f"{f.code} {f.claim}" for run in result.runs for f in run.findings if f.severity in GRAVE]
    claims += [f"{run.probe} crashed: {run.error.message}" for run in result.runs if isinstance(run, Crashed)]
    if result.verdict.outcome is Outcome.UNPROVEN:
        claims += result.verdict.because
    return Seen(frozenset(told), str(result.verdict.outcome), str(strict.outcome), tuple(claims))


@contextmanager
def _classes(case: Case) -> Iterator[None]:
    """Within it, the twin and the real weights of model A are of the class that the case makes of theirs."""
    from wirecheck import zoo_twin, zoo_weights

    if case.class_ is None:
        yield
        return
    change = case.class_
    twin, load = zoo_twin.twin, zoo_weights.load_weights

    def changed(model: Any) -> Any:
        model.__class__ = change(type(model))
        return model

    def made(*args: Any, **options: Any) -> Any:
        one = twin(*args, **options)
        changed(one.model)
        return one

    zoo_twin.twin, zoo_weights.load_weights = made, lambda *args, **options: changed(load(*args, **options))
    try:
        yield
    finally:
        zoo_twin.twin, zoo_weights.load_weights = twin, load
