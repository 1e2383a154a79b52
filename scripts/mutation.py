"""Mutation testing of the verdict, the codes and the static probes: the run, the record, the page.

    python scripts/mutation.py wirecheck/verdict.py …   plant every mistake in these files (no file: in all of MODULES)
    python scripts/mutation.py --again [FILE …]         only those that lived, after a test was written
    python scripts/mutation.py --page                   write docs/mutation.md from the record
    python scripts/mutation.py --check                  exit 1 where page, record, explanations and sources part ways

A run takes minutes to hours, and is taken up again where it was broken off (build/mutation/), if neither package nor
tests have changed. The record, docs/mutation.json, keeps what lived, by content: a mutant is its file, the function,
the line as it was and as it became. An explanation (scripts/mutation_explained.toml) names the same, so that a line
that changes leaves it behind; `--check` says so, and reads no more than files.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from mutants import Mutant

ROOT = Path(__file__).resolve().parents[1]
RECORD, PAGE = ROOT / "docs" / "mutation.json", ROOT / "docs" / "mutation.md"
EXPLAINED = ROOT / "scripts" / "mutation_explained.toml"
BUILD = ROOT / "build" / "mutation"
KILLED, SLOW, NO_TEST = "killed", "timed out", "no test"
PROBES = "wirecheck/probes/"
FILES = (
    *("probe_config", "nested_config", "probe_weights", "narrow_weights", "pinned_weights"),
    *("weight_names", "zero_fill", "probe_records"),
)
TOKENS = (
    *("probe_tokenizer", "probe_tokenizer_rare", "probe_template", "generation_stops", "probe_pairing"),
    "probe_records",
)
TEMPLATES = ("probe_template", "template_edges", "generation_stops", "probe_records")
MODULES: dict[str, tuple[str, ...]] = {
    "wirecheck/verdict.py": ("verdict",),
    **{f"wirecheck/codes/{family}.py": ("codes",) for family in ("cfg", "emb", "env", "hub", "mem", "par", "tok")},
    **{f"wirecheck/codes/{family}.py": ("codes",) for family in ("tpl", "wgt", "wir", "__init__", "table")},
    **{f"{PROBES}{name}.py": FILES for name in ("config", "weights")},
    **{f"{PROBES}{name}.py": TOKENS for name in ("tokenizer", "stops", "vocabulary", "pairing", "rows")},
    **{f"{PROBES}{name}.py": TEMPLATES for name in ("template", "template_text", "chats")},
    f"{PROBES}length.py": ("probe_config",),
    f"{PROBES}lock.py": ("probe_lock", "probe_records"),
    f"{PROBES}expectations.py": ("probe_expectations", "probe_records"),
}
"""What is mutated, and the files of tests that are asked."""
NOT_TAKEN_UP = tuple(f"{PROBES}{name}.py" for name in ("skeleton", "wire_sizes", "memory"))
"""Probes that run no model either, for which the tests to ask have not been chosen."""


class Living(NamedTuple):
    """A mutant that no test noticed."""

    file: str
    place: str
    was: str
    becomes: str
    outcome: str


def main(arguments: list[str] | None = None) -> int:
    """The border: words to a run, a page or a check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("files", nargs="*", metavar="FILE")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args(arguments)
    if unknown := [file for file in asked.files if file not in MODULES]:
        parser.error(f"not among the modules that are mutated: {', '.join(unknown)}")
    if asked.check:
        return check()
    if not asked.page:
        run(asked.files or list(MODULES), asked.workers, again=asked.again)
    PAGE.write_text(page(record(), explanations()), encoding="utf-8")
    return 0


