"""What an operator says about a rollout: promote, roll back, pause, resume, retry, chaos, why."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from pathlib import Path

from reconciler.core.desired import DesiredState, Mode, Service
from reconciler.core.errors import ReconcilerError, Refused
from reconciler.core.evidence.limits import limits_of
from reconciler.core.membership import of_group
from reconciler.core.record import Cycle, Trigger, Verdict
from reconciler.core.rollout import Group, Phase
from reconciler.core.trial import trials
from reconciler.core.words import LookAgain, Noted, OfService, Pause, Promote, Resume, Retry, Rollback, Word, objection
from reconciler.cycle import look
from reconciler.formats import policy
from reconciler.formats.cycle_record import numberless
from reconciler.formats.policy import question_canary, unknown
from reconciler.loop import Loop
from reconciler.measuring import question
from reconciler.operations import TICK, Event, Events, Exit, Misused, Request, end, is_said, line, text_of
from reconciler.operations.manifest_modes import ManifestModes
from reconciler.operations.outcome import CHANGE_OR_RETRY, beside, left, never_ran, rolled_back
from reconciler.ports import Repository

MEASURING_PATIENCE_S = 12.0
"""How long a promotion waits for a first measurement; the daemon has one every few seconds."""

ROLLBACK_PATIENCE_S = 180.0

TORN_DOWN = "the stack is torn down; `deploy` brings it back"

Send = Callable[[str, int, str, str, bytes], tuple[int, Mapping[str, str], bytes] | None]
"""Address, port, method, path and body to status, headers and body; None where nobody answers."""


class Rollouts:
    """Answers requests about rollouts. `replace_file` writes the manifest, `send` speaks to containers directly.

    A manifest from a `repository` is its authors' to write, unless that is set up to be written back to.
    """

    def __init__(
        self,
        manifest: Path,
        manifest_now: Callable[[], DesiredState],
        open_loop: Callable[[bool], Loop],
        replace_file: Callable[[Path, bytes], None],
        send: Send,
        follow: Callable[[Request, Word, float | None], Events],
        repository: Repository | None = None,
    ) -> None:
        self._modes = ManifestModes(manifest, manifest_now, open_loop, replace_file, repository)
        self._manifest_now = manifest_now
        self._open_loop = open_loop
        self._send = send
        self._follow = follow

    # ------------------------------------------------------------ promote

    def promote(self, request: Request) -> Events:
        """Another mode by way of the manifest: policy first, then its one scalar, then action, then confirmation."""
        service, mode = self._service(request), request.args.get("mode")
        self._not_torn_down()
        self._not_given_up(service)
        match mode:
            case "canary":
                yield from self._keep_a_canary(request, service)
            case "stable" | None:
                yield from self._make_stable(request, service)
            case _:
                raise Misused(f"a mode is canary or stable, not {str(mode)[:40]!r}")

    def _not_torn_down(self) -> None:
        if self._open_loop(True).memory.rollout.torn_down:
            raise Refused(TORN_DOWN)

    def _not_given_up(self, service: Service) -> None:
        """Raises Refused before anything is written where what the manifest asks for was rolled back before."""
        loop = self._open_loop(True)
        wanted = loop.latest.wanted.get(service.name) if loop.latest else None
        if wanted is not None and wanted.revision in loop.memory.rollout.of(service.name).quarantined:
            raise Refused(
                f"revision {wanted.revision[:12]} was rolled back before and is quarantined; "
                "change the service, or `retry`"
            )

    def _keep_a_canary(self, request: Request, service: Service) -> Events:
        loop = self._open_loop(True)
        state = loop.memory.rollout.of(service.name)
        if service.mode is Mode.CANARY and state.phase is Phase.ANALYZING:
            yield end(Exit.OK, f"{service.name} has a canary already, at {state.weight_pct} %")
            return
        yield from self._modes.write(request, service, Mode.CANARY)
        for event in self._followed(request, LookAgain()):
            if event["event"] != "end" or event["exit"] != int(Exit.OK):
                yield event
                continue
            now = loop.memory.rollout.of(service.name)
            said = self._says(loop, service, now.candidate)
            yield end(Exit.OK, f"{service.name} has a canary now, at {now.weight_pct} % of the requests{said}")

    def _make_stable(self, request: Request, service: Service) -> Events:
        loop = self._open_loop(True)
        state = loop.memory.rollout.of(service.name)
        if state.candidate is None or state.phase not in (Phase.STARTING, Phase.ANALYZING, Phase.SUSPENDED):
            yield from self._modes.write(request, service, Mode.STABLE)
            words = {
                Phase.STABLE: "is stable already; nothing to do",
                Phase.WATCHING: "was promoted already, and is watched; nothing to do",
            }.get(state.phase)
            none = f"has no canary to promote: it is {state.phase.words}"
            yield end(Exit.OK if words else Exit.ERROR, f"{service.name} {words or none}")
            return
        if state.asked is not None and state.asked.what == "rollback":
            raise Refused(f"{service.name} is about to be rolled back, as {state.asked.actor or 'somebody'} asked")
        meant = state.candidate.revision
        verdict = yield from self._gate(request, loop, service)
        self._still_there(loop, service, meant)
        reason = request.args.get("reason")
        is_forced = request.args.get("force") is True and isinstance(reason, str) and is_said(reason)
        if not verdict.allow and not is_forced:
            word = "denied" if verdict.known else "unknown"
            self._note(loop, request, "promote", service.name, outcome=f"{word}: {verdict.reason}")
            code, said = (Exit.DENIED, "DENIED") if verdict.known else (Exit.POLICY_FAILED, "Policy engine failed")
            yield end(code, f"{said}: {verdict.reason}")
            return
        if not verdict.allow:
            yield line(f"forced, though policy says: {verdict.reason}")
        is_newer = state.stable is not None and state.candidate.revision != state.stable.revision
        keeps_mode = service.mode is Mode.CANARY and not self._modes.are_ours
        if keeps_mode and not is_newer:
            raise Refused(
                f"the canary of {service.name} is of the stable revision, so there is nothing to approve: "
                "commit `mode: stable`, or `rollback`"
            )
        if not _serves_alone(loop, service.name, meant):  # then the manifest's mode is about another revision
            yield from self._modes.write(request, service, Mode.STABLE, meant)
        why = f"forced: {reason}" if is_forced else (reason if isinstance(reason, str) else "")
        said_word: Word = Promote(service.name, request.actor, why, keeps_mode, meant) if is_newer else LookAgain()
        if not is_newer:
            self._note(loop, request, "promote", service.name, outcome="done", reason=why)
        for event in self._followed(request, said_word):
            self._still_there(loop, service, meant)
            if event["event"] != "end" or event["exit"] != int(Exit.OK):
                yield event
                continue
            now = loop.memory.rollout.of(service.name)
            yield end(Exit.OK, f"{service.name} is stable now{self._says(loop, service, now.stable)}")

    @staticmethod
    def _still_there(loop: Loop, service: Service, meant: str) -> None:
        """Raises Refused where what was to be promoted has given way to another canary meanwhile."""
        state = loop.memory.rollout.of(service.name)
        is_meant = meant in (group.revision for group in (state.candidate, state.stable) if group)
        if state.candidate is not None and not is_meant:
            now = state.candidate.revision[:12]
            raise Refused(f"revision {meant[:12]} was not promoted: the canary of {service.name} is {now} now")

    def _followed(self, request: Request, word: Word) -> Events:
        """How it goes on, without the steps of a deployment: this is none."""
        events = self._follow(request, word, None)
        return (e for e in events if e["event"] != "step" and "stands in for" not in str(e.get("text", "")))

    def _gate(self, request: Request, loop: Loop, service: Service) -> Generator[Event, None, Verdict]:
        """Policy's answer to the operator's question, on the last window; waits for a measurement from now on."""
        began, said_at = loop.ports.clock.monotonic(), loop.ports.clock.now()
        verdict = unknown("canary", "nothing was measured yet")
        for cycle in loop.follow(Trigger("operator", "promote", request.actor), LookAgain()):
            if cycle is None:
                yield TICK
            else:
                verdict, is_measured = _asked(loop, cycle, service.name)
                evidence = loop.memory.evidence.get(service.name)
                if is_measured and evidence is not None and evidence.at >= said_at:
                    break
            if loop.ports.clock.monotonic() - began > MEASURING_PATIENCE_S:
                break
        return verdict

    def _says(self, loop: Loop, service: Service, group: Group | None) -> str:
        """What the containers themselves say of their mode, in body and header; "" where they say nothing."""
        if service.port is None or service.healthcheck is None or not service.healthcheck.path or loop.latest is None:
            return ""
        observed = loop.latest.observed
        containers = of_group(observed, service.name, group) if observed else ()
        address = next((c.address for c in containers if c.is_ready and c.address), None)
        answer = self._send(address, service.port, "GET", service.healthcheck.path, b"") if address else None
        mode = group.release.mode.value if group else ""
        if answer is None or mode.encode() not in answer[2]:
            return "; its health check does not name a mode"
        header = answer[1].get("x-mode")
        return f" (its health check says mode {mode}{', X-Mode: ' + header if header else ''})"

    # ------------------------------------------------------------ roll back, pause, resume, retry

    def rollback(self, request: Request) -> Events:
        """Back to what ran before; never held up by the canary's own sickness, nor by a manifest that asks for it."""
        service = self._service(request)
        loop = self._open_loop(True)
        word = Rollback(service.name, request.actor, text_of(request, "reason"))
        yield from self._fitting(request, loop, word)
        before, is_heard = loop.memory.rollout.of(service.name), False
        began, said = loop.ports.clock.monotonic(), set[str]()
        for cycle in loop.follow(Trigger("operator", "rollback", request.actor, word.reason), word):
            if cycle is None:
                yield TICK
                continue
            state = cycle.rollout.of(service.name)
            told = (d.reason for d in cycle.decisions if d.service == service.name)
            for news in filter(None, (*told, *cycle.errors)):
                if numberless(news) not in said:
                    said.add(numberless(news))
                    yield line(news)
            is_late = not is_heard and word not in cycle.words
            if not is_heard and not is_late:  # no sooner: a manifest without the canary lets it be promoted
                yield from self._left(request, service, left(before))
            is_heard = True
            if is_late or state.phase in (Phase.STABLE, Phase.ABSENT):
                yield end(*rolled_back(before, state))
                return
            if loop.ports.clock.monotonic() - began > ROLLBACK_PATIENCE_S:
                yield end(Exit.ERROR, f"not done after {ROLLBACK_PATIENCE_S:g} s; it goes on: {state.reason}")
                return

    def _left(self, request: Request, service: Service, given_up: Group | None) -> Events:
        """The manifest asks for no canary any more, if it was for what is given up; else it is told why it does."""
        try:
            yield from self._modes.write(request, service, Mode.STABLE, given_up.revision if given_up else "")
        except ReconcilerError as error:
            yield line(str(error))

    def pause(self, request: Request) -> Events:
        """Keep a rollout where it is, measured."""
        for_s = request.args.get("for_s")
        until = self._open_loop(True).ports.clock.now() + for_s if isinstance(for_s, int | float) else None
        word = Pause(self._service(request).name, request.actor, text_of(request, "reason"), until)
        yield from self._say(request, word, "is paused" + (f" for {for_s:g} s" if until is not None else ""))

    def resume(self, request: Request) -> Events:
        """End a pause or a suspension."""
        word = Resume(self._service(request).name, request.actor, text_of(request, "reason"))
        yield from self._say(request, word, "goes on")

    def retry(self, request: Request) -> Events:
        """Lift the quarantine, or try a halted promotion again."""
        reason = text_of(request, "reason")
        if not is_said(reason):
            raise Misused("retry needs a --reason: it lets a revision run again that was rolled back")
        word = Retry(self._service(request).name, request.actor, reason)
        yield from self._say(request, word, "is tried again")

    def _say(self, request: Request, word: OfService, done: str) -> Events:
        loop = self._open_loop(True)
        yield from self._fitting(request, loop, word)
        for cycle in loop.follow(Trigger("operator", request.verb, request.actor, word.reason), word):
            if cycle is None:
                yield TICK
                continue
            state = cycle.rollout.of(word.service)
            code, more = beside(loop, cycle)
            text = f"{word.service} {done}: {state.phase.words}, {state.weight_pct} %"
            yield end(code, f"{text}.{more}" if more else text)
            return

    def _fitting(self, request: Request, loop: Loop, word: OfService) -> Events:
        """Raises Refused where the word makes no sense, once the cycle that may be under way is over too."""
        if objection(loop.memory.rollout.of(word.service), word):
            for cycle in loop.follow(Trigger("operator", request.verb, request.actor, word.reason), LookAgain()):
                if cycle is not None:
                    break
                yield TICK
        why = objection(loop.memory.rollout.of(word.service), word)
        if why and isinstance(word, Rollback) and never_ran(loop.memory.rollout.of(word.service)):
            raise Refused(f"{why}: its first deployment was taken back. {CHANGE_OR_RETRY}")
        if why:
            raise Refused(why)

    # ------------------------------------------------------------ chaos

    def chaos(self, request: Request) -> Events:
        """Let a canary fail on purpose; never stable."""
        service, loop = self._service(request), self._open_loop(True)
        self._not_torn_down()
        state = loop.memory.rollout.of(service.name)
        if state.candidate is None or state.candidate.release.mode is not Mode.CANARY or service.port is None:
            raise Refused(
                f"{service.name} has no canary, and chaos is refused for stable. `promote canary` starts one."
            )
        body, words = _chaos_body(request)
        cycle = look(loop.ports, loop.setting, loop.memory, Trigger("operator", "chaos", request.actor))
        mine = of_group(cycle.observed, service.name, state.candidate) if cycle.observed else ()
        for container in mine:
            if not container.is_running or container.address is None:
                continue
            answer = self._send(container.address, service.port, "POST", "/chaos", body)
            if answer is None or answer[0] != 200:
                said = f"HTTP {answer[0]}: {answer[2][:200].decode('utf-8', 'replace')}" if answer else "no answer"
                yield end(Exit.ERROR, f"{container.name} did not take it: {said}")
                return
            yield line(f"{container.name}: {words}")
        self._note(loop, request, "chaos", service.name, detail=words)
        yield end(Exit.OK, f"chaos: {words}")

    # ------------------------------------------------------------ helpers

    def _service(self, request: Request) -> Service:
        """The one that was named, else the only one."""
        desired, named = self._manifest_now(), request.args.get("service")
        name = named if isinstance(named, str) and named else desired.services[0].name
        found = desired.service(name)
        if found is None:
            known = ", ".join(service.name for service in desired.services)
            raise Refused(f"there is no service {name!r}; the manifest has: {known}")
        return found

    def _note(
        self,
        loop: Loop,
        request: Request,
        word: str,
        service: str,
        *,
        detail: str = "",
        outcome: str = "done",
        reason: str = "",
    ) -> None:
        """Have it recorded: by the daemon's next cycle, or by one of our own."""
        noted = Noted(word, service, request.actor, reason, detail, outcome)
        trigger = Trigger("operator", word, request.actor, reason)
        if loop.turns_itself:
            loop.wake(trigger, noted)
        else:
            next(iter(loop.follow(trigger, noted)))


