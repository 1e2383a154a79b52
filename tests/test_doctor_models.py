"""`wirecheck doctor FILE`: the hub, the account and the listed models, against a hub on this machine and folders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from tests.hubserver import COMMIT, Fault, Hub, serving
from tests.looks import one
from wirecheck import doctor, doctor_hub, doctor_models, doctor_needs, doctor_torch, snapshot_hub_access
from wirecheck.cli_gate_file import Reader, read_rules
from wirecheck.demo import demo_folders
from wirecheck.machine_records import MachineReport, good
from wirecheck.zoo_quantizers import accepts

FILES = {path.name: path.read_bytes() for path in demo_folders()[0].iterdir() if path.is_file()}
WEIGHTS = frozenset(name for name in FILES if name.endswith(".safetensors"))
PLANTED = "hf_PLANTEDtokenPLANTEDtoken"


@pytest.fixture(autouse=True)
def _no_other_hub(tmp_path, monkeypatch) -> Iterator[None]:
    """No request leaves this machine; our pauses take no time."""
    agents = tmp_path / "agents.json"
    agents.write_text('{"standardEnvVars": [], "harnesses": {}}')
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(agents))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("WIRECHECK_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    slept = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: slept(min(seconds, 0.01)))
    huggingface_hub.close_session()
    yield
    huggingface_hub.close_session()


@pytest.fixture
def hub(monkeypatch) -> Iterator[Hub]:
    with serving(Hub(dict(FILES), WEIGHTS)) as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        template = f"{running.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield running


def looked(text: object, *, trust_remote_code: bool = False) -> list:
    """The lines of one listed model, by the name `m`."""
    found = doctor_models.taken(Reader(str(text), offline=False))
    return list(doctor_models.look("m", found, trust_remote_code=trust_remote_code))


def changed(folder: Path, **config) -> Path:
    """The folder, its config.json with those keys (None: without)."""
    held = json.loads((folder / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps({k: v for k, v in held.items() if v is not None}))
    return folder


# --- the hub and its clock ---------------------------------------------------------------------------------------


def test_the_hub_answers_and_the_clocks_agree(hub):
    reach, clock = doctor_hub.reach_and_clock(offline=False)
    assert (reach, clock.sound) == (good("hub", f"{hub.url} answers (200)"), True)


@pytest.mark.parametrize(("off_s", "words"), [(900, "behind the hub's"), (-900, "ahead of the hub's")])
def test_a_clock_that_is_off_is_not_sound(hub, off_s, words):
    hub.date = formatdate(time.time() + off_s, usegmt=True)
    clock = one(doctor_hub.reach_and_clock(offline=False), "clock")
    assert (clock.sound, words in clock.seen) == (False, True)
    assert clock.mend.startswith("timedatectl set-ntp true")


def test_a_copy_from_a_cache_in_between_is_as_old_as_it_says(hub):
    hub.date = formatdate(time.time() - 900, usegmt=True)
    hub.faults["models"] = Fault(headers={"Age": "900"})
    assert one(doctor_hub.reach_and_clock(offline=False), "clock").sound


def test_an_answer_without_a_time_is_not_compared(hub):
    hub.date = ""
    assert "not compared" in one(doctor_hub.reach_and_clock(offline=False), "clock").seen


@pytest.mark.parametrize("status", [500, 503, 407])
def test_a_hub_that_fails_is_not_sound(hub, status):
    hub.faults["models"] = Fault(status=status)
    (found,) = doctor_hub.reach_and_clock(offline=False)
    assert (found.sound, str(status) in found.seen, bool(found.mend)) == (False, True, True)


@pytest.mark.parametrize(
    "portal", [Fault(status=302, headers={"Location": "http://portal.invalid/"}), Fault(body=b"<html>Log in</html>")]
)
def test_a_portal_is_no_hub(hub, portal):
    hub.faults["models"] = portal
    (found,) = doctor_hub.reach_and_clock(offline=False)
    assert (found.sound, "not as a hub does" in found.seen) == (False, True)


@pytest.mark.parametrize(
    ("fault", "sound", "words"),
    [
        (None, True, "the hub takes it"),
        (Fault(status=401), False, "the hub refuses it"),
        (Fault(status=404), True, "does not judge"),
        (Fault(body=b"<html>"), True, "does not judge"),
    ],
)
def test_a_token_is_tried(hub, monkeypatch, fault, sound, words):
    monkeypatch.setenv("HF_TOKEN", "hf_PLANTEDtokenPLANTED")
    if fault is not None:
        hub.faults["whoami"] = fault
    (found,) = doctor_hub.token(offline=False)
    assert (found.sound, words in found.seen, "PLANTED" in found.seen) == (sound, True, False)


def test_a_hub_that_is_not_there_is_not_sound():
    (found,) = doctor_hub.reach_and_clock(offline=False)
    assert (found.name, found.sound) == ("hub", False)
    assert "HF_ENDPOINT" in found.mend


def test_a_password_in_the_hubs_address_is_not_shown(monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "https://me:secret@mirror.example:8443/hf/")
    assert snapshot_hub_access.endpoint() == "https://mirror.example:8443/hf"


# --- access ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gated", "said"), [(False, "not gated"), ("manual", "gated (manual)"), (None, "the hub does not tell")]
)
def test_an_account_that_may_read_is_sound(hub, gated, said):
    hub.gated = gated
    (found,) = doctor_hub.access("m", "org/name@main", offline=False)
    assert (found.name, found.sound) == ("m: access", True)
    assert f"{said}; this account may read it" in found.seen
    assert hub.seen("auth-check")


@pytest.mark.parametrize(
    ("fault", "said", "mend"),
    [
        (Fault(status=403, headers={"X-Error-Code": "GatedRepo"}), "is gated", "accept its terms"),
        (Fault(status=401, headers={"X-Error-Code": "RepoNotFound"}), "no repository", "HF_TOKEN"),
        (Fault(status=500), "500", "again"),
    ],
)
def test_an_account_that_may_not_read_is_told_what_to_do(hub, fault, said, mend):
    hub.faults["auth-check"] = fault
    (found,) = doctor_hub.access("m", "org/name", offline=False)
    assert (found.sound, said in found.seen, mend in found.mend) == (False, True, True)


def test_a_folder_asks_for_no_access_and_offline_asks_nobody(hub, llama):
    assert list(doctor_hub.access("m", str(llama), offline=False)) == []
    report = doctor.examine({"m": Reader("org/name", offline=True)}, offline=True)
    assert "offline" in one(report.checks, "m: access").seen
    assert "not asked" in one(report.checks, "hub").seen
    assert not one(report.checks, "m").sound
    assert hub.requests == []


def test_a_token_is_told_and_never_its_value(hub, monkeypatch, tmp_path, run):
    (found,) = doctor_hub.token(offline=False)
    assert found.seen == "no token: gated models refuse"
    monkeypatch.setenv("HF_TOKEN", PLANTED)
    assert next(doctor_hub.token(offline=False)).seen == "a token is set, and the hub takes it"
    # A file, an address and a job that hold it by mistake.
    (tmp_path / "wirecheck.toml").write_text(f"[models.{PLANTED}]\nid = 'org/{PLANTED}'\n")
    monkeypatch.setenv("SLURM_JOB_ID", PLANTED)
    code, out, err = run("doctor", tmp_path / "wirecheck.toml", "--json", tmp_path / "out.json")
    assert code == 4
    told = out + err + (tmp_path / "out.json").read_text()
    assert "a token is set" in told
    assert PLANTED not in told


# --- a model of the hub ------------------------------------------------------------------------------------------


def test_a_model_of_the_hub_is_looked_at_and_its_bytes_are_asked_for(hub):
    listed = {"m": Reader("org/name", offline=False)}
    report = doctor.examine(listed)
    assert [check.name for check in report.checks if not check.sound] == []
    assert (
        f"org/name at {COMMIT[:12]}: {len(WEIGHTS)} weight files, 0 of them on this disk"
        in one(report.checks, "m").seen
    )
    size = sum(len(FILES[name]) for name in WEIGHTS)
    assert doctor_models.bytes_to_fetch([listed["m"]()]) == size
    assert doctor_models.bytes_to_fetch([]) is None


def test_a_model_that_cannot_be_had_is_a_line_with_the_next_step(hub):
    hub.faults["list"] = Fault(status=403, headers={"X-Error-Code": "GatedRepo"})
    (found,) = looked("org/name")
    assert (found.name, found.sound, "accept its terms" in found.mend) == ("m", False, True)


# --- a folder: its class -----------------------------------------------------------------------------------------


def test_a_whole_folder_is_sound(llama):
    files, kind, tokenizer = looked(llama)
    assert (files.sound, kind.sound, tokenizer.sound) == (True, True, True)
    assert "LlamaForCausalLM" in kind.seen


@pytest.mark.parametrize(
    ("config", "said", "mend"),
    [
        ({"model_type": "llama9", "transformers_version": "9.0.0"}, "written by 9.0.0", "pip install -U transformers"),
        ({"model_type": "t5"}, "no causal language model", "CFG03"),
        ({"model_type": None}, "names no model type", "CFG02"),
        ({"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}, "only the repository's code", "[gate]"),
    ],
)
def test_a_class_that_is_not_installed_is_not_sound(llama, config, said, mend):
    found = one(looked(changed(llama, **config)), "m: class")
    assert (found.sound, said in found.seen, mend in found.mend) == (False, True, True)


def test_files_that_are_broken_or_no_json_are_not_sound(llama):
    weights = next(llama.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-10])
    assert not one(looked(llama), "m").sound
    (llama / "config.json").write_text("{")
    assert not one(looked(llama), "m: class").sound


def test_code_of_the_repository_names_the_packages_it_needs(llama, tmp_path, monkeypatch):
    changed(llama, model_type="own", auto_map={"AutoConfig": "own.Config"})
    (llama / "own.py").write_text(
        "import json, torch.nn\nfrom .other import x\nimport einops_of_ours.layers\n"
        "try:\n    import flash_of_ours\nexcept ImportError:\n    pass\nif 0:\n    import never\n"
    )
    found = one(looked(llama, trust_remote_code=True), "m: code")
    assert (found.sound, found.mend) == (False, "pip install einops_of_ours")
    (tmp_path / "lib" / "einops_of_ours").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path / "lib")
    checks = looked(llama, trust_remote_code=True)
    assert one(checks, "m: code").sound
    assert one(checks, "m: class").sound
    assert "m: code" not in [check.name for check in looked(llama)]


# --- a folder: its tokenizer -------------------------------------------------------------------------------------

SENTENCEPIECE = b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02\n\x0c\n\x03<s>"
TIKTOKEN = b"IQ== 0\nIg== 1\nIw== 2\n"


@pytest.mark.parametrize(
    ("name", "content", "packages"),
    [
        ("tokenizer.model", SENTENCEPIECE, ("sentencepiece", "protobuf")),
        ("tokenizer.model", TIKTOKEN, ("tiktoken",)),
        ("own.tiktoken", TIKTOKEN, ("tiktoken",)),
        ("tekken.json", b'{"config": {}}', ("mistral-common",)),
    ],
)
def test_a_tokenizers_packages_are_told_by_its_bytes(llama, monkeypatch, name, content, packages):
    (llama / name).write_bytes(content)
    assert one(looked(llama), "m: tokenizer").seen == "tokenizer.json, which takes no other package"
    (llama / "tokenizer.json").unlink()
    monkeypatch.setattr(doctor_needs, "importable", lambda module: False)
    found = one(looked(llama), "m: tokenizer")
    assert (found.sound, found.mend) == (False, f"pip install {' '.join(packages)}")
    monkeypatch.setattr(doctor_needs, "importable", lambda module: True)
    assert one(looked(llama), "m: tokenizer").sound


@pytest.mark.parametrize("content", [b"", b"<html>", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"])
def test_a_tokenizer_file_that_is_none_is_not_sound(llama, content):
    (llama / "tokenizer.json").unlink()
    (llama / "tokenizer.model").write_bytes(content)
    assert not one(looked(llama), "m: tokenizer").sound


def test_a_newer_tekken_file_takes_no_other_package(llama):
    (llama / "tokenizer.json").unlink()
    (llama / "tekken.json").write_text('{"config": {}, "special_tokens": []}')
    assert one(looked(llama), "m: tokenizer").sound


def test_a_package_is_there_where_python_finds_it(tmp_path, monkeypatch):
    assert not doctor_needs.importable("no_package_of_ours.inner")
    (tmp_path / "no_package_of_ours" / "inner").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    assert doctor_needs.importable("no_package_of_ours.inner")


# --- a folder: its quantization ----------------------------------------------------------------------------------


def test_a_quantizer_that_goes_on_is_sound(llama):
    assert "m: quantization" not in [check.name for check in looked(llama)]
    found = one(looked(changed(llama, quantization_config={"quant_method": "fp8"})), "m: quantization")
    assert found.sound


@pytest.mark.parametrize(
    ("declared", "mend"),
    [
        ({"quant_method": "vptq", "config_for_layers": {}}, "pip install -U vptq"),
        ({"quant_method": "no-such"}, "do what it says, or pip install -U transformers"),
        ("words", "wirecheck explain CFG07"),
    ],
)
def test_a_quantizer_that_refuses_says_what_it_lacks(llama, declared, mend):
    if doctor_needs.importable("vptq"):
        pytest.skip("vptq is installed")
    found = one(looked(changed(llama, quantization_config=declared)), "m: quantization")
    assert (found.sound, found.mend) == (False, mend)


def test_a_quantizer_that_wants_a_gpu_sends_to_a_machine_that_has_one(llama):
    if doctor_torch.ask_torch(os.environ).kind is not None:
        pytest.skip("an accelerator is here")
    found = one(looked(changed(llama, quantization_config={"quant_method": "spqr"})), "m: quantization")
    assert (found.sound, found.mend.startswith("ask again where the model is to run")) == (False, True)


def test_a_command_to_paste_is_quoted():
    answer = accepts({"quant_method": "compressed-tensors", "config_groups": {}})
    if answer.refusal is None:
        pytest.skip("compressed-tensors is installed")
    assert answer.install.startswith("pip install 'compressed-tensors>=")


# --- as a command ------------------------------------------------------------------------------------------------


def test_a_folder_of_the_file_that_is_not_there_is_never_looked_for_on_the_hub(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("wirecheck.toml").write_text("[models.a]\nid = './org/name'\n")
    _, listed = read_rules(Path("wirecheck.toml"), "wirecheck doctor", offline=False)
    report = doctor.examine(listed)
    assert "there is no folder ./org/name" in one(report.checks, "a").seen
    assert not hub.seen("org/name")


def test_the_whole_in_a_process_of_its_own(hub, tmp_path):
    (tmp_path / "wirecheck.toml").write_text("[models.far]\nid = 'org/name'\n[models.lost]\nid = './nowhere'\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment = kept | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-m", "wirecheck.cli", "doctor", str(tmp_path / "wirecheck.toml"), "--json", "-"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=200)
    report = MachineReport.model_validate_json(done.stdout)
    assert (done.returncode, done.stderr) == (4, "")
    assert [check.name for check in report.checks if not check.sound] == ["lost"]
