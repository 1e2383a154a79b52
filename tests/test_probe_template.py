"""The template probe: each code where it fires and where it must not."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.tokenizer_factory import CHATML, END, SPECIALS, byte_level, facts, found, ran, save, seen
from wirecheck import templating
from wirecheck.probes.template import TEMPLATE
from wirecheck.schema import Level, Severity
from wirecheck.templating import Limits

SOUND = "test_a_sound_template_passes_every_check"
pytestmark = pytest.mark.usefixtures("said")

TURN = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
PROMPT = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


def chatml(body: str = "", turn: str = TURN, prompt: str = PROMPT) -> str:
    """A ChatML template with something in front of the turns, or another turn."""
    return "{{ bos_token }}" + body + "{% for m in messages %}" + turn + "{% endfor %}" + prompt


def check(folder: Path, template: str | None, **options: Any) -> Any:
    """The probe's run on a sound small model with that template."""
    return ran(TEMPLATE, save(folder, template=template, **options))


def test_a_sound_template_passes_every_check(tmp_path: Path) -> None:
    """But for the BOS that encoding with defaults doubles, as for every template that writes one."""
    run = check(tmp_path, CHATML)
    assert {f.code for f in run.findings} == set(TEMPLATE.codes)
    assert {f.code: f.severity for f in run.findings if f.severity is not Severity.OK} == {"TPL05": Severity.NOTE}
    assert all(any(e.level is Level.INSPECTED for e in f.evidence) for f in run.findings)


def test_facts_are_what_the_template_does(tmp_path: Path) -> None:
    known = facts(check(tmp_path, CHATML))
    assert known == {
        "has_template": True,
        "template_sha256": hashlib.sha256(CHATML.encode()).hexdigest(),
        "stop_ids": str(END),
        "template_roles": "system, user, assistant",
        "template_reads_clock": False,
        "turn_end": "<|im_end|>",
        "adds_bos_in_template": True,
    }


def source_of_the_text(run: Any) -> str:
    """Where the digest says that the text was read, without the commit."""
    (fact,) = [fact for fact in run.facts if fact.key == "template_sha256"]
    return re.sub(r"@sha256:[0-9a-f]{12}", "", fact.source)


def test_the_digest_names_the_file_that_holds_the_text(tmp_path: Path) -> None:
    assert source_of_the_text(check(tmp_path, CHATML)) == "chat_template.jinja"


def test_the_digest_of_a_template_in_the_config(tmp_path: Path) -> None:
    run = check(tmp_path, None, chat_template=CHATML)
    assert source_of_the_text(run) == "tokenizer_config.json#chat_template"
    assert facts(run)["template_sha256"] == hashlib.sha256(CHATML.encode()).hexdigest()


def test_the_digest_of_a_file_with_the_line_ends_of_windows(tmp_path: Path) -> None:
    folder = save(tmp_path, template=None)
    (folder / "chat_template.jinja").write_bytes((CHATML + "\r\n{# end #}").encode())
    assert source_of_the_text(ran(TEMPLATE, folder)) == "chat_template.jinja"


def test_the_digest_of_the_file_that_wins(tmp_path: Path) -> None:
    run = check(tmp_path, CHATML, chat_template=CHATML.replace("bos_token", "eos_token"))
    assert source_of_the_text(run) == "chat_template.jinja"
    assert facts(run)["template_sha256"] == hashlib.sha256(CHATML.encode()).hexdigest()


def test_the_digests_of_several_templates(tmp_path: Path) -> None:
    run = check(tmp_path, CHATML, templates={"rag": CHATML + " "})
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in (CHATML, CHATML + " ")]
    assert facts(run)["template_sha256"] == f"default {digests[0]}, rag {digests[1]}"
    assert source_of_the_text(run) == "chat_template.jinja; additional_chat_templates/rag.jinja"


def test_two_runs_say_the_same(tmp_path: Path) -> None:
    folder = save(tmp_path, template=chatml("{{ strftime_now('%c') }}"), generation={"eos_token_id": [1, 2]})
    assert ran(TEMPLATE, folder).findings == ran(TEMPLATE, folder).findings


def test_tpl01_no_template(tmp_path: Path) -> None:
    run = check(tmp_path, None)
    assert found(run, "TPL01").severity is Severity.NOTE
    assert {f.code for f in run.findings} == {"TPL01", "CFG09"}
    assert facts(run) == {"has_template": False, "stop_ids": str(END)}


