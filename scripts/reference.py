"""The reference pages of docs/ that are made from the code: finding codes, probes, keys of a wirecheck.toml, records.

`scripts/regenerate.py` writes them and compares them. They are plain markdown that GitHub and the site read alike: a
code's heading is the code alone, so that `checks/TOK.md#tok02` is its place in both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from pydantic import BaseModel

from wirecheck.cli_gate_file import GateFile
from wirecheck.cli_request import Settings
from wirecheck.cli_texts import diff_schema, gate_schema, json_schema, lock_schema, matrix_schema, told
from wirecheck.codes import CODES
from wirecheck.probes import MODEL_PROBES, PAIR_PROBES, SINGLE_PROBES

Schema = dict[str, Any]
"""A JSON schema, or a part of one."""

MADE = "Made by `scripts/regenerate.py` from {source}; not written by hand."

FAMILIES = {
    "CFG": "the config",
    "WGT": "the weights",
    "TOK": "the tokenizer",
    "TPL": "the chat template",
    "EMB": "the model fed with inputs_embeds",
    "WIR": "the wire",
    "PAR": "the two models beside one another",
    "MEM": "the memory of a step",
    "HUB": "where the model comes from",
    "ENV": "the installed versions",
}
"""What the codes of each family speak of; a test holds that no family is missing."""

UNITS = {
    "wire.latent_length": "slots",
    "wire.latent_width": "numbers",
    "wire.max_bytes": "bytes",
    "wire.private_length": "slots",
    "wire.hidden_multiple": "latent widths",
    "wire.first_k": "tokens",
    "wire.source_layer": "layer",
    "wire.resampler_depth": "blocks",
    "train.batch": "rows",
    "train.context": "tokens",
    "train.answer": "tokens",
    "train.learning_rate": "per update",
    "policy.wire_seconds": "seconds",
    "policy.probe_seconds": "seconds",
    "policy.source_bytes": "bytes",
    "policy.gpus.count": "GPUs",
    "gate.seed": "any",
    "gate.minutes": "minutes",
    "gate.gigabytes": "GB (10^9 bytes)",
}
"""Table and key -> the unit of a number. A key of a number that is not here is an error."""


def row(*cells: str) -> str:
    """One row of a table; a pipe in a cell is escaped, so that the number of cells is what it looks like."""
    return "| " + " | ".join(re.sub(r"(?<!\\)\|", r"\\|", cell.replace("\n", " ")) for cell in cells) + " |"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of GitHub's markdown."""
    names = list(head)
    return "\n".join([row(*names), "|" + "---|" * len(names), *(row(*cells) for cells in rows)])


# --- finding codes and probes ------------------------------------------------------------------------------------


PROBES_ARE = (
    "A probe asks one question and says what it did to know. A report names the probe of everything that is not "
    "proven. It waits for the probes that it requires: where one of them was skipped or crashed, it is skipped, "
    "too."
)


def code_link(code: str) -> str:
    """A code as a link from a page in docs/ to its place."""
    return f"[{code}](checks/{CODES[code].family}.md#{code.lower()})"


def checks_page() -> str:
    """docs/checks.md: every code with a link to its words, and every probe."""
    codes = (
        (code_link(entry.code), entry.name, entry.severity, entry.level, entry.sentence) for entry in CODES.values()
    )
    families = ", ".join(f"[{name}](checks/{name}.md) ({words})" for name, words in FAMILIES.items())
    probes = (
        (
            f"`{probe.name}`",
            probe.scope,
            probe.level,
            probe.question,
            ", ".join(f"`{name}`" for name in probe.requires),
            ", ".join(code_link(code) for code in probe.codes),
        )
        for probe in (*MODEL_PROBES, *PAIR_PROBES, *SINGLE_PROBES)
    )
    parts = [
        "# The checks",
        MADE.format(source="`wirecheck/codes` and `wirecheck/probes`"),
        f"What a finding says, by its code's family: {families}. `wirecheck explain CODE` says the same.",
        "## Codes",
        table(("code", "name", "severity", "rung", "what it says"), codes),
        "## Probes",
        PROBES_ARE,
        table(("probe", "of a", "rung", "its question", "requires", "codes"), probes),
    ]
    return "\n\n".join(parts) + "\n"


def family_page(family: str) -> str:
    """docs/checks/FAMILY.md: of each code what `wirecheck explain` says of it."""
    entries = [entry for entry in CODES.values() if entry.family == family]
    rows = ((f"[{e.code}](#{e.code.lower()})", e.name, e.severity, e.sentence) for e in entries)
    parts = [
        f"# {family}: {FAMILIES[family]}",
        f"{MADE.format(source='`wirecheck/codes`')}",
        f"`wirecheck explain {family}` lists them, `wirecheck explain {entries[0].code}` says the same of one.",
        "All families, and the probes that ask: [the checks](../checks.md).",
        table(("code", "name", "severity", "what it says"), rows),
    ]
    for entry in entries:
        parts += [f"## {entry.code}", f"**{entry.name}**", *told(entry)]
    return "\n\n".join(parts) + "\n"


