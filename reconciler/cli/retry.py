"""`retry`: what was rolled back, dismissed or halted is tried once more."""

from __future__ import annotations

from argparse import Namespace

from reconciler.cli.answers import conclude, play, play_json, show_line
from reconciler.cli.options import Options, UsageError
from reconciler.cli.session import Session


def run(arguments: Namespace, options: Options, session: Session) -> int:
    if arguments.reason is None:
        raise UsageError("retry needs --reason TEXT: it lets a revision run again that was found bad.")
    events = session.request("retry", {"service": arguments.service, "reason": arguments.reason})
    return play_json(events) if options.is_json else conclude(play(events, show_line))
