"""`status`: what runs, once or live."""

from __future__ import annotations

from argparse import Namespace
from contextlib import suppress
from typing import Any

from reconciler.adapters.clock import now
from reconciler.cli.answers import conclude, say_json, value_of
from reconciler.cli.options import Options
from reconciler.cli.session import Session
from reconciler.cli.status_view import status_lines
from reconciler.cli.terminal import Paint, say, wants_colour
from reconciler.core.errors import ReconcilerError
from reconciler.log import visible

PATIENCE_S = 10.0
LEAVES = "q or Ctrl-C leaves"


def run(arguments: Namespace, options: Options, session: Session) -> int:
    end = _ask(session)
    if end.get("value") is None:
        return conclude(end)
    if options.is_json:
        say_json(end["value"])
        return int(end["exit"])
    paint = Paint(wants_colour())
    if not arguments.once:
        from reconciler.cli import live

        if live.can_show():
            end = _watch(session, end, paint)
    say("\n".join(status_lines(end["value"], now(), paint)))
    return int(end["exit"])


def _ask(session: Session) -> Any:
    return value_of(session.request("status", {}, silence_s=PATIENCE_S))


def _watch(session: Session, first: Any, paint: Paint) -> Any:
    """Show the status until the operator leaves; the last one there was."""
    from reconciler.cli import live

    latest = first
    is_new = True

    def picture(columns: int, rows: int) -> list[str]:
        nonlocal latest, is_new
        trouble = ""
        try:
            answer = latest if is_new else _ask(session)
            is_new = False
            if answer.get("value") is None:
                trouble = str(answer.get("text"))
            else:
                latest = answer
        except ReconcilerError as error:
            trouble = str(error)
        banner = [paint("poor", visible(trouble)), ""] if trouble else []
        room = rows - len(banner) - 2
        return [*banner, *status_lines(latest["value"], now(), paint, columns, room), "", paint.dim(LEAVES)]

    with suppress(KeyboardInterrupt):
        live.show(picture)
    return latest
