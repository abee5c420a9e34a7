"""`teardown`: everything of ours goes, but the history and (unless asked) what was rendered."""

from __future__ import annotations

from argparse import Namespace

from reconciler.cli.answers import play_json, tell
from reconciler.cli.options import Options
from reconciler.cli.session import Session


def run(arguments: Namespace, options: Options, session: Session) -> int:
    events = session.request("teardown", {"volumes": arguments.volumes, "clean": arguments.clean})
    return play_json(events) if options.is_json else tell(events)
