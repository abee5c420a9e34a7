"""`diff`: what deploy would do, and which files it would write."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from reconciler.cli.answers import conclude, say_json, value_of
from reconciler.cli.options import Options
from reconciler.cli.session import Session
from reconciler.cli.terminal import Paint, say, text_of, wants_colour
from reconciler.log import visible


def run(arguments: Namespace, options: Options, session: Session) -> int:
    end = value_of(session.request("diff", {"commit": arguments.commit}))
    value = end.get("value")
    if value is not None and options.is_json:
        say_json(value)
        return int(end["exit"])
    if value is not None:
        _show(value)
    return conclude(end)


def _show(value: Any) -> None:
    paint = Paint(wants_colour())
    for step in value["plan"]:
        say(f"{paint.bold(text_of(step['verb']))} {text_of(step['target'])}: {text_of(step['cause'])}")
    for path in sorted(value["files"]):
        say()
        for line in str(value["files"][path]).splitlines():
            say(paint(_meaning(line), visible(line, keep="\t")))


def _meaning(line: str) -> str:
    if line.startswith(("+++", "---")):
        return "bold"
    return {"+": "good", "-": "poor"}.get(line[:1], "")
