"""`promote`: another mode, by way of the manifest and of policy."""

from __future__ import annotations

from argparse import Namespace

from reconciler.cli.answers import play_json, tell
from reconciler.cli.options import Options
from reconciler.cli.session import Session


def run(arguments: Namespace, options: Options, session: Session) -> int:
    asked = {"mode": arguments.mode or "stable", "service": arguments.service, "reason": arguments.reason}
    events = session.request("promote", {**asked, "force": arguments.force})
    return play_json(events) if options.is_json else tell(events)
