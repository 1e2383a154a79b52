"""The template probe where two answers are near each other: what is said twice, what is missing, who died."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from tokenizers import pre_tokenizers

from tests import gguf_bytes
from tests.test_probe_template import TURN, chatml, check, source_of_the_text
from tests.tokenizer_factory import CHATML, END, SPECIALS, byte_level, facts, found, ran, save, seen
from wirecheck.probes.chats import ANSWER, FIRST
from wirecheck.probes.template import TEMPLATE
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
    """Mistral's way, with answer and system text again at the end: the first place of each is told."""
    turn = (
        "{% if m.role != 'system' %}{{ m.role }}\n"
        "{% if loop.last and messages[0].role == 'system' %}{{ messages[0].content }}\n{% endif %}"
        "{{ m.content }}<|im_end|>\n{% endif %}"
    )
    again = "{% if messages | length > 3 %}{{ messages[2].content }}{{ messages[0].content }}{% endif %}"
    finding = found(check(tmp_path, chatml(turn=turn, prompt=again)), "TPL04")
    assert finding.severity is Severity.NOTE
    assert "last user turn" in finding.claim
    ahead = f"<s>user\n{FIRST}<|im_end|>\nassistant\n"
    between = f"{ANSWER}<|im_end|>\nuser\n"
    assert finding.evidence[0].observed == f"{len(ahead + between)}, behind the answer at {len(ahead)}"


def test_tpl04_a_system_text_behind_an_answer_that_begins_the_text(tmp_path: Path) -> None:
    finding = found(
        check(tmp_path, "{% for m in messages | sort(attribute='role') %}{{ m.content }}{% endfor %}"), "TPL04"
    )
    assert finding.severity is Severity.NOTE
    assert finding.evidence[0].observed == f"{len(ANSWER)}, behind the answer at 0"


def test_the_digest_of_a_template_in_a_gguf(tmp_path: Path) -> None:
    """No file beside it holds the text: it is the tokenizer's."""
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf_bytes.whole(gguf_bytes.pairs(tokenizer__chat_template=(gguf_bytes.STR, CHATML))))
    run = ran(TEMPLATE, path)
    assert source_of_the_text(run) == "tokenizer.chat_template"
    assert facts(run)["template_sha256"] == hashlib.sha256(CHATML.encode()).hexdigest()


def test_the_digest_of_an_additional_template_without_a_first(tmp_path: Path) -> None:
    """There is no chat_template.jinja, and transformers passes over the one in the config."""
    run = check(tmp_path, None, chat_template=CHATML, templates={"rag": CHATML + " "})
    assert source_of_the_text(run) == "additional_chat_templates/rag.jinja"
    assert facts(run)["template_sha256"] == f"rag {hashlib.sha256((CHATML + ' ').encode()).hexdigest()}"


def test_the_digest_of_one_template_in_a_list(tmp_path: Path) -> None:
    """The one used by default is told without a name, another with it."""
    run = check(tmp_path, None, chat_template=[{"name": "default", "template": CHATML}])
    assert facts(run)["template_sha256"] == hashlib.sha256(CHATML.encode()).hexdigest()
    assert source_of_the_text(run) == "tokenizer_config.json#chat_template"
    run = check(tmp_path, None, chat_template=[{"name": "rag", "template": CHATML}])
    assert facts(run)["template_sha256"] == f"rag {hashlib.sha256(CHATML.encode()).hexdigest()}"


def test_the_digest_of_a_file_with_the_line_ends_of_old(tmp_path: Path) -> None:
    folder = save(tmp_path, template=None)
    (folder / "chat_template.jinja").write_bytes((CHATML + "\r{# end #}").encode())
    assert source_of_the_text(ran(TEMPLATE, folder)) == "chat_template.jinja"


def test_the_digest_of_a_template_with_half_a_letter(tmp_path: Path) -> None:
    run = check(tmp_path, None, chat_template=CHATML + "{# \ud83d #}")
    assert source_of_the_text(run) == "tokenizer_config.json#chat_template"
    assert seen(run, "TPL02") == ["ok"]


def test_tpl08_what_closes_the_turn_stands_behind_the_answer_said_last(tmp_path: Path) -> None:
    turn = TURN.replace("{{ m.content }}", "{{ m.content }}<pad>{{ m.content }}")
    assert found(check(tmp_path, chatml(turn=turn)), "TPL08").evidence[0].observed == END


def test_tpl08_what_stands_behind_the_next_question_closes_no_answer(tmp_path: Path) -> None:
    turn = "{{ m.role }}: {{ m.content }}{% if m.role == 'user' %}<|im_end|>{{ m.content }}{% endif %}\n"
    assert facts(check(tmp_path, chatml(turn=turn)))["turn_end"] is None


