"""What other people's machines run of this repository: the GitHub action, the pre-commit hooks, the job script.

Each is run as its host runs it, as far as that can be done here: the steps of the action in bash, with their inputs
put in; the hooks by pre-commit itself, from a repository; the script with a stand-in for srun.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from wirecheck.cli_gate import read_gate_result
from wirecheck.demo import demo_folders

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A user's repository: two models and a file that asks little of them."""
    for name, source in zip(("a", "b"), demo_folders(), strict=True):
        shutil.copytree(source, tmp_path / name)
    write(tmp_path)
    return tmp_path


def write(place: Path, expect: str = "") -> None:
    text = f'[models.one]\nid = "./a"\n{expect}\n[models.two]\nid = "./b"\n[gate]\nrequire = "inspected"\n'
    (place / "wirecheck.toml").write_text(text)


RED = "expect = { vocab_size = 32000 }"


def environment(place: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "GIT_", "GITHUB_"))}
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path, "WIRECHECK_CACHE": str(place / ".cache"), "NO_COLOR": "1", **more}


# --- the action --------------------------------------------------------------------------------------------------


def given(text: str, inputs: dict[str, str]) -> str:
    """The runner's own substitution, of the few expressions that the action uses."""
    values = {f"inputs.{name}": value for name, value in inputs.items()} | {"github.action_path": str(ROOT)}
    return re.sub(r"\$\{\{\s*([\w.-]+)\s*\}\}", lambda match: values[match[1]], text)


def act(place: Path, **inputs: str) -> tuple[int, str, dict[str, str], str]:
    """Exit code, what was printed, the outputs, the summary."""
    values = {name: entry["default"] for name, entry in ACTION["inputs"].items()} | {"install": "false"} | inputs
    output, summary = place / "output.txt", place / "summary.md"
    for step in ACTION["runs"]["steps"]:
        condition = re.fullmatch(r"inputs\.(\w+) == '(\w+)'", step.get("if", "inputs.install == 'false'"))
        if values[condition[1]] != condition[2]:
            continue
        variables = {name: given(value, values) for name, value in step["env"].items()}
        host = {"GITHUB_ACTIONS": "true", "GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary)}
        script = place / "step.sh"
        script.write_text(step["run"])
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=place,
            env=environment(place, **host, **variables),
            capture_output=True,
            text=True,
            check=False,
        )
    told = dict(line.split("=", 1) for line in output.read_text().splitlines())
    return done.returncode, done.stdout + done.stderr, told, summary.read_text() if summary.exists() else ""


def test_the_action_on_a_good_day(place):
    code, out, told, summary = act(place)
    assert (code, told["outcome"]) == (0, "compatible"), out
    assert read_gate_result(place / told["json"]).outcome == "compatible"
    assert {path.name for path in (place / "wirecheck-reports").iterdir()} == {
        *("gate.json", "gate.sarif", "gate.xml", "gate.html", "gate.badge.svg")
    }
    assert "::notice" in out
    assert "compatible" in summary


def test_the_action_fails_with_the_gate_and_says_where(place):
    write(place, RED)
    code, out, told, summary = act(place)
    assert (code, told["outcome"]) == (1, "incompatible")
    assert re.search(r"^::error file=wirecheck\.toml,line=\d+", out, flags=re.MULTILINE)
    assert "CFG11" in summary


def test_the_action_passes_words_on_and_nothing_else_to_the_shell(place):
    code, out, told, _ = act(place, args="--locked")
    assert (code, told["outcome"]) == (2, "not-run")
    assert "wirecheck lock" in out
    code, out, _, _ = act(place, args="--offline\n--locked\n")
    assert (code, "wirecheck lock" in out) == (2, True), "every line of the input counts"
    act(place, file="$(touch stolen).toml", args="; touch stolen")
    assert not (place / "stolen").exists()


def test_the_action_is_of_githubs_form(action_validator):
    assert [error.message for error in action_validator.iter_errors(ACTION)] == []
    assert [*action_validator.iter_errors(ACTION | {"runs": {"using": "composite"}})]


def test_the_script_holds_no_expression():
    """An input that is pasted into a script is a way in."""
    assert not [step["name"] for step in ACTION["runs"]["steps"] if "${{" in step["run"]]
    assert all(step["shell"] == "bash" for step in ACTION["runs"]["steps"])