# --- types of a JSON schema, in words ----------------------------------------------------------------------------


SCALAR = {"boolean", "integer", "number", "string", "null"}
"""The types of a value that may be any of them."""


def kind(part: Schema, link: Callable[[str], str]) -> str:
    """What a value is, in words; `link` makes the name of a record into a link to it."""
    if "$ref" in part:
        return link(part["$ref"].rpartition("/")[2])
    if {one.get("type") for one in part.get("anyOf", ())} == SCALAR:
        return "text, number, `true`, `false` or nothing"
    if "const" in part or "enum" in part:
        return ", ".join(f"`{json.dumps(one)}`" for one in part.get("enum", [part.get("const")]))
    for union in ("anyOf", "oneOf"):
        if union in part:
            return " or ".join(dict.fromkeys(kind(one, link) for one in part[union]))
    return _plain_kind(part, link)


def _plain_kind(part: Schema, link: Callable[[str], str]) -> str:
    match part.get("type"):
        case "array" if "prefixItems" in part:
            return f"({', '.join(kind(one, link) for one in part['prefixItems'])})"
        case "array":
            return f"list of {kind(part['items'], link)}"
        case "object" if isinstance(part.get("additionalProperties"), dict):
            return f"name → {kind(part['additionalProperties'], link)}"
        case "string":
            return {"date": "date"}.get(part.get("format", ""), "text")
    named = {"integer": "whole number", "number": "number", "boolean": "`true` or `false`", "null": "nothing"}
    return named[part["type"]] + _bounds(part)


def _bounds(part: Schema) -> str:
    words = {"minimum": "from {}", "exclusiveMinimum": "above {}", "maximum": "to {}", "exclusiveMaximum": "below {}"}
    said = " ".join(text.format(part[key]) for key, text in words.items() if key in part)
    if part["type"] == "integer":
        said = said.replace("above 0", "from 1")
    return f" ({said})" if said else ""


def words_of(part: Schema) -> str:
    """The docstring as one line of markdown."""
    return " ".join(part.get("description", "").split())


# --- wirecheck.toml ----------------------------------------------------------------------------------------------


