"""A mistake put into a package that is loaded already: in the code of a function, or in the rows of a table."""

from __future__ import annotations

import ast
import importlib
import sys
from types import CodeType, FunctionType
from typing import Any

from mutants import ROOT, Mutant


def functions(body: list[ast.stmt], names: list[str]) -> list[ast.FunctionDef]:
    """The functions of that name; of a method, the class's name comes first."""
    found = [n for n in body if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name == names[0]]
    if len(names) == 1:
        return [n for n in found if isinstance(n, ast.FunctionDef)]
    return [f for n in found for f in functions(n.body, names[1:])]


def swap(mutant: Mutant) -> bool:
    """Give the loaded function the mutant's code; False where the mistake is not in the code of one function."""
    names = mutant.function.split(".")
    old = functions(ast.parse((ROOT / mutant.file).read_text(encoding="utf-8")).body, names)
    new = functions(ast.parse(mutant.source).body, names)
    if len(old) != 1 or len(new) != 1 or not mutant.function:
        return False
    for part in ("args", "decorator_list"):
        a, b = ([ast.dump(x) for x in ([n.args] if part == "args" else n.decorator_list)] for n in (old[0], new[0]))
        if a != b:
            return False
    code: CodeType | None = compile(mutant.source, str(ROOT / mutant.file), "exec")
    owner: Any = sys.modules[mutant.file.removesuffix(".py").replace("/", ".")]
    for name in names:
        code = (
            next((c for c in code.co_consts if isinstance(c, CodeType) and c.co_name == name), None) if code else None
        )
        owner = vars(owner).get(name)
    function = _function(owner)
    if code is None or function is None or function.__code__.co_freevars != code.co_freevars:
        return False
    function.__code__ = code
    return True


def swap_table(mutant: Mutant) -> bool | str:
    """Give the loaded rows of a table of codes the mutant's fields; why it cannot be imported, where it cannot.

    The rows are changed where they are, for the tests were collected over them. False where the mistake is elsewhere.
    """
    name = mutant.file.removesuffix(".py").replace("/", ".")
    loaded, space = sys.modules[name], {"__name__": name}
    try:
        exec(compile(mutant.source, str(ROOT / mutant.file), "exec"), space)  # noqa: S102 - our own source
    except Exception as error:  # noqa: BLE001 - whatever it is, an import would end with it
        return f"it cannot be imported: {type(error).__name__}"
    rows, news = ([v for v in vars(m).values() if _is_table(v)] for m in (loaded, _Space(space)))
    if len(rows) != 1 or len(news) != 1 or len(rows[0]) != len(news[0]):
        return False
    for row, new in zip(rows[0], news[0], strict=True):
        for field, value in vars(new).items():
            object.__setattr__(row, field, value)
    table = importlib.import_module("wirecheck.codes").CODES
    entries = list(table.values())
    table.clear()
    table.update({entry.code: entry for entry in entries})
    return True


class _Space:
    def __init__(self, names: dict[str, Any]) -> None:
        vars(self).update(names)


def _is_table(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and all(hasattr(v, "__dataclass_fields__") for v in value)


def _function(found: Any) -> FunctionType | None:
    """Under properties, class methods and caches; a cache is emptied, for the sound code may have filled it."""
    while found is not None and not isinstance(found, FunctionType):
        if clear := getattr(found, "cache_clear", None):
            clear()
        found = next((v for n in ("__wrapped__", "__func__", "fget", "func") if (v := getattr(found, n, None))), None)
    while found is not None and "__wrapped__" in vars(found):
        found = _function(found.__wrapped__)
    return found
