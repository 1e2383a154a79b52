"""What it would cost to prove what is not proven: for each rung with open questions, what is needed and the command."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from wirecheck.schema import LADDER, CheckedModel, Level, PairResult, Subject
from wirecheck.views.story import open_questions, sides
from wirecheck.views.words import human_bytes, plural


@dataclass(frozen=True)
class Cost:
    """One rung that has open questions."""

    level: Level
    questions: int
    needs: str
    """What has to be there."""
    command: str
    """What to type then."""


def costs(result: PairResult) -> tuple[Cost, ...]:
    """For each rung with open questions, the weakest first."""
    gaps = open_questions(result)
    made = []
    for level in LADDER:
        own = [gap for gap in gaps if gap.level is level]
        if own:
            subjects = {gap.subject for gap in own}
            needs = "; ".join((*_first(gap.why for gap in own), _needs(result, level, subjects)))
            made.append(Cost(level, len(own), needs, at_depth(result, level)))
    return tuple(made)


def at_depth(result: PairResult, level: Level) -> str:
    """The command of this check, going to that rung at least."""
    if result.policy.depth.rank >= level.rank:
        return result.command
    words = shlex.split(result.command)
    if "--depth" in words:
        at = words.index("--depth")
        words[at : at + 2] = []
    return shlex.join([*words, "--depth", str(level)])


def _first(reasons: Iterable[str]) -> list[str]:
    """What has to be mended before anything else is of use."""
    told = list(reasons)
    first = ["what blocks is mended first"] if any(why.startswith("skipped: moot after") for why in told) else []
    crashed = any(why.startswith("crashed") for why in told)
    return [*first, "what crashed runs again (its story is in the JSON)"] if crashed else first


def _needs(result: PairResult, level: Level, subjects: set[Subject]) -> str:
    match level:
        case Level.MEASURED:
            memory = result.memory
            room = None if memory is None else memory.process_bytes or memory.allocated_bytes
            size = "" if room is None else f" with {human_bytes(room)} free, which is what the step is taken to hold"
            return f"a GPU{size}, and the weights on that machine's disk"
        case Level.EXECUTED:
            models = [model for side, model in sides(result) if side in subjects or "pair" in subjects]
            each = " and ".join(f"the weights of {model.name} on this disk{_size(result, model)}" for model in models)
            return f"{each}; as much memory, and no GPU"
        case Level.SIMULATED:
            return "no weights and no GPU: the class of each model runs as a tiny twin"
    return "the files named under “why”"


def _size(result: PairResult, model: CheckedModel) -> str:
    side: Subject = next(side for side, one in sides(result) if one is model)
    size = result.fact(side, "tensor_bytes")
    return "" if size is None or not isinstance(size.value, int) else f" ({human_bytes(size.value)})"


def sentence(result: PairResult) -> str:
    """How much stands open, in one sentence."""
    gaps = open_questions(result)
    if not gaps:
        return "Every question that this check asks is settled."
    below = sum(gap.level.rank <= result.policy.required.rank for gap in gaps)
    required = f"{below} of them at or below “{result.policy.required}”, which was required"
    none = f"none of them at or below “{result.policy.required}”, which was required"
    return f"{plural(len(gaps), 'question')} stand open, {required if below else none}."
