"""What every face of a result tells: the sentence, the figures, the findings in order, and what is open."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from wirecheck.schema import (
    LADDER,
    CheckedModel,
    Fact,
    Finding,
    Level,
    Outcome,
    PairResult,
    ProbeRun,
    Ran,
    Severity,
    Subject,
)
from wirecheck.views.words import ABSENT, human, human_bytes, plural

MEANING: dict[Level, str] = {
    Level.DECLARED: "a config file says so",
    Level.INSPECTED: "read from the bytes: headers, tokenizer, rendered template",
    Level.SIMULATED: "the real class ran, as a tiny random twin",
    Level.EXECUTED: "the real weights ran",
    Level.MEASURED: "read off the target device",
}

ORDER = (Severity.BLOCK, Severity.WARN, Severity.NOTE, Severity.OK)


def names(result: PairResult) -> str:
    """`A` or `A + B`."""
    return result.a.name if result.b is None else f"{result.a.name} + {result.b.name}"


def sides(result: PairResult) -> tuple[tuple[Subject, CheckedModel], ...]:
    """The models with the letter findings use for them."""
    return (("a", result.a),) if result.b is None else (("a", result.a), ("b", result.b))


def subject_name(result: PairResult, subject: Subject) -> str:
    """The model's name, or `the pair`."""
    return dict(sides(result)).get(subject, None).name if subject in dict(sides(result)) else "the pair"  # type: ignore[union-attr]


def counts(result: PairResult) -> dict[Severity, int]:
    """How many findings there are of each severity, the gravest first."""
    return {severity: sum(f.severity is severity for f in result.findings) for severity in ORDER}


def sentence(result: PairResult) -> str:
    """The verdict in one sentence."""
    verdict, whole = result.verdict, names(result)
    what = "can be wired as asked" if result.b else "can take part in this wire"
    proven = "no rung is free of gaps"
    if verdict.strength:
        proven = f"proven up to “{verdict.strength}” ({MEANING[verdict.strength]})"
    if result.status != "finished":
        return f"{whole}: the check was {result.status} and not finished, so nothing is certified."
    match verdict.outcome:
        case Outcome.COMPATIBLE:
            return f"{whole} {what}: {proven}, where “{result.policy.required}” was required."
        case Outcome.UNPROVEN:
            return (
                f"It is not proven that {whole} {what}: “{result.policy.required}” was required, and {proven}; "
                f"{plural(len(verdict.because), 'question')} {'stands' if len(verdict.because) == 1 else 'stand'} open."
            )
        case Outcome.INCOMPATIBLE:
            return f"{whole} cannot be wired as asked: {plural(len(verdict.because), 'blocker')}."


