"""A JSON line for each thing worth telling: start, stop, chaos. Requests are counted, not logged."""

import json
import os
from contextlib import suppress
from datetime import UTC, datetime

STANDARD_OUTPUT = 1
FILE_LIMIT_BYTES = 5 * 1024 * 1024


class EventLog:
    """Writes to standard output, and to `events.jsonl` in `log_dir` where that is a folder that can be written to.

    Nothing that goes wrong while telling (disk full, reader gone) ever reaches the caller.
    """

    def __init__(self, log_dir: str) -> None:
        self._path = os.path.join(log_dir, "events.jsonl") if os.access(log_dir, os.W_OK) else None

    def write(self, event: str, **fields: object) -> None:
        line = json.dumps({"timestamp": timestamp(), "event": event, **fields}).encode() + b"\n"
        with suppress(OSError):
            os.write(STANDARD_OUTPUT, line)
        with suppress(OSError):
            self._append(line)

    def _append(self, line: bytes) -> None:
        """One write per line, so that the lines of two containers on one volume do not mix."""
        if self._path is None:
            return
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            os.write(file, line)
            is_full = os.fstat(file).st_size > FILE_LIMIT_BYTES
        finally:
            os.close(file)
        if is_full:
            os.replace(self._path, self._path + ".1")


def timestamp() -> str:
    """Now, UTC, RFC 3339 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
