"""What the hub's client is kept from: names that lead out of its cache, answers without end, tokens in what is told.

Whoever answers for the hub (HF_ENDPOINT may name a mirror) is not trusted with this machine's files: the client makes
file names of the ETag that it is sent, and writes all that comes.
"""

from __future__ import annotations

import os
import re
from typing import Any

from huggingface_hub import constants, get_session, get_token
from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]  # documented

HIDDEN, SHORTEST = "(the token)", 8
"""What stands for a token, and the length below which it is none: `HF_TOKEN=a` would take every `a` out of a text."""
_USER = re.compile(r"://[^/\s]*@")
"""Name and password in an address."""
_TAGS = ("ETag", "X-Linked-ETag")
_TAG = re.compile(r"(?:W/)?\"?[A-Za-z0-9+=_.:-]+\"?")
_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


class AnswerRefused(ValueError):
    """What the hub answered would be harmful to take."""


def guard() -> None:
    """Have the client's present session refuse answers whose ETag, which names a file of the cache, leads elsewhere."""
    session = get_session()
    after = session.event_hooks.get("response", [])
    if _sound_tags not in after:
        session.event_hooks = {**session.event_hooks, "response": [*after, _sound_tags]}


def _sound_tags(response: Any) -> None:
    if response.request.method != "HEAD":
        return  # of the others the client keeps no name
    for header in _TAGS:
        tag = response.headers.get(header)
        if tag is not None and (".." in tag or not _TAG.fullmatch(tag)):
            raise AnswerRefused(f"the {header} it sent is no name of a file's bytes")


def at_most(size: int) -> type[Any]:
    """A progress bar for a download, which shows nothing and ends it with AnswerRefused after so many bytes."""

    class Bounded(tqdm):
        """Counts what comes."""

        def __init__(self, *given: Any, **named: Any) -> None:
            named["disable"] = True
            super().__init__(*given, **named)  # type: ignore[no-untyped-call]
            self._left = size

        def update(self, n: float | None = 1) -> Any:
            """Told of n more bytes."""
            self._left -= int(n or 0)
            if self._left < 0:
                raise AnswerRefused(f"more than the {size} bytes came that the file may have")
            return super().update(n)

    return Bounded


def told(text: str) -> str:
    """The text without the token that the client sends, and without the password that an address holds."""
    tokens = {get_token(), *(os.environ.get(name) for name in _TOKENS)}
    password = constants.ENDPOINT.partition("://")[2].rpartition("@")[0].partition(":")[2]
    for secret in sorted(
        {part for part in (*tokens, password) if part and len(part) >= SHORTEST}, key=len, reverse=True
    ):
        text = text.replace(secret, HIDDEN)
    return _USER.sub("://", text)
