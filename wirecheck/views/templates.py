"""Where the report templates are, and the jinja environments that fill them: ours, and a user's own in a sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel

from wirecheck.views import words

_PACKAGE = Path(__file__).parents[1]


def folder() -> Path:
    """The templates inside the installed wheel, or those at the root of a checkout."""
    for candidate in (_PACKAGE / "templates", _PACKAGE.parent / "templates"):
        if (candidate / "pair.md.j2").is_file():
            return candidate
    raise FileNotFoundError("the report templates are missing from this installation: reinstall wirecheck")


FILTERS: dict[str, Any] = {
    "text": words.markdown_text,
    "code": words.markdown_code,
    "span": words.markdown_span,
    "block": words.markdown_block,
    "prose": words.markdown_prose,
    "line": words.visible,
    "human": words.human,
    "size": words.human_bytes,
}
"""How a value is placed in a report."""
_HOW: dict[str, Any] = {
    "undefined": jinja2.StrictUndefined,
    "trim_blocks": True,
    "lstrip_blocks": True,
    "keep_trailing_newline": True,
}
"""A misspelt field is an error."""


@cache
def environment() -> jinja2.Environment:
    """Nothing is escaped silently: templates say `text` or `code`."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder()),
        autoescape=False,  # noqa: S701 - markdown is escaped by its own filters, HTML by the markdown renderer
        **_HOW,
    )
    return _dressed(made)


def _dressed(made: jinja2.Environment) -> jinja2.Environment:
    made.filters.update(FILTERS)
    made.globals.update(plural=words.plural, mark=words.mark)
    return made


# --- a user's own ------------------------------------------------------------------------------------------------


class Fault(Exception):
    """What is wrong with a user's template: one line, with the line of the template where it is known."""


class _Sandbox(ImmutableSandboxedEnvironment):
    """Fields of a record can be read, and what we define on it; what every record has from pydantic can not."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Pydantic's methods read files and make classes."""
        is_record = isinstance(obj, BaseModel) or (isinstance(obj, type) and issubclass(obj, BaseModel))
        if is_record and hasattr(BaseModel, attr):
            return False
        return super().is_safe_attribute(obj, attr, value)


def parse_own(source: str) -> None:
    """Raise Fault where the template's syntax is wrong. Nothing of it is run."""
    try:
        _Sandbox(**_HOW).parse(source)
    except jinja2.TemplateError as error:
        raise Fault(_one_line(error, _line_of(error))) from None


def render_own(source: str, given: Mapping[str, Any], *, escaped: bool, most: int) -> str:
    """What the template makes of what it is given. Raises Fault. Only the shipped templates can be named in it.

    `escaped`: every value is escaped for HTML, but for what `face` gives.
    """
    ours = jinja2.FileSystemLoader(folder())
    sandbox = _dressed(_Sandbox(loader=ours, autoescape=escaped, **_HOW))
    made, size = [], 0
    try:
        for piece in sandbox.from_string(source).generate(**given):
            made.append(piece)
            size += len(piece)
            if size > most:
                raise Fault(f"it writes more than {most:,} characters")
    except Fault:
        raise
    except Exception as error:  # noqa: BLE001  # an expression of the template can raise anything
        raise Fault(_one_line(error, _line_of(error))) from None
    return "".join(made)


def _one_line(error: Exception, line: int | None) -> str:
    where = "" if line is None else f"line {line}: "
    said = words.visible(" ".join(str(error).split()))[:300]
    return f"{where}{said or type(error).__name__}"


def _line_of(error: Exception) -> int | None:
    """The line of the template that the error comes from; None where it is not known."""
    if isinstance(error, jinja2.TemplateSyntaxError):
        return error.lineno
    frame, line = error.__traceback__, None
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == "<template>":
            line = frame.tb_lineno
        frame = frame.tb_next
    return line
