"""What holds the code together and no single module can see: floors, sole importers, sizes, words, the registry."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "wirecheck"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
CODE = sorted(
    path for folder in ("wirecheck", "tests", "scripts", "benchmarks") for path in (ROOT / folder).rglob("*.py")
)

FLOORS = {
    0: (
        "__init__",
        "record",
        "specs",
        "schema",
        "architecture_records",
        "frontier_records",
        "gate_records",
        "lock_records",
        "difference_records",
        "gate_troubles",
        "matrix_records",
        "matrix_tally",
        "baseline",
        "machine_records",
        "timeline_records",
        "interrupts",
        "whole_file",
        "scratch",
        "errors",
        "codes",
        "codes.*",
    ),
    1: (
        *(
            "snapshot",
            "snapshot_*",
            "weight_files",
            "safetensors_header",
            "gguf_file",
            "zero_fill",
            "readiness",
            "limits",
            "deadline",
            "bounded_text",
            "cache_folder",
            "store",
            "disk_room",
        ),
        *("geometry", "lm_head", "rope", "quantization", "model_types", "vocabulary", "expectations", "templating"),
        *(
            "zoo",
            "zoo_*",
            "shrink",
            "shrink_*",
            "class_fit",
            "embedding_*",
            "plain_text",
            "other_readings",
            "isolation",
            "isolated_child",
            "child_process",
            "confinement",
            "fork_pool",
            "heap",
            "slurm_*",
            "devices",
        ),
        *("demo", "wires", "wires.*", "vram", "vram.*"),
    ),
    2: ("loan", "probe", "probes", "probes.*", "verdict", "difference", "difference_changes", "difference_grounds"),
    3: (
        *("runner", "probe_run", "supervision", "architectures", "architecture_study", "fit", "fit_*"),
        *("gate", "gate_shelf", "lock"),
        *("matrix", "matrix_asked", "matrix_rule", "matrix_shelf", "matrix_work", "sketch"),
    ),
    4: ("__main__", "cli", "cli_*", "doctor", "doctor_*"),
}
"""Imports go down, or stay on the floor. Views stand beside the floors: they import the records and one another."""

SOLE_IMPORTERS = {
    "transformers": ("zoo", "zoo_*"),
    "huggingface_hub": ("snapshot_hub", "snapshot_hub_*"),
    "gguf": ("gguf_file", "zoo_gguf"),
    "jinja2": ("views.templates",),
    "typer": ("cli", "cli_*"),
    "rich": ("cli", "cli_*", "views.console"),
    "submitit": ("slurm_queue", "slurm_task"),
    "cloudpickle": ("slurm_queue",),
    "matplotlib": ("views.pictures", "views.pictures_*"),
    "requests": (),
}
"""One outside world per file: who alone may import each library when it runs."""


def name_of(path: Path) -> str:
    """`probes.config` for wirecheck/probes/config.py, `probes` for its __init__."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def is_for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def walk(node: ast.AST, *, types: bool) -> Iterator[ast.AST]:
    """Every node below; with `types` false, not what stands under `if TYPE_CHECKING`."""
    yield node
    for child in ast.iter_child_nodes(node):
        if types or not is_for_types_only(child):
            yield from walk(child, types=types)


OURS = {f"wirecheck.{name_of(path)}" for path in MODULES}


@cache
def imported(path: Path, *, types: bool) -> frozenset[str]:
    """Dotted names a module imports, anywhere in it; `from p import x` is `p.x` where that is a module of ours."""
    names: set[str] = set()
    for node in walk(tree_of(path), types=types):
        match node:
            case ast.Import():
                names.update(alias.name for alias in node.names)
            case ast.ImportFrom(module=str(module), level=0):
                ours = {f"{module}.{alias.name}" for alias in node.names} & OURS
                names.update(ours or {module})
            case ast.ImportFrom():
                names.add("a relative import")
    return frozenset(names)


def own(names: set[str]) -> set[str]:
    """Our modules among them, without the package's name."""
    return {
        name.removeprefix("wirecheck").removeprefix(".") or "__init__" for name in names if name.startswith("wirecheck")
    }


