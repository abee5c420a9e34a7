"""The command line of `reconcilerd`."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from dataclasses import fields
from typing import NoReturn

from reconciler import __version__, log
from reconciler.adapters.heartbeat import HANG_S
from reconciler.cli.options import UsageError
from reconciler.formats.daemon_config import CONFIG_FILE, Flags

METRICS_PORT = 9469
EXIT_CODES = """\
exit codes:
  0   ended by SIGTERM or SIGINT
  1   it cannot start, or not go on; its log says why
  3   another daemon has this state directory
  64  wrong usage
  70  its loop hung (--hang-limit)

SIGHUP: look again now, and read the daemon's own file again; docs/config.md
says which of its keys need a restart."""


def daemon_options(words: Sequence[str] | None = None) -> Namespace:
    """What was said, by default to this process. Raises UsageError, or SystemExit(0) once help is printed."""
    parser = _Parser(
        prog="reconcilerd",
        description="Follows a manifest: keeps what runs as it asks, and records every cycle.",
        epilog=EXIT_CODES,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", metavar="FILE", help=f"the daemon's own file (default: {CONFIG_FILE}, where it is there)"
    )
    parser.add_argument("--manifest", "--file", help="the manifest to follow (default: manifest.yaml)")
    parser.add_argument("--git", metavar="URL", help="follow the manifest in this repository instead of a file")
    parser.add_argument("--branch", help="the branch to follow there (default: main)")
    parser.add_argument("--path", help="where the manifest is in the repository (default: manifest.yaml)")
    parser.add_argument("--state-dir", help="where everything is kept (default: $STATE_DIRECTORY, else ./state)")
    parser.add_argument(
        "--metrics-port", type=_port, help=f"own metrics on 127.0.0.1; 0 is none (default: {METRICS_PORT})"
    )
    parser.add_argument("--group", help="members of this group may use reconcilerctl")
    parser.add_argument(
        "--hang-limit",
        type=_seconds,
        metavar="SECONDS",
        help=f"end when the loop hangs for so long, to be started again (default: {HANG_S:g} under systemd's watchdog, "
        "else never)",
    )
    parser.add_argument("--log-level", choices=sorted(log.LEVELS))
    parser.add_argument("--log-json", action="store_true", default=None, help="JSON lines even on a terminal")
    parser.add_argument("--version", action="version", version=f"reconcilerd {__version__}")
    return parser.parse_args(words)


def daemon_flags(options: Namespace) -> Flags:
    """Those of the options that stand for keys of the daemon's file."""
    return Flags(**{each.name: getattr(options, each.name) for each in fields(Flags)})


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}.")


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) > 65535:
        raise ArgumentTypeError(f"{text[:40]!r} is no port from 1 to 65535, and not 0")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise ArgumentTypeError(f"{text[:40]!r} is not a number of seconds above 0")
    return seconds
