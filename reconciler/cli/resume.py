"""`resume`: a paused or suspended rollout goes on."""

from __future__ import annotations

from argparse import Namespace

from reconciler.cli.answers import play_json, tell
from reconciler.cli.options import Options
from reconciler.cli.session import Session


def run(arguments: Namespace, options: Options, session: Session) -> int:
    args = {"service": arguments.service}
    events = session.request("resume", args)
    return play_json(events) if options.is_json else tell(events)
