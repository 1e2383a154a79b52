"""All that the probes said in the tests of one file, held against a text kept beside them.

A test of one code asserts its severity and a word of its claim. What else the user reads (the key that a source leads
to, what was observed there and what was expected, the facts of the report) is held here, for every case that those
tests make, in `golden/said/FILE.txt`. What a file's `SOUND` test says is not said again under the others. After a
change of words that is meant: `WIRECHECK_SAID=write python -m pytest tests/test_probe_config.py`, and read the diff.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from wirecheck.probe import Yielded
from wirecheck.schema import Evidence, Fact, Finding

KEPT = Path(__file__).parent / "golden" / "said"
WRITE = os.environ.get("WIRECHECK_SAID") == "write"
_LINES: list[list[str]] = []
"""Of the running test, where it holds them."""


def note(yielded: Iterable[Yielded]) -> None:
    """Keep what a probe yielded, where the running test is one that holds it."""
    for lines in _LINES:
        lines.extend(line for item in yielded if isinstance(item, Finding | Fact) for line in _words(item))


def _words(item: Finding | Fact) -> Iterator[str]:
    if isinstance(item, Fact):
        text = f"{item.subject} {item.key} = {item.value!r} ({item.level}, {item.source})"
    else:
        seen = "; ".join(_seen(one) for one in item.evidence)
        text = f"{item.code} {item.severity} {item.subject}: {item.claim} [{seen}]"
    text = re.sub(r"sha256:[0-9a-f]+|\b[0-9a-f]{64}\b", "SHA", text)
    yield re.sub(rf"\b{re.escape(version('transformers'))}\b", "VERSION", text)


def _seen(one: Evidence) -> str:
    expected = "" if one.expected is None else f", expected {one.expected!r}"
    return f"{one.level} {one.source}: {one.observed!r}{expected}"


def _sections(file: Path) -> dict[str, list[str]]:
    """test -> its lines, as kept."""
    sections: dict[str, list[str]] = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        if line.startswith("# "):
            sections[line[2:]] = []
        elif line:
            sections[list(sections)[-1]].append(line)
    return sections


@pytest.fixture
def said(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """What the probes say in this test is what they said when it was kept."""
    name, sound = request.node.name, request.module.SOUND
    if request.node.get_closest_marker("skipif"):  # it reads assets that are not beside every checkout
        yield
        return
    _LINES.append([])
    yield
    lines = _LINES.pop()
    file = KEPT / f"{request.path.stem.removeprefix('test_probe_')}.txt"
    kept = _sections(file)
    lines = [repr(line.replace(str(tmp_path), "FOLDER"))[1:-1] for line in lines]
    lines = [line for line in dict.fromkeys(lines) if name == sound or line not in kept.get(sound, ())]
    if WRITE:
        kept[name] = lines
        common = set(kept.get(sound, ()))
        kept = {test: said if test == sound else [s for s in said if s not in common] for test, said in kept.items()}
        file.parent.mkdir(parents=True, exist_ok=True)
        text = "\n".join(f"# {test}\n" + "".join(f"{line}\n" for line in said) for test, said in kept.items() if said)
        file.write_text(text, encoding="utf-8")
    else:
        assert lines == kept.get(name, [])
