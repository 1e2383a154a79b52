"""Ctrl-C at the moments where Python, a library or a careless line would lose it, or leave something half-done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

from wirecheck import cli_texts, scratch
from wirecheck.interrupts import holding_interrupts
from wirecheck.scratch import Scratch
from wirecheck.whole_file import Aside, put_whole


def interrupt(*_: object) -> None:
    signal.raise_signal(signal.SIGINT)


class Dropper:
    """Interrupted while it is taken away: Python drops what a finaliser raises."""

    def __del__(self) -> None:
        interrupt()


def dropped(_code: str) -> str:
    Dropper()
    time.sleep(20)
    return "a verdict"


def swallowed(_code: str) -> str:
    with suppress(BaseException):
        interrupt()
    return "a verdict"


def made_another(_code: str) -> str:
    try:
        interrupt()
    except KeyboardInterrupt as error:
        raise ValueError("Error serializing to JSON: KeyboardInterrupt") from error
    return "a verdict"


@pytest.mark.parametrize("how", [dropped, swallowed, made_another])
def test_an_interruption_that_is_lost_on_the_way_is_no_verdict(run, monkeypatch, how):
    monkeypatch.setattr(cli_texts, "explanation", how)
    hook, begun = sys.unraisablehook, time.monotonic()
    code, out, err = run("explain", "TOK06")
    assert (code, err) == (130, "error: interrupted\n")
    assert out == ("a verdict\n" if how is swallowed else "")
    assert time.monotonic() - begun < 10
    assert (sys.unraisablehook, signal.getsignal(signal.SIGINT)) == (hook, signal.default_int_handler)


def test_an_interruption_waits_also_where_an_error_ends_the_work():
    def refused() -> None:
        with holding_interrupts():
            interrupt()
            raise OSError("the disk is full")

    with pytest.raises(KeyboardInterrupt):
        refused()


@pytest.mark.parametrize("moment", ["mkstemp", "replace", "unlink"])
def test_a_file_that_is_being_written_is_ended_first(tmp_path, monkeypatch, moment):
    owner = {"mkstemp": tempfile, "replace": os, "unlink": Path}[moment]
    true = getattr(owner, moment)

    def cut(*words: object, **named: object) -> object:
        done = true(*words, **named)
        interrupt()
        return done

    if moment == "unlink":  # what is left over is taken away
        monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("the disk is full")))
    monkeypatch.setattr(owner, moment, cut)
    with pytest.raises(KeyboardInterrupt):
        put_whole(tmp_path / "r.json", "whole")
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == ({} if moment == "unlink" else {"r.json": "whole"})


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_begun_while_it_is_interrupted_is_taken_away(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    owner, name = (scratch.tempfile, "mkdtemp") if kind == "folder" else (tempfile, "mkstemp")
    true = getattr(owner, name)

    def cut(*words: object, **named: object) -> object:
        interrupt()
        return true(*words, **named)

    monkeypatch.setattr(owner, name, cut)
    with pytest.raises(KeyboardInterrupt):
        Scratch() if kind == "folder" else Aside(tmp_path / "r.json")
    assert list(tmp_path.iterdir()) == []


def ended(code: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", f"import atexit, signal, sys\n{code}"]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_an_interruption_after_the_last_line_changes_nothing():
    done = ended(
        "atexit.register(signal.raise_signal, signal.SIGINT)\n"
        "sys.argv = ['wirecheck', '--version']\n"
        "from wirecheck.__main__ import main\n"
        "main()"
    )
    assert (done.returncode, done.stdout.split()[0], done.stderr) == (0, "wirecheck", "")


@pytest.mark.skipif(os.name != "posix", reason="exit codes of signals")
def test_a_second_one_ends_what_does_not_come_to_its_end():
    done = ended(
        "atexit.register(signal.raise_signal, signal.SIGINT)\n"
        "atexit.register(signal.raise_signal, signal.SIGINT)\n"
        "from wirecheck.__main__ import main\n"
        "sys.argv = ['wirecheck', '--version']\n"
        "main()"
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_an_interruption_between_two_handlers_is_told_in_one_line():
    done = ended(
        "from wirecheck import __main__, cli\ndef main(): raise KeyboardInterrupt\ncli.main = main\n__main__.main()"
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: interrupted\n")
