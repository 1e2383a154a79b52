"""docs/soundness.md, from the rows of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tests.planted.cases import Case, Harmless, Plant
from tests.planted.corpus import FAMILIES, Row, tally
from tests.planted.trial import GRAVE, Result
from wirecheck.codes import CODES

_HEAD = """# How sound the answers are

Made by `scripts/soundness.py` (`make soundness`); not written by hand. Faults are planted by script into copies of
sound models, one each, and every copy is checked by the engine that `wirecheck model` and `wirecheck pair` run, at the
cheapest depth that can show the fault. **Found** is a fault for which the code expected came, at the severity expected,
and did not come for the sound model. **Misnamed** is a fault that only other warnings or blocks spoke of; **missed**,
one that none did. Harmless changes of the same models must leave verdict, warnings and blocks as they were: what does
not is a **false alarm**.
"""
_BASES = """
The sound models: `llama` and `qwen` are the two of `wirecheck demo`, trained; `gemma`, `gpt2`, `mistral`, `qwen3`,
`mixtral` (experts), `phi3` (fused projections), `neox`, `falcon` (one key-value head), `wrapper` (a vision model around
a language model) and `gguf` are small random models of these classes, made at the start of the run. A fault of a class
is put into the class of the twin or of the loaded model.
"""

_ESTIMATE = "MEM03"

_TRIED_FAULTS, _TRIED_FOUND = 15, 8
_TRIED = """\
**Tried since, and not in the corpus** (in copies of the same models, once): of fifteen further faults eight were found
(keys and values exchanged, a sibling's rope scaling, a row of NaN, a layer of zeros, bfloat16 called float16, a stop id
past the rows, BOS and EOS exchanged, Gemma's template) and one under another code (another model's tokenizer: TOK02
blocks). Six were missed: gate and up of one layer exchanged, its two norms exchanged, the last norm reset to ones, the
signs of one attention output turned round (EMB11 sees what ruins a model, and EMB13 what is wrong in all layers alike:
[decision 0016](decisions/0016-read-otherwise.md)), a template of `[INST]` that a model was not trained on, and a
sliding window that the config lost. With all fifteen the recall would be {recall:.1%}. No mend is known yet that
raises no false alarm.
"""


def render(rows: Sequence[Row]) -> str:
    """The page. The same rows give the same bytes."""
    return "\n".join([_HEAD, *_totals(rows), _BASES, *_open(rows), *_faults(rows), *_harmless(rows)]) + "\n"


def summary(rows: Sequence[Row]) -> str:
    """One line for the terminal."""
    counts, alarms = tally(rows), [r for c, r in rows if r.kind == "alarm"]
    harmless = sum(isinstance(case, Harmless) for case, _ in rows)
    return (
        f"{counts.planted} faults planted, {counts.found} found, {counts.missed} missed, {counts.misnamed} misnamed: "
        f"recall {counts.recall:.1%}; {harmless} harmless changes, {len(alarms)} false alarms; "
        f"{len(wrong_verdicts(rows))} wrong verdicts"
    )


def wrong_verdicts(rows: Sequence[Row]) -> list[Row]:
    """Rows whose verdict does not follow from what was planted."""
    return [(case, result) for case, result in rows if result.wrong_verdict]


def _totals(rows: Sequence[Row]) -> Iterator[str]:
    yield "| family | planted | found | missed | misnamed | recall |"
    yield "|---|---|---|---|---|---|"
    for family in FAMILIES:
        yield _line(family, [row for row in rows if isinstance(row[0], Plant) and row[0].family == family])
    yield _line("**all**", rows)
    kinds = Counter(result.kind for case, result in rows if isinstance(case, Harmless))
    codes = {case.code for case, _ in rows if isinstance(case, Plant)}
    yield ""
    yield f"{kinds.total()} harmless changes: {kinds['silent']} silent, {kinds['alarm']} false alarms."
    yield ""
    yield (
        f"{len(wrong_verdicts(rows))} verdicts were wrong: a planted block must come out incompatible, a planted "
        f"warning must not come out compatible with `--strict`, and a harmless change must keep its verdict."
    )
    yield ""
    rest = sorted(set(CODES) - codes - {_ESTIMATE})
    yield f"{len(codes)} of {len(CODES)} codes are planted" + (f"; not {', '.join(rest)}." if rest else ".")
    if _ESTIMATE not in codes:
        yield f"{_ESTIMATE} is an estimate that is told of every sound model, too: no fault makes it appear."


def _line(name: str, rows: Sequence[Row]) -> str:
    one = tally(rows)
    return f"| {name} | {one.planted} | {one.found} | {one.missed} | {one.misnamed} | {one.recall:.1%} |"


def _open(rows: Sequence[Row]) -> Iterator[str]:
    bad = [row for row in rows if row[1].kind in ("missed", "misnamed", "alarm") or row[1].wrong_verdict]
    if not bad:
        return
    yield "## What is not found\n"
    for case, result in bad:
        code = case.code if isinstance(case, Plant) else "harmless"
        why = f" ({result.wrong_verdict})" if result.wrong_verdict else ""
        known = f" {case.why_missed}" if isinstance(case, Plant) and case.why_missed else ""
        yield f"- {code}, {_models(case)}: {_text(case.what)}: {result.kind}{why}.{known}"
    counts = tally(rows)
    yield "\n" + _TRIED.format(recall=(counts.found + _TRIED_FOUND) / (counts.planted + _TRIED_FAULTS))


def _faults(rows: Sequence[Row]) -> Iterator[str]:
    yield "## Every fault\n"
    yield "What came is what was said of the changed model and not of the sound one; notes are in parentheses."
    for family in FAMILIES:
        yield f"\n### {family}\n"
        yield "| code | severity | model | fault | depth | what came | verdict |"
        yield "|---|---|---|---|---|---|---|"
        for case, result in rows:
            if isinstance(case, Plant) and case.family == family:
                cells = (case.code, str(case.severity), _models(case), _text(case.what), str(case.depth))
                kind = "" if result.kind == "found" else f"**{result.kind}** "
                yield f"| {' | '.join(cells)} | {kind}{_came(result)} | {_verdict(result)} |"


def _harmless(rows: Sequence[Row]) -> Iterator[str]:
    yield "\n## Every harmless change\n"
    yield "| model | change | depth | what came | verdict |"
    yield "|---|---|---|---|---|"
    for case, result in rows:
        if isinstance(case, Harmless):
            kind = "" if result.kind == "silent" else f"**{result.kind}** "
            cells = (_models(case), _text(case.what), str(case.depth), f"{kind}{_came(result)}", _verdict(result))
            yield f"| {' | '.join(cells)} |"


def _models(case: Case) -> str:
    return case.base if case.beside is None else f"{case.base} + {case.beside}"


def _came(result: Result) -> str:
    """Codes, warnings and blocks first; each once."""
    words: dict[str, None] = {}
    for code, severity, _ in sorted(result.new, key=lambda told: (told[1] not in GRAVE, told)):
        words.setdefault(f"{code} {severity}" if severity in GRAVE else f"({code})")
    gone = [f"no more {code}" for code, _, _ in result.gone]
    return ", ".join([*words, *dict.fromkeys(gone)]) or "nothing"


def _verdict(result: Result) -> str:
    return result.outcome if result.outcome == result.strict else f"{result.outcome}; strict: {result.strict}"


def _text(words: str) -> str:
    return words.replace("|", "\\|").replace("<", "&lt;")