def ordered(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """The gravest first, within a severity in the order of the probes."""
    return tuple(sorted(findings, key=lambda finding: ORDER.index(finding.severity)))


@dataclass(frozen=True)
class Figure:
    """One row of the table of models: the same figure of each model, with the weakest rung it stands on."""

    label: str
    values: tuple[str, ...]
    level: Level | None
    facts: tuple[Fact | None, ...]
    """What each value rests on, the first where there are several."""


Show = Callable[[PairResult, Subject], tuple[str, tuple[Fact, ...]]]


def _of(key: str, show: Callable[[Fact], str] = lambda fact: human(fact.value)) -> Show:
    def one(result: PairResult, subject: Subject) -> tuple[str, tuple[Fact, ...]]:
        fact = result.fact(subject, key)
        return (ABSENT, ()) if fact is None else (show(fact), (fact,))

    return one


def _bytes(fact: Fact) -> str:
    return f"{human(fact.value)} B = {human_bytes(int(fact.value or 0))}" if fact.value else ABSENT


def _heads(result: PairResult, subject: Subject) -> tuple[str, tuple[Fact, ...]]:
    found = [result.fact(subject, key) for key in ("num_heads", "num_kv_heads", "head_dim")]
    facts = tuple(fact for fact in found if fact is not None)
    text = " / ".join(ABSENT if fact is None or fact.value is None else str(fact.value) for fact in found)
    heads, kv = (fact.value if fact else None for fact in found[:2])
    kind = ""
    if isinstance(heads, int) and isinstance(kv, int):
        kind = " (MHA)" if heads == kv else " (MQA)" if kv == 1 else " (GQA)"
    return text + kind, facts


def _token(role: str) -> Show:
    def one(result: PairResult, subject: Subject) -> tuple[str, tuple[Fact, ...]]:
        token, number = result.fact(subject, f"{role}_token"), result.fact(subject, f"{role}_id")
        if token is None:
            return ABSENT, ()
        if token.value is None:
            return "none", (token,)
        added = result.fact(subject, "adds_bos") if role == "bos" else None
        text = f"{human(token.value)} = {number.value if number else ABSENT}"
        if added is not None:
            text += ", added by encode" if added.value else ", not added by encode"
        return text, (token,)

    return one


FIGURES: tuple[tuple[str, Show], ...] = (
    ("architecture", _of("architecture")),
    ("hidden size", _of("hidden_size")),
    ("layers", _of("num_layers")),
    ("heads / KV heads / head dim", _heads),
    ("vocabulary in config", _of("vocab_size")),
    ("embedding rows", _of("embedding_rows")),
    ("tokens", _of("num_tokens")),
    ("padding rows", _of("padding_rows")),
    ("tied embeddings", _of("tied")),
    ("positions", _of("max_positions")),
    ("BOS", _token("bos")),
    ("EOS", _token("eos")),
    ("pad", _token("pad")),
    ("stops generation", _of("stop_ids")),
    ("template roles", _of("template_roles")),
    ("dtype on file", _of("weights_dtype")),
    ("parameters", _of("num_parameters")),
    ("tensor bytes", _of("tensor_bytes", _bytes)),
    ("embedding RMS", _of("embedding_rms")),
)


def figures(result: PairResult) -> tuple[Figure, ...]:
    """The table of models: every row that some probe established for some model."""
    rows = []
    for label, show in FIGURES:
        shown = [show(result, subject) for subject, _ in sides(result)]
        facts = [fact for _, own in shown for fact in own]
        if facts:
            level = min((fact.level for fact in facts), key=lambda one: one.rank)
            firsts = tuple(own[0] if own else None for _, own in shown)
            rows.append(Figure(label, tuple(text for text, _ in shown), level, firsts))
    return tuple(rows)


_COMMIT = re.compile(r"@(?:sha256:)?[0-9a-f]{7,64}\b")


def short_source(source: str) -> str:
    """A source without its commit: the commit of each model stands once, in the head of the report."""
    return _COMMIT.sub("", source)


BAR = 24
"""Characters of the longest bar of a chart in text."""


def bar(part: int, whole: int) -> str:
    """A share as a bar of blocks, to an eighth of a character; empty for less."""
    eighths = round(8 * BAR * part / whole) if whole else 0
    return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]


@dataclass(frozen=True)
class Rung:
    """One rung of the ladder: its probes, those settled, and whether it holds."""

    level: Level
    meaning: str
    settled: int
    total: int


def ladder(result: PairResult) -> tuple[Rung, ...]:
    """The ladder, the weakest rung first."""
    rungs = []
    for level in LADDER:
        own = [run for run in result.runs if run.level is level]
        settled = sum(run.gap(level) is None for run in own)
        rungs.append(Rung(level, MEANING[level], settled, len(own)))
    return tuple(rungs)


@dataclass(frozen=True)
class Open:
    """One question that is not settled, why, and what would settle it."""

    probe: str
    subject: Subject
    level: Level
    why: str
    anchor: str
    """Where the report shows the probe."""


def open_questions(result: PairResult) -> tuple[Open, ...]:
    """Every gap, also those above the rung required."""
    return tuple(
        Open(run.probe, run.subject, run.level, why, probe_anchor(run))
        for run in result.runs
        if (why := run.gap(run.level)) is not None
    )