# --- pre-commit --------------------------------------------------------------------------------------------------


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main")
    command = ["git", *who, *words]
    return subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture
def hooked(place, tmp_path_factory) -> Path:
    """The user's repository, which takes the hooks from one that holds this one's hooks file.

    The hooks' own language would install wirecheck, torch with it, into an environment of pre-commit's: `system` takes
    the one that is here.
    """
    source = tmp_path_factory.mktemp("hooks")
    shutil.copy(ROOT / ".pre-commit-hooks.yaml", source)
    git(source, "init", "-q")
    git(source, "add", ".")
    git(source, "commit", "-qm", "hooks")
    revision = git(source, "rev-parse", "HEAD").strip()
    hooks = [{"id": hook["id"], "language": "system"} for hook in HOOKS]
    config = {"repos": [{"repo": str(source), "rev": revision, "hooks": hooks}]}
    (place / ".pre-commit-config.yaml").write_text(yaml.safe_dump(config))
    git(place, "init", "-q")
    return place


def hook(place: Path, name: str) -> subprocess.CompletedProcess[str]:
    git(place, "add", "-A")
    stage = next(one for one in HOOKS if one["id"] == name).get("stages", ["pre-commit"])[0]
    return subprocess.run(
        ["pre-commit", "run", name, "--all-files", "--hook-stage", stage],
        cwd=place,
        env=environment(place, PRE_COMMIT_HOME=str(place / ".git" / "pre-commit")),
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_hook_of_file_and_lock(hooked):
    done = hook(hooked, "wirecheck-file")
    assert (done.returncode, "wirecheck lock" in done.stdout) == (1, True), done.stdout
    subprocess.run(
        ["wirecheck", "lock", "--no-gate"], cwd=hooked, env=environment(hooked), check=True, capture_output=True
    )
    done = hook(hooked, "wirecheck-file")
    assert (done.returncode, "Passed" in done.stdout) == (0, True), done.stdout
    (hooked / "wirecheck.toml").write_text((hooked / "wirecheck.toml").read_text().replace("./b", "./a"))
    assert hook(hooked, "wirecheck-file").returncode == 1


def test_the_hook_of_the_gate(hooked):
    done = hook(hooked, "wirecheck-gate")
    assert (done.returncode, "Passed" in done.stdout) == (0, True), done.stdout
    write(hooked, RED)
    done = hook(hooked, "wirecheck-gate")
    assert (done.returncode, "CFG11" in done.stdout) == (1, True), done.stdout


def test_the_hooks_are_what_pre_commit_takes():
    done = subprocess.run(
        ["pre-commit", "validate-manifest", str(ROOT / ".pre-commit-hooks.yaml")],
        env=environment(ROOT),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


# --- the job -----------------------------------------------------------------------------------------------------


def submitted(place: Path) -> subprocess.CompletedProcess[str]:
    """The script as Slurm would start it, with a srun that says what it was given."""
    tools = place / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "srun").write_text('#!/bin/bash\necho "srun $* in $WIRECHECK_ONE_PATH"\n')
    (tools / "srun").chmod(0o755)
    variables = environment(place, SLURM_SUBMIT_DIR=str(place), SLURM_JOB_ID="7")
    variables["PATH"] = f"{tools}{os.pathsep}{variables['PATH']}"
    command = ["bash", str(ROOT / "examples" / "train.sbatch")]
    return subprocess.run(command, cwd="/", env=variables, capture_output=True, text=True, check=False)


def test_a_job_runs_behind_a_green_gate_and_not_otherwise(place):
    done = submitted(place)
    assert (done.returncode, "srun" in done.stdout) == (2, False), "nothing is locked"
    subprocess.run(
        ["wirecheck", "lock", "--no-gate"], cwd=place, env=environment(place), check=True, capture_output=True
    )
    done = submitted(place)
    assert done.returncode == 0, done.stderr
    assert f"srun python train.py in {place / 'a'}" in done.stdout
    assert read_gate_result(place / "gate-7.json").outcome == "compatible"
    (place / "a" / "tokenizer_config.json").write_text("{}")
    done = submitted(place)
    assert (done.returncode, "srun" in done.stdout) == (1, False)
    assert "WGT13" in done.stdout
