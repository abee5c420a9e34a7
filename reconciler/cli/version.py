"""`version`."""

from __future__ import annotations

from argparse import Namespace

from reconciler import __version__
from reconciler.cli.answers import say_json
from reconciler.cli.options import Options
from reconciler.cli.session import Session
from reconciler.cli.terminal import say


def run(arguments: Namespace, options: Options, session: Session) -> int:
    if options.is_json:
        say_json({"version": __version__})
    else:
        say(f"{options.program} {__version__}")
    return 0
