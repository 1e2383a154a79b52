"""The command line end to end, in this process: streams, exit codes, files, and every kind of bad input."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest

from tests.factories import pair_result
from wirecheck import cli, cli_output, runner
from wirecheck.cli_options import SHARED
from wirecheck.cli_output import to_json
from wirecheck.cli_request import OPTIONS
from wirecheck.probe import Probe
from wirecheck.schema import Level, PairResult
from wirecheck.views.console import LiveProgress


def inspected(run, folder: Path, *words: object) -> tuple[int, PairResult]:
    """`wirecheck model` at depth inspected, and its result."""
    code, out, _ = run("model", folder, "--depth", "inspected", "--require", "inspected", "--json", "-", *words)
    return code, PairResult.model_validate_json(out)


def blocked_by(result: PairResult) -> set[str]:
    return {finding.code for finding in result.findings if finding.severity == "block"}


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# What holds


def test_a_sound_pair_is_compatible_and_its_files_are_written(run, llama, qwen, tmp_path):
    faces = [tmp_path / f"r{ending}" for ending in (".md", ".html", ".xml", ".sarif")]
    words = [word for face in faces for word in ("--report", face)]
    code, out, err = run("pair", llama, qwen, "--depth", "simulated", "--json", tmp_path / "r.json", *words)
    assert (code, "COMPATIBLE" in out) == (0, True)
    result = PairResult.model_validate_json((tmp_path / "r.json").read_text())
    assert [line.split()[1] for line in err.splitlines()] == [
        *[probe.name for probe in runner.MODEL_PROBES if probe.asked(result.wire, result.policy)] * 2,
        *[probe.name for probe in runner.PAIR_PROBES if probe.asked(result.wire, result.policy)],
    ]
    assert all(face.stat().st_size for face in faces)
    assert (result.status, result.verdict.strength) == ("finished", Level.SIMULATED)
    assert not list(tmp_path.glob(".*part"))


def test_json_on_stdout_stands_alone_and_keeps_its_schema(run, llama):
    _, out, _ = run("model", llama, "--depth", "inspected", "--json", "-")
    _, schema, _ = run("schema")
    jsonschema.validate(json.loads(out), json.loads(schema))


def test_beyond_the_depth_is_unproven(run, llama):
    code, out, _ = run("model", llama, "--depth", "inspected")
    assert code == 3
    told = out.split("What it would cost to prove")[1]
    assert "wirecheck model" in told
    assert "--depth executed" in told


def test_a_shared_option_is_a_deliberate_act():
    assert set(SHARED) == {option.removeprefix("--").replace("-", "_") for option in OPTIONS} | {
        "offline",
        "json",
        "report",
        "seed",
        "config",
    }


def test_the_command_in_the_result_makes_it_again(run, llama):
    _, result = inspected(run, llama, "--batch", "4", "--gpu", "L4x2", "--seed", "7")
    assert result.command == (
        f"wirecheck model {llama} --batch 4 --depth inspected --require inspected --gpu L4x2 --seed 7"
    )
    assert (result.train.batch, result.seed, result.policy.gpus[0].count) == (4, 7, 2)


def test_a_result_renders_again_to_the_same_bytes(run, tmp_path):
    file = tmp_path / "r.json"
    file.write_text(to_json(pair_result()))
    code, _, _ = run("report", file, "--report", tmp_path / "1.md", "--json", tmp_path / "2.json")
    run("report", file, "--report", tmp_path / "2.md")
    assert code == 1
    assert (tmp_path / "1.md").read_bytes() == (tmp_path / "2.md").read_bytes()
    assert (tmp_path / "2.json").read_text() == file.read_text()


def test_options_win_over_the_file(run, llama, tmp_path):
    config = tmp_path / "wirecheck.toml"
    config.write_text('[train]\nbatch = 2\nanswer = 9\n[policy]\nrequired = "executed"\n')
    _, result = inspected(run, llama, "--config", config, "--batch", "3")
    assert (result.train.batch, result.train.answer, result.policy.required) == (3, 9, Level.INSPECTED)


def test_an_expectation_of_the_file_is_checked(run, llama, tmp_path):
    config = tmp_path / "wirecheck.toml"
    config.write_text('[policy]\nexpectations = [{subject = "a", key = "num_tokens", value = 32000}]\n')
    code, result = inspected(run, llama, "--config", config)
    assert (code, blocked_by(result)) == (1, {"CFG11"})


def test_explain_knows_every_code_and_family(run):
    assert "remedy: " in run("explain", "tok06")[1]
    assert len(run("explain", "EMB")[1].splitlines()) == 13
    code, _, err = run("explain", "TOK99")
    assert (code, "next: wirecheck explain TOK" in err) == (2, True)


def test_doctor_looks_at_everything_it_needs(run):
    _, out, _ = run("doctor")
    for name in ("python", "torch", "transformers", "memory", "accelerator", "hub cache", "hub access"):
        assert name in out


# Usage


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--batch", "0"], "--batch"),
        (["--batch", "x"], "--batch"),
        (["--dtype", "fp7"], "--dtype"),
        (["--depth", "deep"], "--depth"),
        (["--gpu", "H1000"], "H1000"),
        (["--gpu", "L4x0"], "L4x0"),
        (["--report", "r.pdf"], "r.pdf"),
        (["--config", "nowhere.toml"], "nowhere.toml"),
        (["--wire", "teleport"], "teleport"),
        (["--seed", "-1"], "--seed"),
        (["--seed", str(2**64 - 1)], "--seed"),
    ],
)
def test_a_wrong_option_is_usage_and_names_itself(run, llama, words, said):
    code, out, err = run("model", llama, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[train]\nbatch = 0\n", "train.batch"),
        ("[train]\nbath = 1\n", "train.bath"),
        ("[trian]\n", "trian"),
        ("train = 3\n", "train"),
        ("[train\n", "not TOML"),
    ],
)
def test_a_wrong_file_is_usage_and_names_the_key(run, llama, tmp_path, text, said):
    (tmp_path / "w.toml").write_text(text)
    code, _, err = run("model", llama, "--config", tmp_path / "w.toml")
    assert (code, said in err, "w.toml" in err) == (2, True, True)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"schema_version": 2}', "\x00"])
def test_a_file_that_is_no_result_is_usage(run, tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    code, _, err = run("report", tmp_path / "r.json")
    assert (code, "not a wirecheck result" in err) == (2, True)


# Models that are not there


def test_a_missing_folder_could_not_be_checked(run, tmp_path):
    code, out, err = run("model", tmp_path / "nowhere")
    assert (code, out) == (4, "")
    assert err.startswith("error: ")
    assert "\nnext: " in err


def test_a_file_in_place_of_a_folder_could_not_be_checked(run, llama):
    assert run("model", llama / "config.json")[0] == 4


def test_an_empty_folder_could_not_be_checked(run, tmp_path):
    (tmp_path / "empty").mkdir()
    assert run("model", tmp_path / "empty")[0] == 4


# Models that are broken: a finding, exit 1


@pytest.mark.parametrize("text", ["", "not json", "[]", '{"a":' * 100_000, '{"model_type": "llama"'])
def test_an_unreadable_config_is_a_finding(run, llama, text):
    (llama / "config.json").write_text(text)
    code, result = inspected(run, llama)
    assert (code, "CFG01" in blocked_by(result)) == (1, True)


def test_an_unknown_architecture_is_a_finding(run, llama):
    edit(llama / "config.json", model_type="llama99", architectures=["Llama99ForCausalLM"])
    code, result = inspected(run, llama)
    assert (code, "CFG02" in blocked_by(result)) == (1, True)


def test_an_encoder_is_a_finding(run, llama):
    edit(llama / "config.json", model_type="bert", architectures=["BertForMaskedLM"])
    code, result = inspected(run, llama)
    assert (code, "CFG03" in blocked_by(result)) == (1, True)


def test_hostile_sizes_are_a_finding(run, llama):
    edit(llama / "config.json", hidden_size=10**12, num_hidden_layers=10**9)
    code, result = inspected(run, llama)
    assert (code, "CFG05" in blocked_by(result)) == (1, True)


def test_no_tokenizer_is_a_finding(run, llama):
    for file in llama.glob("tokenizer*"):
        file.unlink()
    code, result = inspected(run, llama)
    assert (code, "TOK01" in blocked_by(result)) == (1, True)


def test_a_template_that_raises_is_a_finding(run, qwen):
    (qwen / "chat_template.jinja").write_text("{{ raise_exception('never') }}")
    code, result = inspected(run, qwen)
    assert (code, "TPL02" in blocked_by(result)) == (1, True)


def shard(folder: Path) -> Path:
    return sorted(folder.glob("*.safetensors"))[0]


def test_a_truncated_shard_is_a_finding(run, llama):
    os.truncate(shard(llama), shard(llama).stat().st_size - 1)
    code, result = inspected(run, llama)
    assert (code, "WGT02" in blocked_by(result)) == (1, True)


def test_a_pointer_in_place_of_a_shard_is_a_finding(run, llama):
    shard(llama).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    code, result = inspected(run, llama)
    assert (code, "WGT03" in blocked_by(result)) == (1, True)


def test_nan_among_the_weights_is_a_finding(run, llama):
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(shard(llama))
    name = next(name for name in tensors if name.endswith("down_proj.weight"))
    tensors[name].view(-1)[3] = torch.nan
    save_file(tensors, shard(llama), metadata={"format": "pt"})
    code, out, _ = run("model", llama, "--json", "-")
    found = [f for f in PairResult.model_validate_json(out).findings if f.code == "WGT11" and f.severity == "block"]
    assert code == 1
    assert name in found[0].claim


def test_strict_refuses_a_warning(run, llama):
    for file in ("config.json", "generation_config.json"):
        edit(llama / file, eos_token_id=1020)
    edit(llama / "tokenizer_config.json", eos_token="<|reserved_0|>")
    code, result = inspected(run, llama)
    assert code == 0
    assert {f.code for f in result.findings if f.severity == "warn"} == {"CFG09", "TPL08"}
    assert inspected(run, llama, "--strict")[0] == 1


# Faults: nothing lost, nothing half-written


def test_a_full_disk_leaves_what_stood_there(run, llama, tmp_path, monkeypatch):
    target = tmp_path / "out" / "r.json"
    target.parent.mkdir()
    target.write_text("what stood there")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cli_output.os, "fsync", full)
    code, _, err = run("model", llama, "--depth", "declared", "--json", target)
    assert (code, "No space left" in err, "Traceback" in err) == (4, True, False)
    assert [path.name for path in target.parent.iterdir()] == ["r.json"]
    assert target.read_text() == "what stood there"


def test_ctrl_c_keeps_what_was_established(run, llama, tmp_path, monkeypatch):
    def forever(_: object):
        time.sleep(600)
        yield

    def interrupt(_: object, probe: str, __: object) -> None:
        if probe == "stop":
            raise KeyboardInterrupt

    monkeypatch.setattr(LiveProgress, "started", interrupt)
    first = next(probe for probe in runner.MODEL_PROBES if probe.name == "config")
    stop = Probe(name="stop", question="?", scope="model", level=Level.INSPECTED, codes=(), needs="files", run=forever)
    monkeypatch.setattr(runner, "MODEL_PROBES", (first, stop))
    code, _, err = run("model", llama, "--json", tmp_path / "r.json")
    assert (code, "interrupted" in err, "Traceback" in err) == (130, True, False)
    result = PairResult.model_validate_json((tmp_path / "r.json").read_text())
    assert (result.status, [r.probe for r in result.runs]) == ("interrupted", ["config", "stop"])
    assert result.verdict.outcome == "unproven"


def test_sigint_to_the_process_exits_130(llama, qwen, tmp_path):
    target = tmp_path / "r.json"
    words = [sys.executable, "-m", "wirecheck.cli", "pair", llama, qwen, "--json", target]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline().split()[1] == "config"
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=120)[1]
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert PairResult.model_validate_json(target.read_text()).status == "interrupted"


def test_a_bug_of_ours_is_one_line_and_a_log(run, llama, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("x")

    monkeypatch.setattr(runner.Check, "steps", broken)
    code, _, err = run("model", llama)
    assert code == 5
    line = next(line for line in err.splitlines() if line.startswith("error: "))
    log = Path(line.rpartition(" ")[2])
    assert "ZeroDivisionError: x" in log.read_text()
    log.unlink()


def test_readme_lists_every_command():
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^wirecheck (\w+)", readme.split("## Commands")[1], flags=re.MULTILINE))
    assert listed == {command.callback.__name__ for command in cli.app.registered_commands}


def test_a_reader_that_goes_away_does_not_change_the_exit_code(tmp_path):
    file = tmp_path / "r.json"
    file.write_text(to_json(pair_result()))
    words = f"{sys.executable} -m wirecheck.cli report {file} --json - | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "{", "")


def test_a_disk_that_fills_at_the_report_leaves_the_result(run, llama, tmp_path, monkeypatch):
    room = iter([True, True])  # for the file that says started, and for the result

    def fill(_: int) -> None:
        if not next(room, False):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cli_output.os, "fsync", fill)
    code, _, _ = run(
        "model", llama, "--depth", "declared", "--json", tmp_path / "r.json", "--report", tmp_path / "r.md"
    )
    assert code == 4
    assert {path.name for path in tmp_path.iterdir()} == {"llama", "r.json"}
    assert PairResult.model_validate_json((tmp_path / "r.json").read_text()).status == "finished"


def test_a_gpu_of_the_file_is_checked_like_one_of_the_command_line(run, llama, tmp_path):
    (tmp_path / "w.toml").write_text('[policy]\ngpus = [{name = "H1000"}]\n')
    code, _, err = run("model", llama, "--config", tmp_path / "w.toml")
    assert (code, "H1000" in err) == (2, True)


def test_what_is_asked_of_b_is_usage_where_there_is_no_b(run, llama, tmp_path):
    (tmp_path / "w.toml").write_text('[policy]\nexpectations = [{subject = "b", key = "tied", value = true}]\n')
    assert run("model", llama, "--config", tmp_path / "w.toml")[0] == 2


def test_an_expectation_of_an_unknown_fact_is_usage_with_the_nearest(run, llama, tmp_path):
    (tmp_path / "w.toml").write_text('[policy]\nexpectations = [{subject = "a", key = "vocabsize", value = 1}]\n')
    code, _, err = run("model", llama, "--config", tmp_path / "w.toml")
    assert (code, "vocab_size" in err) == (2, True)
