"""The page for newcomers: what this is, in which order to use it, examples, exit codes."""

from __future__ import annotations

from reconciler import __version__
from reconciler.cli.terminal import Paint, say, wants_colour
from reconciler.cli.verbs import COMMON, VERBS, Option

EXIT_CODES = (
    (0, "done"),
    (1, "error, the message says which"),
    (2, "diff: there are changes"),
    (3, "denied by policy"),
    (4, "policy could not be asked"),
    (5, "not healthy in time"),
    (6, "the manifest is wrong"),
    (64, "wrong usage"),
    (130, "interrupted"),
)


def show_help(program: str) -> int:
    """Print the page."""
    say("\n".join(_page(program)))
    return 0


def _page(program: str) -> list[str]:
    return [
        f"{program} {__version__}: one manifest, converged and kept on this Docker host.",
        "",
        "You describe your service in manifest.yaml. From it come the containers, nginx in front of them and OPA",
        "beside them; what you change is rolled over without losing a request, what breaks is repaired.",
        "",
        f"Usage: {Paint(wants_colour()).bold(f'{program} VERB [OPTIONS]')}",
        "",
        "The first steps, in this order:",
        *(_row(verb.name, verb.summary) for verb in VERBS if verb.is_first_steps),
        "",
        "When you need them:",
        *(_row(verb.name, verb.summary) for verb in VERBS if not verb.is_first_steps),
        "",
        "Options of every verb:",
        *(_row(_spelled(option), option.help, 24) for option in COMMON),
        "",
        "Examples:",
        f"  {program} validate && {program} deploy",
        f"  {program} status",
        f"  {program} VERB --help",
        "",
        "Exit codes:",
        *(_row(str(code), meaning, 4) for code, meaning in EXIT_CODES),
        "",
        "With the daemon (reconcilerd) running, verbs ask it; without it they do the work themselves.",
    ]


def _row(name: str, text: str, wide: int = 12) -> str:
    return f"  {name:<{wide}}{text}"


def _spelled(option: Option) -> str:
    return f"{', '.join(option.flags)} {'|'.join(option.choices) or option.value}".rstrip()
