"""Rendering strangers' templates: transformers' own behaviour, inside bounds that hold."""

from __future__ import annotations

import contextlib
import os
import signal
from datetime import datetime
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from tests.tokenizer_factory import CHATML, byte_level
from wirecheck.errors import CannotRun
from wirecheck.templating import Chat, Hostile, Limits, Refused, Rendered, render

HI = Chat(name="hi", turns=(("user", "Hi"),), tokenize=True)
SMALL = Limits(cpu_s=1, wall_s=30.0)
LOOP = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


@cache
def tokenizer(template: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    core = byte_level(front=["<s>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="<|im_end|>", chat_template=template
    )


def one(template: str, limits: Limits = SMALL) -> Any:
    """What comes of one short chat."""
    return render(tokenizer(template), [HI], limits)["hi"]


def test_it_is_what_apply_chat_template_gives() -> None:
    chat = Chat(name="x", turns=(("user", "Grüße"), ("assistant", "🙂")), add_generation_prompt=True, tokenize=True)
    outcome = render(tokenizer(CHATML), [chat])["x"]
    messages = [{"role": role, "content": content} for role, content in chat.turns]
    expected = tokenizer(CHATML).apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert outcome == Rendered(
        "<s><|im_start|>user\nGrüße<|im_end|>\n<|im_start|>assistant\n🙂<|im_end|>\n<|im_start|>assistant\n",
        tuple(expected),
    )


def test_every_chat_has_its_outcome_in_order() -> None:
    template = "{% if messages[0].content == 'no' %}{{ raise_exception('No!') }}{% endif %}{{ messages[0].content }}"
    chats = [Chat(name=text, turns=(("user", text),)) for text in ("yes", "no", "maybe")]
    outcomes = render(tokenizer(template), chats)
    assert list(outcomes.items()) == [
        ("yes", Rendered("yes")),
        ("no", Refused("TemplateError", "No!", 1)),
        ("maybe", Rendered("maybe")),
    ]


def test_an_error_has_the_line_of_the_template() -> None:
    assert one("one\ntwo\n{{ messages[0].foo.bar }}") == Refused(
        "UndefinedError", "'dict object' has no attribute 'foo'", 3
    )
    assert one("one\n{% for %}").line == 2


def test_an_error_has_no_address_in_memory() -> None:
    assert one("{{ raise_exception('<thing at 0x7f00deadbeef>') }}").message == "<thing at 0x…>"


def test_half_a_surrogate_pair_is_no_text() -> None:
    assert one("{{ '\\ud800' }}").type == "UnicodeEncodeError"


def test_what_a_template_draws_is_the_same_on_every_run() -> None:
    template = "{{ range(1000000) | random }} {{ range(1000000) | random }}"
    assert one(template) == one(template)


def test_the_clock_is_the_chats() -> None:
    template = tokenizer("{{ strftime_now('%Y-%m-%d %H:%M:%S') }}")
    turns = (("user", "Hi"),)
    eve = datetime(1999, 12, 31, 23, 59, 58)  # noqa: DTZ001  # a template sees local time
    chats = [Chat(name="a", turns=turns, now=eve), Chat(name="b", turns=turns)]
    assert [o.text for o in render(template, chats).values()] == ["1999-12-31 23:59:58", "2024-07-26 12:00:00"]


@pytest.mark.parametrize(
    ("template", "bound"),
    [
        ("{{ ''.__class__.__mro__ }}", "sandbox"),
        ("{{ raise_exception.__globals__['os'] }}", "sandbox"),
        ("{{ messages.append(1) }}", "sandbox"),
        (LOOP, "CPU time"),
        ("{{ 'a' * 10**10 }}", "memory"),
        ("{{ '%2000000000d' % 3 }}", "memory"),
        ("{% for i in range(10**9) %}a{% endfor %}", "size"),
        ("{{ 'a' * 10**30 }}", "size"),
        ("{% for i in range(90000) %}aaaaaaaaaa{% endfor %}", "output"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
        ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "recursion"),
    ],
)
def test_a_hostile_template_breaks_a_bound(template: str, bound: str) -> None:
    # On a busy machine pages are slow to come: what asks for memory is given the time to ask for it.
    outcome = one(template, Limits(cpu_s=30)) if bound == "memory" else one(template)
    assert isinstance(outcome, Hostile), outcome
    assert outcome.bound == bound


def test_output_without_end_is_bounded() -> None:
    inner = "{% for j in range(99999) %}" + "a" * 99 + "{% endfor %}"
    outcome = one("{% for i in range(99999) %}" + inner + "{% endfor %}", Limits(cpu_s=30, memory_bytes=64 * 1024**2))
    assert outcome == Hostile("memory", "more than 64 MiB")


def test_chats_behind_a_killed_one_are_absent() -> None:
    template = "{% if messages[0].content == 'loop' %}" + LOOP + "{% endif %}ok"
    chats = [Chat(name=text, turns=(("user", text),)) for text in ("fine", "loop", "never")]
    outcomes = render(tokenizer(template), chats, SMALL)
    assert list(outcomes.items()) == [
        ("fine", Rendered("ok")),
        ("loop", Hostile("CPU time", "still running after 1 s of CPU time")),
    ]


class Sleeper:
    """A tokenizer whose renderer does what a test asks."""

    def __init__(self, act: Any) -> None:
        self.apply_chat_template = act


def test_the_wall_clock_bounds_what_uses_no_cpu() -> None:
    import time

    with pytest.raises(CannotRun, match="too busy to tell"):
        render(Sleeper(lambda *_, **__: time.sleep(600)), [HI], Limits(wall_s=0.2))  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_ended_from_outside_tells_nothing_of_the_template(number: signal.Signals) -> None:
    with pytest.raises(CannotRun, match=f"ended from outside, by {number.name}"):
        render(Sleeper(lambda *_, **__: os.kill(os.getpid(), number)), [HI], SMALL)  # type: ignore[arg-type]


def test_what_was_hostile_before_the_child_was_ended_stands() -> None:
    def act(messages: Any, **_: Any) -> str:
        if messages[0]["content"] == "first":
            raise MemoryError
        os.kill(os.getpid(), signal.SIGKILL)
        return "text"

    chats = [Chat(name=text, turns=(("user", text),)) for text in ("first", "second")]
    outcomes = render(Sleeper(act), chats, Limits(memory_bytes=64 * 1024**2))  # type: ignore[arg-type]
    assert outcomes == {"first": Hostile("memory", "more than 64 MiB")}


def test_a_fault_of_the_child_itself_tells_nothing_of_the_template() -> None:
    def leave(*_: Any, **__: Any) -> str:
        raise SystemExit

    with pytest.raises(CannotRun, match="exit status 1"):
        render(Sleeper(leave), [HI], SMALL)  # type: ignore[arg-type]


def test_the_death_of_the_child_is_a_result() -> None:
    outcomes = render(Sleeper(lambda *_, **__: os.abort()), [HI], SMALL)  # type: ignore[arg-type]
    assert outcomes == {"hi": Hostile("death", "the rendering process died")}


def test_a_child_that_writes_nonsense_is_no_answer() -> None:
    def scribble(*_: Any, **__: Any) -> str:
        for descriptor in range(3, 256):
            with contextlib.suppress(OSError):
                os.write(descriptor, b'{"kind": "Rendered"}\n')
        return "text"

    outcomes = render(Sleeper(scribble), [HI], SMALL)  # type: ignore[arg-type]
    assert outcomes == {"hi": Hostile("death", "the rendering process died")}


def test_the_child_holds_no_file_of_the_parents(tmp_path: Path) -> None:
    with (tmp_path / "open").open("wb", buffering=0) as held:

        def write(*_: Any, **__: Any) -> str:
            os.write(held.fileno(), b"escaped")
            return "text"

        outcome = render(Sleeper(write), [Chat(name="hi", turns=())], SMALL)["hi"]  # type: ignore[arg-type]
    assert isinstance(outcome, Refused)
    assert outcome.type == "OSError"
    assert (tmp_path / "open").read_bytes() == b""


def test_it_works_after_the_parent_used_the_librarys_threads(capfd: pytest.CaptureFixture[str]) -> None:
    tokenizer(CHATML)(["some words"] * 500)
    assert isinstance(render(tokenizer(CHATML), [HI])["hi"], Rendered)
    assert capfd.readouterr().err == ""


def test_the_environment_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    one(CHATML)
    assert os.environ["TOKENIZERS_PARALLELISM"] == "true"
    monkeypatch.delenv("TOKENIZERS_PARALLELISM")
    one(CHATML)
    assert "TOKENIZERS_PARALLELISM" not in os.environ


def test_no_child_and_no_descriptor_is_left() -> None:
    def held() -> tuple[int, set[int]]:
        children = {child.pid for child in psutil.Process().children()}  # a worker may have some of its own by now
        return len(list(Path("/dev/fd").iterdir())), children

    before = held()
    one(CHATML)
    one(LOOP)
    assert held() == before


def test_a_platform_without_fork_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wirecheck.templating.os", SimpleNamespace())
    with pytest.raises(CannotRun, match="does not have"):
        one(CHATML)
