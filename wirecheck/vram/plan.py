"""Where a step is placed and what each GPU then has to hold: on one, one model on each, or each split over all of them.

Torch-free to import: torch is loaded by what is called. What would make a step fit that does not is in `remedies`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from wirecheck.schema import TrainSpec, WireSpec
from wirecheck.vram.gpus import Gpu
from wirecheck.vram.overheads import overheads

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from wirecheck.vram.attention import Target
    from wirecheck.vram.split import Spread
    from wirecheck.vram.step import Traced
    from wirecheck.wires.contract import SideName

MARGIN = 0.05
"""Stated relative error of the allocated total: kernels and workspaces of a GPU were not measured for this trace."""
MOST_SPLIT = 16
"""GPUs that a model is split over: one process, hence one machine."""
Outcome = Literal["fits", "uncertain", "does-not-fit"]


@dataclass(frozen=True)
class Need:
    """What one GPU has to hold."""

    allocated: int
    reserved: int
    process: int
    """With the context."""
    least: int
    most: int
    """The honest interval around it."""
    ran_out: bool
    """Whether the allocator finds no room on that GPU although it gives back what it caches."""

    def fits(self, gpu: Gpu) -> bool:
        """Whether that GPU holds it, at the upper end of the interval."""
        return self.most <= gpu.usable_bytes and not self.ran_out


def target_of(gpu: Gpu) -> Target:
    """GPUs that choose the same kernels have one target."""
    from wirecheck.vram.attention import Target

    exact = Target(capability=gpu.capability)
    if exact.prefers_cudnn and gpu.maker == "nvidia":
        return Target(capability=(9, 0))
    return Target(capability=(8, 0) if gpu.capability >= (8, 0) else (7, 5))


@dataclass(frozen=True)
class Bounds:
    """What a peak of the trace comes to on one GPU, before the allocator is asked."""

    allocated: int
    """With the workspaces of matrix libraries."""
    least: int
    most: int
    """Of the process, with the context: the honest interval."""
    room: int
    """What the allocator then has for the step's blocks."""


def bounds_of(peak_bytes: int, gpu: Gpu) -> Bounds:
    """The interval around a traced peak on that GPU."""
    beside = overheads(gpu)
    low, high = beside.context_span
    allocated = peak_bytes + beside.workspace_bytes
    spare = int(MARGIN * allocated)
    room = gpu.usable_bytes - high - beside.workspace_bytes - spare
    return Bounds(allocated, allocated - spare + low, allocated + spare + high, room)


def need_of(traced: Traced, gpu: Gpu) -> Need:
    """What that GPU has to hold of a step traced for one."""
    from wirecheck.vram.allocator import replay

    beside, bounds = overheads(gpu), bounds_of(traced.peak.bytes, gpu)
    reserved = traced.reserved_bytes + beside.workspace_bytes
    ran_out = bounds.most > gpu.usable_bytes or (
        traced.reserved_bytes > bounds.room  # else nothing is ever refused, and the replay is the one just made
        and replay(traced.ledger.events, capacity_bytes=bounds.room).ran_out
    )
    return Need(bounds.allocated, reserved, reserved + beside.context_bytes, bounds.least, bounds.most, ran_out)


@dataclass(frozen=True)
class Plan:
    """One placement of the step, and what comes of it."""

    words: str
    """How it is placed; empty for all on one GPU."""
    gpu: Gpu
    needs: tuple[Need, ...] = ()
    """What each GPU that is used has to hold, the first the one with the wire; none where that was not found."""
    refused: str = ""
    """Why the step cannot be placed so."""
    unknown: str = ""
    """Why it is not known whether it can."""

    @property
    def outcome(self) -> Outcome:
        """Whether every GPU holds its part."""
        if self.unknown:
            return "uncertain"
        if self.refused or any(need.least > self.gpu.usable_bytes for need in self.needs):
            return "does-not-fit"
        return "fits" if all(need.fits(self.gpu) for need in self.needs) else "uncertain"

    @property
    def fullest(self) -> Need:
        """What the fullest GPU has to hold."""
        return max(self.needs, key=lambda need: need.most)


@dataclass(frozen=True)
class Placed:
    """The placements that were tried on some GPUs: the last of them fits, or none does."""

    tried: tuple[Plan, ...]

    @property
    def outcome(self) -> Outcome:
        """Whether one fits; does-not-fit only where none can."""
        if self.tried[-1].outcome == "fits":
            return "fits"
        return "does-not-fit" if all(plan.outcome == "does-not-fit" for plan in self.tried) else "uncertain"

    @property
    def best(self) -> Plan | None:
        """The one that fits, else the one whose fullest GPU is least full; None where nothing is known of any."""
        if self.outcome == "fits":
            return self.tried[-1]
        return min((plan for plan in self.tried if plan.needs), key=lambda plan: plan.fullest.most, default=None)


