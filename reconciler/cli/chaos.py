"""`chaos`: a canary that fails on purpose, to see whether anybody notices."""

from __future__ import annotations

from argparse import Namespace

from reconciler.cli.answers import play_json, tell
from reconciler.cli.options import Options, UsageError
from reconciler.cli.session import Session
from reconciler.core.desired import Json

NEEDS = {"slow": "duration", "error": "rate"}
EXAMPLES = {"slow": "chaos slow --duration 3", "error": "chaos error --rate 0.5", "recover": "chaos recover"}


def run(arguments: Namespace, options: Options, session: Session) -> int:
    events = session.request("chaos", _asked(arguments))
    return play_json(events) if options.is_json else tell(events)


def _asked(arguments: Namespace) -> dict[str, Json]:
    """The request; each kind of chaos takes its own number and no other."""
    asked: dict[str, Json] = {"what": arguments.what, "service": arguments.service}
    given = {"duration": arguments.duration, "rate": arguments.rate}
    needed = NEEDS.get(arguments.what)
    for name, value in given.items():
        if (value is not None) != (name == needed):
            word = "needs" if name == needed else "does not take"
            raise UsageError(f"chaos {arguments.what} {word} --{name}. Like this: `{EXAMPLES[arguments.what]}`.")
    return {**asked, needed: given[needed]} if needed else asked
