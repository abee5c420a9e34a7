"""How the program speaks: structured log lines, and one escaper for whatever others wrote.

An event is `noun.past_participle` and holds no data; data goes in fields. A terminal gets readable lines, a pipe
or journald JSON. Importing this module costs next to nothing: structlog
is loaded by `configure`.
"""

from __future__ import annotations

import json as json_format
import os
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, ClassVar, TextIO

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def visible(text: str, keep: str = "") -> str:
    r"""`text` with everything that could steer a terminal spelled out: `\x1b`, `\u202e`, `\n`.

    That is what Unicode does not call printable: control characters, bidirectional and zero-width marks, line
    separators, lone surrogates. Characters in `keep` (a newline, where a text may have lines) stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _spelled(c) for c in text)


_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def _spelled(character: str) -> str:
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def configure(json: bool | None = None, level: str = "info", stream: TextIO | None = None) -> None:
    """From now on `structlog.get_logger()` writes to `stream` (standard error); `json` None: unless it is a terminal.

    Warnings of libraries that use the standard library's logging come out as `library.warned`.
    """
    import structlog

    out = _Careful(stream or sys.stderr)
    readable = out.isatty() if json is None else not json
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
            structlog.processors.format_exc_info,
            _Readable(colour=out.isatty()) if readable else _as_json,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: _Lines(out),
        cache_logger_on_first_use=False,
    )
    _hear_libraries(max(LEVELS[level], LEVELS["warning"]))


class _Careful:
    """A stream that nobody may be reading any more, or whose disk is full: what cannot be written is lost.

    A daemon outlives whoever reads its log; everything that matters is in its history.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def isatty(self) -> bool:
        """Whether a person is looking."""
        return self._stream.isatty()

    def write(self, text: str) -> None:
        """Written, or lost. Straight to the descriptor where there is one: a signal's handler may write, too."""
        with suppress(OSError, ValueError):
            try:
                descriptor = self._stream.fileno()
            except OSError:  # a stream in memory
                self._stream.write(text)
                return
            left = text.encode("utf-8", "backslashreplace")
            while left:
                left = left[os.write(descriptor, left) :]


class _Lines:
    """A logger for structlog without a lock: whoever holds one when a signal comes would wait for itself."""

    def __init__(self, out: _Careful) -> None:
        self._out = out

    def msg(self, message: str) -> None:
        """One line."""
        self._out.write(f"{message}\n")

    log = debug = info = warn = warning = error = err = critical = fatal = failure = exception = msg


def _as_json(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> str:
    """One line of ASCII: a newline or an escape sequence in a field cannot make another line of it."""
    first = {"timestamp": fields.pop("timestamp", ""), "level": fields.pop("level", ""), "event": fields.pop("event")}
    return json_format.dumps({**first, **fields}, default=repr)


class _Readable:
    """`12:00:01 info  action.applied  target=app-blue-1 outcome=ok`"""

    _COLOURS: ClassVar = {"debug": "\x1b[2m", "warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m"}

    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def __call__(self, _logger: Any, _method: str, fields: MutableMapping[str, Any]) -> str:
        moment = str(fields.pop("timestamp", ""))[11:19]
        level = str(fields.pop("level", ""))
        trace = str(fields.pop("exception", ""))
        event = visible(str(fields.pop("event")))
        data = " ".join(f"{name}={_value(value)}" for name, value in fields.items())
        line = f"{moment} {level:<7} {event:<24} {data}".rstrip()
        if self._colour and level in self._COLOURS:
            line = f"{self._COLOURS[level]}{line}\x1b[0m"
        return f"{line}\n{visible(trace, keep=chr(10))}" if trace else line


def _value(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return visible(text) if text and " " not in text else f'"{visible(text)}"'


def _hear_libraries(level: int) -> None:
    """What libraries log with the standard library comes out like our own."""
    import logging

    import structlog

    class Relay(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            fields = {"library": record.name, "message": record.getMessage(), "exc_info": record.exc_info}
            structlog.get_logger().log(record.levelno, "library.warned", **fields)

    logging.basicConfig(handlers=[Relay()], level=level, force=True)