def run(files: list[str], workers: int, *, again: bool) -> None:
    """Try the mutants of each file, those asked by the same tests together; the record is written after each group."""
    import mutation_imports
    import mutation_run  # mutmut is needed from here on
    from mutants import mutants_of

    kept = record()
    if changed := [file for file in files if again and kept["modules"].get(file, {}).get("of") != _digest(file)]:
        raise SystemExit(f"changed since the record was made, to be run whole: {' '.join(changed)}")
    groups: dict[tuple[str, ...], list[str]] = {}
    for file in files:
        groups.setdefault(MODULES[file], []).append(file)
    for tests, members in groups.items():
        mutation_imports.prepare(tensors=not set(TOKENS).isdisjoint(tests))
        mutants = {file: mutants_of(file) for file in members}
        lived = {(one.file, one.place, one.was, one.becomes) for file in members for one in living(kept, file)}
        todo = [m for ms in mutants.values() for m in ms if not again or (m.file, m.place, m.was, m.becomes) in lived]
        name = "-".join([*(Path(file).stem for file in members), _version(members)])
        outcomes = mutation_run.tried(
            todo, [f"tests/test_{test}.py" for test in tests], members, BUILD / name, workers, again=again
        )
        kept = record()  # again: another run may have written meanwhile
        for file, made in mutants.items():
            kept["modules"][file] = _row(file, made, outcomes, kept["modules"].get(file) if again else None)
        RECORD.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _row(file: str, made: list[Mutant], outcomes: dict[str, str], before: dict[str, Any] | None) -> dict[str, Any]:
    """What is kept of one file; `before`: of those that are not tried again."""
    ends = {mutant: outcomes[mutant.key] for mutant in made if mutant.key in outcomes}
    count = Counter(ends.values())
    count += Counter({end: n for end, n in (before or {"outcomes": {}})["outcomes"].items() if end in (KILLED, SLOW)})
    if count.total() != len(made):
        raise SystemExit(f"{file}: {len(made)} mutants, and {count.total()} came to an end")
    living = [
        {"place": m.place, "was": m.was, "becomes": m.becomes, "outcome": end}
        for m, end in ends.items()
        if end not in (KILLED, SLOW)
    ]
    return {"of": _digest(file), "mutants": len(made), "outcomes": dict(sorted(count.items())), "living": living}


def _digest(file: str) -> str:
    return hashlib.sha256((ROOT / file).read_bytes()).hexdigest()[:12]


def _version(files: list[str]) -> str:
    """Of the package and the tests: what is kept of a run that was broken off holds for no other."""
    digest = hashlib.sha256(" ".join(files).encode())
    for file in sorted(f for folder in ("wirecheck", "tests") for f in (ROOT / folder).rglob("*")):
        if file.suffix in (".py", ".txt", ".json", ".j2"):
            digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:8]


def record() -> dict[str, Any]:
    """What was found, module by module."""
    if not RECORD.exists():
        return {"modules": {}}
    return dict(json.loads(RECORD.read_text(encoding="utf-8")))


def living(kept: dict[str, Any], file: str) -> list[Living]:
    """The mutants of a file that no test noticed."""
    return [Living(file=file, **row) for row in kept["modules"].get(file, {"living": []})["living"]]


class Explanations(NamedTuple):
    """Why a mutant that lives may."""

    single: dict[tuple[str, str, str, str], str]
    kinds: list[tuple[re.Pattern[str], re.Pattern[str], str]]
    """What the line was, what it became, why."""

    def why(self, one: Living) -> str:
        """The reason, or nothing."""
        if reason := self.single.get((one.file, one.place, one.was, one.becomes)):
            return reason
        return next((why for was, to, why in self.kinds if was.search(one.was) and to.search(one.becomes)), "")


def explanations() -> Explanations:
    """As written in the file beside this script."""
    read = tomllib.loads(EXPLAINED.read_text(encoding="utf-8"))
    single = {(r["file"], r["place"], r["was"].strip(), r["becomes"].strip()): r["why"] for r in read.get("mutant", ())}
    kinds = [(re.compile(r["was"]), re.compile(r["becomes"]), r["why"]) for r in read.get("kind", ())]
    return Explanations(single, kinds)


HEAD = """# Mutation testing

Written by `scripts/mutation.py` from `docs/mutation.json`; `make mutation` runs it again (hours).

A mutant is the code with one mistake planted in it. It is killed when a test fails, or when the tests no longer come to
an end (timed out). What lives is a mistake that the tests would let pass: a test that is missing, or a mistake that
nobody could see, which is then explained below. The operators are those of mutmut, two of them changed, and four of our
own: [decision 0013](decisions/0013-what-is-mutated.md). The figures of a module are those of its last run, and hold for
the module as it was then.

| module | mutants | killed | timed out | live, explained | live, open |
|---|---:|---:|---:|---:|---:|
"""


