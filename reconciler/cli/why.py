"""`why`: why a service is where it is, in words: phase, measurements, evidence, policy, and what happens next."""

from __future__ import annotations

import shlex
from argparse import Namespace

from reconciler.adapters.clock import now
from reconciler.cli.answers import conclude, say_json, value_of
from reconciler.cli.options import Options
from reconciler.cli.session import Session
from reconciler.cli.terminal import Paint, say, wants_colour
from reconciler.cli.why_view import unwatched_lines, why_lines


def run(arguments: Namespace, options: Options, session: Session) -> int:
    end = value_of(session.request("why", {"service": arguments.service}))
    value = end.get("value")
    if value is None:
        return conclude(end)
    if options.is_json:
        say_json(value)
    else:
        paint = Paint(wants_colour())
        lines = why_lines(value, now(), paint, options.program)
        unwatched = unwatched_lines(value, paint, options.program, _daemon(options))
        say("\n".join(lines + unwatched))
    return int(end["exit"])


def _daemon(options: Options) -> str:
    """The command that starts a daemon for what was just looked at."""
    if options.config_file is not None:
        return f"reconcilerd --config {shlex.quote(str(options.config_file))}"
    manifest, state = (shlex.quote(str(path)) for path in (options.manifest, options.state_dir))
    return f"reconcilerd --manifest {manifest} --state-dir {state}"
