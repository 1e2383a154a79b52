"""CFG11: whether what the user wrote down about a model is so. Runs after every probe that establishes facts."""

from __future__ import annotations

from collections.abc import Iterator

from wirecheck.errors import CannotRun
from wirecheck.expectations import compare
from wirecheck.probe import ModelBench, Probe, Yielded
from wirecheck.schema import Evidence, Level


def _run(bench: ModelBench) -> Iterator[Yielded]:
    asked = [expectation for expectation in bench.policy.expectations if expectation.subject == bench.side]
    if not asked:
        none = Evidence(level=Level.INSPECTED, source="expectations of this run's policy", observed=0)
        yield bench.ok("CFG11", "No expectation was written down for this model.", none)
    comparisons = compare(asked, bench.facts)
    for comparison in comparisons:
        if comparison.open is not None:
            continue  # the run ends as skipped for these
        if comparison.holds:
            yield bench.ok("CFG11", comparison.claim, comparison.evidence)
        else:
            yield bench.found("CFG11", comparison.claim, comparison.evidence, remedy=comparison.remedy)
    missing = ", ".join(comparison.open for comparison in comparisons if comparison.open is not None)
    if missing:
        raise CannotRun(f"no probe of this run established {missing}")


EXPECTATIONS = Probe(
    name="expectations",
    question="Is what the user wrote down about the model so?",
    scope="model",
    level=Level.INSPECTED,
    codes=("CFG11",),
    needs="files",
    run=_run,
)
