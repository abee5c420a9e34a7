"""The status as lines of text: pure, so that a live view, a pipe and a test see the same."""

from __future__ import annotations

from typing import Any

from reconciler.cli.figures import age, is_number, number, share
from reconciler.cli.rollout_view import rollout_lines
from reconciler.cli.terminal import Paint, ago, table, text_of

STATES = {
    "converged": "good",
    "converging": "warned",
    "degraded": "poor",
    "torn_down": "dim",
    "empty": "dim",
    "suspended": "warned",
}
WORDS = {"torn_down": "torn down"}
GOOD = frozenset({"PASS", "ready", "healthy", "running", "stable"})
MEASURED = ("req_per_sec", "p99_latency_ms", "error_rate")
POOR = frozenset({"FAIL", "sick", "unhealthy", "exited", "dead", "restarting", "rolling_back"})


HIGH = {"max_p99_latency_ms": "latency too high", "max_error_rate": "error rate too high"}
"""What the guide says of a broken limit, in its order."""


def status_lines(value: Any, now: float, paint: Paint, cells: int | None = None, rows: int | None = None) -> list[str]:
    """What `status` shows; `cells` and `rows` are the terminal's where it must fit.

    Where there is not room for all, what matters least while something moves goes first.
    """
    sections = {
        "heading": _heading(value, now, paint),
        "problems": _problems(value, paint),
        "guide": [*_traffic(value), *_policy(value, paint), *_unmeasured(value, paint)],
        "rollouts": _rollouts(value, now, paint, cells),
        "services": _services(value, now, paint, cells),
        "containers": _containers(value, paint, cells),
        "nginx and OPA": [*_ingress(value), *_last_cycle(value, now, paint)],
    }
    if rows is not None and sections["rollouts"]:
        brief = {"heading": sections["heading"][:1], "rollouts": _rollouts(value, now, paint, cells, is_brief=True)}
        sections = _fitting(sections, brief, rows, paint)
    return [line for section in sections.values() if section for line in ("", *section)][1:]


def _fitting(
    sections: dict[str, list[str]], brief: dict[str, list[str]], rows: int, paint: Paint
) -> dict[str, list[str]]:
    """As many sections as there is room for; what is left out is named where that fits."""
    left_out: list[str] = []
    for name in ("containers", "nginx and OPA", "services", "heading", "rollouts"):
        if _height(sections) <= rows:
            break
        left_out += [name] if sections[name] and name not in brief else []
        sections = {**sections, name: brief.get(name, [])}
    if left_out and _height(sections) + 2 <= rows:
        return {**sections, "left out": [paint.dim(f"A taller window also shows: {', '.join(left_out)}")]}
    return sections


def _height(sections: dict[str, list[str]]) -> int:
    return sum(len(lines) + 1 for lines in sections.values() if lines) - 1


def _heading(value: Any, now: float, paint: Paint) -> list[str]:
    state = text_of(value["state"])
    project = paint.bold(text_of(value["project"]) or "(no project yet)")
    first = f"{project}  {paint(STATES.get(state, ''), WORDS.get(state, state))}"
    if value.get("url") and state not in ("torn_down", "empty"):
        first += f"  {text_of(value['url'])}"
    manifest = value["manifest"]
    revision = text_of(manifest.get("revision"))[:12]
    second = f"manifest {text_of(manifest['path'])}{f', revision {revision}' if revision else ''}"
    stands = _source(value, now, paint)
    daemon = value.get("daemon")
    if daemon:
        up = age(daemon.get("since"), now)
        third = f"daemon {text_of(daemon['version'])}, pid {daemon['pid']}{f', up {up}' if up else ''}"
    else:
        third = "no daemon: nothing is watched or repaired"
    return [first, paint.dim(second), *stands, paint.dim(third)]


