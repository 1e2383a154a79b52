"""What to plant: every mistake that one file of the package can carry.

The operators are mutmut's, on libcst trees, and five of ours (`OPERATORS`). Strings that are sentences are left alone:
they are wording, which no test should pin.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.file_mutation import Mutation, MutationVisitor
from mutmut.mutation.mutators import mutation_operators, operator_string
from mutmut.mutation.pragma_handling import IgnoredCode

ROOT = Path(__file__).resolve().parents[1]
LADDERS = {
    "Severity": ("OK", "NOTE", "WARN", "BLOCK"),
    "Level": ("DECLARED", "INSPECTED", "SIMULATED", "EXECUTED", "MEASURED"),
    "Outcome": ("COMPATIBLE", "UNPROVEN", "INCOMPATIBLE"),
}
"""Ordered words of the records: a mutant says the next one."""


def _string(node: cst.BaseString) -> Iterator[cst.BaseString]:
    """As mutmut, once for each string; a sentence is wording, which no test should pin."""
    if isinstance(node, cst.SimpleString) and " " not in node.value.strip("'\""):
        yield from list(operator_string(node))[:1]


def _ladder(node: cst.Attribute) -> Iterator[cst.Attribute]:
    """`Severity.BLOCK` becomes the rung below, and the lowest the one above."""
    rungs = LADDERS.get(node.value.value, ()) if isinstance(node.value, cst.Name) else ()
    if node.attr.value in rungs:
        place = rungs.index(node.attr.value)
        yield node.with_changes(attr=cst.Name(rungs[place - 1 if place else 1]))


def _negated(test: cst.BaseExpression) -> cst.UnaryOperation:
    bare = test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    return cst.UnaryOperation(operator=cst.Not(), expression=bare)


def _condition(node: cst.If) -> Iterator[cst.If]:
    """`if x` becomes `if not x`; and is never entered, which alone shows that a branch does something."""
    yield node.with_changes(test=_negated(node.test))
    yield node.with_changes(test=cst.Name("False"))


def _filter(node: cst.CompIf) -> Iterator[cst.CompIf]:
    """`for x in xs if c` takes every x."""
    yield node.with_changes(test=cst.Name("True"))


def _returned(node: cst.Return) -> Iterator[cst.Return]:
    """`return x` gives nothing."""
    if node.value is not None and not (isinstance(node.value, cst.Name) and node.value.value == "None"):
        yield node.with_changes(value=cst.Name("None"))


OPERATORS = (
    *((kind, operator) for kind, operator in mutation_operators if operator is not operator_string),
    (cst.BaseString, _string),
    (cst.Attribute, _ladder),
    (cst.If, _condition),
    (cst.CompIf, _filter),
    (cst.Return, _returned),
)


class Mutant(NamedTuple):
    """One mistake in one file."""

    file: str
    place: str
    """The function or method it stands in; empty at module level."""
    was: str
    becomes: str
    line: int
    source: str
    """The whole file with the mistake in it."""

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
    places = wrapper.resolve(PositionProvider)
    owners = _owners(module)
    sound = ast.dump(ast.parse(text))
    seen: dict[str, Mutant] = {}
    for mutation in visitor.mutations:
        source = _applied(module, mutation)
        if source is None:
            continue
        try:
            if ast.dump(ast.parse(source)) == sound:
                continue
        except SyntaxError:
            continue
        place = owners.get(mutation.contained_by_top_level_function, "")
        was, becomes = _changed(text, source)
        line = places[mutation.original_node].start.line
        seen.setdefault(source, Mutant(file, place, was, becomes, line, source))
    return _numbered(list(seen.values()))


def _applied(module: cst.Module, mutation: Mutation) -> str | None:
    try:
        return module.deep_replace(mutation.original_node, mutation.mutated_node).code  # type: ignore[arg-type]
    except (cst.CSTValidationError, TypeError):  # an operator made what is not Python
        return None


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
            owners.update({n: f"{node.name.value}.{n.name.value}" for n in node.body.body if isinstance(n, cst.FunctionDef)})
    return owners


def _changed(before: str, after: str) -> tuple[str, str]:
    """The lines that differ, without the common head and tail, each stripped."""
    old, new = before.splitlines(), after.splitlines()
    while old and new and old[0] == new[0]:
        old, new = old[1:], new[1:]
    while old and new and old[-1] == new[-1]:
        old, new = old[:-1], new[:-1]
    return "\n".join(line.strip() for line in old), "\n".join(line.strip() for line in new)
