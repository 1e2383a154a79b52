"""What a model makes of `inputs_embeds` in use: generation, padding, the cache, checkpointing, the caller's tensors.

On the random twin, in float32: a bfloat16 forward drifts by more than these differences. What the wire, as configured,
already avoids is a note that says how.
"""
# ruff: noqa: N806  # shape-suffixed tensor names: B rows, T positions, N new tokens, D width, V vocabulary

from __future__ import annotations

from collections.abc import Iterator

from wirecheck.embedding_padding import Padded
from wirecheck.embedding_trial import REFUSALS, Trial
from wirecheck.embedding_use import NEW_TOKENS, Cached, Way, changed_inputs, generate, shortfall
from wirecheck.limits import one_line, within_means
from wirecheck.probe import ModelBench, Probe, Yielded
from wirecheck.probes.use_case import Case, Measured, asked
from wirecheck.probes.use_gradient import checkpointing, masked
from wirecheck.schema import Evidence, Finding, Level, Severity

_EQUAL_ROWS = "Give every batch rows of one length, or run one row at a time: this class takes no padding."
_BY_CLASS = "Decode with `model.generate`, or with `use_cache=False`; by hand, only the way that the finding names."


def _on_twin(bench: ModelBench) -> Iterator[Yielded]:
    import torch

    from wirecheck import zoo

    with within_means():
        trial = Trial(bench.twin.model, bench.seed, zoo.quiet)
        with torch.no_grad():
            embeds_BTD = trial.embed()
            case = Case(bench, trial, embeds_BTD, trial.logits(inputs_embeds=embeds_BTD))
            cache = _cache(case)
            yield _generation(case, by_hand=cache.severity is not Severity.WARN)
            yield _padding(case)
        yield checkpointing(case)
        yield cache
        yield masked(case)
        yield _inputs(case)


# --- EMB04 -------------------------------------------------------------------------------------------------------


def _generation(case: Case, *, by_hand: bool) -> Finding:
    """Greedy tokens from embeds, with a mask and without, against full forwards.

    The wires shipped here never call `model.generate`: where a loop of forward calls is right (`by_hand`), they decode.
    """
    evidence: list[Evidence] = []
    avoided = by_hand and not case.is_own
    severity, aside = (Severity.NOTE, "; the wires shipped here decode by forward calls") if avoided else (None, "")
    for with_mask in (True, False):
        wrong = _misgenerated(case, evidence, with_mask=with_mask)
        if wrong is not None:
            how = "" if with_mask else ", given no attention_mask,"
            return case.bench.found("EMB04", f"{case.name}{how} {wrong}{aside}.", *evidence, severity=severity)
    claim = (
        f"From inputs_embeds, with an attention_mask and without, {case.name} generates the {NEW_TOKENS} tokens that a "
        "greedy loop of full forwards gives."
    )
    return case.bench.ok("EMB04", claim, *evidence)


def _misgenerated(case: Case, evidence: list[Evidence], *, with_mask: bool) -> str | None:
    """What is wrong with the new tokens, as the end of a sentence; None where nothing is."""
    given = "mask given" if with_mask else "no mask given"
    what, rows = f"model.generate(inputs_embeds), {given}", len(case.embeds_BTD)
    wanted = f"{rows} x {NEW_TOKENS} new tokens"
    try:
        new_BN = generate(case.trial, case.embeds_BTD, with_mask=with_mask)
    except REFUSALS as error:
        evidence.append(case.seen(what, f"raises {type(error).__name__}", wanted))
        return f"raises {type(error).__name__} when it is to generate from inputs_embeds ({one_line(error, 100)})"
    shape = " x ".join(str(size) for size in new_BN.shape)
    evidence.append(case.seen(what, f"{shape} new tokens", wanted))
    if tuple(new_BN.shape) != (rows, NEW_TOKENS):
        return f"returns {shape} tokens for {rows} rows of inputs_embeds, where {NEW_TOKENS} new ones each were asked"
    short, allowed = shortfall(case.trial, case.embeds_BTD, new_BN)
    what = f"how far the tokens' logits are below the greedy choice of full forwards, {given}"
    evidence.append(case.difference(what, short, allowed))
    if not short <= allowed:
        return "generates from inputs_embeds other tokens than a greedy loop of full forwards over the same embeds"
    return None