def _source(value: Any, now: float, paint: Paint) -> list[str]:
    """Which commit is in force and why no newer one; who suspended everything; which sync windows are shut."""
    lines = []
    if source := value.get("source"):
        commit = source.get("commit")
        if commit:
            signed = f", signed by {text_of(commit['signer'])}" if commit.get("signer") else ""
            who = f"{text_of(commit['author'])}{signed}"
            lines.append(paint.dim(f"commit {text_of(commit['id'])[:12]} {text_of(commit['subject'])} ({who})"))
        if trouble := source.get("trouble"):
            since = age(trouble.get("since"), now)
            lines.append(paint("warned", f"{text_of(trouble['message'])}{f' (for {since})' if since else ''}"))
    if given := value.get("suspended"):
        until = f", {ago(max(0.0, given['until'] - now))} to go" if is_number(given.get("until")) else ""
        heals = ", but healed" if given.get("heals") else ""
        lines.append(
            paint("warned", f"Suspended by {text_of(given['actor'])}: {text_of(given['reason'])}{until}{heals}")
        )
    shut = [(name, one) for name, one in (value.get("windows") or {}).items() if not one["open"]]
    return [*lines, *(paint("warned", f"{text_of(name)}: {text_of(one['reason'])}") for name, one in shut)]


def _problems(value: Any, paint: Paint) -> list[str]:
    manifest = value["manifest"]
    problems = [f"  {text_of(problem)}" for problem in manifest.get("problems", ())]
    if manifest.get("valid", True):
        return problems and [paint("warned", "The manifest is odd:"), *problems]
    return [paint("poor", "The manifest is wrong; what ran before goes on:"), *problems]


def _traffic(value: Any) -> list[str]:
    traffic = value.get("traffic") or {}
    modes = {text_of(service["mode"]) for service in value["services"]}
    each = ", ".join(f"{text_of(service['mode'])} ({text_of(service['name'])})" for service in value["services"])
    return [
        f"Mode: {each if len(modes) > 1 else (modes or {'-'}).pop()}",
        f"Requests/sec: {number(traffic.get('req_per_sec'))}",
        f"P99 latency: {number(traffic.get('p99_latency_ms'), unit='ms')}",
        f"Error rate: {share(traffic.get('error_rate'))}",
    ]


def _policy(value: Any, paint: Paint) -> list[str]:
    policy = value.get("policy") or {}
    named = {"infrastructure": "Infrastructure", "canary": "Canary Safety"}
    domains = [*named, *(domain for domain in policy if domain not in named)]
    return ["Policy Status:", *(f"- {named.get(d, text_of(d))}: {_verdict(policy.get(d), paint)}" for d in domains)]


def _unmeasured(value: Any, paint: Paint) -> list[str]:
    """Why there are no numbers, where there are none."""
    traffic = value.get("traffic") or {}
    if not value["services"] or any(traffic.get(name) is not None for name in MEASURED):
        return []
    why = text_of(traffic.get("why_unknown")) or "nothing was measured yet"
    return [paint.dim(f"No numbers: {why}")]


def _rollouts(value: Any, now: float, paint: Paint, cells: int | None, is_brief: bool = False) -> list[str]:
    blocks = [rollout_lines(s, now, paint, cells, is_brief) for s in value["services"] if s.get("rollout")]
    return [line for block in blocks for line in ("", *block)][1:]


def _verdict(verdict: Any, paint: Paint) -> str:
    """`FAIL (latency too high)`: broken limits in the guide's words, anything else in policy's own."""
    if not verdict:
        return "UNKNOWN"
    broken = {text_of(violation.get("id")) for violation in verdict.get("violations") or ()}
    reason = text_of(verdict.get("reason"))
    if broken and broken <= HIGH.keys():
        reason = ", ".join(words for name, words in HIGH.items() if name in broken)
    is_worth_saying = reason and verdict["status"] != "PASS"
    return f"{_toned(paint, text_of(verdict['status']))}{f' ({reason})' if is_worth_saying else ''}"


def _services(value: Any, now: float, paint: Paint, cells: int | None) -> list[str]:
    if not value["services"]:
        return []
    rows = [["SERVICE", "MODE", "PHASE", "READY", "SLOT", "REVISION", "VERSION", "SINCE", "IMAGE"]]
    for service in value["services"]:
        ready = f"{text_of(service['ready'])}/{text_of(service['wanted'])}"
        rows.append(
            [
                text_of(service["name"]),
                text_of(service["mode"]),
                text_of(service["phase"]),
                ready,
                text_of(service.get("slot")) or "-",
                text_of(service.get("revision"))[:12] or "-",
                text_of(service.get("version")) or "-",
                age(service.get("since"), now) or "-",
                text_of(service.get("image")) or "-",
            ]
        )
    first, *others = table(rows, cells, drop=(8, 6, 4, 7, 5))
    lines = [paint.dim(first)]
    for line, service in zip(others, value["services"], strict=True):
        short = service["ready"] != service["wanted"]
        lines.append(paint("warned", line) if short else line)
        if service.get("reason") and not service.get("rollout"):
            lines.append(paint.dim(f"  {text_of(service['reason'])}"))
        if quarantined := service.get("quarantined"):
            kept = ", ".join(text_of(revision)[:12] for revision in quarantined)
            lines.append(paint("poor", f"  given up, not tried again: {kept}"))
    return lines


