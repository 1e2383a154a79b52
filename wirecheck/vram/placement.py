"""Whether a step fits on the GPUs asked for, by the formula's figures alone: the rule, and its sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from wirecheck.schema import GpuRequest, TrainSpec, WireSpec
from wirecheck.vram.formula import MemoryShape, estimate, lower_bound_bytes, margin
from wirecheck.vram.gpus import Gpu, find

CONTEXT_BYTES = 600 * 2**20
"""What the driver's context and loaded kernels take of a GPU, kept free before a step is said to fit."""
GIGA = 10**9


@dataclass(frozen=True, slots=True)
class StepFigures:
    """A step, by the formula. All in bytes but for the margin."""

    allocated: int
    """The peak with everything on one GPU."""
    apart: int
    """The peak of the fuller GPU, each model on its own, beside all trainables; of one model, as above."""
    margin: float
    floor: int
    """What no schedule can do without; 0 where the weights were not read from files that hold these models alone."""
    models: int
    guessed: str
    """What the formula had to guess, in words; empty where it guessed nothing."""
    is_own: bool
    """Whether the wire is the user's own, of which nothing is counted."""

    def claim(self, words: str) -> str:
        """A claim by the formula, with what it had to guess."""
        return f"{words} ({self.guessed})." if self.guessed else f"{words}."


def step_figures(
    shapes: Sequence[MemoryShape],
    wire: WireSpec,
    train: TrainSpec,
    trainable: int,
    *,
    allocated: int,
    is_counted: bool,
) -> StepFigures:
    """Those of a step that peaks at `allocated` bytes; `is_counted`: its models' tensors were read from files."""
    other = shapes[1] if len(shapes) > 1 else None
    is_sure = is_counted and not any(one.reservations for one in shapes)
    apart = [estimate(one, None, wire, train, trainable).allocated_bytes for one in shapes if other is not None]
    return StepFigures(
        allocated=allocated,
        apart=max(apart, default=allocated),
        margin=margin(shapes, wire),
        floor=lower_bound_bytes(shapes[0], other, train, trainable) if is_sure else 0,
        models=len(shapes),
        guessed=guessed(shapes, wire),
        is_own=wire.is_own,
    )


class Placement(NamedTuple):
    """What is said of one request for GPUs."""

    fit: Literal["fits", "uncertain", "does-not-fit"]
    code: Literal["MEM01", "MEM02"]
    claim: str
    is_bare: bool
    """Whether weights and optimizer alone are too much: then it is no matter of the formula."""
    need: int
    """Bytes that the fullest GPU needs."""
    most: int
    """The same at the upper end of the margin, with the driver's context."""


def place(step: StepFigures, gpu: Gpu, count: int) -> Placement:
    """Whether `count` of these GPUs hold the step."""
    need, room = step.allocated if count == 1 else step.apart, gpu.usable_bytes
    most, least = int(need * (1 + step.margin)) + CONTEXT_BYTES, int(need * (1 - step.margin))
    on = gpu.name if count == 1 else f"{count} x {gpu.name}"
    if step.floor > count * room:
        claim = (
            f"The step does not fit on {on}: weights, trained parameters and optimizer alone are "
            f"{gigabytes(step.floor)}."
        )
        return Placement("does-not-fit", "MEM01", claim, True, need, most)
    how = "" if count == 1 or step.models == 1 else ", one model per GPU"
    figures = f"{gigabytes(need)} ± {step.margin:.0%} of {gigabytes(room)}{how}"
    if most <= room and not step.is_own:
        claim = step.claim(f"By formula the step fits on {on}: {figures}")
        return Placement("fits", "MEM01", claim, False, need, most)
    if least > room:
        claim = step.claim(f"By formula alone the step does not fit on {on}: {figures}")
        return Placement("does-not-fit", "MEM02", claim, False, need, most)
    claim = step.claim(f"Whether the step fits on {on} is within the formula's error: {figures}")
    return Placement("uncertain", "MEM02", claim, False, need, most)


def not_shown(step: StepFigures, placed: Sequence[tuple[GpuRequest, Placement]]) -> str | None:
    """Why the question stays open: no GPU is shown to be too small for good, and some are not shown to do."""
    unsure = [request for request, one in placed if one.fit != "fits"]
    if not unsure or any(one.is_bare for _, one in placed):
        return None
    names = ", ".join(f"{find(request.name).name} x{request.count}" for request in unsure)
    guessed = f"; {step.guessed}" if step.guessed else ""
    return (
        f"the step is not shown to fit on {names}: by the formula it peaks at {gigabytes(step.allocated)} "
        f"± {step.margin:.0%}{guessed}"
    )


def unknown_sizes(missing: Sequence[str], side: str) -> str:
    """What is said where sizes are missing."""
    return f"No memory estimate can be made: nothing establishes {', '.join(missing)} of model {side}."


def guessed(shapes: Iterable[MemoryShape], wire: WireSpec) -> str:
    """What the formula has to guess of these models, in words; empty where it guesses nothing."""
    words = ["without what your own wire trains and keeps"] if wire.is_own else []
    words += [
        f"of model {one.side}, {reservation.removesuffix('.')}" for one in shapes for reservation in one.reservations
    ]
    return "; ".join(words)


def gigabytes(amount: int) -> str:
    """`16.1 GB (15.0 GiB)`, or `56.5 MB (53.8 MiB)` below a GB."""
    if amount < GIGA:
        return f"{amount / 1e6:.1f} MB ({amount / 2**20:.1f} MiB)"
    return f"{amount / 1e9:.1f} GB ({amount / 2**30:.1f} GiB)"
