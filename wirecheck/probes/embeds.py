"""Does the model do with `inputs_embeds` what it does with token ids, and does the gradient come back through it?

The same checks twice: on the random twin (simulated) and on the real weights (executed).
"""
# ruff: noqa: N803, N806  # shape-suffixed tensor names: B rows, T positions, D width, V vocabulary

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

from wirecheck.embedding_trial import (
    POSITIONS,
    REFUSALS,
    ROWS,
    SAME,
    SLACK,
    Trial,
    gap,
    rms,
    rounding_step,
    tolerance,
)
from wirecheck.errors import CannotRun
from wirecheck.geometry import read_geometry
from wirecheck.limits import one_line, within_means
from wirecheck.probe import ModelBench, Probe, Yielded
from wirecheck.quantization import read_quantization
from wirecheck.schema import Evidence, Level, Scalar, Severity

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_UNLOADED = (
    "Load the model by itself (`AutoModelForCausalLM.from_pretrained`) and mend what it raises: fetch the files anew, "
    "or install the transformers release that wrote them."
)
_TWO_WAYS = (
    "Use a checkpoint trained from left to right; one trained to attend both ways (`use_bidirectional_attention`, "
    "`is_causal`) is an encoder, whose next-token loss sees the answer."
)
_FED = "model(inputs_embeds=embed(ids))"
_LEAK = 1e-3
"""Part of the last position's change that earlier ones may show beside rounding: experts are batched by position."""


@dataclass
class _Case:
    """A trial, the bench its findings are written on, and the rung and the words of their evidence."""

    bench: ModelBench
    trial: Trial
    level: Level
    words: str
    """`twin forward, seed 0`, or that of the real weights."""

    @property
    def name(self) -> str:
        return type(self.trial.model).__name__

    def seen(self, what: str, observed: Scalar, expected: Scalar = None) -> Evidence:
        return Evidence(level=self.level, source=f"{what}; {self.words}", observed=observed, expected=expected)


def _on_twin(bench: ModelBench) -> Iterator[Yielded]:
    twin = bench.twin
    about = (("kept of the model", "; ".join(twin.kept)), ("made smaller", "; ".join(twin.changed)))
    yield from check(bench, twin.model, Level.SIMULATED, f"twin forward, seed {bench.seed}", about)
    raw = bench.snapshot.read_json("config.json")
    quantized = read_quantization(raw, read_geometry(raw).nested)
    if quantized is not None and quantized.backward == "depends":
        raise CannotRun(
            f"the twin is not quantized: whether the gradient passes the {quantized.method} layers is not shown"
        )


def _on_weights(bench: ModelBench) -> Iterator[Yielded]:
    from wirecheck import zoo_weights

    dtype = bench.train.dtype
    try:
        model = bench.weights
    except zoo_weights.WeightsRefused as error:
        source = f"load of the real weights in {dtype}"
        seen = Evidence(level=Level.EXECUTED, source=source, observed=error.reason, expected="a model")
        claim = "The weights are on this disk, and transformers does not load them: nothing can be fed to the model."
        yield bench.found("EMB01", claim, seen, remedy=_UNLOADED)
        return
    yield from check(bench, model, Level.EXECUTED, f"forward of the real weights in {dtype}")


def check(
    bench: ModelBench, model: PreTrainedModel, level: Level, words: str, about: tuple[tuple[str, str], ...] = ()
) -> Iterator[Yielded]:
    """EMB01, EMB02, CFG10, EMB03, CFG03, EMB05, EMB10 on one model. Stops where nothing more can be asked of it.

    `about` says what was run, in (what, words), and stands in the evidence once. CannotRun where the machine fails.
    """
    from wirecheck import zoo

    with within_means():
        yield from _checks(_Case(bench, Trial(model, bench.seed, zoo.quiet), level, words), about)


