"""`validate`: five checks, each with a clear pass or fail; the first two need no Docker."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from reconciler.cli import checks
from reconciler.cli.answers import conclude, play, say_json
from reconciler.cli.options import Options
from reconciler.cli.session import Session


def run(arguments: Namespace, options: Options, session: Session) -> int:
    found: list[checks.Check] = []

    def show(event: Any) -> None:
        if event["event"] != "check":
            return
        found.append(checks.of_event(event))
        if not options.is_json:
            checks.show(found[-1], f"{len(found)} ", unsure="SKIP")

    end = play(session.request("validate", {"manifest_only": arguments.manifest_only}), show)
    if options.is_json:
        say_json(checks.as_json(found))
        return int(end["exit"])
    return conclude(end)
