"""What it would cost to prove what is not proven: for each rung with open questions, what is needed and the command."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from wirecheck.schema import LADDER, Level, PairResult, Subject
from wirecheck.views.story import Open, open_questions, sides
from wirecheck.views.words import human_bytes, plural

CODE = "--trust-remote-code"


@dataclass(frozen=True)
class Cost:
    """One rung that has open questions."""

    level: Level
    questions: int
    needs: str
    """What has to be there."""
    command: str
    """What to type then; empty where nothing would prove it."""


def costs(result: PairResult) -> tuple[Cost, ...]:
    """For each rung with open questions, the weakest first."""
    gaps = open_questions(result)
    made = []
    for level in LADDER:
        own = [gap for gap in gaps if gap.level is level]
        if own:
            made.append(_cost(result, level, own))
    return tuple(made)


def at_depth(result: PairResult, level: Level) -> str:
    """The command of this check, going to that rung at least; as it is where it goes there already."""
    if result.policy.depth.rank >= level.rank:
        return result.command
    words = _words(result)
    if words is None:
        return result.command
    dropped = ("--depth", "--device") if level is Level.MEASURED else ("--depth",)
    for option in dropped:
        if option in words:
            at = words.index(option)
            words[at : at + 2] = []
    return shlex.join([*words, "--depth", str(level)])


def _words(result: PairResult) -> list[str] | None:
    """None where the command, of a result from elsewhere, is none."""
    try:
        return shlex.split(result.command)
    except ValueError:
        return None


def _cost(result: PairResult, level: Level, gaps: Sequence[Open]) -> Cost:
    """Where this wire cannot be proven on a rung in the form that was asked, that is said, and no command."""
    if level is Level.MEASURED and result.train.quantize != "none":
        needs = f"no probe measures a step with weights quantized on load ({result.train.quantize})"
        return Cost(level, len(gaps), needs, "")
    command = at_depth(result, level)
    first = []
    if any(CODE in gap.why for gap in gaps) and CODE not in command:
        first.append("that you have read the code of the model's repository, and let it run")
        command = f"{command} {CODE}"
    if any(gap.why.startswith("skipped: moot after") for gap in gaps):
        first.append("what blocks is mended first")
    if any(gap.why.startswith("crashed") for gap in gaps):
        first.append("what crashed runs again (its story is in the JSON)")
    return Cost(level, len(gaps), "; ".join((*first, _needs(result, level, gaps))), command)


def _needs(result: PairResult, level: Level, gaps: Sequence[Open]) -> str:
    match level:
        case Level.MEASURED:
            memory = result.memory
            room = None if memory is None else memory.process_bytes or memory.allocated_bytes
            size = "" if room is None else f"; the step that was asked for is taken to hold {human_bytes(room)}"
            return f"a CUDA GPU that holds the models, and their weights on that machine's disk{size}"
        case Level.EXECUTED:
            own = {gap.subject for gap in gaps} - {"pair"}  # what is open of the pair alone follows from both
            each = " and ".join(
                f"the real weights of {model.name} on this disk{_size(result, side)}"
                for side, model in sides(result)
                if side in own or not own
            )
            return f"{each}, and memory for them and for the work on them"
        case Level.SIMULATED if any("beyond --depth" in gap.why for gap in gaps):
            return "no weights and no GPU: the class of each model runs as a tiny twin"
    return "what each of them names"


def _size(result: PairResult, side: Subject) -> str:
    size = result.fact(side, "tensor_bytes")
    return "" if size is None or not isinstance(size.value, int) else f" ({human_bytes(size.value)})"


def sentence(result: PairResult) -> str:
    """How much stands open, in one sentence."""
    if result.status != "finished":
        return (
            f"The check was {result.status} and not finished: what it did not get to is open, and is not counted here."
        )
    gaps = open_questions(result)
    if not gaps:
        return "Every question that this check asks is settled."
    below = sum(gap.level.rank <= result.policy.required.rank for gap in gaps)
    which = f"{below} of them" if below else "none of them"
    verb = "stands" if len(gaps) == 1 else "stand"
    required = f"at or below “{result.policy.required}”, which was required"
    return f"{plural(len(gaps), 'question')} {verb} open, {which} {required}."
