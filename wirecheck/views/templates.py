"""Where the report templates are, and the jinja environment that fills them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import jinja2

from wirecheck.views import words

_PACKAGE = Path(__file__).parents[1]


def folder() -> Path:
    """The templates inside the installed wheel, or those at the root of a checkout."""
    for candidate in (_PACKAGE / "templates", _PACKAGE.parent / "templates"):
        if (candidate / "pair.md.j2").is_file():
            return candidate
    raise FileNotFoundError("the report templates are missing from this installation: reinstall wirecheck")


@cache
def environment() -> jinja2.Environment:
    """A misspelt field is an error, and nothing is escaped silently: templates say `text` or `code`."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder()),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - markdown is escaped by its own filters, HTML by the markdown renderer
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update(
        text=words.markdown_text,
        code=words.markdown_code,
        span=words.markdown_span,
        block=words.markdown_block,
        line=words.visible,
        human=words.human,
        size=words.human_bytes,
    )
    made.globals.update(plural=words.plural, mark=words.mark)
    return made
