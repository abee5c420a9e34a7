"""The desk: takes a request, does it or has the loop do it, and tells how it goes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from reconciler import __version__
from reconciler.core.desired import PROXY, DesiredState, Json
from reconciler.core.errors import ManifestError, Problem, Refused, StateError
from reconciler.core.plan import Outcome, TestProxyConfig, WriteFile
from reconciler.core.planner import PROXY_CONFIG
from reconciler.core.record import Cycle, Trigger
from reconciler.core.rollout import Move, Phase
from reconciler.core.words import Deploy, LookAgain, Teardown, Word
from reconciler.cycle import look, preview
from reconciler.formats.cycle_record import numberless
from reconciler.loop import Loop
from reconciler.operations import TICK, Events, Exit, Request, end, line
from reconciler.operations.differences import file_diffs
from reconciler.operations.outcome import goes_on, still_up
from reconciler.operations.progress import HEALTHY, STEPS, Progress
from reconciler.operations.rollouts import TORN_DOWN, Rollouts, Send
from reconciler.operations.sources import Sources, source_value
from reconciler.operations.status import failures, status_value
from reconciler.operations.stillness import (
    ENDED_BY_RESUME,
    Stillness,
    broken_glass,
    refuse_while_suspended,
    suspension_value,
    windows_value,
)
from reconciler.ports import Loaded, Repository, Source


@dataclass(frozen=True, slots=True)
class Place:
    """Which files this desk works on, and since when a daemon sits at it (RFC 3339; "" is no daemon).

    `shown` is the manifest as people are told of it: its path, or the repository's address and the path in there.
    """

    manifest: Path
    state: Path
    daemon_since: str = ""
    shown: str = ""

    @property
    def rendered(self) -> Path:
        """Where the rendered files are."""
        return self.state / "rendered"


LIVE_S = 2.0
"""How old a measurement may be that somebody looks at."""


class Operations:
    """Answers requests.

    `open_loop` is called at most once, and only by verbs that need the engine; with true by those that act, and
    must then hold the lock.
    """

    def __init__(
        self,
        place: Place,
        source: Source,
        open_loop: Callable[[bool], Loop],
        replace_file: Callable[[Path, bytes], None],
        send: Send,
        repository: Repository | None = None,
    ) -> None:
        self._place = place
        self._source = source
        self._open_loop = open_loop
        self._repository = repository
        rollouts = Rollouts(place.manifest, self._manifest_now, open_loop, replace_file, send, self._follow, repository)
        stillness = Stillness(open_loop, rollouts.resume)
        sources = Sources(repository, open_loop)
        self._verbs: Mapping[str, Callable[[Request], Events]] = {
            "status": self._status,
            "validate": self._validate,
            "init": self._init,
            "diff": self._diff,
            "deploy": self._deploy,
            "promote": rollouts.promote,
            "rollback": rollouts.rollback,
            "pause": rollouts.pause,
            "resume": stillness.resume,
            "suspend": stillness.suspend,
            "sync": sources.sync,
            "accept": sources.accept,
            "retry": rollouts.retry,
            "chaos": rollouts.chaos,
            "why": self._why,
            "reconcile": self._reconcile,
            "teardown": self._teardown,
            "logs": self._logs,
            "doctor": self._doctor,
        }

    def run(self, request: Request) -> Events:
        """Events, the last of which is `end`. Raises ReconcilerError for what cannot be done at all."""
        answer = self._verbs.get(request.verb)
        if answer is None:
            raise Refused(f"{request.verb}: no such request. Is the daemon older than this command?")
        named = request.args.get("manifest")
        if isinstance(named, str) and (self._repository is not None or Path(named) != self._place.manifest):
            raise Refused(
                f"the daemon follows {self._place.shown or self._place.manifest}, not {named}. "
                "Leave --file away, or name that daemon's own --state-dir."
            )
        if request.verb in ENDED_BY_RESUME:
            refuse_while_suspended(self._open_loop(True))
        yield from answer(request)

    # ------------------------------------------------------------ looking

    def _status(self, request: Request) -> Events:
        yield end(Exit.OK, value=self._status_value(request))

    def _why(self, request: Request) -> Events:
        """The one service's part of the status: why it is where it is."""
        value, named = self._status_value(request), request.args.get("service")
        services = value["services"]
        assert isinstance(services, list), "status lists its services"
        found = [s for s in services if isinstance(s, dict) and (not named or s["name"] == named)]
        if not found:
            raise Refused(f"there is no service {named!r}" if named else "nothing is deployed yet; `deploy` starts it")
        source = value["source"]
        manifest = value["manifest"]
        remarks: dict[str, Json] = {
            "commit": source["commit"] if isinstance(source, dict) else None,
            "daemon": value["daemon"],
            "problems": manifest["problems"] if isinstance(manifest, dict) else [],
        }
        yield end(Exit.OK, value={**found[0], **remarks})

    def _status_value(self, request: Request) -> dict[str, Json]:
        loop = self._open_loop(False)
        daemon: Json = None
        if loop.turns_itself:
            cycle = loop.latest
            loop.look_soon(LIVE_S)  # who asks once a second wants to see what is, not what was 15 s ago
        else:
            cycle = look(loop.ports, loop.setting, loop.memory, _trigger(request))
        if self._place.daemon_since:
            daemon = {"pid": os.getpid(), "version": __version__, "since": self._place.daemon_since}
        now = loop.ports.clock.now()
        git = self._repository.status() if self._repository is not None else None
        return {
            **status_value(cycle, self._place.shown or str(self._place.manifest), daemon),
            "source": source_value(git, cycle),
            "suspended": suspension_value(cycle, now),
            "windows": windows_value(cycle, now),
        }

    def _diff(self, request: Request) -> Events:
        loop = self._open_loop(False)
        ports, commit = loop.ports, request.args.get("commit")
        if isinstance(commit, str):
            ports = replace(ports, source=_at_commit(self._repository, commit))
        cycle, view = preview(ports, loop.setting, loop.memory, _trigger(request))
        if view is None:
            yield _bad_manifest(cycle.problems)
            return
        plan: list[Json] = [{"verb": s.verb, "target": s.target, "cause": s.cause} for s in cycle.plan.steps]
        files = file_diffs(cycle, self._place.rendered)
        text = "\n".join([*(str(problem) for problem in cycle.problems), *cycle.plan.notes])
        if cycle.problems:
            yield end(Exit.BAD_MANIFEST, text, {"plan": plan, "files": files})
            return
        held = [f"{d.service}: {d.reason}" for d in cycle.decisions if d.move is Move.HOLD and d.reason]
        text = "\n".join([text, *held]).strip()
        changes = bool(plan or cycle.plan.notes or held)
        if not changes:
            text = "Nothing to do: what runs is what the manifest asks for."
        yield end(Exit.CHANGES if changes else Exit.OK, text, {"plan": plan, "files": files})

    def _init(self, request: Request) -> Events:
        loop = self._open_loop(True)
        cycle, view = preview(loop.ports, loop.setting, loop.memory, _trigger(request))
        if view is None or cycle.problems:
            yield _bad_manifest(cycle.problems)
            return
        policies = [target.files for target in view.policies]
        files = {**view.files, **(policies[0] if policies else {})}
        for path, text in sorted(files.items()):
            result = loop.ports.files.apply(WriteFile(path, text))
            if result.outcome is not Outcome.OK:
                raise StateError(f"{path}: {result.detail}")
        for target in view.policies:
            loop.ports.policy.prepare(target.revision)
        paths: list[Json] = list(sorted(files))
        yield end(Exit.OK, value={"files": paths, "directory": str(self._place.rendered)})

    # ------------------------------------------------------------ validating

    def _validate(self, request: Request) -> Events:
        """The five checks in order; the first two need neither engine nor network."""
        loaded = self._source.load()
        syntax = [problem for problem in loaded.problems if loaded.desired is None and not loaded.parsed]
        yield _check(1, "manifest exists and is valid YAML", not syntax, _lines(syntax) or self._name)
        if syntax:
            yield end(Exit.BAD_MANIFEST, "")
            return
        yield _check(2, "required fields present and values valid", not loaded.problems, _lines(loaded.problems))
        for warning in loaded.warnings:
            yield line(str(warning))
        if loaded.problems or loaded.desired is None:
            yield end(Exit.BAD_MANIFEST, "")
            return
        if request.args.get("manifest_only"):
            yield end(Exit.OK)
            return
        yield from self._validate_machine(loaded.desired)

    def _validate_machine(self, desired: DesiredState) -> Events:
        loop = self._open_loop(False)
        cycle, view = preview(loop.ports, loop.setting, loop.memory, Trigger("operator", "validate"))
        assert cycle.observed is not None, "the manifest was just found good"
        assert view is not None, "the manifest was just found good"
        engine = cycle.observed.engine
        missing = [service.image for service in desired.services if service.image not in engine.images]
        stands_in = [f"{i.reference} → {i.used} (built here)" for i in engine.images.values() if i.is_substitute]
        detail = (
            f"not on this machine: {', '.join(missing)}. Build it, or `docker pull {missing[0]}`"
            if missing
            else ", ".join(stands_in)
        )
        yield _check(3, "image exists", not missing, detail)
        taken = engine.ports_taken.get(desired.nginx.port, "")
        nginx = engine.images.get(desired.nginx.image)
        running = next((c for c in cycle.observed.of(PROXY) if c.is_running), None)
        held = taken or ("this project's own nginx has it" if running else "")
        yield _check(4, f"port {desired.nginx.port} is free", not taken, held)
        if nginx is None:
            yield _check(
                5, "nginx configuration", False, f"{desired.nginx.image} is not on this machine; `deploy` gets it"
            )
            yield end(Exit.ERROR)
            return
        test = TestProxyConfig(view.files[PROXY_CONFIG], nginx.id, running.id if running else None)
        result = loop.ports.proxy.apply(test)
        is_valid = result.outcome is Outcome.OK
        yield _check(5, "nginx configuration", is_valid, result.detail)
        yield end(Exit.OK if is_valid and not missing and not taken else Exit.ERROR)

    # ------------------------------------------------------------ acting

    def _deploy(self, request: Request) -> Events:
        loop = self._open_loop(True)
        if self._repository is not None and not loop.turns_itself:
            self._repository.sync()  # nobody else follows it
        glass = broken_glass(request, loop.ports.clock.now())
        word = Deploy(allow_interruption=request.args.get("allow_interruption") is True, glass=glass)
        timeout = request.args.get("timeout_s")
        yield from self._follow(request, word, timeout if isinstance(timeout, int | float) else None)

    def _reconcile(self, request: Request) -> Events:
        yield from self._follow(request, LookAgain(), None, enough=HEALTHY + 1)

    def _follow(self, request: Request, word: Word, timeout_s: float | None, enough: int = len(STEPS)) -> Events:
        """Steps as they become true, until the stack is as the manifest asks, or will not be.

        With `enough` of them true, and nothing left to do now, a rollout that goes on is not waited for.
        """
        loop = self._open_loop(True)
        if loop.memory.rollout.torn_down and not isinstance(word, Deploy):
            raise Refused(TORN_DOWN)
        began, progress, told, last = loop.ports.clock.monotonic(), Progress(), 0, None
        said: set[str] = set()
        for cycle in loop.follow(_trigger(request), word):
            if cycle is None:
                yield TICK
            else:
                last, progress = cycle, progress.after(cycle)
                for name, text in STEPS[told : progress.done]:
                    yield {"event": "step", "name": name, "text": text}
                told = progress.done
                failure, course = progress.failure(cycle), _course(cycle)
                if course and course not in said:
                    said.add(course)
                    yield line(course + (_ONLY_LOOKING if loop.turns_itself else _STAYS_THERE))
                for news in _news(cycle):
                    if numberless(news) not in said and not (failure and failure.tells(news)):
                        said.add(numberless(news))
                        yield line(news)
                if told == len(STEPS) or (told >= enough and not cycle.plan):
                    yield end(Exit.OK, "\n".join((*_under_way(cycle), *cycle.plan.notes)))
                    return
                if failure is not None:
                    more = f"\n{goes_on(loop, cycle)}" if failure.is_passing else ""
                    yield end(failure.exit, f"{failure.text}{more}")
                    return
            is_rollout = timeout_s is None and told > HEALTHY  # then the manifest's own times end it
            limit = timeout_s if timeout_s is not None else _patience_s(last)
            if not is_rollout and loop.ports.clock.monotonic() - began > limit:
                yield end(*(_unfinished(last, limit) if told > HEALTHY else _too_late(last, limit)))
                return

    def _teardown(self, request: Request) -> Events:
        loop = self._open_loop(True)
        trigger = _trigger(request)
        began, said, unlucky = loop.ports.clock.monotonic(), set[str](), 0
        was_there = loop.memory.last_good is not None or bool(loop.memory.rollout.services)
        for cycle in loop.follow(trigger, Teardown(volumes=request.args.get("volumes") is True)):
            if cycle is None:
                yield TICK
                continue
            was_there = was_there or bool(cycle.plan)
            for news in _news(cycle):
                if news not in said and "torn down" not in news and "stands in for" not in news:
                    said.add(news)
                    yield line(news)
            if cycle.rollout.torn_down and not cycle.plan and not cycle.errors:
                break
            unlucky = unlucky + 1 if cycle.errors else 0
            if unlucky >= 3:
                yield end(Exit.ERROR, still_up(loop, cycle))
                return
            if loop.ports.clock.monotonic() - began > 120:
                left = ", ".join(sorted({step.target for step in cycle.plan.steps}))
                yield end(Exit.ERROR, f"not done after 120 s; left: {left or '; '.join(cycle.errors)}")
                return
        if request.args.get("clean"):
            yield from self._clean(loop)
        done = "Torn down. `deploy` brings it back; the history is kept."
        nothing = (
            "Nothing was ever deployed from here, so there is nothing to tear down. Nothing will be, until `deploy`."
        )
        yield end(Exit.OK, done if was_there else nothing)

    def _clean(self, loop: Loop) -> Events:
        from reconciler.core.plan import RemoveFile

        for path in sorted(loop.ports.files.digests()):
            result = loop.ports.files.apply(RemoveFile(path))
            if result.outcome is not Outcome.OK:
                yield line(f"{path}: {result.detail}")

    def _logs(self, request: Request) -> Events:
        loop = self._open_loop(False)
        cycle = look(loop.ports, loop.setting, loop.memory, _trigger(request))
        if cycle.observed is None:
            yield _bad_manifest(cycle.problems)
            return
        name, tail = request.args.get("service"), request.args.get("tail")
        wanted = name if isinstance(name, str) else next(iter(cycle.rollout.services), PROXY)
        containers = cycle.observed.of(wanted)
        if not containers:
            known = sorted({c.service for c in cycle.observed.engine.containers if c.ours})
            raise Refused(f"no container of {wanted!r} runs; there are: {', '.join(known) or 'none'}")
        follow = request.args.get("follow") is True
        for container in containers[-1:] if follow else containers:
            lines = loop.ports.runtime.logs(container.id, tail=tail if isinstance(tail, int) else 100, follow=follow)
            for text in lines:
                if text is None:
                    yield TICK
                    continue
                shown = text.decode("utf-8", "replace").rstrip("\r\n")
                yield line(f"{container.name}  {shown}" if len(containers) > 1 else shown)
        yield end(Exit.OK)

    def _doctor(self, request: Request) -> Events:
        loop = self._open_loop(False)
        loaded = self._source.load()
        facts = loop.ports.runtime.facts()
        for number, (name, is_good, detail) in enumerate(facts, 1):
            yield _check(number, name, is_good, detail)
        count = len(facts)
        yield _check(
            count + 1,
            "manifest",
            not loaded.problems,
            _lines(loaded.problems) or self._place.shown or str(self._place.manifest),
        )
        is_good = all(good for _, good, _ in facts) and not loaded.problems
        yield end(Exit.OK if is_good else Exit.ERROR)

    @property
    def _name(self) -> str:
        """The manifest in few words."""
        return self._place.manifest.name if self._repository is None else self._place.shown

    def _manifest_now(self) -> DesiredState:
        """The manifest as it is on disk. Raises ManifestError."""
        loaded = self._loaded()
        assert loaded.desired is not None, "_loaded answers usable manifests only"
        return loaded.desired

    def _loaded(self) -> Loaded:
        loaded = self._source.load()
        if loaded.desired is None or loaded.problems:
            raise ManifestError(loaded.problems)
        return loaded


