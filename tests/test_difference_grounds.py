"""What two results rest on that differs, told of each change: by the records, and nothing beyond them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.differences import (
    OLD,
    OTHER,
    A,
    B,
    changes_of,
    edited,
    fact,
    flat,
    memory,
    otherwise,
    run_of,
    with_facts,
    with_finding,
    with_runs,
)
from tests.factories import COMMITS, finding, pair_result, seen
from wirecheck.difference import compare
from wirecheck.difference_grounds import NOTHING
from wirecheck.schema import (
    Environment,
    Fact,
    GpuRequest,
    Level,
    PairResult,
    Policy,
    TrainSpec,
    WireSpec,
)


def installed(**changes: Any) -> dict[str, Any]:
    return {"environment": Environment.model_validate(OLD.environment.model_dump() | changes)}


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"wire": WireSpec(latent_length=4)}, ("asked", "wire.latent_length", 32, 4)),
        ({"wire": WireSpec(losses=("kd",))}, ("asked", "wire.losses", '["answer"]', '["kd"]')),
        ({"train": TrainSpec(dtype="float16")}, ("asked", "train.dtype", "bfloat16", "float16")),
        ({"policy": Policy(required=Level.EXECUTED)}, ("asked", "policy.required", "simulated", "executed")),
        (
            {"policy": Policy(gpus=(GpuRequest(name="L4"),))},
            ("asked", "policy.gpus", "[]", '[{"name": "L4", "count": 1}]'),
        ),
        ({"seed": 3}, ("asked", "seed", 0, 3)),
        (installed(packages=[("wirecheck", "0.2.0")]), ("installed", "wirecheck", "0.1.0", "0.2.0")),
        (
            installed(packages=[("torch", "2.7"), ("wirecheck", "0.1.0")]),
            ("installed", "torch", None, "2.7"),
        ),
        (installed(python="3.12.1"), ("installed", "python", "3.11.4", "3.12.1")),
        (installed(platform="Darwin"), ("installed", "platform", "Linux", "Darwin")),
        ({"b": edited(OLD.b, commit=OTHER)}, ("read", "b.commit", COMMITS[1], OTHER)),
        ({"a": edited(OLD.a, revision="main")}, ("read", "a.revision", None, "main")),
    ],
)
def test_each_cause_is_told_and_no_other(changes, cause):
    found = compare(OLD, pair_result(verdict=OLD.verdict, **changes))
    assert [(one.of, one.key, one.old, one.new) for one in found.causes] == [cause]
    assert not found.is_empty
    assert not found.rows
    assert "Nothing came out otherwise" in flat(found)


def test_another_model_is_told_from_the_first_word_on():
    found = compare(OLD, pair_result(b=edited(OLD.b, name="org/gamma")))
    assert flat(found).startswith("org/alpha + org/gamma (before: org/alpha + org/beta): incompatible, as before.")


def why(new: PairResult, probe: str = "tokenizer") -> tuple[str, ...]:
    return next(change.why for change in changes_of(new).findings if change.probe == probe)


def test_nothing_recorded_differs_and_so_it_is_said():
    assert why(with_finding("tokenizer", claim="Otherwise.")) == (NOTHING,)
    assert changes_of(with_facts(fact(65))).facts[0].why == (NOTHING,)
    assert changes_of(memory(margin=0.1)).memory.why == (NOTHING,)


def test_the_file_and_both_commits_are_named():
    moved = {"b": edited(OLD.b, commit=OTHER)}
    new = otherwise(f"tokenizer_config.json@{OTHER[:12]}#pad_token", **moved)
    assert why(new) == (f"tokenizer_config.json#pad_token at {OTHER[:12]} instead of {B}",)


def test_a_file_read_for_several_keys_is_told_once():
    def made(claim: str, commit: str) -> PairResult:
        keys = ("bos_token", "pad_token")
        told = finding("TOK05", "ok", "b", claim, *(seen(f"t.json@{commit[:12]}#{key}", 1) for key in keys))
        return with_runs(edited(run_of("tokenizer"), findings=[told.model_dump()]), b=edited(OLD.b, commit=commit))

    (change,) = changes_of(made("Two.", OTHER), made("One.", COMMITS[1])).findings
    assert change.why == (f"t.json at {OTHER[:12]} instead of {B}",)


def test_a_source_that_names_no_file_leaves_the_commit_of_its_model():
    run = edited(run_of("tokenizer"), findings=[])
    old = with_runs(run)
    new = otherwise("tokenizer.pad_token", b=edited(OLD.b, commit=OTHER))
    (change,) = changes_of(new, old).findings
    assert change.why == (f"b read at {OTHER[:12]} instead of {B}",)


def test_of_a_finding_that_is_new_the_file_and_what_its_model_was_before():
    moved = {"b": edited(OLD.b, commit=OTHER)}
    source = f"tokenizer_config.json@{OTHER[:12]}#pad_token"
    old = with_runs(edited(run_of("tokenizer"), findings=[]))
    (change,) = [c for c in changes_of(otherwise(source, **moved), old).findings if c.code == "TOK05"]
    assert change.why == (f"tokenizer_config.json#pad_token at {OTHER[:12]}; b was read at {B} before",)
    (back,) = [c for c in changes_of(old, otherwise(source, **moved)).findings if c.code == "TOK05"]
    assert back.why == (f"tokenizer_config.json#pad_token was at {OTHER[:12]}; b is read at {B} now",)


def test_a_fact_of_the_same_probe_leads_to_the_file():
    def made(claim: str, commit: str, digest: str) -> PairResult:
        told = finding("TOK05", "ok", "b", claim, seen("tokenizer.pad_token", 1))
        digests = [Fact(key="d", subject="b", value=digest, level=Level.INSPECTED, source=f"t.jinja@{commit[:12]}#x")]
        run = edited(run_of("tokenizer"), findings=[told.model_dump()], facts=[one.model_dump() for one in digests])
        return with_runs(run, b=edited(OLD.b, commit=commit))

    old, new = made("It has one.", COMMITS[1], "1"), made("It has two.", OTHER, "2")
    (change,) = changes_of(new, old).findings
    assert change.why == (f"the same probe found another d: t.jinja at {OTHER[:12]} instead of {B}",)
    (self_told,) = changes_of(new, old).facts
    assert self_told.why == (f"t.jinja#x at {OTHER[:12]} instead of {B}",)
    (change,) = changes_of(made("It has two.", OTHER, "1"), old).findings
    assert change.why == (f"b read at {OTHER[:12]} instead of {B}",)


def test_the_other_model_s_commit_is_no_reason_for_this_one():
    new = otherwise("tokenizer.pad_token", a=edited(OLD.a, commit=OTHER))
    assert why(new) == (NOTHING,)


def test_a_claim_on_the_pair_rests_on_both():
    run = edited(run_of("wire"), findings=[])
    moved = {"a": edited(OLD.a, commit=OTHER), "b": edited(OLD.b, commit="e" * 40)}
    (change,) = changes_of(with_runs(run, **moved)).findings
    assert change.subject == "pair"
    assert change.why == (
        f"a: config.json#hidden_size was at {A}; a is read at {OTHER[:12]} now",
        f"b: config.json#hidden_size was at {B}; b is read at {'e' * 12} now",
    )


def test_the_same_file_of_two_models_is_not_mixed_up():
    run = run_of("wire")
    moved = edited(
        run.findings[0], evidence=[seen(f"config.json@{OTHER[:12]}#hidden_size", 65).model_dump()], claim="65."
    )
    new = with_runs(edited(run, findings=[moved.model_dump()]), a=edited(OLD.a, commit=OTHER))
    (change,) = changes_of(new).findings
    assert change.why == (f"a: config.json#hidden_size at {OTHER[:12]} instead of {A}",)


def test_settings_and_versions_stand_beside_the_source():
    new = otherwise("tokenizer.pad_token", seed=1, train=TrainSpec(batch=2), **installed(python="3.12"))
    assert why(new) == ("also differs: train.batch, seed, python",)


def test_many_settings_are_counted():
    versions = installed(packages=[(f"p{n}", "1") for n in range(20)])
    (line,) = why(otherwise("tokenizer.pad_token", **versions))
    assert line == f"also differs: wirecheck, {', '.join(f'p{n}' for n in range(7))}, 13 more"


def test_a_fact_that_was_read_elsewhere():
    (change,) = changes_of(with_facts(fact(65, source=f"LlamaForCausalLM(config.json@{A})"))).facts
    assert change.why == (f"read from LlamaForCausalLM(config.json@{A}), before from config.json@{A}#hidden_size",)
