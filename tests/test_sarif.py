"""The SARIF view: its whole text, the standard's own schema, and that no text of a stranger breaks it."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import COMMITS, HOSTILE, finding, hostile_result, pair_result, pair_runs, seen
from wirecheck.schema import CheckedModel, Level, Policy, Ran
from wirecheck.views import sarif
from wirecheck.views.words import visible

EXPECTED = """\
{
  "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
  "version": "2.1.0",
  "runs": [
    {
      "tool": {
        "driver": {
          "name": "wirecheck",
          "version": "0.1.0",
          "rules": [
            {
              "id": "WGT08",
              "name": "vocab-rows-differ",
              "shortDescription": {
                "text": "Vocab rows differ"
              },
              "fullDescription": {
                "text": "The embedding has 31,999 rows where the config says 32,000."
              },
              "help": {
                "text": "Set vocab_size to 31999. More: wirecheck explain WGT08"
              },
              "defaultConfiguration": {
                "level": "error"
              }
            }
          ],
          "notifications": [
            {
              "id": "open",
              "shortDescription": {
                "text": "A probe ended as open"
              },
              "fullDescription": {
                "text": "The probe ran, but its evidence is weaker than its question asks."
              },
              "help": {
                "text": "Nothing stronger than the rung its claims stand on is certified."
              },
              "defaultConfiguration": {
                "level": "warning"
              }
            },
            {
              "id": "skipped",
              "shortDescription": {
                "text": "A probe ended as skipped"
              },
              "fullDescription": {
                "text": "The probe was not run to its end: a condition was missing."
              },
              "help": {
                "text": "Meet the condition that the message names, and run the check again."
              },
              "defaultConfiguration": {
                "level": "note"
              }
            },
            {
              "id": "crashed",
              "shortDescription": {
                "text": "A probe ended as crashed"
              },
              "fullDescription": {
                "text": "The probe raised an exception: a bug, or a failure nobody foresaw."
              },
              "help": {
                "text": "Report it with the message; what the probe had found before stands."
              },
              "defaultConfiguration": {
                "level": "error"
              }
            }
          ]
        }
      },
      "automationDetails": {
        "id": "wirecheck/org/alpha + org/beta/"
      },
      "invocations": [
        {
          "commandLine": "wirecheck pair org/alpha org/beta",
          "executionSuccessful": true,
          "toolExecutionNotifications": [
            {
              "descriptor": {
                "id": "skipped"
              },
              "level": "note",
              "message": {
                "text": "values (b, executed): skipped: the weights are not on disk"
              },
              "properties": {
                "subject": "b",
                "probe": "values"
              }
            }
          ]
        }
      ],
      "originalUriBaseIds": {
        "MODELS": {
          "description": {
            "text": "The place where the checked models are kept."
          }
        }
      },
      "results": [
        {
          "ruleId": "WGT08",
          "ruleIndex": 0,
          "kind": "fail",
          "level": "error",
          "message": {
            "text": "The embedding has 31,999 rows where the config says 32,000. Remedy: Set vocab_size to 31999."
          },
          "locations": [
            {
              "physicalLocation": {
                "artifactLocation": {
                  "uri": "org/beta/model.safetensors",
                  "uriBaseId": "MODELS"
                }
              },
              "logicalLocations": [
                {
                  "fullyQualifiedName": "model.safetensors@ba9876543210#model.embed_tokens.weight"
                }
              ]
            }
          ],
          "partialFingerprints": {
            "wirecheck/v1": "FINGERPRINT:1",
            "primaryLocationLineHash": "FINGERPRINT:1"
          },
          "properties": {
            "subject": "b",
            "probe": "weights",
            "evidenceLevel": "inspected",
            "evidence": [
              {
                "level": "inspected",
                "source": "model.safetensors@ba9876543210#model.embed_tokens.weight",
                "observed": 31999,
                "expected": 32000
              }
            ]
          }
        }
      ],
      "properties": {
        "status": "finished",
        "outcome": "incompatible",
        "strength": "inspected",
        "required": "simulated",
        "strict": false,
        "because": [
          "WGT08 (b): The embedding has 31,999 rows where the config says 32,000."
        ],
        "models": {
          "a": {
            "ref": "org/alpha",
            "commit": "0123456789ab0000000000000000000000000000"
          },
          "b": {
            "ref": "org/beta",
            "commit": "ba98765432101111111111111111111111111111"
          }
        },
        "seed": 0
      }
    }
  ]
}
""".replace("FINGERPRINT", "68a8013c14408f9ce9f070968fe2ac0c")


def run_of(result):
    """The one run of the file."""
    (run,) = json.loads(sarif.render(result))["runs"]
    return run


def only_finding(found, **changes):
    """The SARIF result of a PairResult with one finding."""
    run = Ran(probe="p", subject=found.subject, level=Level.INSPECTED, seconds=0.0, findings=(found,))
    (shown,) = run_of(pair_result(runs=(run,), **changes))["results"]
    return shown


def uris(locations):
    return [location["physicalLocation"]["artifactLocation"]["uri"] for location in locations]


def test_whole_text():
    weights, values = pair_runs()[3:5]
    assert sarif.render(pair_result(runs=(weights, values))) == EXPECTED


@pytest.mark.parametrize(
    "result",
    [
        pytest.param(pair_result(), id="every kind of run"),
        pytest.param(pair_result(runs=()), id="no runs"),
        pytest.param(pair_result(b=None, runs=pair_runs()[:2]), id="one model"),
        pytest.param(pair_result(status="interrupted", policy=Policy(strict=True)), id="interrupted"),
        pytest.param(hostile_result(), id="hostile"),
    ],
)
def test_valid_under_the_standard(validator, result):
    assert [error.message for error in validator.iter_errors(json.loads(sarif.render(result)))] == []


def test_the_schema_refuses_what_is_not_sarif(validator):
    log = json.loads(sarif.render(pair_result()))
    log["runs"][0]["results"][0]["level"] = "block"
    assert [error.instance for error in validator.iter_errors(log)] == ["block"]


def test_severity_gives_kind_and_level():
    shown = {r["ruleId"]: (r["kind"], r["level"]) for r in run_of(pair_result())["results"]}
    assert shown == {
        "CFG03": ("pass", "none"),
        "EMB10": ("fail", "note"),
        "TOK05": ("fail", "warning"),
        "WGT08": ("fail", "error"),
        "PAR01": ("fail", "note"),
    }


def test_rules_are_those_found_and_indexed():
    run = run_of(pair_result())
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert rules == ["CFG03", "EMB10", "PAR01", "TOK05", "WGT08"]
    assert all(rules[r["ruleIndex"]] == r["ruleId"] for r in run["results"])


def test_rule_takes_the_words_of_the_gravest_finding():
    claims = tuple(
        finding("TOK05", severity, subject, f"Claim of {subject}.", seen("x", 0), remedy=remedy)
        for severity, subject, remedy in (("ok", "a", None), ("warn", "a", "Mend it."), ("note", "a", None))
    )
    run = Ran(probe="tokenizer", subject="a", level=Level.INSPECTED, seconds=0.0, findings=claims)
    (rule,) = run_of(pair_result(runs=(run,)))["tool"]["driver"]["rules"]
    assert rule["defaultConfiguration"] == {"level": "warning"}
    assert rule["help"]["text"] == "Mend it. More: wirecheck explain TOK05"


def test_open_questions_are_notifications():
    claim = finding("CFG12", "note", "a", "The dtype is float16.", seen("config.json", "float16", level=Level.DECLARED))
    weak = Ran(probe="config", subject="a", level=Level.INSPECTED, seconds=0.0, findings=(claim,))
    (invocation,) = run_of(pair_result(runs=(weak, *pair_runs()[4:])))["invocations"]
    told = [
        (note["descriptor"]["id"], note["level"], note["message"]["text"])
        for note in invocation["toolExecutionNotifications"]
    ]
    assert told == [
        ("open", "warning", "config (a, inspected): CFG12 rests on declared evidence only"),
        ("skipped", "note", "values (b, executed): skipped: the weights are not on disk"),
        ("crashed", "error", "wire (pair, simulated): crashed: RuntimeError: shapes 2x3 and 4x5"),
    ]
    crash = invocation["toolExecutionNotifications"][2]["exception"]
    assert crash == {"kind": "RuntimeError", "message": "shapes 2x3 and 4x5"}


@pytest.mark.parametrize(
    ("changes", "successful"),
    [
        ({"runs": pair_runs()[:5]}, True),
        ({"runs": pair_runs()}, False),
        ({"runs": pair_runs()[:5], "status": "interrupted"}, False),
    ],
)
def test_execution_successful(changes, successful):
    assert run_of(pair_result(**changes))["invocations"][0]["executionSuccessful"] is successful


def test_location_is_the_file_of_the_evidence():
    source = f"sub dir/tokenizer.json@{COMMITS[0][:12]}#added_tokens/@3"
    shown = only_finding(finding("TOK02", "note", "a", "It holds.", seen("encode, seed 0", 1), seen(source, 2)))
    assert uris(shown["locations"]) == ["org/alpha/sub%20dir/tokenizer.json"]
    assert shown["locations"][0]["logicalLocations"] == [{"fullyQualifiedName": source}]
    assert uris(shown["relatedLocations"]) == ["org/alpha"]


@pytest.mark.parametrize("source", ['encode("a@b")', 'encode("a@deadbeef")', "twin forward, seed 0", "x@", "@deadbeef"])
def test_location_of_an_operation_is_its_model(source):
    assert uris(only_finding(finding("TOK02", "note", "b", "It holds.", seen(source, 1)))["locations"]) == ["org/beta"]


def test_location_of_a_pair_is_the_model_whose_commit_is_named():
    files = (seen(f"config.json@{COMMITS[1][:12]}", 1), seen(f"config.json@{COMMITS[0][:12]}", 1))
    shown = only_finding(finding("PAR01", "note", "pair", "They differ.", *files, seen("step, seed 0", 1)))
    assert uris(shown["locations"]) == ["org/beta/config.json"]
    assert uris(shown["relatedLocations"]) == ["org/alpha/config.json", "org/alpha", "org/beta"]


def test_same_evidence_twice_is_one_location():
    shown = only_finding(finding("PAR01", "note", "a", "It holds.", seen("x", 1), seen("x", 2)))
    assert uris(shown["locations"]) == ["org/alpha"]
    assert "relatedLocations" not in shown


@pytest.mark.parametrize(
    ("name", "uri"),
    [("../../etc", "etc"), ("/abs", "abs"), ("file:x", "file%3Ax"), ("..", "model"), ("a b?#é", "a%20b%3F%23%C3%A9")],
)
def test_uri_stays_below_its_base(name, uri):
    model = CheckedModel(ref=name, name=name, kind="folder", commit="sha256:" + "0" * 64)
    shown = only_finding(finding("TOK02", "note", "a", "It holds.", seen("x", 1)), a=model, b=None)
    assert uris(shown["locations"]) == [uri]


def fingerprint(source, claim="It holds.", code="TOK02", subject="a"):
    shown = only_finding(finding(code, "note", subject, claim, seen(source, 1)))
    assert shown["partialFingerprints"]["wirecheck/v1"] == shown["partialFingerprints"]["primaryLocationLineHash"]
    return shown["partialFingerprints"]["wirecheck/v1"]


def test_fingerprint_outlives_commit_and_figures():
    source = f"my config.json@{COMMITS[0][:12]}#key"
    assert fingerprint(source) == fingerprint("my config.json@sha256:fedcba987654#key", claim="It holds 2 times.")


def test_fingerprint_tells_troubles_apart():
    source = f"config.json@{COMMITS[0][:12]}#key"
    others = [(source + "2",), (source, "It holds.", "TOK03"), (source, "It holds.", "TOK02", "b")]
    assert len({fingerprint(source), *(fingerprint(*other) for other in others)}) == 4


def test_fingerprints_are_unique_in_a_file():
    twice = tuple(finding("TOK02", "note", "a", f"Claim {n}.", seen("x", n)) for n in range(2))
    run = Ran(probe="p", subject="a", level=Level.INSPECTED, seconds=0.0, findings=twice)
    first, second = (r["partialFingerprints"]["wirecheck/v1"] for r in run_of(pair_result(runs=(run,)))["results"])
    assert (first[:-1], first[-1], second[:-1], second[-1]) == (second[:-1], "1", first[:-1], "2")


def test_observed_nothing_is_told():
    shown = only_finding(finding("TOK05", "note", "b", "There is no pad.", seen("x", None)))
    assert shown["properties"]["evidence"] == [{"level": "inspected", "source": "x", "observed": None}]


def test_hostile_text_is_spelled_out():
    text = sarif.render(hostile_result())
    assert not {"\x00", "\x1b", "\r", "\u202e", "\u2066", "\u2028", "\ufeff"} & set(text)
    (blocked,) = [r for r in json.loads(text)["runs"][0]["results"] if r["level"] == "error"]
    assert "[go] (https://evil.example) {{0}}" in blocked["message"]["text"]
    assert blocked["properties"]["evidence"][0]["observed"] == visible(HOSTILE)


@given(st.text(min_size=1))
def test_any_text_gives_a_valid_file(validator, text):
    log = json.loads(sarif.render(hostile_result(text)))
    assert not list(validator.iter_errors(log))
    for shown in log["runs"][0]["results"]:
        assert len(shown["locations"]) == 1
        for uri in uris(shown["locations"] + shown.get("relatedLocations", [])):
            assert re.fullmatch(r"(?:[\w.~/-]|%[0-9A-F]{2})+", uri, re.ASCII)
            assert not {"", ".", ".."} & set(uri.split("/"))
