"""`git accept`: a commit that was refused is let in."""

from __future__ import annotations

from argparse import Namespace

from reconciler.cli.answers import play_json, tell
from reconciler.cli.options import Options
from reconciler.cli.session import Session
from reconciler.cli.sync import SYNC_PATIENCE_S


def run(arguments: Namespace, options: Options, session: Session) -> int:
    args = {"commit": arguments.commit, "reason": arguments.reason}
    events = session.request("accept", args, silence_s=SYNC_PATIENCE_S)
    return play_json(events) if options.is_json else tell(events)
