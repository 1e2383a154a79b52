"""What code scanning takes of one SARIF file: beyond its limits GitHub refuses the file as a whole.

The numbers are those of "SARIF support for code scanning" in GitHub's documentation. What is left out is counted in the
file, and is in the JSON; what blocks is left out last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wirecheck.views.sarif_objects import (
    AutomationDetails,
    Configuration,
    Descriptor,
    DescriptorReference,
    Message,
    Notification,
    Result,
    Run,
)

MOST_RUNS = 20
MOST_RESULTS = 25_000
"""Of a run; of these the gravest 5,000 are shown."""
MOST_LOCATIONS = 1_000
"""Of a result."""
_GRAVEST = ("error", "warning", "note", "none")
_WHY = f"Code scanning takes {MOST_RESULTS:,} results of a run."
_CUT = Descriptor(
    id="cut",
    short_description=Message(text="Results are left out"),
    full_description=Message(text=_WHY),
    help=Message(text="The JSON of the result holds all of them."),
    default_configuration=Configuration(level="note"),
)


def within(runs: Sequence[Run]) -> tuple[Run, ...]:
    """The runs as code scanning takes them: those beyond the twentieth are one with it, a run's results are counted."""
    kept = list(runs)
    if len(kept) > MOST_RUNS:
        kept = [*kept[: MOST_RUNS - 1], _joined(kept[MOST_RUNS - 1 :])]
    return tuple(map(_cut, kept))


def _joined(runs: Sequence[Run]) -> Run:
    """One run of several: their rules once each, their results and calls one after the other."""
    rules = {rule.id: rule for run in reversed(runs) for rule in run.tool.driver.rules}
    names = sorted(rules)
    first = runs[0]
    driver = first.tool.driver.model_copy(update={"rules": tuple(rules[name] for name in names)})
    results = (
        result.model_copy(update={"rule_index": names.index(result.rule_id)}) for run in runs for result in run.results
    )
    return first.model_copy(
        update={
            "tool": first.tool.model_copy(update={"driver": driver}),
            "automation_details": AutomationDetails(id=f"wirecheck/and {len(runs) - 1} more/"),
            "invocations": tuple(call for run in runs for call in run.invocations),
            "results": tuple(results),
            "properties": {"checks": {run.automation_details.id: run.properties for run in runs}},
        }
    )


def _cut(run: Run) -> Run:
    """The gravest results of a run, in their order, and a sentence that counts the others."""
    run = run.model_copy(update={"results": tuple(map(_fewer_places, run.results))})
    more = len(run.results) - MOST_RESULTS
    if more <= 0:
        return run
    ranked = sorted(range(len(run.results)), key=lambda n: _GRAVEST.index(run.results[n].level))
    told = Notification(
        descriptor=DescriptorReference(id=_CUT.id),
        level=_CUT.default_configuration.level,
        message=Message(text=f"{more:,} results of the lowest level are left out. {_WHY}"),
        properties={},
    )
    call = run.invocations[0]
    call = call.model_copy(update={"tool_execution_notifications": (*call.tool_execution_notifications, told)})
    driver = run.tool.driver
    driver = driver.model_copy(update={"notifications": (*driver.notifications, _CUT)})
    return run.model_copy(
        update={
            "tool": run.tool.model_copy(update={"driver": driver}),
            "invocations": (call, *run.invocations[1:]),
            "results": _at(run.results, sorted(ranked[:MOST_RESULTS])),
        }
    )


def _at(results: Sequence[Result], places: Iterable[int]) -> tuple[Result, ...]:
    return tuple(results[n] for n in places)


def _fewer_places(result: Result) -> Result:
    if len(result.related_locations or ()) < MOST_LOCATIONS:
        return result
    return result.model_copy(update={"related_locations": (result.related_locations or ())[: MOST_LOCATIONS - 1]})
