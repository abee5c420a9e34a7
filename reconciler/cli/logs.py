"""`logs`: what containers print, with everything that could steer the terminal spelled out."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from reconciler.cli.answers import conclude, play, play_json
from reconciler.cli.options import Options
from reconciler.cli.session import Session
from reconciler.cli.terminal import say
from reconciler.log import visible

DEFAULT_TAIL = 100


def run(arguments: Namespace, options: Options, session: Session) -> int:
    tail = DEFAULT_TAIL if arguments.tail is None else arguments.tail
    args = {"service": arguments.service, "tail": tail, "follow": arguments.follow}
    events = session.request("logs", args)
    if options.is_json:
        return play_json(events)

    def show(event: Any) -> None:
        if event["event"] == "line":
            text = str(event.get("text", "")).removesuffix("\n")
            say(text if arguments.raw else visible(text, keep="\t"))

    return conclude(play(events, show))