def _trigger(request: Request) -> Trigger:
    reason = request.args.get("reason")
    return Trigger("operator", request.verb, request.actor, reason if isinstance(reason, str) else "")


@dataclass(frozen=True, slots=True)
class _Fixed:
    """A source that always says the same."""

    loaded: Loaded

    def load(self) -> Loaded:
        return self.loaded


def _at_commit(repository: Repository | None, commit: str) -> Source:
    """The manifest as `commit` has it, as a source. Raises Refused where it comes from no repository."""
    if repository is None:
        raise Refused("the manifest is a plain file, so there is no commit to compare with. Leave --commit away.")
    return _Fixed(repository.manifest_at(commit))


def _check(number: int, name: str, ok: bool, detail: str) -> Mapping[str, Json]:
    return {"event": "check", "number": number, "name": name, "ok": ok, "detail": detail}


def _bad_manifest(problems: tuple[Problem, ...]) -> Mapping[str, Json]:
    return end(Exit.BAD_MANIFEST, _lines(problems))


def _lines(problems: tuple[Problem, ...] | list[Problem]) -> str:
    return "\n".join(str(problem) for problem in problems)


def _news(cycle: Cycle) -> list[str]:
    """What a person waiting would want to hear of a cycle."""
    told = [f"{d.service}: {d.reason}" for d in cycle.decisions if d.reason]
    for step, result in zip(cycle.plan.steps, cycle.results, strict=True):
        if step.verb == "pull" and result.outcome is Outcome.FAILED:
            continue  # the next cycle ends it with that
        if result.outcome in (Outcome.FAILED, Outcome.UNKNOWN):
            told.append(f"{step.verb} {step.target}: {result.detail}")
        elif result.outcome is Outcome.PENDING and result.detail:
            told.append(f"{step.target}: {result.detail}")
    images = cycle.observed.engine.images.values() if cycle.observed else ()
    told += [f"{i.used} stands in for {i.reference}, which is not to be had here" for i in images if i.is_substitute]
    return [*told, *cycle.errors]


