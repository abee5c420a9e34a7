"""`promote`: another mode, by way of the manifest and of policy."""

from __future__ import annotations

from argparse import Namespace

from reconciler.cli.answers import conclude, play, play_json, show_line
from reconciler.cli.options import Options, UsageError
from reconciler.cli.session import Session


def run(arguments: Namespace, options: Options, session: Session) -> int:
    if arguments.force and arguments.reason is None:
        raise UsageError("--force needs --reason TEXT: a promotion against policy is recorded with its reason.")
    asked = {"mode": arguments.mode or "stable", "service": arguments.service, "reason": arguments.reason}
    events = session.request("promote", {**asked, "force": arguments.force})
    return play_json(events) if options.is_json else conclude(play(events, show_line))
