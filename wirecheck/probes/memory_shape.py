"""The sizes of one model that its memory depends on, from its files and from what earlier probes established."""

from __future__ import annotations

from wirecheck.errors import CannotRun
from wirecheck.probe import ModelBench, PairBench
from wirecheck.schema import Scalar, strongest
from wirecheck.snapshot import JsonUnreadable
from wirecheck.vram.formula import MemoryShape
from wirecheck.vram.shape import read_shape


def memory_shape(bench: ModelBench | PairBench, model: ModelBench) -> MemoryShape | tuple[str, ...]:
    """In the dtype of the bench's run; the names of the sizes that nothing establishes, where there are such.

    CannotRun where config.json cannot be read.
    """
    try:
        config = model.snapshot.read_json("config.json")
    except JsonUnreadable as error:
        raise CannotRun(f"{error} (model {model.side})") from None

    def known(key: str) -> Scalar:
        fact = strongest(bench.facts, model.side, key)
        return None if fact is None else fact.value

    return read_shape(model.side, config, model.snapshot.tensors, known, bench.train.dtype)
