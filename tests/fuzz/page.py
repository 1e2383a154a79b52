"""docs/fuzz.md from the log of the runs and the table of what was mended. No figure here is typed."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from typing import Any

from tests.fuzz.contract import MOST_BYTES
from tests.fuzz.seeds import CORPUS, HERE, REGRESSIONS
from tests.fuzz.targets import TARGETS

LOG, MENDED = HERE / "log.jsonl", HERE / "mended.toml"
PAGE = HERE.parents[1] / "docs" / "fuzz.md"

_HEAD = """\
# Fuzzing

Every reader of bytes that a stranger, or an editor, may have written is fuzzed with [atheris](https://github.com/google/atheris):
inputs are changed again and again, and those that reach new code are changed further. Whatever the bytes, at most
{most} KiB of them, a reader owes the same:

- it gives a value, or one of its own errors, in one line; no other exception, no panic of a library below it,
- within {cpu:g} s of CPU time and {memory} MiB beside what the process had,
- and writes no file, opens no socket, starts no program, names no class to a pickle: an audit hook looks on
  (a chat template is rendered in this process for the fuzzer's sake, in a forked child by its probe).

This page is written by `python scripts/fuzz.py --page` from `tests/fuzz/log.jsonl`, to which every run of
`python scripts/fuzz.py TARGET --seconds 600` adds a line, and `tests/fuzz/mended.toml`. The kept inputs are read again
under the same contract by `tests/test_fuzz_corpus.py`, in CI.

What it cannot hold: memory and time that a library of Rust's or C's takes for itself (a tokenizer's normalizer that
makes a hundred letters of each, several times over). That is what the limits of the child process are for.
"""


_COLUMNS = (
    *("target", "began (UTC)", "seconds", "executions", "per second", "read as a value", "edges", "features", "corpus"),
    *("peak MiB", "ends", "findings"),
)


def page() -> str:
    """The page."""
    bounds = TARGETS[0].bounds
    head = _HEAD.format(most=MOST_BYTES // 1024, cpu=bounds.cpu_s, memory=bounds.memory_bytes // 1024**2)
    return "\n".join((head, *_runs(), "", *_kept(), "", *_mended(), ""))


def write_page() -> None:
    """Put it in its place."""
    PAGE.write_text(page(), encoding="utf-8")


def runs() -> list[dict[str, Any]]:
    """The log, oldest first."""
    return [json.loads(line) for line in LOG.read_text(encoding="utf-8").splitlines()]


def mended() -> list[dict[str, Any]]:
    """What was found, and how it was mended; without `mended`, what nobody can explain."""
    told: list[dict[str, Any]] = tomllib.loads(MENDED.read_text(encoding="utf-8"))["finding"]
    return told


def _runs() -> Iterator[str]:
    yield "## Runs\n"
    yield (
        "Edges and features are libFuzzer's counts over the instrumented Python code (wirecheck, jinja2, gguf, "
        "tomllib, junitparser, transformers' configs); a finding is a kind of breach, of which the smallest "
        "input was kept. An end is of a fuzzing process, before its time, by itself or by a signal (-14 is an alarm "
        "clock of libFuzzer's, since taken out); with one, its peak and its last seconds are not known.\n"
    )
    yield f"| {' | '.join(_COLUMNS)} |"
    yield "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|--:|"
    for run in runs():
        spent = run["fuzzed_s"] or run["seconds"]
        total = sum(run["endings"].values())
        share = f"{run['endings'].get('value', 0) / total:.0%}" if total else "-"
        cells = (
            *(run["target"], run["began"].replace("T", " ").rstrip("Z"), str(spent), f"{run['executions']:,}"),
            *(f"{run['executions'] / spent:,.0f}", share, f"{run['edges']:,}", f"{run['features']:,}"),
            *(
                f"{run['corpus']:,}",
                str(run["peak_mb"] or "-"),
                _ends(run),
                str(len(run["findings"]) + len(run["artifacts"])),
            ),
        )
        yield f"| {' | '.join(cells)} |"
    seconds, executions = (sum(run[key] for run in runs()) for key in ("fuzzed_s", "executions"))
    yield f"\nIn all: {executions:,} executions in {seconds / 60:.0f} minutes of fuzzing."
    for told in sorted({json.dumps(run["versions"], sort_keys=True) for run in runs()}):
        yield "Versions: " + ", ".join(f"{name} {held}" for name, held in json.loads(told).items()) + "."


def _ends(run: dict[str, Any]) -> str:
    return ", ".join(f"{count} with {status}" for status, count in run["process_ends"].items()) or "0"


def _kept() -> Iterator[str]:
    yield "## Kept inputs\n"
    yield "| target | what is read | corpus | bytes | regressions |"
    yield "|---|---|--:|--:|--:|"
    for one in TARGETS:
        corpus, once = (sorted((folder / one.name).glob("*")) for folder in (CORPUS, REGRESSIONS))
        size = sum(path.stat().st_size for path in corpus)
        yield f"| {one.name} | {one.reads} | {len(corpus)} | {size:,} | {len(once)} |"


def _mended() -> Iterator[str]:
    unexplained = [one for one in mended() if "mended" not in one]
    yield "## Found and mended\n"
    yield "Every input below is kept in `tests/fuzz/regressions/TARGET/` and ends as it should now.\n"
    yield "| target | what happened | how it was mended | input |"
    yield "|---|---|---|---|"
    for one in mended():
        if one not in unexplained:
            yield f"| {one['target']} | {one['what']} | {one['mended']} | {_inputs(one)} |"
    yield "\n## Open\n"
    if not unexplained:
        yield "None."
        return
    yield "Ends of the fuzzing process itself, at inputs that end as they should when they are read again, as in CI.\n"
    yield "| target | what happened | input |"
    yield "|---|---|---|"
    for one in unexplained:
        yield f"| {one['target']} | {one['what']} | {_inputs(one)} |"


def _inputs(one: dict[str, Any]) -> str:
    return ", ".join(f"`{name}`" for name in one["inputs"])
