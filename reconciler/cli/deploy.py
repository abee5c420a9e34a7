"""`deploy`: six lines, each printed as it becomes true; how it gets there is told on standard error."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from reconciler.cli.answers import conclude, play, play_json, show_line
from reconciler.cli.options import Options
from reconciler.cli.session import Session
from reconciler.cli.terminal import note, say
from reconciler.log import visible

STEPS = {
    "manifest_valid": "Manifest valid",
    "image_found": "Docker image found",
    "config_valid": "Nginx config valid",
    "starting": "Services starting...",
    "healthy": "Health check passed",
    "deployed": "Deployment successful",
}


def run(arguments: Namespace, options: Options, session: Session) -> int:
    args = {
        "allow_interruption": arguments.allow_interruption,
        "timeout_s": arguments.timeout,
        "break_glass": arguments.break_glass,
        "reason": arguments.reason,
    }
    events = session.request("deploy", args)
    if options.is_json:
        return play_json(events)
    told: set[str] = set()

    def show(event: Any) -> None:
        told.add(str(event.get("text") or ""))
        _show(event)

    end = play(events, show)
    if end["exit"] == 0:
        if end["text"] not in ("", STEPS["deployed"]):
            note(visible(end["text"], keep="\n"))
        return 0
    return conclude(end, told)


def _show(event: Any) -> None:
    if event["event"] == "step" and event.get("name") in STEPS:
        say(STEPS[event["name"]])
    elif event["event"] == "line":
        show_line(event)