_ONLY_LOOKING = " Ctrl-C ends only this command; the daemon goes on."
_STAYS_THERE = " Ctrl-C leaves it where it is, until the next command or a daemon goes on."


def _course(cycle: Cycle) -> str:
    """What a rollout that has just got its first requests has before it; "" while there is none."""
    for state in cycle.rollout.services.values():
        if state.phase is Phase.ANALYZING and state.course.steps:
            steps = ", ".join(f"{step.weight_pct} %" for step in state.course.steps)
            least_s = sum(step.duration_s for step in state.course.steps)
            return f"{state.service}: a canary runs: {steps} of the requests, {least_s:g} s at least, judged by them."
    return ""


def _under_way(cycle: Cycle) -> list[str]:
    """Where each rollout is that goes on by itself."""
    states = [state for state in cycle.rollout.services.values() if state.phase not in (Phase.STABLE, Phase.ABSENT)]
    return [f"{state.service} is {state.phase}; `status` follows it, `why` explains it" for state in states]


def _patience_s(cycle: Cycle | None) -> float:
    """The manifest's health timeout, from the moment the images are here."""
    if cycle is None or cycle.desired is None:
        return 30.0
    slow = any(step.verb == "pull" for step in cycle.plan.steps)
    return 900.0 if slow else cycle.desired.health_timeout_s