def probe_anchor(run: ProbeRun) -> str:
    """The place in a report of one probe's run."""
    return f"probe-{run.subject}-{slug(run.probe)}"


def slug(name: str) -> str:
    """Small letters, digits and hyphens, whatever a result from elsewhere calls its probes and facts."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "x"


def num_open(result: PairResult) -> str:
    """How many questions stand open; of an unfinished check not all are known."""
    count = len(open_questions(result))
    return str(count) if result.status == "finished" else f"{count} or more"


def not_as_asked(result: PairResult) -> tuple[str, ...]:
    """What the user asked for that no probe ran in that form, one sentence each."""
    train, ran = result.train, {run.probe for run in result.runs if isinstance(run, Ran)}
    said = []
    if "wire-twin" in ran or "embeds-twin" in ran:
        said.append(f"The twins ran in float32, whatever the run's dtype ({train.dtype}).")
    if any(probe.startswith("wire-") for probe in ran):
        said.append(
            f"The wire's step ran on a few short texts; batch {train.batch}, context {train.context} and answer "
            f"{train.answer} entered the memory estimate and the count of positions only."
        )
    if train.quantize != "none":
        said.append(f"Weights quantized on load ({train.quantize}) entered the memory estimate; no probe ran them so.")
    if train.grad_checkpointing:
        said.append("Gradient checkpointing entered the memory estimate; EMB07 asks whether its gradients are right.")
    if result.policy.depth is not Level.MEASURED:
        said.append("Nothing was read off a GPU: time and memory on the target device are not claimed.")
    return tuple(said)


def outcome_word(run: ProbeRun) -> str:
    """`settled`, or how the run fell short."""
    gap = run.gap(run.level)
    return "settled" if gap is None else ("open" if isinstance(run, Ran) else run.kind)


def subjects(result: PairResult) -> tuple[Subject, ...]:
    """Whom questions were asked about."""
    return (*(side for side, _ in sides(result)), *(("pair",) if result.b else ()))


def ladder_of(result: PairResult, subject: Subject) -> tuple[Rung, ...]:
    """The ladder of one model, or of the pair's own probes, the weakest rung first."""
    return ladder(result.model_copy(update={"runs": tuple(run for run in result.runs if run.subject == subject)}))


def ladders(result: PairResult) -> tuple[tuple[Level, str, tuple[str, ...]], ...]:
    """For each rung its meaning, and for each of `subjects` how much is settled: `● 14 of 14`, `○ 0 of 3`."""
    each = [ladder_of(result, subject) for subject in subjects(result)]
    done = result.status == "finished"
    return tuple(
        (row[0].level, row[0].meaning, tuple(_state(rung, done=done) for rung in row))
        for row in zip(*each, strict=True)
    )


def _state(rung: Rung, *, done: bool) -> str:
    """A full circle says that no question is open, which an unfinished check cannot know."""
    if not rung.total:
        return ABSENT
    mark = "●" if done and rung.settled == rung.total else "◐" if rung.settled else "○"
    return f"{mark} {rung.settled} of {rung.total}".replace(" ", "\u00a0")  # on one line in a narrow column


@dataclass(frozen=True)
class Phase:
    """The fullest moment of one phase of the step."""

    name: str
    bytes: int
    made_of: str
    """The largest parts, in words."""


def phases(result: PairResult) -> tuple[Phase, ...]:
    """Each phase of the step at its fullest, in the order of the step; none where it was not traced."""
    line = None if result.memory is None else result.memory.timeline
    if line is None:
        return ()
    totals, made = line.totals, []
    for phase, at in zip(line.phases, line.fullest(), strict=True):
        parts = sorted(((part.bytes[at], part.name) for part in line.parts), reverse=True)[:LARGEST]
        said = ", ".join(f"{name} {size / 10**9:.2f} GB" for size, name in parts)
        made.append(Phase(phase.name, totals[at], said))
    return tuple(made)


LARGEST = 3
"""Parts of a phase that are named."""