def test_tpl01_several_are_named_and_rendered(tmp_path: Path) -> None:
    broken = chatml("{% for d in documents %}{{ d }}{% endfor %}")
    run = check(tmp_path, CHATML, templates={"tool_use": CHATML, "rag": broken})
    assert found(run, "TPL01").severity is Severity.OK
    assert "3 chat templates: default, rag, tool_use" in found(run, "TPL01").claim
    assert seen(run, "TPL02") == ["ok", "note", "ok"]
    assert "named rag fails on line 1" in next(
        f.claim for f in run.findings if f.severity is Severity.NOTE and f.code == "TPL02"
    )


def test_tpl02_a_syntax_error(tmp_path: Path) -> None:
    finding = found(check(tmp_path, "line one\n{% for m in %}"), "TPL02")
    assert finding.severity is Severity.BLOCK
    assert "fails on line 2: TemplateSyntaxError" in finding.claim


def test_tpl02_assistant_turns_raise(tmp_path: Path) -> None:
    turn = "{% if m.role == 'assistant' %}{{ raise_exception('users only') }}{% endif %}" + TURN
    finding = found(check(tmp_path, chatml(turn=turn)), "TPL02")
    assert finding.severity is Severity.BLOCK
    assert finding.claim.endswith("TemplateError: users only")
    assert finding.evidence[0].source == "apply_chat_template(question, answer)"


def test_tpl02_a_turn_is_lost(tmp_path: Path) -> None:
    turn = "{% if m.role != 'assistant' %}" + TURN + "{% endif %}"
    run = check(tmp_path, chatml(turn=turn))
    assert found(run, "TPL02").severity is Severity.BLOCK
    assert "assistant's turn" in found(run, "TPL02").claim
    assert facts(run)["turn_end"] is None
    assert facts(run)["template_roles"] == "system, user"


def test_tpl02_a_template_of_nothing(tmp_path: Path) -> None:
    run = check(tmp_path, "{{ '' }}")
    assert found(run, "TPL02").severity is Severity.BLOCK
    assert seen(run, "TOK02") == []


def test_tpl02_turns_are_turned_round(tmp_path: Path) -> None:
    finding = found(check(tmp_path, CHATML.replace("in messages", "in messages | reverse")), "TPL02")
    assert finding.severity is Severity.BLOCK
    assert "another order" in finding.claim


def test_tpl02_no_default_among_several(tmp_path: Path) -> None:
    named = [{"name": "tool_use", "template": CHATML}, {"name": "rag", "template": CHATML}]
    run = check(tmp_path, None, chat_template=named)
    assert seen(run, "TPL02") == ["block", "ok", "ok"]
    assert found(run, "TPL01").claim == "The model has 2 chat templates: rag, tool_use."


def test_tpl02_assistant_first_is_refused(tmp_path: Path) -> None:
    body = "{% if messages[0].role == 'assistant' %}{{ raise_exception('user first') }}{% endif %}"
    run = check(tmp_path, chatml(body))
    assert seen(run, "TPL02") == ["ok", "note"]


def test_tpl02_everything_renders(tmp_path: Path) -> None:
    assert seen(check(tmp_path, CHATML), "TPL02") == ["ok"]


def test_tpl03_system_is_refused(tmp_path: Path) -> None:
    body = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    run = check(tmp_path, chatml(body))
    assert found(run, "TPL03").severity is Severity.NOTE
    assert '("no system")' in found(run, "TPL03").claim
    assert seen(run, "TPL04") == []
    assert facts(run)["template_roles"] == "user, assistant"


def test_tpl03_system_is_accepted(tmp_path: Path) -> None:
    assert found(check(tmp_path, CHATML), "TPL03").severity is Severity.OK


def test_tpl04_system_is_lost(tmp_path: Path) -> None:
    turn = "{% if m.role != 'system' %}" + TURN + "{% endif %}"
    assert found(check(tmp_path, chatml(turn=turn)), "TPL04").severity is Severity.WARN


def test_tpl04_system_goes_into_the_last_turn(tmp_path: Path) -> None:
    """Mistral's way."""
    turn = (
        "{% if m.role != 'system' %}<|im_start|>{{ m.role }}\n"
        "{% if loop.last and messages[0].role == 'system' %}{{ messages[0].content }}\n{% endif %}"
        "{{ m.content }}<|im_end|>\n{% endif %}"
    )
    finding = found(check(tmp_path, chatml(turn=turn)), "TPL04")
    assert finding.severity is Severity.NOTE
    assert "last user turn" in finding.claim


def test_tpl04_system_is_there(tmp_path: Path) -> None:
    assert found(check(tmp_path, CHATML), "TPL04").severity is Severity.OK


