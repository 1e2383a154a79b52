"""Which model types the installed transformers knows, read from its source: nothing of it is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def causal_model_types() -> frozenset[str]:
    """Model types that `AutoModelForCausalLM` has a class for."""
    return frozenset(architectures_by_type())


@cache
def architectures_by_type() -> dict[str, tuple[str, ...]]:
    """Model type -> names of its causal LM classes, as the installed transformers maps them."""
    pairs = _mapping("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", ("modeling_auto.py",))
    return {kind: (names,) if isinstance(names, str) else tuple(names) for kind, names in pairs.items()}


@cache
def known_model_types() -> frozenset[str]:
    """Every model type that `AutoConfig` knows."""
    return frozenset(_mapping("CONFIG_MAPPING_NAMES", ("auto_mappings.py", "configuration_auto.py")))


def _mapping(name: str, files: Iterable[str]) -> dict[str, Any]:
    """What a module-level mapping holds after its literal assignments and `update` calls, without running them."""
    found: dict[str, Any] = {}
    for file in files:
        path = _installed("transformers") / "models" / "auto" / file
        for node in ast.parse(path.read_text(encoding="utf-8")).body if path.is_file() else ():
            match node:
                case ast.Assign(targets=[ast.Name(id=target)], value=ast.Call() as call) if target == name:
                    found.update(_pairs(call))
                case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=target), attr="update")) as call) if (
                    target == name
                ):
                    found.update(_pairs(call))
                case _:
                    continue
    assert found, f"the installed transformers keeps {name} somewhere else"
    return found


def _pairs(call: ast.Call) -> dict[str, Any]:
    """The literal pairs among a call's arguments; a bare name stands for what was found before."""
    given = (*call.args, *(keyword.value for keyword in call.keywords if keyword.arg is None))
    literals = (ast.literal_eval(part) for part in given if not isinstance(part, ast.Name))
    return {key: value for literal in literals for key, value in dict(literal).items()}


def _installed(package: str) -> Path:
    spec = find_spec(package)
    assert spec is not None, f"{package} is a dependency, and is not installed"
    assert spec.submodule_search_locations, f"{package} has no folder"
    return Path(spec.submodule_search_locations[0])