def _checks(case: _Case, about: tuple[tuple[str, str], ...]) -> Iterator[Yielded]:
    import torch

    bench, trial = case.bench, case.trial
    with torch.no_grad():
        try:
            by_ids_BTV = trial.logits(input_ids=trial.ids_BT)
        except REFUSALS as error:
            yield _runs_on_nothing(case, error)
            return
        embeds_BTD = trial.embed()
        try:
            by_embeds_BTV = trial.logits(inputs_embeds=embeds_BTD)
        except REFUSALS as error:
            yield from _refused(case, error, by_ids_BTV)
            return
        evidence = (case.seen(_FED, "runs"), *(case.seen(what, words) for what, words in about))
        yield bench.ok("EMB01", f"{case.name} takes inputs_embeds in place of token ids.", *evidence)
        yield _parity(case, by_ids_BTV, by_embeds_BTV)
        takes_any_vector = yield from _perturbed(case, embeds_BTD, by_embeds_BTV)
    if takes_any_vector:
        yield _gradient(case, embeds_BTD)
        with torch.no_grad():
            yield from _scale(case, embeds_BTD)


def _runs_on_nothing(case: _Case, error: Exception) -> Yielded:
    """EMB01 of real weights that take no ids either. CannotRun of a twin: its sizes may be to blame."""
    if case.level is not Level.EXECUTED or getattr(case.trial.model.config, "quantization_config", None):
        raise CannotRun(f"{case.name} does not run on token ids either: {one_line(error)}") from error
    kind = type(error).__name__
    claim = f"{case.name} raises {kind} on its real weights, given token ids, before any embeds: {one_line(error)}"
    return case.bench.found("EMB01", claim, case.seen("model(input_ids=ids)", kind, "runs"), remedy=_UNLOADED)


def _refused(case: _Case, error: Exception, by_ids_BTV: torch.Tensor) -> Iterator[Yielded]:
    """EMB01 fires; CFG10 too, where what is missing are the ids."""
    kind = type(error).__name__
    claim = f"{case.name} raises {kind} when given inputs_embeds: {one_line(error)}"
    yield case.bench.found("EMB01", claim, case.seen(_FED, kind, "runs"))
    if case.trial.id_leak() > tolerance(by_ids_BTV):
        yield _second_way(case, by_ids_BTV)


def _parity(case: _Case, by_ids_BTV: torch.Tensor, by_embeds_BTV: torch.Tensor) -> Yielded:
    """EMB02: logits(embed(ids)) is logits(ids)."""
    bench, name = case.bench, case.name
    difference, allowed = gap(by_ids_BTV, by_embeds_BTV), tolerance(by_ids_BTV)
    dtype = str(by_ids_BTV.dtype).removeprefix("torch.")
    expected = f"at most {allowed:.2g} ({SLACK} rounding steps of {dtype} at the largest logit)"
    seen = case.seen("largest |logits(embed(ids)) - logits(ids)|", f"{difference:.3g}", expected)
    if not difference <= allowed:  # also where it is NaN
        claim = f"{name} gives other logits for inputs_embeds=embed(ids) than for the ids themselves."
        return bench.found("EMB02", claim, seen)
    same = f"{name} gives the same logits for inputs_embeds=embed(ids) as for the ids"
    factor = case.trial.module_factor()
    if factor == 1.0:
        return bench.ok("EMB02", f"{same}, and embed(ids) are the table's rows.", seen)
    how = "is no multiple of weight[ids]" if factor is None else f"is {factor:g} x weight[ids]"
    claim = f"{same}, but embed(ids) {how}: the wire embeds text with the model's own module, never with its table."
    ratio = case.seen("embed(ids) / weight[ids]", factor, 1.0)
    return bench.found("EMB02", claim, seen, ratio, severity=Severity.NOTE)


