"""`init`: the rendered files, and where they are."""

from __future__ import annotations

from argparse import Namespace

from reconciler.cli.answers import conclude, say_json, value_of
from reconciler.cli.options import Options
from reconciler.cli.session import Session
from reconciler.cli.terminal import say, text_of


def run(arguments: Namespace, options: Options, session: Session) -> int:
    end = value_of(session.request("init", {}))
    value = end.get("value")
    if value and options.is_json:
        say_json(value)
        return int(end["exit"])
    if value:
        say(f"Rendered to {text_of(value['directory'])}:")
        for path in value["files"]:
            say(f"  {text_of(path)}")
    return conclude(end)