def _unfinished(cycle: Cycle | None, limit_s: float) -> tuple[Exit, str]:
    """A rollout that is well, and longer than somebody wanted to wait."""
    told = "; ".join(f"{d.service}: {d.reason}" for d in cycle.decisions if d.reason) if cycle else ""
    return Exit.ERROR, f"Not finished within {limit_s:g} s, and nothing is wrong: {told or 'the rollout goes on'}"


def _too_late(cycle: Cycle | None, limit_s: float) -> tuple[Exit, str]:
    if cycle is None or cycle.desired is None:
        return Exit.ERROR, f"nothing happened within {limit_s:g} s"
    if all(state.phase is Phase.ABSENT for state in cycle.rollout.services.values()):
        detail = cycle.observed and next((h.detail for h in cycle.observed.policies.values() if not h.ready), "")
        return Exit.POLICY_FAILED, f"Policy engine failed: not ready within {limit_s:g} s: {detail or 'no answer'}"
    failed = "; ".join(failures(cycle))
    waiting = "; ".join(dict.fromkeys(f"{step.target}: {step.cause}" for step in cycle.plan.steps))
    why = f"What failed: {failed}" if failed else f"Still to do: {waiting}"
    return Exit.UNHEALTHY, f"Health check failed: not healthy within {limit_s:g} s. {why}"