def tables_of(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """(dotted name, table) of every table of a file, each before those inside it."""

    def inside(name: str, found: Schema) -> Iterator[tuple[str, Schema]]:
        if name:
            yield name, found
        for key, part in found["properties"].items():
            for below, mark in _tables_in(part, schema["$defs"]):
                yield from inside(f"{name}.{key}{mark}".lstrip("."), below)

    return inside("", schema)


def _tables_in(part: Schema, known: Schema) -> Iterator[tuple[Schema, str]]:
    """The tables that a key holds: (the table, what its dotted name gains)."""
    if "$ref" in part:
        table = known[part["$ref"].rpartition("/")[2]]
        if "properties" in table:
            yield table, ""
    elif part.get("type") == "array" and "$ref" in part.get("items", {}):
        for table, _ in _tables_in(part["items"], known):
            yield table, "[]"
    elif isinstance(part.get("additionalProperties"), dict):
        for table, _ in _tables_in(part["additionalProperties"], known):
            yield table, ".NAME"


IN_A_FILE = {"wire.options": "table of names and values of your own: `[wire.options]`"}
"""What is written otherwise in a file than it is kept in a result."""

FILLED_IN = {"policy.locked[]", "policy.accepted[]"}
"""Tables of the records that a gate fills in and nobody writes."""


def header(name: str) -> str:
    """A table's name as it is written in the file: `[gate]`, `[[gate.accepted]]`."""
    return f"[[{name.removesuffix('[]')}]]" if name.endswith("[]") else f"[{name}]"


def unit(place: str, part: Schema) -> str:
    """The unit of a number, nothing for another value. Raises KeyError where nobody said one."""
    kinds = {one.get("type") for one in part.get("anyOf", [part])}
    if not kinds & {"integer", "number"} or {"string", "boolean"} <= kinds:
        return ""
    return UNITS[place.replace("[]", "")]


def default(key: str, part: Schema, required: Iterable[str]) -> str:
    """What holds where the key is not written."""
    if key in required:
        return "must be given"
    value = part.get("default")
    if value is None:
        return "none"
    return "" if "$ref" in part and isinstance(value, dict) else f"`{json.dumps(value)}`"


def table_words(name: str, found: Schema, known: Schema) -> str:
    """One table of a file: what it is, and its keys."""

    def link(record: str) -> str:
        made = known[record]
        return kind(made, link) if "enum" in made else "table"

    rows: list[tuple[str, ...]] = []
    for key, part in found["properties"].items():
        if any(f"{name}.{key}{mark}" in FILLED_IN for _, mark in _tables_in(part, known)):
            continue
        value = IN_A_FILE.get(f"{name}.{key}") or kind(part, link)
        cells = (value, default(key, part, found.get("required", ())), unit(f"{name}.{key}", part))
        rows.append((f"`{key}`", *cells, words_of(part)))
    head = table(("key", "value", "default", "unit", "what it is"), rows)
    return f"### {header(name)}\n\n{words_of(found)}\n\n{head}"


def file_words(record: type[BaseModel]) -> str:
    """Every table of one kind of file."""
    schema = record.model_json_schema(mode="validation")
    named = [(name, found) for name, found in tables_of(schema) if name not in FILLED_IN]
    return "\n\n".join(table_words(name, found, schema["$defs"]) for name, found in named)


TWO_READERS = (
    "One file serves two readers. [`wirecheck gate`](gate.md) and its kin (`fetch`, `lock`, `doctor`, `matrix "
    "--config`) read the tables under *The file of a gate*; an unknown key in them is refused with its line. "
    "`wirecheck pair`, `model` and `fit` read with `--config FILE` the tables `[wire]`, `[train]` and `[policy]`, "
    "and leave `[models]` and `[gate]` alone; options of the command line win over them. A gate takes no "
    "`[policy]`: what it asks stands in `[gate]`."
)


def config_page() -> str:
    """docs/config.md: every table and key of both files."""
    parts = [
        "# wirecheck.toml, key by key",
        MADE.format(source="the records that read the file"),
        TWO_READERS,
        "For editors: [schema-file.json](schema-file.json) (`wirecheck schema file`).",
        "## The file of a gate",
        file_words(GateFile),
        "## The file of `--config`",
        "`[wire]` and `[train]` are those above.",
        _policy_words(),
    ]
    return "\n\n".join(parts) + "\n"


def _policy_words() -> str:
    """The tables of `--config` that a gate's file has not."""
    schema = Settings.model_json_schema(mode="validation")
    named = [(name, found) for name, found in tables_of(schema) if name.startswith("policy") and name not in FILLED_IN]
    return "\n\n".join(table_words(name, found, schema["$defs"]) for name, found in named)


# --- the records -------------------------------------------------------------------------------------------------

RECORDS = {
    "A result": ("schema.json", "`wirecheck pair` and `wirecheck model`", json_schema),
    "A gate's result": ("schema-gate.json", "`wirecheck gate`", gate_schema),
    "A lock": ("schema-lock.json", "`wirecheck lock`", lock_schema),
    "A diff": ("schema-diff.json", "`wirecheck diff`", diff_schema),
    "A matrix": ("schema-matrix.json", "`wirecheck matrix`", matrix_schema),
}
"""Heading -> the schema's file in docs/, what writes such a thing, what makes the schema."""


RECORDS_ARE = (
    "Whoever reads a result reads it by these names. A field that has no words here is what its name says. One "
    "that is not required has a default, and an older file may lack it. Unknown fields are refused, so that a "
    "newer file is not misread."
)


def record_link(name: str) -> str:
    """A record's name as a link to its place on the page."""
    return f"[{name}](#{name.lower()})"


def record_words(name: str, record: Schema) -> str:
    """One record: its docstring, and its fields or its values."""
    head = [f"### {name}", words_of(record)]
    if "enum" in record:
        return "\n\n".join([*head, f"One of {kind(record, record_link)}."])
    always = set(record.get("required", ()))
    rows = (
        (f"`{key}`", kind(part, record_link), "yes" if key in always else "", words_of(part))
        for key, part in record["properties"].items()
    )
    return "\n\n".join([*head, table(("field", "value", "required", "what it is"), rows)])


def records_page() -> str:
    """docs/schema.md: every record of what `--json` writes, each once, under the first file that has it."""
    parts = [
        "# What the JSON holds",
        MADE.format(source="the JSON schemas beside it"),
        RECORDS_ARE,
    ]
    seen: dict[str, Schema] = {}
    for title, (file, writer, make) in RECORDS.items():
        schema = json.loads(make())
        known = {schema["title"]: {key: part for key, part in schema.items() if key != "$defs"}} | schema["$defs"]
        begin = record_link(schema["title"])
        parts += [f"## {title}", f"Written by {writer}; [{file}]({file}) is its schema. It begins at {begin}."]
        for name, record in known.items():
            if name not in seen:
                seen[name] = record
                parts.append(record_words(name, record))
            elif seen[name] != record:
                raise ValueError(f"{name} is one thing in {file} and another in a schema before it")
    return "\n\n".join(parts) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "docs/checks.md": checks_page,
    "docs/config.md": config_page,
    "docs/schema.md": records_page,
} | {f"docs/checks/{family}.md": partial(family_page, family) for family in FAMILIES}
"""Page -> what makes it."""
