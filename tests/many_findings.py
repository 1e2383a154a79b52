"""A result with very many findings, or very long ones, and every view of it."""

from __future__ import annotations

from collections.abc import Callable

from tests.factories import pair_result
from tests.gates import WHERE, false_expectation, gate, note, ran, row, warning
from wirecheck.baseline import compare
from wirecheck.cli_output import _on_terminal, to_json
from wirecheck.difference import compare as differ
from wirecheck.schema import Level, PairResult, Policy
from wirecheck.views import annotations, code_quality, difference, html, junit, markdown, sarif
from wirecheck.views import gate as gate_view


def made(count: int, length: int) -> PairResult:
    """A third each of blocks, warnings and notes; a claim has about `length` characters."""
    kinds = (false_expectation, warning, note)
    found = [kinds[n % 3](f"Token {n} differs: {'x' * length}.", subject="a") for n in range(count)]
    return pair_result(runs=(ran(*found),), policy=Policy(required=Level.INSPECTED), memory=None)


def views() -> dict[str, Callable[[PairResult], str]]:
    """By name, as text; `gate` is its markdown against a baseline that lacks half."""
    return {
        "json": to_json,
        "markdown": markdown.render,
        "html": html.render,
        "junit": junit.render,
        "sarif": sarif.render,
        "terminal": _on_terminal,
        "annotations": lambda result: annotations.render(gate(row(*result.runs)), WHERE),
        "code quality": lambda result: code_quality.render(gate(row(*result.runs)), WHERE),
        "gate": _gate,
        "diff": _diff,
    }


def _fewer(result: PairResult) -> PairResult:
    run = result.runs[0]
    return result.model_copy(update={"runs": (run.model_copy(update={"findings": run.findings[::2]}),)})


def _gate(result: PairResult) -> str:
    found, then = gate(row(*result.runs)), gate(row(*_fewer(result).runs))
    return gate_view.render(found, compare(found, then, "then.json"))


def _diff(result: PairResult) -> str:
    return difference.render(differ(_fewer(result), result, ("old.json", "new.json")))
