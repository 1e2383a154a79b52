"""EMB07 and EMB09: the gradient to the embeds with checkpointing on, and beside a row that is all padding."""
# ruff: noqa: N806  # shape-suffixed tensor names: B rows, T positions, D width

from __future__ import annotations

from dataclasses import dataclass

from wirecheck.embedding_checkpointing import Backward, backward, enable, training
from wirecheck.embedding_padding import masked_row
from wirecheck.embedding_trial import REFUSALS, gap
from wirecheck.embedding_use import REORDERED, reordered
from wirecheck.limits import one_line
from wirecheck.probes.use_case import Case
from wirecheck.schema import Evidence, Finding, Severity

_NO_CHECKPOINTING = "Train without --grad-checkpointing, or choose a class whose layers are checkpointed."
_ONE_WAY = 'Pass `gradient_checkpointing_kwargs={"use_reentrant": False}` when you enable checkpointing.'


@dataclass(frozen=True, eq=False)
class _Seen:
    """Backward of one twin: plain, in train mode, and checkpointed both ways and in eval mode; or what was raised."""

    plain: Backward
    trained: Backward | Exception
    checkpointed: Backward | Exception
    reentrant: Backward | Exception
    asleep: Backward | Exception
    """Checkpointing on, the model in eval mode."""

    def agrees(self, other: Backward | Exception) -> bool:
        """Whether another gradient is the plain one; false where it is missing or NaN."""
        return self.distance(other) <= self.allowed

    def distance(self, other: Backward | Exception) -> float:
        """Largest difference from the plain gradient; infinite where there is none to compare."""
        if isinstance(other, Exception) or other.grad_BTD is None or self.plain.grad_BTD is None:
            return float("inf")
        return gap(self.plain.grad_BTD, other.grad_BTD)

    @property
    def allowed(self) -> float:
        """What rounding may make of it, at the size of the largest gradient."""
        return 0.0 if self.plain.grad_BTD is None else reordered(self.plain.grad_BTD)


def checkpointing(case: Case) -> Finding:
    """EMB07: the gradient with checkpointing on is the one without, and layers were recomputed to make it."""
    seen = _look(case)
    bench, name, evidence = case.bench, case.name, _evidence(case, seen)
    is_asked = bench.train.grad_checkpointing
    idle = Severity.WARN if is_asked else Severity.NOTE
    wrong = None if is_asked else case.trap
    if isinstance(seen.trained, Exception) or not seen.agrees(seen.trained):
        how = f"raises {_line(seen.trained)}" if isinstance(seen.trained, Exception) else "gives another gradient"
        claim = f"In train mode, which checkpointing needs, {name} {how}, with every dropout at zero."
        return bench.found("EMB07", claim, *evidence, severity=idle, remedy=_NO_CHECKPOINTING)
    if isinstance(seen.checkpointed, Exception):
        claim = f"{name} cannot be run with gradient checkpointing: it raises {_line(seen.checkpointed)}"
        return bench.found("EMB07", claim, *evidence, severity=idle, remedy=_NO_CHECKPOINTING)
    if not seen.agrees(seen.checkpointed):
        claim = f"With gradient checkpointing on, {name} sends back no gradient to inputs_embeds, or another one."
        return bench.found("EMB07", claim, *evidence, severity=wrong)
    if not seen.checkpointed.recomputed:
        claim = f"Gradient checkpointing can be switched on in {name}, and no layer is recomputed: it saves no memory."
        return bench.found("EMB07", claim, *evidence, severity=idle, remedy=_NO_CHECKPOINTING)
    count = f"{seen.checkpointed.recomputed} of {seen.checkpointed.layers} layers"
    if not seen.agrees(seen.reentrant):
        claim = f"The gradient through {name} survives checkpointing with use_reentrant=False alone ({count})."
        return bench.found("EMB07", claim, *evidence, severity=case.trap, remedy=_ONE_WAY)
    claim = f"In train mode with checkpointing on, {name} recomputes {count} and sends back the same gradient."
    return bench.ok("EMB07", claim, *evidence)


def _look(case: Case) -> _Seen:
    """Every backward there is to compare; the twin is afterwards as it was."""
    trial, embeds_BTD = case.trial, case.embeds_BTD
    plain = backward(trial, embeds_BTD)
    with training(trial):
        trained = _tried(case)
        ways = [_tried(case, use_reentrant=way) for way in (True, False)]
        trial.model.eval()  # type: ignore[no-untyped-call]
        asleep = _tried(case)
    return _Seen(plain, trained, ways[1], ways[0], asleep)


def _tried(case: Case, *, use_reentrant: bool | None = None) -> Backward | Exception:
    """Backward in the mode the model is in, checkpointing first switched on where `use_reentrant` is given."""
    try:
        if use_reentrant is not None:
            enable(case.trial, use_reentrant=use_reentrant)
        return backward(case.trial, case.embeds_BTD)
    except REFUSALS as error:
        return error


def _evidence(case: Case, seen: _Seen) -> tuple[Evidence, ...]:
    expected = f"at most {seen.allowed:.2g} ({REORDERED} rounding steps of float32 at the largest gradient)"
    what = "largest difference of d(loss)/d(inputs_embeds) from eval mode without checkpointing, "
    tried = (
        ("in train mode without it", seen.trained),
        ("checkpointed, use_reentrant=False", seen.checkpointed),
        ("checkpointed, use_reentrant=True", seen.reentrant),
    )
    rows = [
        case.seen(what + how, _line(one) if isinstance(one, Exception) else _figure(seen.distance(one)), expected)
        for how, one in tried
    ]
    for how, one in (("train", seen.checkpointed), ("eval", seen.asleep)):
        if isinstance(one, Backward):
            about = f"layers recomputed during backward, checkpointing on, {how} mode"
            wanted = None if how == "eval" else one.layers
            rows.append(case.seen(about, one.recomputed, wanted))
    return tuple(rows)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error)}"


def _figure(distance: float) -> str:
    return "no gradient" if distance == float("inf") else f"{distance:.2g}"


def masked(case: Case) -> Finding:
    """EMB09: a row that is all padding leaves values and gradients finite, its own and the others'."""
    bench, name = case.bench, case.name
    what = "a batch of two rows, the second masked throughout, the loss on the first"
    try:
        row = masked_row(case.trial, case.embeds_BTD)
    except REFUSALS as error:
        claim = f"{name} raises {type(error).__name__} on a batch with a row that is masked throughout."
        return bench.found("EMB09", claim, case.seen(what, _line(error), "runs"), severity=case.trap)
    parts = (("logits of the first row", row.others), ("logits of the masked row", row.own), ("gradient", row.gradient))
    evidence = [case.seen(f"{what}: {part}", "finite" if ok else "not finite", "finite") for part, ok in parts]
    aside = "" if case.is_own else ": the wires shipped here mask no row throughout"
    if not (row.others and row.gradient):
        claim = f"One row that is masked throughout spoils {name}'s values or gradients for the whole batch{aside}."
        return bench.found("EMB09", claim, *evidence, severity=case.trap)
    if not row.own:
        claim = f"{name} gives a row that is masked throughout no finite logits; other rows and gradients are finite."
        return bench.found("EMB09", claim, *evidence, severity=Severity.NOTE)
    claim = f"{name}'s values and gradients stay finite beside a row that is masked throughout."
    return bench.ok("EMB09", claim, *evidence)