def _perturbed(case: _Case, embeds_BTD: torch.Tensor, plain_BTV: torch.Tensor) -> Generator[Yielded, None, bool]:
    """CFG10, EMB03 and CFG03: vectors outside the table are taken (returned), are used, by later positions alone."""
    bench, name = case.bench, case.name
    try:
        moved_BTV = case.trial.logits(inputs_embeds=case.trial.nudged(embeds_BTD))
    except REFUSALS as error:
        kind = type(error).__name__
        claim = f"{name} takes only vectors of its own table as inputs_embeds; for others it raises {kind}."
        yield bench.found("CFG10", claim, case.seen("model(inputs_embeds=vectors outside the table)", kind, "runs"))
        return False
    yield _second_way(case, plain_BTV)
    change, earlier = gap(plain_BTV[:, -1], moved_BTV[:, -1]), gap(plain_BTV[:, :-1], moved_BTV[:, :-1])
    seen = case.seen("largest change of the last position's logits, its vector perturbed", f"{change:.3g}", "above 0")
    if change > rounding_step(plain_BTV):
        yield bench.ok("EMB03", f"{name} gives other logits for other embeds.", seen)
    else:
        yield bench.found("EMB03", f"{name} gives the same logits whatever the embeds.", seen)
    yield _causal(case, earlier, max(tolerance(plain_BTV), _LEAK * change))
    return True


def _causal(case: _Case, earlier: float, allowed: float) -> Yielded:
    """CFG03: logits do not depend on vectors after them."""
    what = "largest change of earlier positions' logits, the last vector perturbed"
    seen = case.seen(what, f"{earlier:.3g}", f"at most {allowed:.2g}; 0 in a causal model")
    if earlier > allowed:
        claim = f"{case.name} attends both ways: another last vector changes the logits of earlier positions."
        return case.bench.found("CFG03", claim, seen, remedy=_TWO_WAYS)
    return case.bench.ok("CFG03", f"{case.name} reads from left to right: no logits depend on a later vector.", seen)


def _second_way(case: _Case, plain_BTV: torch.Tensor) -> Yielded:
    """CFG10: whether ids decide anything once the embedding's output is held fixed."""
    leak = case.trial.id_leak()
    what = "largest change of logits for other ids, the embedding's output held fixed"
    seen = case.seen(what, f"{leak:.3g}", "0")
    if leak > tolerance(plain_BTV):
        claim = f"{case.name} reads token ids by a second way beside the embedding, which inputs_embeds does not fill."
        return case.bench.found("CFG10", claim, seen)
    return case.bench.ok("CFG10", f"{case.name} reads token ids through its embedding alone.", seen)


def _gradient(case: _Case, embeds_BTD: torch.Tensor) -> Yielded:
    """EMB05: with every parameter frozen, the next-token loss sends a gradient to each vector it rests on."""
    bench, name = case.bench, case.name
    what = "d(next-token loss)/d(inputs_embeds)"
    expected = f"finite and non-zero at {ROWS} x {POSITIONS - 1} vectors"
    try:
        grad_BTD = case.trial.gradient(embeds_BTD)
    except (RuntimeError, AssertionError) as error:
        claim = f"No gradient comes back from {name} to inputs_embeds: backward raises {one_line(error)}"
        return bench.found("EMB05", claim, case.seen(what, "raises", expected))
    if grad_BTD is None:
        claim = f"No gradient comes back from {name} to inputs_embeds."
        return bench.found("EMB05", claim, case.seen(what, "none", expected))
    norms_BT = grad_BTD[:, :-1].float().norm(dim=-1)  # the last position's prediction is not scored
    reached, total = int((norms_BT.isfinite() & (norms_BT > 0)).sum()), norms_BT.numel()
    trainable = sum(p.requires_grad for p in case.trial.model.parameters())
    evidence = (
        case.seen(what, f"finite and non-zero at {reached} vectors", expected),
        case.seen("parameters that require a gradient", trainable, 0),
    )
    if reached < total:
        claim = (
            f"The gradient from {name} is zero or not finite at {total - reached} of the {total} vectors it rests on."
        )
        return bench.found("EMB05", claim, *evidence)
    claim = f"With {name} frozen, the loss sends a finite, non-zero gradient to all {total} vectors it rests on."
    return bench.ok("EMB05", claim, *evidence)


