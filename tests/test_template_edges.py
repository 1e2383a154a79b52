"""The template probe where two answers are near each other: what is said twice, what is missing, who died."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.test_probe_template import TURN, chatml, check
from tests.tokenizer_factory import CHATML, facts, found, seen
from wirecheck.schema import Severity


def test_tpl01_a_list_of_no_templates_is_none(tmp_path: Path) -> None:
    run = check(tmp_path, None, chat_template=[])
    assert found(run, "TPL01").severity is Severity.NOTE
    assert facts(run)["has_template"] is False


def test_tpl09_a_template_that_ends_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import PreTrainedTokenizerFast

    def dies(*_: Any, **__: Any) -> None:
        os.abort()

    monkeypatch.setattr(PreTrainedTokenizerFast, "apply_chat_template", dies)
    assert "The chat template kills the process that renders it (" in found(check(tmp_path, CHATML), "TPL09").claim


def test_turns_are_placed_where_they_first_stand(tmp_path: Path) -> None:
    """The first turn is said once more at the end: neither order nor the system's place is read off that."""
    run = check(tmp_path, CHATML + "Once more: {{ messages[0].content }}")
    assert seen(run, "TPL02") == ["ok"]
    assert found(run, "TPL04").severity is Severity.OK
    assert found(run, "TPL04").claim.endswith("renders the system text, ahead of the user's.")
    assert found(run, "TPL04").evidence[0].observed == len("<s><|im_start|>system\n")


def test_tpl04_a_system_text_between_a_question_said_twice(tmp_path: Path) -> None:
    turn = "{% if m.role == 'system' %}{{ messages[1].content }}\n{% endif %}" + TURN
    finding = found(check(tmp_path, chatml(turn=turn)), "TPL04")
    assert finding.claim.endswith("renders the system text, behind the user's.")


def test_tpl04_a_system_text_behind_an_answer_said_twice(tmp_path: Path) -> None:
    """Mistral's way, with the answer again at the end."""
    turn = (
        "{% if m.role != 'system' %}{{ m.role }}\n"
        "{% if loop.last and messages[0].role == 'system' %}{{ messages[0].content }}\n{% endif %}"
        "{{ m.content }}<|im_end|>\n{% endif %}"
    )
    again = "{% if messages | length > 3 %}{{ messages[2].content }}{% endif %}"
    finding = found(check(tmp_path, chatml(turn=turn, prompt=again)), "TPL04")
    assert finding.severity is Severity.NOTE
    assert "last user turn" in finding.claim
