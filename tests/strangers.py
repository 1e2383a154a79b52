"""Records with a stranger's text in every place that one can reach, and every face that shows them."""

from __future__ import annotations

from typing import NamedTuple

from tests import gates
from tests.factories import hostile_result, pair_result
from tests.matrices import hostile
from wirecheck.architecture_records import Architecture, ArchitectureCheck, ArchitectureRun, ArchitectureTable, Trouble
from wirecheck.difference import compare
from wirecheck.frontier_records import Frontier, FrontierGpu, FrontierRow, Largest, Way
from wirecheck.gate_records import GateResult, GateRow
from wirecheck.matrix_records import Matrix, MatrixCause, MatrixCell, MatrixModel
from wirecheck.matrix_tally import Tally
from wirecheck.schema import (
    CheckedModel,
    Environment,
    Evidence,
    Level,
    MemoryEstimate,
    MemoryPart,
    PairResult,
    TrainSpec,
    WireSpec,
)
from wirecheck.views import architectures, difference, fit, gate, html, markdown, matrix


class Faces(NamedTuple):
    """One report in both forms."""

    markdown: str
    html: str


def faces(text: str) -> dict[str, Faces]:
    """Every report that is a page, by its name."""
    pair, change = _pair(text), compare(hostile_result("as it was"), hostile_result(text), (text, text))
    table, found, frontier, gated = _architectures(text), _matrix(text), _frontier(text), _gate(text)
    tally = Tally.of(found)
    return {
        "pair": Faces(markdown.render(pair), html.render(pair)),
        "fit": Faces(fit.render(frontier), fit.render_html(frontier)),
        "gate": Faces(gate.render(gated), gate.render_html(gated)),
        "diff": Faces(difference.render(change), difference.render_html(change)),
        "matrix": Faces(matrix.render(found, tally), matrix.render_html(found, tally)),
        "architectures": Faces(architectures.render(table), architectures.render_html(table)),
    }


def _pair(text: str) -> PairResult:
    one = hostile_result(text)
    parts = (MemoryPart(name=text, bytes=2**30, how=text),)
    memory = MemoryEstimate(
        level=Level.SIMULATED, method="trace", parts=parts, assumptions=(text,), margin=0.05, fits=()
    )
    given = {"command": text, "environment": one.environment, "memory": memory}
    return pair_result(a=one.a, b=one.a, runs=one.runs, **given)


def _gate(text: str) -> GateResult:
    row = GateRow(a=text, b=f"{text}.", outcome="incompatible", why=(text,), result=hostile_result(text))
    taken = gates.acceptance("unused", "TOK05", text).model_copy(update={"reason": text})
    lost = gates.lost(text, a=f"{text}!")
    return gates.gate(row, lost, accepted=(taken,), command=text, file=text)


def _matrix(text: str) -> Matrix:
    a, b, c = text, f"{text}.", f"{text}!"
    cause = MatrixCause(code="CFG11", subject="a", claim=text)
    cells = (
        MatrixCell(a=a, b=b, outcome="incompatible", causes=(cause,), why=(text,), memory=10**9),
        MatrixCell(a=a, b=c, outcome="compatible", strength=Level.SIMULATED, memory=3 * 10**9),
        MatrixCell(a=b, b=c, outcome="unproven", why=(text,)),
    )
    models = (
        MatrixModel(name=a, ref=text, commit=text, model_type=text),
        MatrixModel(name=b, ref=text, why=text),
        MatrixModel(name=c, ref=text),
    )
    return hostile().model_copy(update={"models": models, "cells": cells, "command": text})


def _frontier(text: str) -> Frontier:
    model = CheckedModel(ref=text, name=text, kind="folder", commit=text)
    held = Largest(fits=7, may_fit=9, least_bytes=10**9, most_bytes=2 * 10**9)
    same = {"way": "as-asked", "placement": "one-gpu"}
    return Frontier(
        status="finished",
        command=text,
        seed=0,
        a=model,
        b=model,
        wire=WireSpec(),
        train=TrainSpec(),
        environment=Environment(python=text, platform=text, packages=((text, text),)),
        gpus=(FrontierGpu(name=text, usable_bytes=10**10, source=text),),
        ways=(Way(name="as-asked", words=text),),
        rows=(
            FrontierRow(gpu=text, batch=held, context=held, **same),
            FrontierRow(gpu=f"{text}.", why=text, **same),
        ),
        assumptions=(text,),
    )


def _architectures(text: str) -> ArchitectureTable:
    seen = Evidence(level=Level.SIMULATED, source=text, observed=text)
    check = ArchitectureCheck(code="EMB01", severity="warn", claim=f"Claims {text}", evidence=(seen,))
    words = {"given": (text,), "kept": (text,), "changed": (text,), "parameters": 7, "seconds": 1.0}
    whole = Architecture(
        model_type=text,
        class_name=text,
        checks=(check,),
        default_refused=text,
        runs=(ArchitectureRun(probe="embeds", kind="skipped", why=text),),
        **words,
    )
    broken = Architecture(
        model_type=f"{text}.", given=(f"{text}.",), trouble=Trouble(cause="upstream", words=text), seconds=0.0
    )
    return ArchitectureTable(
        codes=(("EMB01", "embeds-refused"),),
        rows=(whole, broken),
        command=text,
        seed=0,
        max_rows=8,
        environment=Environment(python=text, platform=text, packages=((text, text),)),
    )
