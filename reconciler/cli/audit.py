"""`audit`: the history as a report for people who were not there, written beside the manifest."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.cli.answers import say_json
from reconciler.cli.history import since_text
from reconciler.cli.options import Options
from reconciler.cli.session import Session
from reconciler.cli.terminal import note, say
from reconciler.log import visible

if TYPE_CHECKING:
    from reconciler.formats.audit import Audit

FILE = "audit_report.md"
LONGEST_LINE = 1 << 20


def run(arguments: Namespace, options: Options, session: Session) -> int:
    from reconciler.formats.audit import audit
    from reconciler.formats.audit_report import as_json, markdown

    if not options.state_dir.is_dir():
        note(f"There is no history: {options.state_dir} does not exist.")
        return 1
    found = audit(history_lines(options.state_dir), since_text(arguments.since))
    if options.is_json and arguments.out is None:
        say_json(as_json(found))
        return 0
    if arguments.out == "-":
        sys.stdout.writelines(markdown(found))
        return 0
    path = Path(os.path.abspath(arguments.out)) if arguments.out else options.manifest.parent / FILE
    try:
        _write(path, markdown(found))
    except OSError as error:
        note(f"Cannot write {visible(str(path))}: {error.strerror}. Name another place with --out.")
        return 1
    if options.is_json:
        say_json(as_json(found))
    else:
        say(f"{visible(str(path))}: {_summary(found)}")
    return 0


def history_lines(directory: Path) -> Iterator[bytes]:
    """The raw lines of all segments, oldest first; one beyond `LONGEST_LINE` comes in pieces."""
    from reconciler.adapters.history_file import HistoryReader

    return HistoryReader(directory).lines(LONGEST_LINE)


def _write(path: Path, lines: Iterable[str]) -> None:
    """The file, whole or as it was; what is no file (a pipe, /dev/stdout) is written to, not replaced."""
    import tempfile

    if path.exists() and not path.is_file():
        with open(path, "w", encoding="utf-8", newline="\n") as place:
            place.writelines(lines)
        return
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(handle, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(lines)
            os.fchmod(handle, 0o644)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def _summary(found: Audit) -> str:
    def of(count: int, what: str) -> str:
        return f"{count:,} {what}{'' if count == 1 else 's'}"

    told = [of(found.records, "record"), of(len(found.timeline), "event"), of(len(found.violations), "violation")]
    odd = [f"{of(found.odd, 'line')} not understood"] if found.odd else []
    broken = ["the chain is broken, see the report"] if found.chain.breaks else []
    return ", ".join([*told, *odd, *broken])
