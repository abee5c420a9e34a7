"""`sync`: the repository is looked at now."""

from __future__ import annotations

from argparse import Namespace

from reconciler.cli.answers import play_json, tell
from reconciler.cli.options import Options
from reconciler.cli.session import Session

SYNC_PATIENCE_S = 200.0
"""A large repository may take some time, of which nothing is heard."""


def run(arguments: Namespace, options: Options, session: Session) -> int:
    events = session.request("sync", {}, silence_s=SYNC_PATIENCE_S)
    return play_json(events) if options.is_json else tell(events)
