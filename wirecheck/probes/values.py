"""Are the numbers in the weight files numbers? Every floating tensor is read, a block of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from wirecheck.errors import CannotRun
from wirecheck.probe import ModelBench, Probe, Yielded
from wirecheck.readiness import require_weights
from wirecheck.schema import Evidence, Level

if TYPE_CHECKING:
    import torch

    from wirecheck.snapshot import WeightFile

BLOCK_ELEMENTS = 16_000_000
"""Elements held in memory at a time."""
SHOWN, LISTED = 3, 16
"""Tensors named in the claim, and in the evidence."""


def _run(bench: ModelBench) -> Iterator[Yielded]:
    require_weights(bench.snapshot)
    if bench.snapshot.ref.kind == "gguf":
        counted = [(name, param.numel(), _bad_values(param)) for name, param in bench.weights.named_parameters()]
    else:
        counted = [found for file in bench.snapshot.weights for found in _bad_by_tensor(file)]
    yield from judge(bench, counted)


def judge(bench: ModelBench, counted: list[tuple[str, int, int]]) -> Iterator[Yielded]:
    """WGT11 from (tensor, number of values, number of them that are NaN or infinite)."""
    bad = [(name, count) for name, _, count in counted if count]
    if bad:
        shown = ", ".join(f"{name} ({count})" for name, count in bad[:SHOWN])
        shown += " and others" if len(bad) > SHOWN else ""
        claim = f"{len(bad)} of {len(counted)} tensors hold NaN or infinite values: {shown}."
        yield bench.found("WGT11", claim, *(_seen(name, count) for name, count in bad[:LISTED]))
        return
    values = sum(number for _, number, _ in counted)
    claim = f"All {values:,} values of the {len(counted)} floating tensors on file are finite."
    yield bench.ok("WGT11", claim, _seen("every floating tensor, read from the files", 0))


def _seen(source: str, count: int) -> Evidence:
    return Evidence(level=Level.EXECUTED, source=source, observed=count, expected=0)


def _bad_by_tensor(file: WeightFile) -> Iterator[tuple[str, int, int]]:
    from safetensors import SafetensorError, safe_open

    assert file.path is not None
    try:
        with safe_open(file.path, framework="pt") as opened:
            for entry in file.tensors:
                held = opened.get_slice(entry.name)
                blocks = _blocks(held, entry.shape)
                first = next(blocks)
                if first.is_floating_point():
                    bad = _bad_values(first) + sum(_bad_values(block) for block in blocks)
                    yield entry.name, entry.num_elements, bad
    except SafetensorError as error:  # a dtype that the installed library does not have, among others
        raise CannotRun(f"the installed safetensors does not read {file.name}: {error}") from error


def _blocks(held: Any, shape: tuple[int, ...]) -> Iterator[torch.Tensor]:
    """The tensor, in blocks of whole rows."""
    if not shape:
        yield held[...]
        return
    per_row = max(1, _product(shape[1:]))
    rows = max(1, BLOCK_ELEMENTS // per_row)
    for start in range(0, max(shape[0], 1), rows):
        yield held[start : start + rows]


def _bad_values(values: torch.Tensor) -> int:
    """How many values are NaN or infinite."""
    import torch

    if values.element_size() == 1:  # 8-bit floats have no isfinite of their own
        values = values.float()
    if values.numel() and all(bool(end.isfinite()) for end in torch.aminmax(values)):
        return 0  # an order of magnitude faster than to ask each value; a NaN is its own smallest and largest
    return values.numel() - int(values.isfinite().sum())


def _product(sizes: tuple[int, ...]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product


VALUES = Probe(
    name="weight-values",
    question="Is every number in the weight files finite?",
    scope="model",
    level=Level.EXECUTED,
    codes=("WGT11",),
    needs="weights",
    requires=("weights",),
    moot_after=("WGT01", "WGT02", "WGT03", "WGT04"),
    run=_run,
)
