"""`why`: why a service is where it is, in words: phase, measurements, evidence, policy, and what happens next."""

from __future__ import annotations

from argparse import Namespace

from reconciler.adapters.clock import now
from reconciler.cli.answers import conclude, say_json, value_of
from reconciler.cli.options import Options
from reconciler.cli.session import Session
from reconciler.cli.terminal import Paint, say, wants_colour
from reconciler.cli.why_view import why_lines


def run(arguments: Namespace, options: Options, session: Session) -> int:
    end = value_of(session.request("why", {"service": arguments.service}))
    value = end.get("value")
    if value is None:
        return conclude(end)
    if options.is_json:
        say_json(value)
    else:
        say("\n".join(why_lines(value, now(), Paint(wants_colour()), options.program)))
    return int(end["exit"])