@dataclass(frozen=True)
class Step:
    """One step, and the traces of it that were made: one for each set of options, kernels and placement."""

    configs: Mapping[SideName, PretrainedConfig]
    wire: WireSpec
    train: TrainSpec
    seed: int = 0
    made: dict[str, Traced] = field(default_factory=dict, repr=False, compare=False)

    def but(self, changed: Mapping[str, object]) -> Step:
        """The step with other fields of its wire or of its training, sharing the traces."""
        wire = {key: to for key, to in changed.items() if key in WireSpec.model_fields}
        train = {key: to for key, to in changed.items() if key in TrainSpec.model_fields}
        assert len(wire) + len(train) == len(changed), f"fields of neither: {changed}"
        return replace(
            self,
            wire=WireSpec.model_validate(dict(self.wire) | wire),
            train=TrainSpec.model_validate(dict(self.train) | train),
        )

    def traced(self, gpu: Gpu, sides: str = "ab", over: Spread | None = None) -> Traced:
        """On one GPU, or split over several. Raises CannotTrace, CannotPlace."""
        from wirecheck.vram.step import WHOLE, Extent, trace_step

        target = target_of(gpu)
        extent = WHOLE if over else Extent(warm=True)
        key = f"{target} {self.wire} {self.train} {sides} {over}"
        if key not in self.made:
            configs = {side: config for side, config in self.configs.items() if side in sides}
            self.made[key] = trace_step(configs, self.wire, self.train, target, self.seed, extent, over=over)
        return self.made[key]


def plans(step: Step, gpu: Gpu, count: int = 1) -> Iterator[Plan]:
    """The placements on that many GPUs of a kind, found one by one, the simplest first. Raises CannotTrace.

    On one: everything there. On several, a pair: one model on each of two, beside its own adapter; one model: all on
    one. Then each model split over all of them, by `device_map="auto"` and evenly, the wire on the first.
    """
    whole = step.traced(gpu)
    if count == 1 or len(step.configs) == 1:
        yield Plan("" if count == 1 else "all on one of them", gpu, (need_of(whole, gpu),))
    else:
        yield _apart(step, gpu)
    if count > 1:
        first = split(step, gpu, count)
        yield first
        even = even_split(step, gpu, count) if first.needs else None
        if even is not None:
            yield even


def split(step: Step, gpu: Gpu, count: int, layers: tuple[tuple[int, ...], ...] = ()) -> Plan:
    """Each model split over those GPUs, as `from_pretrained(device_map="auto")` does one after the other.

    With `layers` the map is the user's own: so many of each model's layers on each GPU, the rest as it was.
    """
    from wirecheck.vram.split import CannotPlace
    from wirecheck.vram.step import CannotTrace

    over = _spread(gpu, count, layers)
    each = "each model" if len(step.configs) > 1 else "the model"
    words = f'{each} split over {over.count} by device_map="auto"'
    if layers:
        counts = " and ".join(
            f"{'+'.join(map(str, held))} layers of {side}" for side, held in zip(step.configs, layers, strict=True)
        )
        words = f"{each} split over {over.count} by a device_map with {counts}"
    least = int((1 - MARGIN) * step.traced(gpu).peak.bytes)  # together the GPUs hold no less than one would
    if least > over.count * gpu.usable_bytes:
        return Plan(words, gpu, refused=f"the step takes at least {least / 1e9:.1f} GB in all")
    try:
        made = step.traced(gpu, over=over)
    except CannotPlace as missing:
        return Plan(words, gpu, refused=missing.reason)
    except CannotTrace as missing:
        return Plan(words, gpu, unknown=missing.reason)
    used = 1 + max(n for n, one in enumerate(made.gpus) if one.ledger.events)  # a small model leaves the last ones
    return Plan(words, gpu, tuple(need_of(one, gpu) for one in made.gpus[:used]))


def even_split(step: Step, gpu: Gpu, count: int) -> Plan | None:
    """Each model split over those GPUs so that they are filled evenly; None where that is how "auto" fills them.

    Raises CannotTrace, CannotPlace.
    """
    from wirecheck.vram.even import even_layers

    over = _spread(gpu, count)
    layers = even_layers(step.traced(gpu, over=over), over.count)
    return split(step, gpu, count, layers) if layers else None


def _spread(gpu: Gpu, count: int, layers: tuple[tuple[int, ...], ...] = ()) -> Spread:
    from wirecheck.vram.split import Spread

    return Spread(min(count, MOST_SPLIT), gpu.usable_bytes - overheads(gpu).context_bytes, layers)


def weight_bytes(step: Step, gpu: Gpu) -> int:
    """Both models' weights, or the larger one's, where one leaves the GPU for the other. Raises CannotTrace."""
    return sum(size for part, size in step.traced(gpu).peak.parts.items() if part.startswith("weights"))


def place(step: Step, gpu: Gpu, count: int = 1) -> Placed:
    """The placements up to the first that fits. Raises CannotTrace."""
    tried: list[Plan] = []
    for plan in plans(step, gpu, count):
        tried.append(plan)
        if plan.outcome == "fits":
            break
    return Placed(tuple(tried))


def fits(step: Step, gpu: Gpu, count: int = 1) -> Plan | None:
    """The first placement that fits. Raises CannotTrace."""
    found = place(step, gpu, count)
    return found.best if found.outcome == "fits" else None


def _apart(step: Step, gpu: Gpu) -> Plan:
    from wirecheck.vram.step import CannotTrace

    words = "one model per GPU"
    try:
        return Plan(words, gpu, tuple(need_of(step.traced(gpu, side), gpu) for side in step.configs))
    except CannotTrace as missing:
        return Plan(words, gpu, unknown=missing.reason)


def on(gpu: Gpu, count: int) -> str:
    """`T4`, or `2 x T4`."""
    return gpu.name if count == 1 else f"{count} x {gpu.name}"
