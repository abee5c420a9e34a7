"""`suspend`: nothing is changed for now."""

from __future__ import annotations

from argparse import Namespace

from reconciler.cli.answers import play_json, tell
from reconciler.cli.options import Options
from reconciler.cli.session import Session


def run(arguments: Namespace, options: Options, session: Session) -> int:
    args = {"reason": arguments.reason, "for_s": arguments.span, "heal": arguments.heal}
    events = session.request("suspend", args)
    return play_json(events) if options.is_json else tell(events)
