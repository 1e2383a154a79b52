"""The table of `wirecheck architectures` as markdown, as HTML and as the few lines that a terminal shows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from wirecheck.architecture_records import Architecture, ArchitectureTable, Cause
from wirecheck.schema import Severity
from wirecheck.views import html, templates
from wirecheck.views.words import plural

MARKS: dict[Severity | None, str] = {
    Severity.OK: "✓",
    Severity.NOTE: "n",
    Severity.WARN: "**W**",
    Severity.BLOCK: "**B**",
    None: "-",
}
"""How a check stands in the table; None where it was not made."""
CAUSES: dict[Cause, str] = {
    "upstream": "transformers' own class or default config",
    "machine": "a package or memory that this machine lacks",
    "wirecheck": "a fault of wirecheck",
    "ended": "its process was ended before it was done",
}
_ORDER = (Severity.BLOCK, Severity.WARN, Severity.NOTE)


def render(table: ArchitectureTable) -> str:
    """The table as GitHub-flavoured markdown: same input, same bytes."""
    return templates.environment().get_template("architectures.md.j2").render(table=table, view=_View(table))


def render_html(table: ArchitectureTable) -> str:
    """The table as one self-contained page."""
    return html.page(render(table), title=_View(table).title, mood="architectures")


def lines(table: ArchitectureTable) -> list[str]:
    """What a terminal shows: the counts, and every row that is not whole."""
    view = _View(table)
    told = [view.sentence, ""]
    width = max((len(name) for _, name in table.codes), default=0)
    told += [f"{count.code}  {count.name:<{width}}  {count.words}" for count in view.counts]
    told += ["", *(f"{row.model_type}: {view.why(row)}" for row in view.broken)] if view.broken else []
    return told


@dataclass(frozen=True)
class Count:
    """How often one check came out which way."""

    code: str
    name: str
    by_severity: tuple[int, ...]
    """In the order of `Severity`."""
    unasked: int

    @property
    def words(self) -> str:
        """`178 ok, 2 block, 5 not asked`, without the zeros."""
        named = [(n, str(s)) for n, s in zip(self.by_severity, Severity, strict=True)] + [(self.unasked, "not asked")]
        return ", ".join(f"{number} {name}" for number, name in named if number)


@dataclass(frozen=True)
class Told:
    """One claim, and the types it was made of."""

    severity: Severity
    claim: str
    types: tuple[str, ...]


@dataclass(frozen=True)
class _View:
    """What the template tells of a table."""

    table: ArchitectureTable

    @property
    def title(self) -> str:
        """The page's title."""
        return f"wirecheck architectures: transformers {self.version('transformers')}"

    def version(self, package: str) -> str:
        """The version of a package that the table was made with."""
        return dict(self.table.environment.packages).get(package, "(not installed)")

    @property
    def sentence(self) -> str:
        """The whole table in one sentence."""
        rows = self.table.rows
        clean = [row for row in rows if row.checks and not self.fired(row) and not self.why(row)]
        blocked = [row for row in rows if any(check.severity is Severity.BLOCK for check in row.checks)]
        built = sum(row.built for row in rows)
        return (
            f"transformers {self.version('transformers')}: of {plural(len(rows), 'causal model type')}, {built} have a "
            f"twin that was run; {len(clean)} pass every check, {len(blocked)} cannot be fed embeds as a wire does, "
            f"{len(rows) - built} could not be built."
        )

    @property
    def counts(self) -> tuple[Count, ...]:
        """One line per check."""
        found = []
        for code, name in self.table.codes:
            seen = Counter(check.severity for row in self.table.rows if (check := row.check(code)) is not None)
            numbers = tuple(seen[severity] for severity in Severity)
            found.append(Count(code, name, numbers, len(self.table.rows) - sum(numbers)))
        return tuple(found)

    @property
    def broken(self) -> tuple[Architecture, ...]:
        """Rows without a twin, or with a probe that crashed."""
        return tuple(row for row in self.table.rows if self.why(row))

    @property
    def skipped(self) -> tuple[tuple[str, str, str], ...]:
        """(type, probe, reason) of every probe that was not run to its end."""
        return tuple(
            (row.model_type, run.probe, run.why or "") for row in self.table.rows for run in row.runs if run.why
        )

    @property
    def given(self) -> tuple[tuple[Told, str], ...]:
        """What was set beside the defaults, with the types it was set for and what their defaults alone raise."""
        groups: dict[tuple[str, str], list[str]] = {}
        for row in self.table.rows:
            if row.given:
                key = ("; ".join(row.given), row.default_refused or "")
                groups.setdefault(key, []).append(row.model_type)
        return tuple((Told(Severity.NOTE, what, tuple(types)), error) for (what, error), types in groups.items())

    def fired(self, row: Architecture) -> bool:
        """Whether a check of the row says more than that it is sound."""
        return any(check.severity is not Severity.OK for check in row.checks)

    def why(self, row: Architecture) -> str | None:
        """Why the row is not whole; None where it is."""
        return f"{CAUSES[row.trouble.cause]}: {row.trouble.words}" if row.trouble is not None else None

    def marks(self, row: Architecture) -> tuple[str, ...]:
        """One mark per column."""
        checks = (row.check(code) for code, _ in self.table.codes)
        return tuple(MARKS[check.severity if check is not None else None] for check in checks)

    def told(self, code: str) -> tuple[Told, ...]:
        """The claims of one check that are not plain passes, the gravest first; alike ones together."""
        groups: dict[tuple[Severity, str], list[str]] = {}
        for row in self.table.rows:
            for check in row.checks:
                if check.code == code and check.severity is not Severity.OK:
                    claim = check.claim.replace(row.class_name or "\0", "the class")
                    groups.setdefault((check.severity, claim), []).append(row.model_type)
        found = [Told(severity, claim[0].upper() + claim[1:], tuple(t)) for (severity, claim), t in groups.items()]
        return tuple(sorted(found, key=lambda one: (_ORDER.index(one.severity), -len(one.types), one.types)))
