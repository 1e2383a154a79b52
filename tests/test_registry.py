"""The registry of probes against the table of codes, and what may be loaded when."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.factories import pair_result
from wirecheck import probes
from wirecheck.codes import CODES
from wirecheck.demo import demo_folders
from wirecheck.probe import Probe

ROOT = Path(__file__).parents[1]
REGISTRIES = {name: value for name, value in vars(probes).items() if name.endswith("_PROBES")}
REGISTERED = [probe for registry in REGISTRIES.values() for probe in registry]
DISTINCT = list({id(probe): probe for probe in REGISTERED}.values())

STATIC_FAMILIES = ("CFG", "WGT", "TOK", "TPL")
RUN_CODES = ("EMB01", "EMB02", "EMB03", "EMB05", "EMB10", *(f"WIR{n:02}" for n in (1, 2, 3, 4, 6, 7, 11)))
"""Of the families that run models, what this version asks."""


def test_the_registry_is_literal_tuples() -> None:
    tree = ast.parse(Path(probes.__file__).read_text(encoding="utf-8"))
    assigned = [node for node in tree.body if isinstance(node, ast.AnnAssign)]
    assert {node.target.id for node in assigned} == set(REGISTRIES) >= {"MODEL_PROBES", "PAIR_PROBES"}
    for node in assigned:
        assert isinstance(node.value, ast.Tuple)
        assert all(isinstance(element, ast.Name) for element in node.value.elts)


def test_every_probe_there_is_is_registered() -> None:
    modules = [
        importlib.import_module(f"wirecheck.probes.{found.name}") for found in pkgutil.iter_modules(probes.__path__)
    ]
    made = [value for module in modules for value in vars(module).values() if isinstance(value, Probe)]
    assert {probe.name for probe in made} == {probe.name for probe in REGISTERED}


@pytest.mark.parametrize("registry", [name for name in REGISTRIES if name != "MODEL_PROBES"])
def test_names_are_unique_in_one_check(registry: str) -> None:
    names = [probe.name for probe in (*probes.MODEL_PROBES, *REGISTRIES[registry])]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("probe", DISTINCT, ids=lambda probe: f"{probe.scope}-{probe.name}")
def test_a_probe_declares_known_codes_and_asks_a_question(probe: Probe) -> None:
    assert probe.codes
    assert set(probe.codes) | set(probe.moot_after) <= set(CODES)
    assert probe.question.endswith("?")
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", probe.name)


@pytest.mark.parametrize("registry", REGISTRIES)
def test_what_a_probe_requires_comes_before_it(registry: str) -> None:
    before = [] if registry == "MODEL_PROBES" else [probe.name for probe in probes.MODEL_PROBES]
    for probe in REGISTRIES[registry]:
        assert probe.scope == ("pair" if registry == "PAIR_PROBES" else "model")
        assert set(probe.requires) <= set(before), probe.name
        before.append(probe.name)


def test_every_static_code_and_every_code_that_is_run_has_its_probe() -> None:
    wanted = {code for code, entry in CODES.items() if entry.family in STATIC_FAMILIES} | set(RUN_CODES)
    declared = {code for probe in REGISTERED for code in probe.codes}
    assert wanted - declared == set()


# --- lazy torch --------------------------------------------------------------------------------------------------

COMMAND = """
import sys
from wirecheck.cli import main
try:
    main()
except SystemExit as end:
    print("ended", end.code, sorted({"torch", "transformers"} & set(sys.modules)), file=sys.stderr)
"""
FILES_PROBES = """
import sys
from pathlib import Path
from wirecheck.probe import ModelBench
from wirecheck.probes import MODEL_PROBES
from wirecheck.probe_run import run_one
from wirecheck.schema import Policy, TrainSpec, WireSpec
from wirecheck.snapshot import parse_ref, take
asked = {"wire": WireSpec(), "train": TrainSpec(), "policy": Policy(), "seed": 0}
bench = ModelBench(**asked, side="a", snapshot=take(parse_ref(sys.argv[1])))
runs = [run_one(probe, bench) for probe in MODEL_PROBES if probe.needs == "files"]
print(len(runs), {run.kind for run in runs}, sorted({"torch", "transformers"} & set(sys.modules)))
"""


def python(script: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["explain", "TOK06"], ["explain", "CFG"], ["schema"]], ids=" ".join
)
def test_a_command_that_only_talks_does_not_load_torch(words: list[str]) -> None:
    done = python(COMMAND, *words)
    assert done.stdout.strip()
    assert done.stderr.strip().splitlines()[-1] == "ended 0 []"


@pytest.mark.parametrize("face", [None, "report.md", "report.html", "report.xml", "report.sarif"])
def test_rendering_a_result_again_does_not_load_torch(face: str | None, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text(pair_result().model_dump_json(), encoding="utf-8")
    done = python(COMMAND, "report", str(file), *(["--report", str(tmp_path / face)] if face else []))
    assert done.stderr.strip().splitlines()[-1] == "ended 1 []"
    assert face is None or (tmp_path / face).stat().st_size > 100


def test_probes_that_need_files_alone_do_not_load_torch() -> None:
    done = python(FILES_PROBES, str(demo_folders()[0]))
    assert done.stderr == ""
    number, kinds, loaded = done.stdout.strip().split(" ", 2)
    assert int(number) >= 2
    assert (kinds, loaded) == ("{'ran'}", "[]")