def _containers(value: Any, paint: Paint, cells: int | None) -> list[str]:
    containers = [container for service in value["services"] for container in service.get("containers", ())]
    if not containers:
        return []
    rows = [["CONTAINER", "STATUS", "HEALTH", "SLOT", "MODE", "ADDRESS", "REVISION", "ID"]]
    rows += [
        [
            text_of(container["name"]),
            "stopped, kept" if container.get("kept") else text_of(container["status"]),
            "-" if container.get("kept") else text_of(container["health"]),
            text_of(container.get("slot")) or "-",
            text_of(container.get("mode")) or "-",
            text_of(container.get("address")) or "-",
            text_of(container.get("revision"))[:12] or "-",
            text_of(container.get("id"))[:12],
        ]
        for container in containers
    ]
    first, *others = table(rows, cells, drop=(7, 6, 4, 3, 5))
    lines = [paint.dim(first)]
    for line, container in zip(others, containers, strict=True):
        is_kept = container.get("kept")
        poor = not is_kept and (container["health"] in POOR or container["status"] in POOR)
        lines.append(paint("poor", line) if poor else paint.dim(line) if is_kept else line)
        if container.get("detail") and container["health"] != "ready" and not is_kept:
            lines.append(paint.dim(f"  {text_of(container['detail'])}"))
    return lines


def _ingress(value: Any) -> list[str]:
    nginx, opa = value.get("nginx") or {}, value.get("opa") or {}
    live, wanted = text_of(nginx.get("live_hash"))[:12], text_of(nginx.get("wanted_hash"))[:12]
    config = f"configuration {live or 'not answered'}"
    if live and wanted and live != wanted:
        config += f", {wanted} wanted"
    port = f" on port {text_of(nginx['port'])}" if nginx.get("port") else ""
    opa_words = "ready" if opa.get("ready") else text_of(opa.get("detail")) or "not ready"
    revision = text_of(opa.get("revision"))[:12]
    return [
        f"nginx: {text_of(nginx.get('status')) or 'absent'}{port}, {config}",
        f"opa: {opa_words}{f', policy {revision}' if revision else ''}",
    ]


def _last_cycle(value: Any, now: float, paint: Paint) -> list[str]:
    cycle = value.get("last_cycle")
    if not cycle:
        return ["Last cycle: none yet"]
    plan, errors = cycle.get("plan") or [], cycle.get("errors") or []
    if plan and all(text_of(step).startswith("wait") for step in plan):
        did = "waiting"
    elif plan:
        did = f"{len(plan)} {'action' if len(plan) == 1 else 'actions'}"
    else:
        did = "nothing to do yet" if any(service.get("rollout") for service in value["services"]) else "nothing to do"
    head = f"{_which(cycle, now)}: {did}"
    steps = [f"  {text_of(step)}" for step in plan[:8]]
    more = [f"  and {len(plan) - 8} more"] if len(plan) > 8 else []
    notes = [f"  {text_of(told)}" for told in cycle.get("notes") or ()]
    return [head, *steps, *more, *notes, *(paint("poor", f"  {text_of(error)}") for error in errors)]


def _which(cycle: Any, now: float) -> str:
    """`Last cycle: 812, 5s ago, manifest`, where it was not a mere look; number 0 is what a cycle would do now."""
    if cycle["number"] == 0:
        return "A cycle now"
    past, trigger = age(cycle.get("at"), now), text_of(cycle["trigger"])
    why = "" if trigger in ("pending", "interval") else f", {trigger}"
    return f"Last cycle: {text_of(cycle['number'])}{f', {past} ago' if past else ''}{why}"


def _toned(paint: Paint, word: str) -> str:
    return paint("good" if word in GOOD else "poor" if word in POOR else "warned", word)
