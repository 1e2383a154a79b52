"""The reports of one result: which were asked for, and what stands in each; rendered before any is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from wirecheck.bounded_text import bounded_text
from wirecheck.errors import UsageError
from wirecheck.schema import PairResult

TEMPLATES = "wirecheck report RESULT.json --template FILE; docs/templates.md lists what it can name"


def _markdown(result: PairResult) -> str:
    from wirecheck.views import markdown

    return markdown.render(result)


def _html(result: PairResult) -> str:
    from wirecheck.views import html

    return html.render(result)


def _junit(result: PairResult) -> str:
    from wirecheck.views import junit

    return junit.render(result)


def _sarif(result: PairResult) -> str:
    from wirecheck.views import sarif

    return sarif.render(result)


FACES: dict[str, Callable[[PairResult], str]] = {".md": _markdown, ".html": _html, ".xml": _junit, ".sarif": _sarif}
_FOR_MACHINES = (".xml", ".sarif")


@dataclass(frozen=True)
class Reports:
    """What was asked for."""

    paths: tuple[Path, ...] = ()
    template: Path | None = None
    """The user's own, for every report but those for machines."""
    pictures: Path | None = None
    """The folder that the pictures are written to."""

    @classmethod
    def asked(cls, options: Mapping[str, Any]) -> Reports:
        """Those of a command's options. Raises UsageError as `check` does."""
        made = cls(tuple(options["report"] or ()), options["template"], options["pictures"])
        made.check()
        return made

    def check(self) -> None:
        """Raise UsageError for a name whose ending no report has, or a template that is not there or not used."""
        for path in self.paths:
            if path.suffix.lower() not in FACES and self.template is None:
                known = ", ".join(FACES)
                ending = path.suffix or "(none)"
                raise UsageError(f"--report {path}: no report has the ending {ending}", next_step=f"use one of {known}")
        if self.template is not None:
            if not self.template.is_file():
                raise UsageError(f"--template {self.template}: no such file", next_step=TEMPLATES)
            if all(path.suffix.lower() in _FOR_MACHINES for path in self.paths):
                raise UsageError(
                    f"--template {self.template}: no report is made by it", next_step="add --report PATH.md or .html"
                )
            self._check_syntax(self.template)

    def _check_syntax(self, template: Path) -> None:
        """What can be known of a template before there is a result: nothing of it is run."""
        from wirecheck.views import templates

        try:
            templates.parse_own(bounded_text(template))
        except (templates.Fault, OSError, UnicodeDecodeError) as fault:
            raise UsageError(f"--template {template}: {fault}", next_step=TEMPLATES) from None

    def of(self, result: PairResult) -> Iterator[tuple[Path, str]]:
        """Every file with what stands in it, the pictures first. Raises UsageError where the template is at fault."""
        shown: dict[str, tuple[str, Path]] = {}
        if self.pictures is not None:
            from wirecheck.views.pictures_result import of_result

            for picture in of_result(result):
                path = self.pictures / f"{picture.name}.svg"
                shown[picture.name] = (picture.alt, path)
                yield path, picture.svg
        for path in self.paths:
            yield path, self._one(path, result, shown)

    def _one(self, path: Path, result: PairResult, shown: Mapping[str, tuple[str, Path]]) -> str:
        ending = path.suffix.lower()
        if self.template is not None and ending not in _FOR_MACHINES:
            return self._by_template(self.template, path, result, shown)
        if ending == ".md" and shown:
            from wirecheck.views import markdown

            return markdown.render(result, _seen(path, shown))
        return FACES[ending](result)

    def _by_template(
        self, template: Path, path: Path, result: PairResult, shown: Mapping[str, tuple[str, Path]]
    ) -> str:
        from wirecheck.views import own_template

        try:
            return own_template.render(template, result, path.suffix.lower(), _seen(path, shown))
        except own_template.TemplateRefused as fault:
            raise UsageError(f"--template {template}: {fault.why}", next_step=TEMPLATES) from None
        except OSError as error:
            raise UsageError(f"--template {template}: {error.strerror or error}", next_step=TEMPLATES) from None


def _seen(report: Path, shown: Mapping[str, tuple[str, Path]]) -> dict[str, tuple[str, str]]:
    """The pictures as a markdown report links to them."""
    return {name: (alt, _seen_from(report, file)) for name, (alt, file) in shown.items()}


def _seen_from(report: Path, file: Path) -> str:
    """The address of `file` in a link of `report`."""
    return quote(Path(os.path.relpath(file, report.parent)).as_posix())
