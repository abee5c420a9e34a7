"""`rollback`: back to the revision that ran before."""

from __future__ import annotations

from argparse import Namespace

from reconciler.cli.answers import play_json, tell
from reconciler.cli.options import Options
from reconciler.cli.session import Session


def run(arguments: Namespace, options: Options, session: Session) -> int:
    args = {"service": arguments.service, "reason": arguments.reason}
    events = session.request("rollback", args)
    return play_json(events) if options.is_json else tell(events)