def test_tpl05_defaults_double_it(tmp_path: Path) -> None:
    finding = found(check(tmp_path, CHATML), "TPL05")
    assert finding.severity is Severity.NOTE
    assert "2 BOS tokens, 26 ids against 25" in finding.claim


def test_tpl05_the_template_writes_two(tmp_path: Path) -> None:
    assert found(check(tmp_path, chatml("{{ bos_token }}")), "TPL05").severity is Severity.WARN


def test_tpl05_no_bos(tmp_path: Path) -> None:
    run = ran(TEMPLATE, save(tmp_path, byte_level(), template=CHATML.removeprefix("{{ bos_token }}"), bos_token=None))
    assert found(run, "TPL05").severity is Severity.OK
    assert facts(run)["adds_bos_in_template"] is False


def test_tpl06_two_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tokenizer class of its own can tokenize chats its own way."""
    from transformers import PreTrainedTokenizerFast

    plain = PreTrainedTokenizerFast.apply_chat_template

    def doubled(self: Any, *args: Any, tokenize: bool = True, **options: Any) -> Any:
        made = plain(self, *args, tokenize=tokenize, **options)
        return {"input_ids": [256, *made["input_ids"]]} if tokenize else made

    monkeypatch.setattr(PreTrainedTokenizerFast, "apply_chat_template", doubled)
    run = check(tmp_path, CHATML)
    assert found(run, "TPL06").severity is Severity.WARN
    assert "26 ids and encoding its text 25: they part at position 1" in found(run, "TPL06").claim
    assert found(run, "TPL05").severity is Severity.WARN


def test_tpl06_one_path(tmp_path: Path) -> None:
    assert found(check(tmp_path, CHATML), "TPL06").severity is Severity.OK


def test_tpl07_the_question_changes(tmp_path: Path) -> None:
    assert found(check(tmp_path, chatml("{{ messages | length }} turns\n")), "TPL07").severity is Severity.WARN


def test_tpl07_a_thinking_template_rewrites_the_answer(tmp_path: Path) -> None:
    """Qwen3's way: an empty thought stands in the last answer alone."""
    turn = TURN.replace(
        "{{ m.content }}", "{% if loop.last and m.role == 'assistant' %}<think>\n\n</think>\n{% endif %}{{ m.content }}"
    )
    finding = found(check(tmp_path, chatml(turn=turn)), "TPL07")
    assert finding.severity is Severity.NOTE
    assert "single turn" in finding.claim


def test_tpl07_a_prompt_opens_a_thought(tmp_path: Path) -> None:
    """DeepSeek-R1's way: the generation prompt opens a thought that finished chats do not have."""
    prompt = PROMPT.replace("assistant\n", "assistant\n<think>\n")
    finding = found(check(tmp_path, chatml(prompt=prompt)), "TPL07")
    assert finding.severity is Severity.NOTE
    assert "generation prompt" in finding.claim


def test_tpl07_turns_only_add(tmp_path: Path) -> None:
    assert found(check(tmp_path, CHATML), "TPL07").severity is Severity.OK


def test_tpl08_the_end_is_no_stop(tmp_path: Path) -> None:
    run = check(tmp_path, CHATML, eos_token="<pad>", config={"eos_token_id": 259}, generation={"eos_token_id": 259})
    assert found(run, "TPL08").severity is Severity.WARN
    assert "<|im_end|> (258)" in found(run, "TPL08").claim
    assert found(run, "CFG09").severity is Severity.WARN


def test_tpl08_nothing_closes_the_turn(tmp_path: Path) -> None:
    run = check(tmp_path, "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    assert found(run, "TPL08").severity is Severity.WARN
    assert facts(run)["turn_end"] is None


def test_tpl08_the_next_role_closes_it(tmp_path: Path) -> None:
    """GLM's way: the mark of the next turn is the stop."""
    template = "{{ bos_token }}{% for m in messages %}<|im_end|>{{ m.role }}\n{{ m.content }}{% endfor %}"
    assert found(check(tmp_path, template), "TPL08").severity is Severity.OK


def test_tpl08_the_end_is_a_stop(tmp_path: Path) -> None:
    assert found(check(tmp_path, CHATML), "TPL08").severity is Severity.OK


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("{{ ''.__class__.__mro__ }}", "tries to leave the sandbox"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "its bound of CPU time"),
        ("{{ 'a' * 10**10 }}", "its bound of memory"),
        ("{% for i in range(90000) %}aaaaaaaaaa{% endfor %}", "its bound of output"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recurs without end"),
    ],
)
def test_tpl09_hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, what: str) -> None:
    monkeypatch.setattr(templating, "LIMITS", Limits(cpu_s=1))
    run = check(tmp_path, chatml(body))
    assert found(run, "TPL09").severity is Severity.BLOCK
    assert what in found(run, "TPL09").claim
    assert {f.code for f in run.findings} == {"TPL01", "TPL09", "CFG09"}


