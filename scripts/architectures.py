"""reports/architectures.{json,md,html}: what every causal class of the pinned transformers does with inputs_embeds.

    python scripts/architectures.py            run every type afresh and write the table (minutes)
    python scripts/architectures.py --check    run every type afresh and compare, leaving out seconds

`scripts/regenerate.py --check` does the same for a sample of types, and compares the pages to the byte with what the
committed JSON renders to. With another transformers than the table's nothing is run, and that is said.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "reports" / "architectures.json"
SAMPLE = ("bamba", "gemma3", "gpt2", "llama", "mamba", "ministral", "musicgen", "qwen3_moe")
"""Plain, wrapped, state-space, hybrid, experts, a default that has to be completed, one that cannot be built."""
sys.path.insert(0, str(ROOT))

from wirecheck.architecture_records import Architecture, ArchitectureTable  # noqa: E402 - after the path is set
from wirecheck.architectures import chosen_types, make_rows, tabled  # noqa: E402
from wirecheck.cli_architectures import read_table  # noqa: E402
from wirecheck.cli_output import to_json  # noqa: E402
from wirecheck.fork_pool import free_cpus  # noqa: E402
from wirecheck.runner import environment  # noqa: E402
from wirecheck.views import architectures as view  # noqa: E402

FACES = {".md": view.render, ".html": view.render_html}


def fresh_rows(types: Sequence[str]) -> list[Architecture]:
    """A row for each type, made now; no row of an earlier run is used."""
    rows = []
    for row in make_rows(types, seed=0, jobs=free_cpus()):
        rows.append(row)
        print(f"{len(rows)}/{len(types)} {row.model_type}", file=sys.stderr)
    return rows


def bare(row: Architecture) -> dict[str, Any]:
    """What of a row does not change from run to run."""
    fields: dict[str, Any] = json.loads(row.model_dump_json(exclude={"seconds"}))
    for check in fields["checks"]:
        check["evidence"] = [{k: v for k, v in one.items() if k != "observed"} for one in check["evidence"]]
    return fields


def unlike(old: Architecture, new: Architecture) -> list[str]:
    """Where two rows of one type differ in more than seconds and the figures observed."""
    before, after = bare(old), bare(new)
    keys = [key for key in before if before[key] != after[key]]
    return [f"{old.model_type}.{key}: {str(before[key])[:300]} -> {str(after[key])[:300]}" for key in keys]


def unlike_committed(types: Sequence[str] | None = None) -> list[str]:
    """Where the committed table, its pages, or its rows of those types (None: all) are not what the tool makes now."""
    table = read_table(TABLE)
    wrong = [
        f"reports/architectures{ending}: not what its JSON renders to"
        for ending, render in FACES.items()
        if TABLE.with_suffix(ending).read_text(encoding="utf-8") != render(table)
    ]
    ours, theirs = (dict(made.packages)["transformers"] for made in (environment(), table.environment))
    if ours != theirs:
        print(f"skipped: the rows of reports/architectures.json are of transformers {theirs}, here is {ours}")
        return wrong
    committed = {row.model_type: row for row in table.rows}
    asked = chosen_types(types or [])
    gone = sorted(set(asked) ^ set(committed)) if types is None else sorted(set(asked) - set(committed))
    wrong += [f"reports/architectures.json: {kind} is on one side only" for kind in gone]
    for row in fresh_rows([kind for kind in asked if kind in committed]):
        wrong += [f"reports/architectures.json: {line}" for line in unlike(committed[row.model_type], row)]
    return wrong


def write() -> None:
    """Make the table and its pages anew."""
    table: ArchitectureTable = tabled(fresh_rows(chosen_types([])), seed=0, command="wirecheck architectures")
    TABLE.write_text(to_json(table, indent=1), encoding="utf-8")
    for ending, render in FACES.items():
        TABLE.with_suffix(ending).write_text(render(table), encoding="utf-8")


def main() -> int:
    """Write, or check and say what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    if not parser.parse_args().check:
        write()
        return 0
    wrong = unlike_committed()
    print("\n".join(wrong) or "the table of architectures is as committed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
