"""Results, frontiers and timelines that the tests of the pictures draw."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import combinations
from typing import get_args

from tests.factories import pair_result
from wirecheck.frontier_records import CurvePoint, Frontier, FrontierGpu, FrontierRow, Largest, Way
from wirecheck.gate_records import GateOutcome
from wirecheck.matrix_records import Matrix, MatrixCell, MatrixModel
from wirecheck.schema import (
    Fact,
    Fit,
    Level,
    MemoryEstimate,
    MemoryPart,
    MemoryTimeline,
    PairResult,
    Ran,
    TimelinePart,
    TimelinePhase,
)
from wirecheck.views.pictures import Picture

GIB = 2**30
PHASES = (("forward of the wire", 0), ("forward a", 8), ("forward b", 50), ("backward b", 100), ("backward a", 160))
MORE = (("backward of the wire", 210), ("update", 225))
TEXTS = {"english": (212, 230), "german": (301, 287), "chinese": (260, 198), "code": (410, 395), "numbers": (96, 61)}


def _ramp(count: int, start: int, top: int, end: int) -> list[float]:
    """Nothing, a rise between `start` and `top`, a fall until `end`, nothing."""
    up = [(n - start) / (top - start) for n in range(start, top)]
    down = [1 - (n - top) / (end - top) for n in range(top, end)]
    return [0.0] * start + up + down + [0.0] * (count - end)


def timeline(scale: float = 1.0, count: int = 240) -> MemoryTimeline:
    """A step of two models whose peak is early in the backward of B."""
    shares = {
        "weights a": [15.0] * count,
        "weights b": [14.2] * count,
        "trained parameters": [0.06] * count,
        "optimizer states": [0.12] * count,
        "activations of the wire": _ramp(count, 0, 8, 225),
        "activations a": [6 * one + 0.03 * (n % 3) for n, one in enumerate(_ramp(count, 8, 50, 210))],
        "activations b": [5.7 * one + 0.05 * (n % 5) for n, one in enumerate(_ramp(count, 50, 100, 160))],
        "logits and loss a": [0.6 * one for one in _ramp(count, 46, 50, 170)],
        "logits and loss b": [2.2 * one for one in _ramp(count, 96, 101, 108)],
        "gradients a": [0.4 * one for one in _ramp(count, 160, 190, 211)],
        "gradients b": [0.5 * one for one in _ramp(count, 101, 130, 161)],
        "masks a": [0.012 if n < 200 else 0.0 for n in range(count)],
        "masks b": [0.011 if n < 150 else 0.0 for n in range(count)],
    }
    parts = tuple(
        TimelinePart(name=name, bytes=tuple(int(one * GIB * scale) for one in held)) for name, held in shares.items()
    )
    totals = list(map(sum, zip(*(part.bytes for part in parts), strict=True)))
    phases = tuple(TimelinePhase(name=name, first=first) for name, first in (*PHASES, *MORE))
    return MemoryTimeline(phases=phases, parts=parts, peak=totals.index(max(totals)))


def memory(line: MemoryTimeline | None = None, **changes) -> MemoryEstimate:
    """An estimate whose parts are what the timeline holds at its peak."""
    line = line or timeline()
    parts = tuple(MemoryPart(name=one.name, bytes=one.bytes[line.peak], how="trace") for one in line.parts)
    total = sum(part.bytes for part in parts)
    fits = (
        Fit(gpu="H100-80GB", count=1, outcome="fits", free_bytes=79 * GIB - total, usable_bytes=79 * GIB),
        Fit(gpu="L4", count=1, outcome="does-not-fit", free_bytes=22 * GIB - total, usable_bytes=22 * GIB),
    )
    fields = {
        "level": Level.SIMULATED,
        "method": "trace",
        "parts": tuple(part for part in parts if part.bytes),
        "assumptions": (),
        "margin": 0.05,
        "process_bytes": total + GIB,
        "fits": fits,
        "timeline": line,
    }
    return MemoryEstimate(**fields | changes)


def counted(texts: dict[str, tuple[int, ...]] | None = None) -> tuple[Ran, ...]:
    """Runs that counted the tokens of texts, for as many models as there are counts."""
    texts = TEXTS if texts is None else texts
    made = []
    for subject, place in (("a", 0), ("b", 1)):
        facts = tuple(
            Fact(key=f"sample_tokens_{kind}", subject=subject, value=counts[place], level=Level.INSPECTED, source="t")
            for kind, counts in texts.items()
            if place < len(counts)
        )
        made.append(Ran(probe="pairing", subject=subject, level=Level.INSPECTED, seconds=0.0, facts=facts))
    return tuple(made)


def drawn_result(**changes) -> PairResult:
    """A result with figures for every picture."""
    base = pair_result()
    return pair_result(**{"runs": (*base.runs, *counted()), "memory": memory()} | changes)


def frontier() -> Frontier:
    """Two GPUs in two ways: a range, an end of the axis, nothing, and what was not traced."""
    base = pair_result()
    largest = (
        (Largest(fits=43, may_fit=47), Largest(fits=640, may_fit=704)),
        (Largest(fits=100, may_fit=100, ended=True), Largest(fits=65536, may_fit=65536, ended=True)),
        (Largest(fits=0, may_fit=0), Largest(fits=0, may_fit=6)),
        (None, None),
    )
    places = (("L4", "as-asked"), ("H200", "as-asked"), ("L4", "checkpointing"), ("H200", "checkpointing"))
    rows = tuple(
        FrontierRow(gpu=gpu, way=way, placement="one-gpu", batch=batch, context=context, why=None if batch else "no")
        for (gpu, way), (batch, context) in zip(places, largest, strict=True)
    )
    fields = {name: getattr(base, name) for name in ("seed", "a", "b", "wire", "train", "environment")}
    return Frontier(
        status="finished",
        command="wirecheck fit",
        gpus=tuple(FrontierGpu(name=name, usable_bytes=1, source="s") for name in ("L4", "H200")),
        ways=(Way(name="as-asked", words="as asked"), Way(name="checkpointing", words="checkpointing")),
        rows=rows,
        **fields,
    )


DOTS = ((64, 64), (512, 16), (4096, 4))


def curved() -> Frontier:
    """Three GPUs with curves: one whole, one with a gap, one that holds nothing."""
    base = frontier()
    spans = {
        "H200": ((64, 70), (16, 16), (4, 5)),
        "L4": ((3, 5), None, (0, 0)),
        "T4": ((0, 0),),
    }
    rows = []
    for gpu, span in spans.items():
        answers = [None if one is None else Largest(fits=one[0], may_fit=one[1]) for one in span]
        curve = tuple(
            CurvePoint(context=context, batch=answer, why=None if answer else "no")
            for (context, _), answer in zip(DOTS, answers, strict=False)
        )
        rows.append(
            FrontierRow(
                gpu=gpu,
                way="as-asked",
                placement="one-gpu",
                batch=answers[0],
                context=Largest(fits=640, may_fit=704),
                curve=curve,
            )
        )
    return base.model_copy(update={"rows": tuple(rows)})


def matrix(names: tuple[str, ...]) -> Matrix:
    """Every pair of those models, the outcomes in turn, memory and ratio growing."""
    base, outcomes, pairs = pair_result(), get_args(GateOutcome), list(combinations(names, 2))
    cells = tuple(
        MatrixCell(a=a, b=b, outcome=outcomes[n % 5], memory=GIB << (n % 9), token_length_ratio=0.7 + 0.01 * n)
        for n, (a, b) in enumerate(pairs)
    )
    fields = {name: getattr(base, name) for name in ("seed", "wire", "train", "policy", "environment")}
    models = tuple(MatrixModel(name=name, ref=name) for name in names)
    return Matrix(status="finished", command="wirecheck matrix", models=models, cells=cells, seconds=1.0, **fields)


# --- what was drawn ----------------------------------------------------------------------------------------------

SVG = "{http://www.w3.org/2000/svg}"


def shapes(picture: Picture, **told: str) -> list[ET.Element]:
    """What bears those data."""
    found = ET.fromstring(picture.svg).iter()
    return [one for one in found if all(one.get(f"data-{key}") == value for key, value in told.items())]


def bearing(picture: Picture, key: str) -> list[ET.Element]:
    """What bears a datum of that name."""
    return [one for one in ET.fromstring(picture.svg).iter() if one.get(f"data-{key}") is not None]


def texts(picture: Picture) -> list[str]:
    """The lines of text, in their order."""
    return [one.text or "" for one in ET.fromstring(picture.svg).iter(f"{SVG}text")]


def points(path: ET.Element) -> list[tuple[float, float]]:
    """The corners of a path of straight lines."""
    numbers = [float(one) for one in re.findall(r"-?[\d.]+", path.attrib["d"])]
    return list(zip(numbers[::2], numbers[1::2], strict=True))