# --- EMB06 -------------------------------------------------------------------------------------------------------


def _padding(case: Case) -> Finding:
    """One row alone, and the same row padded on either side under a mask."""
    padded = Padded.of(case.trial, case.embeds_BTD)
    right = asked(lambda: padded.gap("right", with_positions=False))
    left = asked(lambda: padded.gap("left", with_positions=False))
    numbered = asked(lambda: padded.gap("left", with_positions=True))
    what = "largest change of a row's logits by padding on the "
    evidence = (
        case.difference(f"{what}right, with a mask", right),
        case.difference(f"{what}left, with a mask", left),
        case.difference(f"{what}left, with a mask and position_ids from the first real position", numbered),
    )
    bench, name = case.bench, case.name
    aside = "" if case.is_own else "; the wires shipped here pad on the right"
    if not case.holds(right):
        claim = f"Padding on the right, under a mask, changes the logits that {name} gives a row's real positions."
        return bench.found("EMB06", claim, *evidence, remedy=_EQUAL_ROWS)
    if case.holds(left):
        claim = f"Padding under a mask, on either side, leaves the logits that {name} gives the real positions."
        if case.holds(numbered) or isinstance(numbered, Exception):
            return bench.ok("EMB06", claim, *evidence)
        claim = f"{name} numbers positions in a way of its own: position_ids counted from 0 change its logits."
        return bench.found("EMB06", claim, *evidence, severity=Severity.NOTE)
    if case.holds(numbered):
        claim = (
            f"Padding on the left changes {name}'s logits unless position_ids are counted from the first real "
            f"position{aside}."
        )
        return bench.found("EMB06", claim, *evidence, severity=Severity.NOTE)
    claim = f"Padding on the left changes {name}'s logits, and no position_ids mend it{aside}."
    return bench.found("EMB06", claim, *evidence, severity=case.trap)


# --- EMB08 -------------------------------------------------------------------------------------------------------


def _cache(case: Case) -> Finding:
    """Positions read through the cache after embeds, one by one and all at once, against the plain forward."""
    bench, name = case.bench, case.name
    cached = Cached(case.trial, case.embeds_BTD, case.full_BTV)
    try:
        keeps = cached.keeps()
    except REFUSALS as error:
        claim = f"{name} raises {type(error).__name__} when it is to keep a cache of inputs_embeds: {one_line(error)}"
        seen = case.seen("model(inputs_embeds, use_cache=True)", f"raises {type(error).__name__}", "a cache")
        return bench.found("EMB08", claim, seen, remedy=_BY_CLASS)
    if keeps is None:
        claim = f"{name} hands back no cache of inputs_embeds: read by hand, every new token takes a full forward."
        seen = case.seen("model(inputs_embeds, use_cache=True)", "no cache in its output", "a cache")
        return bench.found("EMB08", claim, seen, severity=Severity.NOTE)
    found = _ways(case, cached)
    evidence = _read(case, cached, found)
    good = [way for way in found if case.holds(found[way])]
    if not good:
        claim = f"However {name} is given its cache after inputs_embeds, the logits are not those of a full forward."
        return bench.found("EMB08", claim, *evidence, remedy=_BY_CLASS)
    if good[0] != _ROUNDS[0]:
        avoided = not case.is_own and (keeps, good[0]) == ("cache_params", "neither")
        aside = "; the wires shipped here give a state no mask" if avoided else ""
        claim = f"After inputs_embeds {name} reads its cache rightly only given {_GIVEN[good[0]]}{aside}."
        severity = Severity.NOTE if avoided else None
        return bench.found("EMB08", claim, *evidence, severity=severity, remedy=_BY_CLASS)
    return _by_chunks(case, cached, found, evidence)