def _scale(case: _Case, embeds_BTD: torch.Tensor) -> Iterator[Yielded]:
    """EMB10: the size of the table, of what the module gives, and of what the first block receives."""
    bench, name, trial = case.bench, case.name, case.trial
    table, given, received = trial.table_rms(), rms(embeds_BTD), trial.first_block_rms(embeds_BTD)
    evidence = [case.seen("RMS of the embedding table", f"{table:.4g}"), case.seen("RMS of embed(ids)", f"{given:.4g}")]
    if received is not None:
        evidence.append(case.seen("RMS of what the first block receives", f"{received:.4g}"))
    if case.level is Level.EXECUTED:  # a random twin's table says nothing of the model's
        source = f"RMS of the embedding table; {case.words}"
        yield bench.fact("embedding_rms", float(f"{table:.4g}"), case.level, source)
    factor = trial.module_factor()
    law, scale = _law(case, factor)
    if scale is not None:
        yield bench.fact("embedding_scale", scale, case.level, f"embed(ids) / weight[ids]{law}; {case.words}")
    if factor != 1.0:
        how = (
            "does not merely scale the table's rows" if factor is None else f"multiplies table rows by {factor:g}{law}"
        )
        claim = f"{name}'s embedding module {how}: a prefix is calibrated to embed(ids), not to the table."
        yield bench.found("EMB10", claim, *evidence, severity=Severity.NOTE)
    elif received is not None and abs(received / given - 1) > SAME:
        claim = f"{name} rescales or shifts vectors after the embedding, soft tokens and words alike."
        yield bench.found("EMB10", claim, *evidence, severity=Severity.NOTE)
    else:
        yield bench.ok("EMB10", f"{name} feeds the table's rows to its first block as they are.", *evidence)


def _law(case: _Case, factor: float | None) -> tuple[str, float | None]:
    """The factor at the model's own width: the twin is narrower, and a factor of sqrt(width) grows with it."""
    from wirecheck import zoo

    if factor is None or case.level is Level.EXECUTED or factor == 1.0:
        return "", factor
    if abs(factor / sqrt(case.trial.table_VD.shape[1]) - 1) > SAME:
        return "", factor
    width = int(zoo.text_config(case.bench.config).hidden_size)
    root = float(f"{sqrt(width):.4g}")
    return f" (the root of the twin's width; {root:g} at the model's {width})", root


_QUESTION = "Does {} do with inputs_embeds what it does with token ids, and does the gradient come back?"
_CODES = ("CFG03", "CFG10", "EMB01", "EMB02", "EMB03", "EMB05", "EMB10")
_CONFIG_BLOCKS = ("CFG01", "CFG02", "CFG03", "CFG05")
_WEIGHT_BLOCKS = ("WGT01", "WGT02", "WGT03", "WGT04", "WGT05", "WGT07", "WGT08", "WGT11")

EMBEDS_TWIN = Probe(
    name="embeds-twin",
    question=_QUESTION.format("the model's class, tiny and random,"),
    scope="model",
    level=Level.SIMULATED,
    codes=_CODES,
    needs="torch",
    requires=("config",),
    moot_after=_CONFIG_BLOCKS,
    run=_on_twin,
)
EMBEDS_WEIGHTS = Probe(
    name="embeds-weights",
    question=_QUESTION.format("the real model"),
    scope="model",
    level=Level.EXECUTED,
    codes=_CODES,
    needs="weights",
    requires=("config",),
    moot_after=(*_CONFIG_BLOCKS, *_WEIGHT_BLOCKS),
    run=_on_weights,
)
