"""The first lines of a run: while the command line itself is imported, an interruption ends the process at once.

Nothing was begun yet, so nothing stands; what Python does by itself is a traceback, and often an exit by the signal.
"""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Entry point: as `wirecheck.cli.main`, which sets its own handlers."""
    own = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in own.items():
        if handler in (signal.default_int_handler, signal.SIG_DFL):
            signal.signal(number, _end)
    from wirecheck import cli

    for number, handler in own.items():
        signal.signal(number, handler)
    cli.main()


def _end(number: int, _frame: object) -> None:
    os.write(2, b"error: interrupted\n")
    os._exit(128 + number)


if __name__ == "__main__":
    main()