def page(kept: dict[str, Any], known: Explanations) -> str:
    """docs/mutation.md."""
    rows, parts, total = [], [], Counter[str]()
    for file in (file for file in MODULES if file in kept["modules"]):
        module, left = kept["modules"][file], living(kept, file)
        told = [(one, known.why(one)) for one in left]
        explained = sum(bool(why) for _, why in told)
        outcomes = module["outcomes"]
        figures = {
            "mutants": module["mutants"],
            "killed": outcomes.get(KILLED, 0),
            "timed out": outcomes.get(SLOW, 0),
            "explained": explained,
            "open": len(left) - explained,
        }
        total.update(figures)
        rows.append(f"| `{file}` | " + " | ".join(f"{n:,}" for n in figures.values()) + " |")
        if told:
            parts.append(_listed(file, told))
    rows.append("| **all** | " + " | ".join(f"**{n:,}**" for n in total.values()) + " |")
    missing = ", ".join(f"`{file}`" for file in MODULES if file not in kept["modules"])
    note = f"\nNot run yet: {missing}.\n" if missing else ""
    note += f"\nStatic too, and not taken up yet: {', '.join(f'`{file}`' for file in NOT_TAKEN_UP)}.\n"
    return HEAD + "\n".join(rows) + "\n" + note + "\n## What lives, and why\n" + "".join(parts)


def _listed(file: str, told: list[tuple[Living, str]]) -> str:
    by_reason: dict[str, list[Living]] = {}
    for one, why in told:
        by_reason.setdefault(why, []).append(one)
    text = f"\n### {file}\n"
    for why, group in sorted(by_reason.items(), key=lambda pair: (not pair[0], pair[0])):
        text += f"\n{why or 'Open: a test is missing.'}\n\n```diff\n"
        for one in group:
            text += f"@@ {one.place}{' (no test runs it)' if one.outcome == NO_TEST else ''}\n"
            text += "".join(f"-{line}\n" for line in _short(one.was)) + "".join(
                f"+{line}\n" for line in _short(one.becomes)
            )
        text += "```\n"
    return text


def _short(text: str) -> list[str]:
    """A change in a few lines, each of a width that can be read."""
    lines = text.splitlines()
    kept = lines if len(lines) <= 4 else [*lines[:3], f"… {len(lines) - 3} more lines"]  # noqa: PLR2004
    return [line if len(line) <= 110 else line[:109] + "…" for line in kept]  # noqa: PLR2004


def check() -> int:
    """Each thing that is not as it should be, on a line of its own; 0 where there is none."""
    kept, known = record(), explanations()
    wrong = [stale for file in kept["modules"] for stale in _stale(kept, file)]
    lived = [one for file in kept["modules"] for one in living(kept, file)]
    used = {(one.file, one.place, one.was, one.becomes) for one in lived}
    wrong += [
        f"{key[0]}, {key[1]}: explained, and nothing like it lives: {key[2]}"
        for key in known.single
        if key not in used and key[0] in kept["modules"]
    ]
    for was, to, why in known.kinds:
        if not any(was.search(one.was) and to.search(one.becomes) for one in lived):
            wrong.append(f"{EXPLAINED.name}: nothing lives that is of the kind: {why}")
    if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page(kept, known):
        wrong.append("docs/mutation.md is not what the record says: python scripts/mutation.py --page")
    for line in wrong:
        print(line)
    return 1 if wrong else 0


def _stale(kept: dict[str, Any], file: str) -> list[str]:
    """What lives in a line that is no longer there."""
    source = ROOT / file
    if not source.exists():
        return [f"{file} is gone: take it out of docs/mutation.json"]
    lines = Counter(line.strip() for line in source.read_text(encoding="utf-8").splitlines())
    return [
        f"{file}, {one.place}: stale, the line is no longer there (python scripts/mutation.py {file}): {line}"
        for one in living(kept, file)
        for line in one.was.splitlines()
        if not lines[line]
    ]


if __name__ == "__main__":
    sys.exit(main())