def test_tpl08_a_stop_that_is_ordinary_text_closes_the_turn(tmp_path: Path) -> None:
    sign = sorted(pre_tokenizers.ByteLevel.alphabet()).index("#")
    run = check(tmp_path, chatml(turn="{{ m.role }}: {{ m.content }}#\n"), generation={"eos_token_id": [sign, END]})
    assert found(run, "TPL08").severity is Severity.OK
    assert facts(run)["turn_end"] == "#"


def test_tpl06_ids_that_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two paths of which one is the beginning of the other part where it ends."""
    from transformers import PreTrainedTokenizerFast

    plain = PreTrainedTokenizerFast.apply_chat_template

    def longer(self: Any, *args: Any, tokenize: bool = True, **options: Any) -> Any:
        made = plain(self, *args, tokenize=tokenize, **options)
        return {"input_ids": [*made["input_ids"], END]} if tokenize else made

    monkeypatch.setattr(PreTrainedTokenizerFast, "apply_chat_template", longer)
    claim = found(check(tmp_path, CHATML), "TPL06").claim
    assert claim.endswith("gives 26 ids and encoding its text 25: they part at position 25.")


def test_tpl07_white_space_at_the_end_is_no_rewriting(tmp_path: Path) -> None:
    turn = TURN.removesuffix("\n") + "{% if m.role == 'user' or loop.last %}{{ '\\n' }}{% endif %}"
    assert found(check(tmp_path, chatml(turn=turn)), "TPL07").severity is Severity.OK


@pytest.mark.parametrize(
    "refused",
    [
        "messages | length == 1 and not add_generation_prompt",
        "add_generation_prompt and messages[0].content != 'Hello'",
        "messages | length == 2 and messages[0].role == 'user'",
        "messages | length == 3",
    ],
)
def test_tpl07_claims_nothing_where_one_of_its_chats_is_refused(tmp_path: Path, refused: str) -> None:
    run = check(tmp_path, chatml("{% if " + refused + " %}{{ raise_exception('no') }}{% endif %}"))
    assert found(run, "TPL02").severity is Severity.BLOCK
    assert seen(run, "TPL07") == []


def test_tpl10_claims_nothing_where_the_anchor_is_refused(tmp_path: Path) -> None:
    run = check(tmp_path, chatml("{% if add_generation_prompt %}{{ raise_exception('no') }}{% endif %}"))
    assert seen(run, "TPL10") == []


@pytest.mark.parametrize(
    ("template", "first", "second"),
    [
        ("{{ strftime_now('%Y') }}{{ messages[0].content }}", "2024Hello", "2031Hello"),
        ("{{ messages[0].content }}{% if strftime_now('%Y') == '2031' %}!{% endif %}", "Hello", "Hello!"),
        ("{% if strftime_now('%Y') == '2031' %}{{ raise_exception('no') }}{% endif %}Hello", "Hello", ""),
    ],
    ids=["at the start", "at the end", "refused"],
)
def test_tpl10_shows_where_two_days_part(tmp_path: Path, template: str, first: str, second: str) -> None:
    finding = found(check(tmp_path, template), "TPL10")
    assert finding.severity is Severity.NOTE
    assert [one.observed for one in finding.evidence] == [first, second]


@pytest.mark.parametrize(
    ("declared", "severity"),
    [
        ({}, Severity.BLOCK),
        ({"255": "<|doc|>"}, Severity.BLOCK),
        ({"255": "<|doc|>", "-6": "<|page|>"}, Severity.BLOCK),
        ({"255": "<|doc|>", "260": "<|page|>"}, Severity.BLOCK),
        ({"255": "<|doc|>", "254": "<|page|>"}, Severity.WARN),
        ({"255": "<|doc|>", "254": "<|page|>", "253": ""}, Severity.WARN),
    ],
)
def test_tok02_every_id_past_the_rows_has_to_be_declared_on_a_row(
    tmp_path: Path, declared: dict[str, str], severity: Severity
) -> None:
    core = byte_level([*SPECIALS, "<|doc|>", "<|page|>"], front=["<s>"])
    folder = save(tmp_path, core, template=chatml("<|doc|><|page|>"))
    path = folder / "tokenizer_config.json"
    own = {"added_tokens_decoder": {i: {"content": token} if token else {} for i, token in declared.items()}}
    path.write_text(json.dumps(json.loads(path.read_text()) | own))
    assert found(ran(TEMPLATE, folder), "TOK02").severity is severity
