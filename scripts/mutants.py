"""What to plant: every mistake that one file of the package can carry.

The operators are mutmut's, on libcst trees, two of them changed, and four of ours (`OPERATORS`). A string with a space
in it is left alone: a sentence with XX at its ends is noticed by any test that reads it whole, and shows nothing.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider, WhitespaceInclusivePositionProvider
from mutmut.mutation.file_mutation import Mutation, MutationVisitor
from mutmut.mutation.mutators import mutation_operators, operator_arg_removal, operator_string
from mutmut.mutation.pragma_handling import IgnoredCode

ROOT = Path(__file__).resolve().parents[1]
LADDERS = {
    "Severity": ("OK", "NOTE", "WARN", "BLOCK"),
    "Level": ("DECLARED", "INSPECTED", "SIMULATED", "EXECUTED", "MEASURED"),
    "Outcome": ("COMPATIBLE", "UNPROVEN", "INCOMPATIBLE"),
}
"""Ordered words of the records: a mutant says the next one."""


def _string(node: cst.BaseString) -> Iterator[cst.BaseString]:
    """As mutmut, once for each string, and for none with a space: XX around a sentence shows nothing."""
    if isinstance(node, cst.SimpleString) and " " not in node.value.strip("'\""):
        yield from list(operator_string(node))[:1]


def _ladder(node: cst.Attribute) -> Iterator[cst.Attribute]:
    """`Severity.BLOCK` becomes the rung below, and the lowest the one above."""
    rungs = LADDERS.get(node.value.value, ()) if isinstance(node.value, cst.Name) else ()
    if node.attr.value in rungs:
        place = rungs.index(node.attr.value)
        yield node.with_changes(attr=cst.Name(rungs[place - 1 if place else 1]))


def _condition(node: cst.If) -> Iterator[cst.If]:
    """The branch is never entered, which shows whether it does something; mutmut's operators turn the conditions."""
    yield node.with_changes(test=cst.Name("False"))


def _argument(node: cst.Call) -> Iterator[cst.Call]:
    """None for an argument that has no name, as mutmut; one that has is left out, for its default to be used.

    mutmut does both to every argument; the other halves are errors of type that any test notices.
    """
    for place, argument in enumerate(node.args):
        others = [*node.args[:place], *node.args[place + 1 :]]
        if argument.keyword is not None:
            yield node.with_changes(args=others)
        elif not argument.star and not (isinstance(argument.value, cst.Name) and argument.value.value == "None"):
            none = argument.with_changes(value=cst.Name("None"))
            yield node.with_changes(args=[*node.args[:place], none, *node.args[place + 1 :]])


def _filter(node: cst.CompIf) -> Iterator[cst.CompIf]:
    """`for x in xs if c` takes every x."""
    yield node.with_changes(test=cst.Name("True"))


def _returned(node: cst.Return) -> Iterator[cst.Return]:
    """`return x` gives nothing."""
    if node.value is not None and not (isinstance(node.value, cst.Name) and node.value.value == "None"):
        yield node.with_changes(value=cst.Name("None"))


REPLACED = (operator_string, operator_arg_removal)

OPERATORS = (
    *((kind, operator) for kind, operator in mutation_operators if operator not in REPLACED),
    (cst.BaseString, _string),
    (cst.Call, _argument),
    (cst.Attribute, _ladder),
    (cst.If, _condition),
    (cst.CompIf, _filter),
    (cst.Return, _returned),
)


class Mutant(NamedTuple):
    """One mistake in one file."""

    file: str
    place: str
    """The function or method it stands in, or `-` and the name that is defined; of the second alike, with a number."""
    was: str
    becomes: str
    line: int
    source: str
    """The whole file with the mistake in it."""

    @property
    def function(self) -> str:
        """The function or method it stands in; empty at module level."""
        return "" if self.place.startswith("-") else self.place.partition("#")[0]

    @property
    def key(self) -> str:
        """Of its content: a changed line has another key."""
        return hashlib.sha256("\0".join((self.file, self.place, self.was, self.becomes)).encode()).hexdigest()[:10]


