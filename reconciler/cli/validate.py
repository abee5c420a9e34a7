"""`validate`: five checks, each with a clear pass or fail; the first two need no Docker."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from reconciler.cli import checks
from reconciler.cli.answers import conclude, play, say_json, show_line
from reconciler.cli.options import Options
from reconciler.cli.session import Session

NAMES = (
    "manifest exists and is valid YAML",
    "required fields present and values valid",
    "image exists",
    "port is free",
    "nginx configuration",
)


def run(arguments: Namespace, options: Options, session: Session) -> int:
    found: list[checks.Check] = []

    def add(check: checks.Check) -> None:
        found.append(check)
        if not options.is_json:
            checks.show(check, f"{len(found)} ", unsure="SKIP")

    def hear(event: Any) -> None:
        if event["event"] == "check":
            add(checks.of_event(event))
        elif not options.is_json:
            show_line(event)

    args = {"manifest_only": arguments.manifest_only}
    request = session.request_here if arguments.manifest_only else session.request
    end = play(request("validate", args), hear)
    for name in NAMES[len(found) : 2 if arguments.manifest_only else 5]:
        add(checks.Check(name, None, "not looked at, for what is wrong above"))
    if options.is_json:
        say_json(checks.as_json(found))
        return int(end["exit"])
    return conclude(end)
