"""`retry`: what was rolled back, dismissed or halted is tried once more."""

from __future__ import annotations

from argparse import Namespace

from reconciler.cli.answers import play_json, tell
from reconciler.cli.options import Options
from reconciler.cli.session import Session


def run(arguments: Namespace, options: Options, session: Session) -> int:
    events = session.request("retry", {"service": arguments.service, "reason": arguments.reason})
    return play_json(events) if options.is_json else tell(events)
