"""The verb table: parsing, help, completion and the page `docs/cli.md` are made from it.

A new verb is a row here and a module `reconciler/cli/<verb>.py` with
`run(arguments: Namespace, options: Options, session: Session) -> int`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MODES = ("canary", "stable")
SHELLS = ("bash", "zsh")
CHAOS = ("slow", "error", "recover")
FORMATS = ("text", "json")
SERVICE_VERBS = ("install", "uninstall", "status")


@dataclass(frozen=True, slots=True)
class Option:
    """A switch (no `value`), or an option that takes one; `kind` names a parser in `parsing.KINDS`.

    `dest` is its name among the arguments where the flag's own will not do.
    """

    flags: tuple[str, ...]
    help: str
    value: str = ""
    kind: str = "text"
    choices: tuple[str, ...] = ()
    default: str | None = None
    dest: str = ""


@dataclass(frozen=True, slots=True)
class Operand:
    """A word without dashes; optional ones come last."""

    name: str
    help: str
    choices: tuple[str, ...] = ()
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class Verb:
    """`about` is what `VERB --help` says beyond the summary; `changes` is true where something may be changed.

    `why_reason` says why it must have a --reason, "" where it need not; with a `reason_flag` only beside that.
    """

    name: str
    summary: str
    about: str = ""
    operands: tuple[Operand, ...] = ()
    options: tuple[Option, ...] = ()
    examples: tuple[str, ...] = ()
    changes: bool = False
    is_first_steps: bool = False
    why_reason: str = ""
    reason_flag: str = ""

    def needs_reason(self, words: Sequence[str]) -> bool:
        """Whether the command of these words is wrong usage without a --reason."""
        return bool(self.why_reason) and (not self.reason_flag or self.reason_flag in words)


COMMON = (
    Option(("--file",), "the manifest (default: ./manifest.yaml)", "PATH", "file"),
    Option(("--state-dir",), "the state directory (default: $STATE_DIRECTORY, else ./state)", "PATH", "folder"),
    Option(("--config",), "the daemon's own file (default: /etc/swiftdeploy/reconciler.yaml)", "PATH", "file"),
    Option(("-o", "--output"), "text for people, json for programs", "FORMAT", choices=FORMATS, default="text"),
    Option(("-h", "--help"), "help for a verb, or for all of it"),
)

SERVICE = Operand("SERVICE", "which service, where there are several", is_optional=True)
REASON = Option(("--reason",), "why; it is recorded with your name", "TEXT", "words")
FOLLOW = Option(("-f", "--follow"), "go on as more comes, until Ctrl-C")

VERBS = (
    Verb(
        "init",
        "render the files that follow from the manifest, start nothing",
        "Writes docker-compose.yml, the nginx and the OPA configuration to <state-dir>/rendered/ and says where.\n"
        "The same manifest always gives the same bytes; `docker compose up` works on them alone.",
        changes=True,
        is_first_steps=True,
    ),
    Verb(
        "validate",
        "check the manifest and this host, five checks",
        "1 the manifest is there and is YAML   2 its fields are there and make sense   3 the image is there\n"
        "4 the nginx port is free              5 nginx accepts its configuration\n"
        "Changes nothing. Exit code 6 when the manifest is wrong.",
        options=(Option(("--manifest-only",), "the first two checks, without Docker: for editors and CI"),),
        examples=("validate", "validate --manifest-only --file other.yaml"),
        is_first_steps=True,
    ),
    Verb(
        "deploy",
        "bring everything up as the manifest says, wait until it is healthy",
        "A running service is replaced without losing a request. Policy is asked first: a full disk or a busy\n"
        "host is `DENIED: <reason>`, exit code 3, and nothing has changed.",
        options=(
            Option(("--allow-interruption",), "allow changes that cannot be made without a moment of downtime"),
            Option(("--break-glass",), "begin although the sync windows are closed; needs --reason"),
            REASON,
            Option(("--timeout",), "how long to wait for healthy (default: the manifest's)", "SECONDS", "seconds"),
        ),
        examples=("deploy", "deploy --timeout 120", 'deploy --break-glass --reason "security fix"'),
        changes=True,
        is_first_steps=True,
        why_reason="it begins a rollout against the sync windows",
        reason_flag="--break-glass",
    ),
    Verb(
        "status",
        "what runs, how well, and what policy says; live on a terminal",
        "On a terminal the view is renewed every second: q or Ctrl-C leaves it. In a pipe, or with --once,\n"
        "it is printed once.",
        options=(Option(("--once",), "print it once, also on a terminal"),),
        examples=("status", "status --once", "status -o json | jq .state"),
        is_first_steps=True,
    ),
    Verb(
        "promote",
        "make the canary stable, or keep a canary beside stable",
        "promote, promote stable: the canary gets all requests and becomes stable. Policy is asked first, about\n"
        "the last 30 seconds: `DENIED: <reason>`, exit code 3, and nothing has changed.\n"
        "promote canary: a canary runs beside stable until you promote it or roll it back.\n"
        "Writes the mode into the manifest, and nothing else into it.",
        operands=(Operand("MODE", "canary or stable (default: stable)", MODES, is_optional=True), SERVICE),
        options=(
            Option(("--force",), "promote although policy denies it; needs --reason"),
            REASON,
        ),
        examples=("promote canary", "promote", 'promote --force --reason "the limit is wrong, see #12"'),
        changes=True,
        is_first_steps=True,
        why_reason="a promotion against policy is recorded with its reason",
        reason_flag="--force",
    ),
    Verb(
        "history",
        "what was done, when and why",
        "Reads <state-dir>/history.jsonl itself, so it needs no daemon and no lock. Idle cycles in a row are one\n"
        "line. With -o json: the records, one on a line.",
        options=(
            FOLLOW,
            Option(("-n", "--lines"), "how many records (default: 20; 0 is all)", "N", "count"),
            Option(("--since",), "only records since then: 10m, 2h, 3d or 2026-05-06T12:00:00Z", "TIME", "moment"),
        ),
        examples=("history", "history --follow", "history --since 2h -n 0"),
        is_first_steps=True,
    ),
    Verb(
        "audit",
        "a report of what happened and which rules were broken, in Markdown",
        "Reads <state-dir>/history.jsonl itself, so it needs no daemon and no lock. The report has a timeline (modes,\n"
        "chaos, rollouts, roll backs, repairs) and every violation with its value and limit. The same history gives\n"
        "the same bytes.",
        options=(
            Option(("--out",), "where to (default: audit_report.md beside the manifest; - is here)", "PATH", "file"),
            Option(("--since",), "only what was since then: 10m, 2h, 3d or 2026-05-06T12:00:00Z", "TIME", "moment"),
        ),
        examples=("audit", "audit --since 7d --out -", "audit -o json | jq .violations"),
        is_first_steps=True,
    ),
    Verb(
        "teardown",
        "remove containers, network and log volume",
        "Rendered files and the history stay. The daemon does not bring the stack back; only deploy does.",
        options=(
            Option(("--clean",), "remove the rendered files too (the history stays)"),
            Option(("--volumes",), "remove data volumes too: THE DATA IS GONE"),
        ),
        examples=("teardown", "teardown --clean"),
        changes=True,
        is_first_steps=True,
    ),
    Verb(
        "why",
        "why a service is where it is, and what would move it",
        "Each metric with its limit, its requests, the range it lies in with 95 %, and how strong the evidence is:\n"
        "`51:1 that the error rate is under 1.5%, a promotion needs 20:1`. At rest: why it stays there.",
        operands=(SERVICE,),
        examples=("why", "why app -o json | jq .rollout.evidence"),
    ),
    Verb(
        "rollback",
        "back to the revision that ran before, at once",
        "Never held up by policy or by the canary's own sickness. What is left is given up: not tried again until\n"
        "the service changes, or `retry`.",
        operands=(SERVICE,),
        options=(REASON,),
        examples=("rollback", 'rollback app --reason "customers complain"'),
        changes=True,
    ),
    Verb(
        "pause",
        "keep a rollout where it is; it is measured, and never moved up",
        "A bad sign still rolls it back.",
        operands=(SERVICE,),
        options=(
            Option(("--for",), "how long: 90s, 10m, 2h (default: until resume)", "TIME", "span", dest="span"),
            REASON,
        ),
        examples=("pause", 'pause --for 2h --reason "lunch"'),
        changes=True,
    ),
    Verb(
        "resume",
        "let a paused or suspended rollout go on; end what suspend began",
        "One that policy suspended starts over with fresh evidence.",
        operands=(SERVICE,),
        examples=("resume",),
        changes=True,
    ),
    Verb(
        "suspend",
        "change nothing for now: observe and record only",
        "No manifest is let in, no rollout moves, nothing is repaired (but with --heal). Also a canary stays where\n"
        "it is, whatever policy says of it. Other words that act are refused until `resume`, or until the time is up.",
        options=(
            Option(("--for",), "how long: 90s, 10m, 2h (default: until resume)", "TIME", "span", dest="span"),
            Option(("--heal",), "bring back what was approved and fell"),
            REASON,
        ),
        examples=('suspend --for 2h --reason "moving the database"', 'suspend --heal --reason "audit"'),
        changes=True,
        why_reason="whoever finds it wants to know why nothing is changed",
    ),
    Verb(
        "sync",
        "look at the git repository now, and reconcile",
        "Exit code 1 when the repository cannot be followed further; what is in force stays in force.",
        changes=True,
    ),
    Verb(
        "git",
        "let in one commit that was refused",
        "accept: the commit that `status` shows as refused (unsigned, or not a successor of the one in force) is\n"
        "let in by its id, once, and recorded with your name. What follows it is judged as ever.",
        operands=(
            Operand("WHAT", "accept", ("accept",)),
            Operand("COMMIT", "its id, or seven or more characters of it"),
        ),
        options=(REASON,),
        examples=('git accept 1a2b3c4 --reason "force-push agreed with the team"',),
        changes=True,
        why_reason="it lets in what was refused",
    ),
    Verb(
        "retry",
        "try once more what was rolled back, dismissed or halted",
        "Nothing that was rolled back comes back by itself; this is the word for it, and it needs --reason.",
        operands=(SERVICE,),
        options=(REASON,),
        examples=('retry --reason "the database was down, not the app"',),
        changes=True,
        why_reason="it lets a revision run again that was found bad",
    ),
    Verb(
        "chaos",
        "let the canary fail on purpose: slow answers, errors, and back",
        "slow: each answer takes --duration seconds longer. error: a share (--rate) of the answers is a 500.\n"
        "recover: as before. The canary only, never stable; health checks and metrics are spared.",
        operands=(Operand("WHAT", "slow, error or recover", CHAOS), SERVICE),
        options=(
            Option(("--duration",), "slow: by how many seconds", "SECONDS", "seconds"),
            Option(("--rate",), "error: the share of answers, 0.5 or 50%", "RATE", "share"),
        ),
        examples=("chaos slow --duration 3", "chaos error --rate 0.5", "chaos recover"),
        changes=True,
    ),
    Verb(
        "verify",
        "is the history what was written: its chain, and who signed it",
        "Reads every segment itself, so it needs no daemon and no lock. Exit code 1 when a record was changed, is\n"
        "missing, or a signature does not hold. Against somebody who rewrites all of it only what is kept elsewhere\n"
        "helps: the key (--show-key, then --key), or the link that every good verdict ends with.",
        options=(
            Option(("--expect-checkpoint",), "the log must lead through this record", "SEQ:HASH", "link"),
            Option(("--key",), "believe these public keys, and no others", "PATH", "file"),
            Option(("--after",), "older records are archived: go on from here", "SEQ:HASH", "link"),
            Option(("--full",), "parse every record too: slower, finds no more in a log of ours"),
            Option(("--show-key",), "print the public key of this state directory"),
        ),
        examples=("verify", "verify --key auditor.pub", "verify --show-key > auditor.pub"),
    ),
    Verb(
        "diff",
        "what deploy would change: the plan, and the files",
        "Exit code 0: nothing, 2: there are changes. Changes nothing. Of a new policy file only the length is\n"
        "told, unless --full.",
        options=(
            Option(("--commit",), "with the manifest of this commit of the repository", "ID", "words"),
            Option(("--full",), "show new policy files line by line too"),
        ),
        examples=("diff", "diff > /dev/null || echo changes", "diff --commit 1a2b3c4"),
    ),
    Verb(
        "logs",
        "what a service's containers print",
        "Control characters are shown, not obeyed, unless --raw.",
        operands=(Operand("SERVICE", "a service, nginx or opa (default: the service)", is_optional=True),),
        options=(
            FOLLOW,
            Option(("-n", "--tail"), "how many lines of each container (default: 100)", "N", "count"),
            Option(("--raw",), "print the bytes as they are, colours and all"),
        ),
        examples=("logs", "logs nginx --follow"),
    ),
    Verb(
        "reconcile",
        "look again now, and repair what is not as it should be",
        "What the daemon does by itself, without waiting for its next turn.",
        changes=True,
    ),
    Verb(
        "doctor",
        "is this host ready: Docker, disk, limits, ports, clock",
        "Each finding says what to do about it. Changes nothing. Exit code 1 when something is wrong.",
    ),
    Verb(
        "service",
        "run the daemon as a service of this machine (systemd, launchd)",
        "install writes the unit with your paths, says what it does at each step, and starts it; doing it again\n"
        "changes nothing. A unit that you changed is shown as a difference and left as it is. status: exit code 0\n"
        "where it runs, else 1. uninstall leaves the containers, the state and the history alone.",
        operands=(Operand("WHAT", "install, uninstall or status", SERVICE_VERBS),),
        options=(
            Option(("--manifest",), "install: the manifest to follow (as --file)", "PATH", "file", dest="file"),
            Option(("--dry-run",), "say what would be done, show the unit, change nothing"),
            Option(("--force",), "replace or remove a unit that was changed by hand"),
        ),
        examples=("service install --manifest /etc/swiftdeploy/manifest.yaml", "service install --dry-run"),
        changes=True,
    ),
    Verb(
        "completion",
        "print a script that completes words for your shell",
        operands=(Operand("SHELL", "bash or zsh", SHELLS),),
        examples=("completion bash > /etc/bash_completion.d/{program}", "completion zsh > ~/.zfunc/_{program}"),
    ),
    Verb("version", "print the version"),
)

BY_NAME = {verb.name: verb for verb in VERBS}
