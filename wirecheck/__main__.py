"""The first and the last lines of a run, in which Python would answer an interruption by a traceback.

While the command line itself is imported, an interruption ends the process at once: nothing was begun yet, so nothing
stands. When all is said and done, it changes nothing any more: the result is there, and the process is about to end.
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

    try:
        for number, handler in own.items():
            signal.signal(number, handler)
        cli.main()
    except KeyboardInterrupt:  # between two handlers
        _end(signal.SIGINT, None)
    finally:
        for number, handler in own.items():
            if handler != signal.SIG_IGN:
                signal.signal(number, _let_end)


def _end(number: int, _frame: object) -> None:
    os.write(2, b"error: interrupted\n")
    os._exit(128 + number)


def _let_end(number: int, _frame: object) -> None:
    """One signal is late; another one ends a process that does not come to its end."""
    signal.signal(number, signal.SIG_DFL)


if __name__ == "__main__":
    main()
