"""docs/templates.md: every variable, function and filter that a user's own template can name, from the code."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, get_args

from pydantic import BaseModel

from wirecheck.schema import PairResult
from wirecheck.views import own_template, templates
from wirecheck.views.faces import Face
from wirecheck.views.tellers import TELLERS

HEAD = f"""# Templates of your own

Made by `scripts/regenerate.py` from the code; not written by hand.

`--template FILE` writes reports by your own [jinja](https://jinja.palletsprojects.com) template instead of the shipped
one, for `wirecheck pair`, `wirecheck model` and `wirecheck report`. This one, `short.md.j2`, is the shipped report with
one part changed and one left out:

```jinja
{{% extends "pair.md.j2" %}}
{{% block summary %}}
## In short

{{{{ story.sentence(result)|text }}}} {{{{ costs.sentence(result) }}}}

{{{{ super() }}}}
{{% endblock %}}
{{% block evidence %}}{{% endblock %}}
```

```sh
wirecheck report wirecheck-demo/result.json --template short.md.j2 --report short.md --report short.html
```

- A template named `.md` or `.md.j2` is markdown: for `--report x.html` it becomes a page, with the pictures where
  `face.picture(…)` asks for them.
- A template named `.html` or `.html.j2` has every value escaped for HTML, but for what `face` gives. It is written
  as it is.
- Any other is text, written as it is, under whatever name you give: `--report table.tex`.
- `.xml` and `.sarif` stay what they are: machines read them.

The template runs in a sandbox, in a process of its own: {own_template.WALL_S:g} s, {own_template.MOST_CHARS:,}
characters, and on Linux {own_template.CPU_S} s of CPU time and {own_template.MEMORY_BYTES // 1024**3} GiB of memory.
It reads the result, and no file but the shipped templates.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD, "## Blocks of `pair.md.j2`\n", _list(_blocks()), "## Variables\n"]
    fields = "`result` is the record of one check; its fields are those of [the JSON](schema.md):\n"
    parts += [fields, _table(_fields())]
    parts += ["`most` is the number of reasons that the summary gives.\n"]
    for name, functions in TELLERS.items():
        parts += [f"### `{name}`\n", _table([_told(f"{name}.", one) for one in functions])]
    own = [one for name, one in vars(Face).items() if inspect.isfunction(one) and not name.startswith("_")]
    parts += ["### `face`\n", "Text to place as it is.\n", _table([_told("face.", one, bound=True) for one in own])]
    parts += ["## Filters\n", _table(_filters()), "## Functions\n", _table([_told("", templates.words.plural)])]
    return "\n".join(parts).rstrip("\n") + "\n"


def _blocks() -> list[str]:
    source = (templates.folder() / "pair.md.j2").read_text(encoding="utf-8")
    return re.findall(r"{% block (\w+) %}", source)


def _fields() -> list[tuple[str, str]]:
    told = []
    for name, field in PairResult.model_fields.items():
        kind = str(field.annotation) if get_args(field.annotation) else getattr(field.annotation, "__name__", "")
        kind = re.sub(r"(?:typing\.|wirecheck\.\w+\.)", "", kind)
        told.append((f"result.{name}", _line(f"`{kind}` {field.description or _doc(field.annotation)}")))
    return told


def _doc(kind: Any) -> str:
    """What a record says of itself."""
    return (inspect.getdoc(kind) or "") if isinstance(kind, type) and issubclass(kind, BaseModel) else ""


def _told(prefix: str, function: Callable[..., Any], *, bound: bool = False) -> tuple[str, str]:
    names = list(inspect.signature(function).parameters)[1 if bound else 0 :]
    return f"{prefix}{function.__name__}({', '.join(names)})", _line(inspect.getdoc(function) or "")


def _filters() -> list[tuple[str, str]]:
    return [(name, _line(inspect.getdoc(one) or "")) for name, one in templates.FILTERS.items()]


def _line(text: str) -> str:
    """The first paragraph, on one line."""
    return " ".join(text.split("\n\n", 1)[0].split())


def _list(names: list[str]) -> str:
    return "\n".join(f"- `{name}`" for name in names) + "\n"


def _table(rows: list[tuple[str, str]]) -> str:
    lines = ["| name | what it is |", "|---|---|"]
    escaped = ((name, text.replace("|", "\\|")) for name, text in rows)
    return "\n".join([*lines, *(f"| `{name}` | {text} |" for name, text in escaped)]) + "\n"