_ROUNDS: tuple[Way, ...] = ("mask and positions", "mask", "neither")
_GIVEN: dict[Way, str] = {
    "mask and positions": "the mask of all positions and position_ids",
    "mask": "the mask of all positions",
    "neither": "neither mask nor position_ids",
}


def _ways(case: Case, cached: Cached) -> dict[Way, Measured]:
    """What reading one by one comes to, given less and less; the last is asked where nothing else is right."""
    found: dict[Way, Measured] = {}
    for way in _ROUNDS:
        if way != "neither" or not any(case.holds(seen) for seen in found.values()):
            found[way] = asked(lambda way=way: cached.gap(way))  # type: ignore[misc]
    return found


def _read(case: Case, cached: Cached, found: dict[Way, Measured]) -> list[Evidence]:
    what = "largest difference of logits read through the cache, "
    evidence = [case.difference(f"{what}one by one, given {_GIVEN[way]}", seen) for way, seen in found.items()]
    trap = asked(lambda: cached.gap("mask and positions", short_mask=True))
    expected = "a trap where it is large: pass the mask of all positions"
    words = case.difference("", trap).observed
    return [*evidence, case.seen(f"{what}one by one, given a mask of length 1", words, expected)]


def _by_chunks(case: Case, cached: Cached, found: dict[Way, Measured], evidence: list[Evidence]) -> Finding:
    """The cache is right one by one, mask and positions given: whether it is without positions, and in chunks."""
    bench, name = case.bench, case.name
    chunk = asked(lambda: cached.gap("mask and positions", at_once=True))
    evidence.append(case.difference("largest difference of logits read through the cache, all at once", chunk))
    if not case.holds(found["mask"]):
        aside = "" if case.is_own else "; the wires shipped here pass them"
        claim = f"After inputs_embeds {name} reads its cache rightly only given position_ids at every step{aside}."
        return bench.found("EMB08", claim, *evidence, severity=case.trap)
    if not case.holds(chunk):
        claim = f"{name} reads its cache rightly one token at a time, and wrongly several at once: decode one by one."
        return bench.found("EMB08", claim, *evidence, severity=Severity.NOTE)
    claim = f"After inputs_embeds {name} reads its cache rightly, one token at a time and several at once."
    return bench.ok("EMB08", claim, *evidence)


# --- EMB12 -------------------------------------------------------------------------------------------------------


def _inputs(case: Case) -> Finding:
    """Whether a forward leaves its caller's tensors as they were."""
    names, moved = changed_inputs(case.trial, case.embeds_BTD)
    seen = case.seen("the caller's tensors that a forward changes in place", ", ".join(names) or "none", "none")
    if not names:
        claim = f"{case.name} leaves its caller's inputs_embeds and attention_mask as they were."
        return case.bench.ok("EMB12", claim, seen)
    aside = "" if case.is_own else "; the wires shipped here join a new tensor for every forward"
    claim = f"{case.name} changes its caller's {' and '.join(names)} in place{aside}."
    again = case.difference("largest difference of a second forward's logits, given the same tensors", moved)
    return case.bench.found("EMB12", claim, seen, again, severity=case.trap)


EMBEDS_USE = Probe(
    name="embeds-use",
    question="Does the model's class generate, pad, cache and recompute rightly when it is fed inputs_embeds?",
    scope="model",
    level=Level.SIMULATED,
    codes=("EMB04", "EMB06", "EMB07", "EMB08", "EMB09", "EMB12"),
    needs="torch",
    requires=("embeds-twin",),
    moot_after=(
        *("CFG01", "CFG02", "CFG03", "CFG05", "CFG10"),
        *("EMB01", "EMB02", "EMB03", "EMB05"),
    ),
    run=_on_twin,
)
