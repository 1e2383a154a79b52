"""The user's own wire, by name: `package.module:factory`. Importing a module runs it: this is done in a child only."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from wirecheck.errors import CannotRun, UsageError

if TYPE_CHECKING:
    from wirecheck.wires.contract import Factory, Settings, Wire, WiredModel

FORM = "package.module:factory"
_OPTIONAL = ("backward", "prefix", "uncalibrated", "generate")


def check_form(name: str) -> None:
    """UsageError where `name` cannot be `package.module:factory`, or its package is not to be found. Runs nothing."""
    module, _, attribute = name.partition(":")
    if module.endswith(".py") or "/" in module or os.sep in module:
        dotted = ".".join(part for part in module.removesuffix(".py").replace(os.sep, "/").split("/") if part != ".")
        raise UsageError(
            f"--wire {name}: a module is named with dots, as in {FORM}",
            next_step=f"--wire {dotted.strip('.')}:{attribute or 'factory'}",
        )
    if not all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
        dotted = module if module.replace(".", "").isidentifier() else "my_package.my_module"
        raise UsageError(f"--wire {name}: not of the form {FORM}", next_step=f"--wire {dotted}:my_factory")
    top = module.split(".")[0]
    if not _is_found(top):
        raise UsageError(
            f"--wire {name}: no module {top} in the current folder or in this Python",
            next_step=f"run wirecheck in the folder that holds {top}, or install it beside wirecheck",
        )


def _is_found(top: str) -> bool:
    """Whether there is a module or package of that plain name; it is not imported."""
    before = sys.path[:]
    _look_here()
    importlib.invalidate_caches()
    try:
        return top in sys.modules or importlib.util.find_spec(top) is not None
    finally:
        sys.path[:] = before


def load_factory(name: str) -> Factory:
    """The factory of that name, its module imported with the current folder first on the path.

    CannotRun where the module, the attribute in it, or anything callable is missing: one line, with the nearest name.
    Whatever else the module raises passes. What the factory makes is looked at: TypeError where it is no wire.
    """
    module_name, _, path = name.partition(":")
    found: Any = _imported(module_name)
    for part in path.split("."):
        if not hasattr(found, part):
            raise CannotRun(f"--wire {name}: {module_name} has no {part}{_near(part, dir(found))}")
        found = getattr(found, part)
    if not callable(found):
        raise CannotRun(f"--wire {name}: {path} is of type {type(found).__name__}: name a function (a, b, settings)")
    return _watched(found, name)


def _imported(name: str) -> ModuleType:
    _look_here()
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing != name and not name.startswith(f"{missing}."):
            raise  # the module is there, and imports another that is not
        parent, _, last = missing.rpartition(".")
        if not parent:
            raise CannotRun(f"--wire {name}: no module {missing} in the current folder or in this Python") from None
        raise CannotRun(f"--wire {name}: no module {last} in {parent}{_near(last, _modules_in(parent))}") from None


def _look_here() -> None:
    """The current folder first on the path, as `python -m` has it."""
    here = os.getcwd()  # noqa: PTH109  # what stands on sys.path is text
    if sys.path[:1] not in ([""], [here]):
        sys.path.insert(0, here)


def _modules_in(package: str) -> list[str]:
    import pkgutil

    return [found.name for found in pkgutil.iter_modules(getattr(sys.modules.get(package), "__path__", None) or [])]


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, [one for one in known if not one.startswith("__")], n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _watched(made: Callable[..., Any], name: str) -> Factory:
    def factory(a: WiredModel, b: WiredModel, settings: Settings) -> Wire:
        wire: Wire = made(a, b, settings)
        lacking = _lacking(wire)
        if lacking:
            raise TypeError(f"{name} returned a {type(wire).__name__}, which is no wire: {' and '.join(lacking)}")
        return wire

    return factory


def _lacking(wire: object) -> list[str]:
    """What an object lacks to be a wire, in words."""
    from torch import nn

    lacking = []
    if not hasattr(wire, "module"):
        lacking.append("it has no `module`")
    elif not isinstance(wire.module, nn.Module):
        lacking.append(f"its `module` is of type {type(wire.module).__name__}, not a torch.nn.Module")
    if not callable(getattr(wire, "loss", None)):
        lacking.append("it has no method `loss`")
    lacking += [f"its `{part}` cannot be called" for part in _OPTIONAL if not callable(getattr(wire, part, len))]
    return lacking
