"""What would make a step fit that does not: milder options on the same GPUs, the cheapest first; then other GPUs."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from wirecheck.vram.gpus import GPUS, Gpu
from wirecheck.vram.plan import Plan, Step, even_split, fits, on, plans, split, weight_bytes

CHECKPOINTING = "--grad-checkpointing"
FOUR_BITS = "nf4"
APART = "one model at a time (resident = sequential)"
MORE = (2, 4, 8)
"""Counts of GPUs tried."""
Options = Mapping[str, object]


@dataclass(frozen=True)
class Remedy:
    """One way out, traced."""

    words: str
    """Where it fits, and with which options: the end of `it fits on`."""
    plan: Plan
    changed: Options
    """Fields of the wire's and the training's specs."""


def remedies(step: Step, gpu: Gpu, count: int = 1) -> Iterator[Remedy]:
    """What does fit, found one by one, by its cost. Raises CannotTrace."""
    return chain(milder(step, gpu, count), other_gpus(step, gpu, count))


def milder(step: Step, gpu: Gpu, count: int = 1) -> Iterator[Remedy]:
    """On the same GPUs: checkpointing, fewer rows, weights of 4 bits, one model at a time, fewer losses."""
    yield from _smaller(step, gpu, count, {}, "")
    if step.train.quantize == "none" and not _declared(step):
        yield from _smaller(step, gpu, count, {"quantize": FOUR_BITS}, f"--quantize {FOUR_BITS}")
    if count == 1 and len(step.configs) > 1 and step.train.resident == "joint":
        yield from _smaller(step, gpu, count, {"resident": "sequential"}, APART)
    for kept in _fewer_losses(step.wire.losses):
        yield from _smaller(step, gpu, count, {"losses": kept}, f"no loss but {' and '.join(kept)}")


def _declared(step: Step) -> bool:
    """Whether a checkpoint is quantized already."""
    from wirecheck import zoo

    return any(zoo.quantization(config) for config in step.configs.values())


def other_gpus(step: Step, gpu: Gpu, count: int = 1) -> Iterator[Remedy]:
    """With the options as they are: one model per GPU, each split over more GPUs of the kind, a larger kind."""
    if count == 1 and len(step.configs) > 1:
        plan = next(plans(step, gpu, 2))
        if plan.outcome == "fits":
            yield Remedy(f"{on(gpu, 2)}, {plan.words}", plan, {})
    for more in (each for each in MORE if each > count):
        plan = split(step, gpu, more)
        if plan.needs and plan.outcome != "fits":
            plan = even_split(step, gpu, more) or plan
        if plan.outcome == "fits":
            yield Remedy(f"{on(gpu, more)}, {plan.words}", plan, {})
            break
    for one in sorted((each for each in GPUS if each.usable_bytes > gpu.usable_bytes), key=lambda g: g.usable_bytes):
        plan = next(plans(step, one, count))
        if plan.outcome == "fits":
            yield Remedy(", ".join(filter(None, (on(one, count), plan.words))), plan, {})
            return


def _smaller(step: Step, gpu: Gpu, count: int, changed: Options, words: str) -> Iterator[Remedy]:
    """With those changes: alone, with checkpointing, with the largest batch that fits, with both."""
    if weight_bytes(step.but(changed), gpu) > count * gpu.usable_bytes:
        return
    ways: list[tuple[Options, str]] = [({}, "")]
    if not step.train.grad_checkpointing:
        ways.append(({"grad_checkpointing": True}, CHECKPOINTING))
    if fits(step.but({**changed, **ways[-1][0], "batch": 1}), gpu, count) is None:
        return
    whole = False
    for more, option in ways:
        found = fits(step.but({**changed, **more}), gpu, count) if more or changed else None
        if found is not None:
            yield _remedy(found, count, {**changed, **more}, (words, option))
            whole = True
            if not more:
                return
    for more, option in ways[:1] if whole else ways:
        batch, found = _largest_batch(step.but({**changed, **more}), gpu, count)
        if found is not None:
            yield _remedy(
                found, count, {**changed, **more, "batch": batch}, (words, f"{option} --batch {batch}".strip())
            )


def _largest_batch(step: Step, gpu: Gpu, count: int) -> tuple[int, Plan | None]:
    """Of the batch halved again and again, the largest that fits."""
    if fits(step.but({"batch": 1}), gpu, count) is None:
        return 1, None
    halved = [step.train.batch >> times for times in range(1, step.train.batch.bit_length())]
    first = bisect_left(halved, 1, key=lambda batch: int(fits(step.but({"batch": batch}), gpu, count) is not None))
    return (halved[first], fits(step.but({"batch": halved[first]}), gpu, count)) if halved else (1, None)


def _fewer_losses(losses: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Without the costliest: the text teacher's, then the K forwards."""
    for dropped in ("kd", "first-k"):
        kept = tuple(loss for loss in losses if loss != dropped)
        if kept and kept != losses:
            yield kept
    if "answer" in losses and len(losses) > 2:  # noqa: PLR2004  # both others were there
        yield ("answer",)


def _remedy(plan: Plan, count: int, changed: Options, words: tuple[str, str]) -> Remedy:
    placed = ", ".join(filter(None, (on(plan.gpu, count), plan.words)))
    return Remedy(f"{placed} with {' with '.join(filter(None, words))}", plan, changed)