def _serves_alone(loop: Loop, name: str, revision: str) -> bool:
    """The manifest asks for another revision than this canary, which nobody of stable can make room for yet."""
    cycle = loop.latest
    wanted = cycle.wanted.get(name) if cycle is not None else None
    if cycle is None or cycle.observed is None or wanted is None or wanted.revision == revision:
        return False
    stable = of_group(cycle.observed, name, loop.memory.rollout.of(name).stable)
    return not any(container.is_ready for container in stable)


def _asked(loop: Loop, cycle: Cycle, name: str) -> tuple[Verdict, bool]:
    """What the policies in force say of the cycle's window, and whether there was a window to ask about."""
    if cycle.desired is None or cycle.observed is None:
        return unknown("canary", "; ".join(cycle.errors) or "no manifest is in force"), False
    found = [t for t in trials(cycle.desired, cycle.rollout, cycle.observed) if t.service.name == name and t.is_judged]
    summary = cycle.measured.get(name)
    in_force = policy.revision(policy.bundle(cycle.desired))
    if not found or summary is None or not summary.about.startswith("canary/"):
        return unknown("canary", "the canary is not measured yet"), False
    if not cycle.observed.policy(in_force).ready:
        return unknown("canary", "the policy engine does not answer"), False
    limits = limits_of(cycle.desired.limits.get("canary", {}))
    asked = question(found[0], summary, limits, purpose="promote")
    return loop.ports.policy.evaluate("canary", question_canary(asked), in_force), bool(summary.window.requests)


def _chaos_body(request: Request) -> tuple[bytes, str]:
    """The workload's own words for it, and ours for people."""
    what, value = request.args.get("what"), request.args
    if what == "slow" and isinstance(value.get("duration"), int | float):
        return json.dumps({"mode": "slow", "duration": value["duration"]}).encode(), f"slow {value['duration']:g} s"
    if what == "error" and isinstance(value.get("rate"), int | float):
        return json.dumps({"mode": "error", "rate": value["rate"]}).encode(), f"error rate {value['rate']:g}"
    if what == "recover":
        return b'{"mode": "recover"}', "recover"
    raise Misused("what chaos? `chaos slow --duration 3`, `chaos error --rate 0.5` or `chaos recover`")
