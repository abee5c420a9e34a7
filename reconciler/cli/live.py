"""A view that renews itself on a terminal and leaves no trace of itself there.

It lives on the terminal's other screen; each picture is one write over the last one, so nothing flickers. Leaving,
by whatever way, gives back the first screen, the cursor and the keyboard's echo.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from reconciler.cli.terminal import cut_painted, knows_cursor

ENTER = "\x1b[?1049h\x1b[?25l"
LEAVE = "\x1b[?25h\x1b[?1049l"
BEGIN, DONE = "\x1b[?2026h\x1b[H", "\x1b[J\x1b[?2026l"  # drawn at once, where the terminal knows how


def can_show() -> bool:
    """Both ends are a terminal that knows how to move its cursor."""
    return sys.stdin.isatty() and sys.stdout.isatty() and knows_cursor()


def show(picture: Callable[[int, int], list[str]], interval_s: float = 1.0) -> None:
    """Draw `picture(columns, rows)` every `interval_s` until q or Ctrl-C is pressed."""
    with _screen() as wait:
        while True:
            columns, rows = shutil.get_terminal_size()
            lines = picture(columns, rows)
            if len(lines) > rows:
                left_out = f"… {len(lines) - rows + 1} more lines: a taller window, or --once; q leaves"
                lines = [*lines[: rows - 1], left_out]
            _draw(lines, columns)
            if not wait(interval_s):
                return


def _draw(lines: list[str], columns: int) -> None:
    picture = "\r\n".join(f"{cut_painted(line, columns)}\x1b[K" for line in lines)
    sys.stdout.write(f"{BEGIN}{picture}{DONE}")
    sys.stdout.flush()


@contextmanager
def _screen() -> Iterator[Callable[[float], bool]]:
    """The other screen; gives a wait that is False once somebody wants to leave, and early when the size changes."""
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    handlers = {
        signal.SIGWINCH: _nothing,
        signal.SIGTERM: _interrupt,
        signal.SIGHUP: _interrupt,
        signal.SIGTSTP: _nothing,
    }
    old_handlers = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    old_wakeup = signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)

    def wait(seconds: float) -> bool:
        ready, _, _ = select.select([keyboard, woken], [], [], seconds)
        if woken in ready:
            _answer(woken.recv(64), keyboard, before)
        return not (keyboard in ready and os.read(keyboard, 64) in (b"q", b"Q", b"\x1b", b""))

    try:
        _enter(keyboard)
        yield wait
    finally:
        _leave(keyboard, before)
        signal.set_wakeup_fd(old_wakeup)
        for number, old in old_handlers.items():
            signal.signal(number, old)
        woken.close()
        wake.close()


def _answer(signals: bytes, keyboard: int, before: list[Any]) -> None:
    """A size that changed needs no more than another picture; Ctrl-Z gives the terminal back until we go on."""
    if signal.SIGTSTP in signals:
        _leave(keyboard, before)
        os.kill(os.getpid(), signal.SIGSTOP)
        _enter(keyboard)


def _enter(keyboard: int) -> None:
    tty.setcbreak(keyboard)
    sys.stdout.write(ENTER)
    sys.stdout.flush()


def _leave(keyboard: int, before: list[Any]) -> None:
    with suppress(OSError):
        sys.stdout.write(LEAVE)
        sys.stdout.flush()
    with suppress(termios.error):
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """The wake-up descriptor tells; the handler is only there so that it does."""


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
