"""What both probes of memory share: sizes from files and earlier probes, and the formula's estimate."""

from __future__ import annotations

from wirecheck.errors import CannotRun
from wirecheck.probe import ModelBench, PairBench
from wirecheck.schema import Level, MemoryEstimate, Policy, Scalar, WireSpec, strongest
from wirecheck.snapshot import JsonUnreadable
from wirecheck.vram.formula import MemoryShape, estimate
from wirecheck.vram.shape import read_shape
from wirecheck.wires import WIRES, pair_count, parameter_count
from wirecheck.wires.traceable import traceable

LARGEST_PARTS = 3
"""Parts of the peak that a claim names."""


def memory_shape(bench: ModelBench | PairBench, model: ModelBench) -> MemoryShape | tuple[str, ...]:
    """In the dtype of the bench's run; the names of the sizes that nothing establishes, where there are such.

    CannotRun where config.json cannot be read, or the weights are to be quantized, which the formula cannot count.
    """
    if bench.train.quantize != "none":
        raise CannotRun(f"the formula does not know weights that are quantized on load ({bench.train.quantize})")
    try:
        config = model.snapshot.read_json("config.json")
    except JsonUnreadable as error:
        raise CannotRun(f"{error} (model {model.side})") from None

    def known(key: str) -> Scalar:
        fact = strongest(bench.facts, model.side, key)
        return None if fact is None else fact.value

    return read_shape(model.side, config, model.snapshot.tensors, known, bench.train.dtype)


def estimated(bench: ModelBench | PairBench, models: tuple[ModelBench, ...]) -> MemoryEstimate | None:
    """The formula's estimate alone; None where sizes are missing, or the weights are to be quantized."""
    if bench.train.quantize != "none":
        return None
    shapes = [shape for model in models if isinstance(shape := memory_shape(bench, model), MemoryShape)]
    if len(shapes) < len(models):
        return None
    other = shapes[1] if len(shapes) > 1 else None
    return estimate(shapes[0], other, bench.wire, bench.train, trainable(bench, shapes))


def trainable(bench: ModelBench | PairBench, shapes: list[MemoryShape]) -> int:
    """Scalars that the wire trains; 0 of the user's own. CannotRun where wirecheck ships no such wire."""
    if bench.wire.is_own:
        return 0  # said in the estimate's assumptions and in its claims
    if bench.wire.name not in WIRES:
        raise CannotRun(f"wirecheck ships no wire named {bench.wire.name}")
    sizes = [shape.hidden_size for shape in shapes]
    return pair_count(bench.wire, *sizes).total if len(sizes) > 1 else sum(parameter_count(bench.wire, *sizes))


def by_formula(wire: WireSpec, policy: Policy) -> bool:
    """Whether the formula is asked: where the step is not traced, because of --depth or of the wire."""
    return policy.depth.rank < Level.SIMULATED.rank or not traceable(wire)