def floor(name: str) -> int:
    found = [number for number, patterns in FLOORS.items() if any(fnmatch(name, pattern) for pattern in patterns)]
    assert len(found) == 1, f"wirecheck.{name} stands on {len(found)} floors: give it one in FLOORS"
    return found[0]


def is_view(name: str) -> bool:
    return name == "views" or name.startswith("views.")


# --- imports -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_down(path: Path) -> None:
    name = name_of(path)
    uses = own(imported(path, types=True))
    assert "a relative import" not in imported(path, types=True)
    if is_view(name):
        assert {other for other in uses if not is_view(other)} <= {
            *("schema", "architecture_records", "frontier_records", "gate_records", "lock_records"),
            *("difference_records", "gate_troubles", "baseline", "matrix_records", "matrix_tally", "timeline_records"),
        }
        return
    too_high = {other for other in uses if is_view(other) or floor(other) > floor(name)}
    assert too_high <= ({other for other in uses if is_view(other)} if floor(name) == 4 else set())


@pytest.mark.parametrize("library", SOLE_IMPORTERS)
def test_each_outside_world_is_behind_its_own_files(library: str) -> None:
    importers = {name_of(p) for p in MODULES if library in {name.split(".")[0] for name in imported(p, types=False)}}
    strangers = {n for n in importers if not any(fnmatch(n, pattern) for pattern in SOLE_IMPORTERS[library])}
    assert strangers == set()
    assert bool(importers) == bool(SOLE_IMPORTERS[library])


def defines_a_probe(path: Path) -> bool:
    calls = (node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call))
    return any(isinstance(call.func, ast.Name) and call.func.id == "Probe" for call in calls)


def test_no_probe_imports_another_probe() -> None:
    files = [path for path in MODULES if name_of(path).startswith("probes.")]
    probes = {name_of(path) for path in files if defines_a_probe(path)}
    assert len(probes) > 5
    for path in files:
        assert own(imported(path, types=True)) & probes == set(), name_of(path)


def test_the_package_list_is_the_tree() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    real = {".".join(("wirecheck", *p.parent.relative_to(PACKAGE).parts)) for p in PACKAGE.rglob("__init__.py")}
    assert set(setuptools["packages"]) == real | {"wirecheck.templates"}
    assert setuptools["package-dir"]["wirecheck.templates"] == "templates"
    assert sorted((ROOT / "templates").glob("*.j2"))


# --- sizes and words ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_and_functions_are_short(path: Path) -> None:
    num_lines = len(path.read_text(encoding="utf-8").splitlines())
    assert num_lines <= 400
    functions = [n for n in ast.walk(tree_of(path)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert [n.name for n in functions if n.end_lineno - n.lineno >= 60] == []


def silent(node: ast.Module | ast.ClassDef) -> Iterator[str]:
    """Public classes and functions below, methods included, that do not say what they are."""
    for child in node.body:
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and child.name[0] != "_":
            if not ast.get_docstring(child):
                yield child.name
            if isinstance(child, ast.ClassDef):
                yield from silent(child)


@pytest.mark.parametrize("path", [p for p in CODE if "tests" not in p.parts], ids=lambda path: path.name)
def test_everything_public_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(tree_of(path))
    assert list(silent(tree_of(path))) == []


def tracked() -> list[Path]:
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [ROOT / name for name in listed if (ROOT / name).is_file()]


# Written in pieces, so that this file does not hold what it looks for.
PLACES = re.compile("|".join(rf"(?<![\w.-])/{root}/\w" for root in ("root", "Users", "work")))
REGISTRIES = re.compile(
    "|".join((r"pypi\." + "org", "python" + "hosted", r"npmjs\." + "org", r"download\.py" + "torch"))
)


@pytest.mark.parametrize("pattern", [PLACES, REGISTRIES], ids=["a path of one machine", "a registry host"])
def test_no_file_names(pattern: re.Pattern[str]) -> None:
    found = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # weights
        found += [f"{path.relative_to(ROOT)}: {hit.group()}" for hit in pattern.finditer(text)]
    assert found == []