def mutants_of(file: str) -> list[Mutant]:
    """Every mutant of one file that is not the file itself, and none twice."""
    text = (ROOT / file).read_text(encoding="utf-8")
    wrapper = MetadataWrapper(cst.parse_module(text))
    visitor = MutationVisitor(OPERATORS, IgnoredCode(set(), set(), set()))
    module = wrapper.visit(visitor)
    owners = _owners(module)
    text_of = _Text(text, wrapper)
    seen: dict[str, Mutant] = {}
    for mutation in visitor.mutations:
        source = text_of.with_mistake(module, mutation)
        if source is None or source == text or source in seen:
            continue
        place = owners.get(mutation.contained_by_top_level_function)
        line = text_of.line(mutation.original_node)
        seen[source] = Mutant(file, place or "-" + _named(text, line), *_changed(text, source), line, source)
    return _numbered(list(seen.values()))


class _Text:
    """A file as text in which one node can be replaced: a hundred times quicker than writing the tree out again."""

    def __init__(self, text: str, wrapper: MetadataWrapper) -> None:
        self.text = text
        self.spans = wrapper.resolve(WhitespaceInclusivePositionProvider)
        self.places = wrapper.resolve(PositionProvider)
        self.starts = [0]
        for line in text.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def line(self, node: cst.CSTNode) -> int:
        """Where the node begins."""
        return self.places[node].start.line

    def with_mistake(self, module: cst.Module, mutation: Mutation) -> str | None:
        """The whole file; None where an operator made what is not Python."""
        old, new = mutation.original_node, mutation.mutated_node
        if isinstance(old, cst.If) and isinstance(new, cst.If):
            old, new = old.test, new.test
        try:
            source = self._spliced(module, old, new) or module.deep_replace(old, new).code  # type: ignore[arg-type]
            ast.parse(source)
        except (cst.CSTValidationError, TypeError, SyntaxError):
            return None
        return source

    def _spliced(self, module: cst.Module, old: cst.CSTNode, new: cst.CSTNode) -> str | None:
        if (span := self.spans.get(old)) is None:
            return None
        start, end = (self.starts[at.line - 1] + at.column for at in (span.start, span.end))
        if self.text[start:end] != module.code_for_node(old):
            return None  # a block: its indentation is not its own
        return self.text[:start] + module.code_for_node(new) + self.text[end:]


def _numbered(mutants: list[Mutant]) -> list[Mutant]:
    """The second of two that read alike (the same line twice in one function) is told by a number."""
    count: dict[str, int] = {}
    result = []
    for mutant in mutants:
        number = count[mutant.key] = count.get(mutant.key, 0) + 1
        result.append(mutant if number == 1 else mutant._replace(place=f"{mutant.place}#{number}"))
    return result


def _owners(module: cst.Module) -> dict[cst.CSTNode | None, str]:
    owners: dict[cst.CSTNode | None, str] = {}
    for node in module.body:
        if isinstance(node, cst.FunctionDef):
            owners[node] = node.name.value
        elif isinstance(node, cst.ClassDef):
            owners.update(
                {n: f"{node.name.value}.{n.name.value}" for n in node.body.body if isinstance(n, cst.FunctionDef)}
            )
    return owners


def _named(text: str, line: int) -> str:
    """What is being defined at a line of the module: the code of a finding, or the name that is assigned."""
    above = text.splitlines()[:line]
    for words in reversed(above):
        if found := re.match(r"\s+code=\"(\w+)\"|(?:class )?(\w+)\b.*[=(:]", words):
            return found[1] or found[2]
    return ""


def _changed(before: str, after: str) -> tuple[str, str]:
    """The lines that differ, without the common head and tail, each stripped."""
    old, new = before.splitlines(), after.splitlines()
    while old and new and old[0] == new[0]:
        old, new = old[1:], new[1:]
    while old and new and old[-1] == new[-1]:
        old, new = old[:-1], new[:-1]
    return "\n".join(line.strip() for line in old), "\n".join(line.strip() for line in new)