def test_tpl09_hostile_for_one_chat_in_a_template_nobody_asked_for(tmp_path: Path) -> None:
    body = "{% if messages[0].role == 'system' %}{{ ''.__class__.__mro__ }}{% endif %}"
    finding = found(check(tmp_path, CHATML, templates={"rag": chatml(body)}), "TPL09")
    assert finding.severity is Severity.BLOCK
    assert "rag: system, question" in finding.claim


def test_tpl09_tame(tmp_path: Path) -> None:
    assert found(check(tmp_path, CHATML), "TPL09").severity is Severity.OK


def test_tpl10_reads_the_clock(tmp_path: Path) -> None:
    run = check(tmp_path, chatml("Today is {{ strftime_now('%d %b %Y') }}."))
    assert found(run, "TPL10").severity is Severity.NOTE
    assert "26 Jul 2024" in str(found(run, "TPL10").evidence[0].observed)
    assert facts(run)["template_reads_clock"] is True


def test_tpl10_a_fixed_date(tmp_path: Path) -> None:
    assert found(check(tmp_path, chatml("Today is 26 Jul 2024.")), "TPL10").severity is Severity.OK


def test_tok02_the_template_reaches_past_the_rows(tmp_path: Path) -> None:
    core = byte_level([*SPECIALS, "<|doc|>"], front=["<s>"])
    finding = found(ran(TEMPLATE, save(tmp_path, core, template=chatml("<|doc|>"))), "TOK02")
    assert finding.severity is Severity.BLOCK
    assert "<|doc|> (260)" in finding.claim


def test_tok02_the_repositorys_own_class_would_not(tmp_path: Path) -> None:
    """internlm2_5: its own class puts the chat marks on rows that are there, transformers' behind the last."""
    core = byte_level([*SPECIALS, "<|doc|>"], front=["<s>"])
    folder = save(tmp_path, core, template=chatml("<|doc|>"))
    path = folder / "tokenizer_config.json"
    own = {"added_tokens_decoder": {"255": {"content": "<|doc|>", "special": True}}}
    path.write_text(json.dumps(json.loads(path.read_text()) | own))
    finding = found(ran(TEMPLATE, folder), "TOK02")
    assert finding.severity is Severity.WARN
    assert "declares id 255" in finding.claim


def test_tok02_every_chat_stays_inside(tmp_path: Path) -> None:
    assert found(check(tmp_path, CHATML), "TOK02").severity is Severity.OK


@pytest.mark.parametrize(
    ("changes", "severity"),
    [
        ({}, "ok"),
        ({"generation": {}}, "ok"),
        ({"generation": {"eos_token_id": [END, 256]}}, "note"),
        ({"config": {"eos_token_id": 256}}, "note"),
        ({"config": {"eos_token_id": 256}, "generation": {}}, "warn"),
        ({"generation": {"eos_token_id": 256}}, "warn"),
        ({"generation": {"eos_token_id": None}}, "warn"),
        ({"eos_token": "<pad>"}, "warn"),
        ({"template": None, "eos_token": None, "config": {"eos_token_id": None}, "generation": {}}, "warn"),
    ],
)
def test_cfg09_where_generation_stops(tmp_path: Path, changes: dict[str, Any], severity: str) -> None:
    assert seen(ran(TEMPLATE, save(tmp_path, **changes)), "CFG09") == [severity]


def test_cfg09_names_what_is_missed(tmp_path: Path) -> None:
    claim = found(check(tmp_path, CHATML, generation={"eos_token_id": 256}), "CFG09").claim
    assert claim == "Generation stops at 256, by generation_config.json, and not at the tokenizer's EOS, 258."


def test_cfg09_a_generation_config_that_cannot_be_read(tmp_path: Path) -> None:
    folder = save(tmp_path)
    (folder / "generation_config.json").write_text("[[[")
    run = ran(TEMPLATE, folder)
    assert seen(run, "CFG09") == ["warn", "ok"]
    unread, same = (f.claim for f in run.findings if f.code == "CFG09")
    assert unread.startswith("generation_config.json cannot be read, and generation goes by config.json alone")
    assert same.startswith("Config and tokenizer name the same stop")
