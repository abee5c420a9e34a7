"""`history`: the records of `history.jsonl`, one line each, read from the file itself."""

from __future__ import annotations

import json
import shutil
import sys
from argparse import Namespace
from collections.abc import Iterator
from datetime import UTC, datetime
from time import sleep
from typing import TYPE_CHECKING, Any

from reconciler.adapters.clock import now
from reconciler.cli.history_view import record_line
from reconciler.cli.options import Options
from reconciler.cli.session import Session
from reconciler.cli.terminal import Paint, note, say, wants_colour

if TYPE_CHECKING:
    from reconciler.adapters.history_file import HistoryReader
    from reconciler.core.desired import Json

DEFAULT_LINES = 20
LOOK_EVERY_S = 0.25


def run(arguments: Namespace, options: Options, session: Session) -> int:
    from reconciler.adapters.history_file import HistoryReader

    reader = HistoryReader(options.state_dir)
    paint = Paint(wants_colour())
    lines = DEFAULT_LINES if arguments.lines is None else arguments.lines
    if not options.state_dir.is_dir():
        note(f"There is no history: {options.state_dir} does not exist.")
        return 1
    seq = 0
    for record in _past(reader, lines, since_text(arguments.since)):
        seq = _sequence(record, seq)
        _show(record, options, paint)
    if not seq and not arguments.follow:
        note(f"There is no history in {options.state_dir} yet.")
    if arguments.follow:
        _follow(reader, seq, options, paint)
    return 0


def _past(reader: HistoryReader, lines: int, since: str) -> Iterator[dict[str, Json]]:
    """What there is, oldest first: the last `lines` (0: all) of the records since `since` (empty: ever)."""
    if not since and lines:
        return iter(reader.tail(lines))
    wanted = (record for record in reader.read() if str(record.get("timestamp", "")) >= since)
    if not lines:
        return wanted
    from collections import deque

    return iter(deque(wanted, maxlen=lines))


def _follow(reader: HistoryReader, seq: int, options: Options, paint: Paint) -> None:
    from reconciler.adapters.history_file import Position

    position = Position(seq=seq)
    while True:
        for record, reached in reader.follow(position):
            position = reached
            _show(record, options, paint)
        sleep(LOOK_EVERY_S)


def since_text(moment: object) -> str:
    """A moment, or so many seconds before now, as records spell it."""
    if isinstance(moment, int):
        return datetime.fromtimestamp(max(0.0, now() - moment), UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return str(moment or "")


def _sequence(record: Any, before: int) -> int:
    seq = record.get("seq")
    return seq if isinstance(seq, int) else before


def _show(record: dict[str, Json], options: Options, paint: Paint) -> None:
    cells = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    say(json.dumps(record) if options.is_json else record_line(record, paint, cells))
