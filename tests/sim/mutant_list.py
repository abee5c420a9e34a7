"""The mutants: name → function, the piece of its source, what stands there instead, and what that breaks."""

from __future__ import annotations

PLANNER = "reconciler.core.planner:"
DRAFT = f"{PLANNER}_Draft."
MEMBERS = "reconciler.core.membership:"
CANARY = "reconciler.core.decide.canary:"
PROMOTION = "reconciler.core.decide.promotion:"
REST = "reconciler.core.decide.at_rest:"
BACK = "reconciler.core.decide.way_back:"
CLOCKS = "reconciler.core.decide.clocks:"
VIEW = "reconciler.core.decide.view:View."
ROLLOUT = "reconciler.core.rollout:"
CYCLE = "reconciler.cycle."
EXECUTOR = "reconciler.executor:"
MEASURING = "reconciler.measuring:"

MUTANTS: dict[str, tuple[str, str, str, str]] = {
    "remove before nginx has let go": (
        f"{DRAFT}clear",
        "self.grace_s(container.revision), *after)",
        "self.grace_s(container.revision))",
        "a container goes while nginx's workers still send to it",
    ),
    "park before nginx has let go": (
        f"{DRAFT}park",
        '"kept for a roll back", proxy)',
        '"kept for a roll back")',
        "the old containers stop while old workers still send to them",
    ),
    "park whoever is needed": (
        f"{DRAFT}park",
        "if not self.has_ready(state, state.candidate if state.carries_all else state.stable):",
        "if False:",
        "the old containers are stopped although nobody else answers",
    ),
    "weight up before the reload": (
        f"{DRAFT}plan_traffic",
        "None if at_once else proxy,",
        "None,",
        "flags move before nginx knows both slots",
    ),
    "weight to a canary that is down": (
        f"{DRAFT}plan_traffic",
        "if state.phase is Phase.ANALYZING and not self.has_ready(state, state.candidate):",
        "if False:",
        "a canary that is not ready gets its share",
    ),
    "promote a canary that is down": (
        f"{DRAFT}plan_traffic",
        "if state.phase is Phase.PROMOTING and not self.has_ready(state, state.candidate):",
        "if False:",
        "all requests go to nobody",
    ),
    "switch to new ones that are down": (
        f"{DRAFT}plan_traffic",
        "if state.phase is Phase.SWITCHING and not self.has_ready(state, state.fresh):",
        "if False:",
        "all requests go to new containers that have died",
    ),
    "traffic moves while it returns": (
        f"{DRAFT}plan_traffic",
        "if state.phase is Phase.RETURNING:",
        "if False:",
        "requests go back before the old containers are well",
    ),
    "restore to the wrong slot": (
        f"{DRAFT}plan_traffic",
        "weight = 0 if state.kept is None else 100",
        "weight = 100 if state.kept is None else 0",
        "a roll back sends requests to what is rolled back",
    ),
    "no test of the configuration": (
        f"{DRAFT}configure_proxy",
        'tested = self.add(TestProxyConfig(text, running.image_id, running.id), PROXY_CONFIG, "changed", connected)',
        "tested = connected",
        "nginx's text is put in place untested",
    ),
    "written is as good as running": (
        f"{DRAFT}configure_proxy",
        "if proxy.live_hash != self.wish.proxy_hash:",
        "if False:",
        "a reload that was lost is never asked for again",
    ),
    "no waiting for old workers": (
        f"{DRAFT}configure_proxy",
        "if waits and proxy.retiring and",
        "if False and proxy.retiring and",
        "what old workers still send to is stopped",
    ),
    "nginx is replaced without asking": (
        f"{DRAFT}plan_proxy",
        "if self.wish.allow_interruption:",
        "if True:",
        "a change of port drops connections at once",
    ),
    "dead containers stay dead": (
        f"{DRAFT}heal",
        "if container.status in (Status.EXITED, Status.CREATED):",
        "if container.status in (Status.CREATED,):",
        "nobody starts what has stopped",
    ),
    "created is as good as started": (
        f"{DRAFT}heal",
        "if container.status in (Status.EXITED, Status.CREATED):",
        "if container.status in (Status.EXITED,):",
        "a crash between create and start is never made good",
    ),
    "lost networks are not joined again": (
        f"{DRAFT}heal",
        "connected = self.connect(container, needs[0], (alias,))",
        "connected = None",
        "a container that somebody disconnected stays alone",
    ),
    "superfluous replicas stay": (
        f"{DRAFT}unwanted",
        "or (c.replica or 0) >= wanted]",
        "]",
        "scaling down changes nothing",
    ),
    "old groups stay": (
        f"{DRAFT}unwanted",
        "found = list(others(state, self.observed, *groups))",
        "found = []",
        "what was rolled back is never removed",
    ),
    "rolled back canaries are wanted": (
        f"{PLANNER}wanted_groups",
        "return (state.stable,)",
        "return (state.stable, state.candidate)",
        "a roll back never ends",
    ),
    "one replica is enough": (
        f"{DRAFT}plan_group",
        "range(self.replicas(state, len(self.group(state, group))))",
        "range(1)",
        "only the first replica is looked after",
    ),
    "the other slot may be anything": (
        f"{DRAFT}create",
        "generation = 1 + max((c.generation for c in self.observed.of(service)), default=0)",
        "generation = 1",
        "names collide with containers that are kept",
    ),
    "rendered files are not looked at": (
        f"{DRAFT}write",
        "if seen == sha256(text):",
        "if seen is not None:",
        "a file that was edited by hand, or is of yesterday, stays",
    ),
    "policies of yesterday stay": (
        f"{DRAFT}plan_policies",
        "if container.id not in kept:",
        "if False:",
        "the OPA of an older policy is never removed",
    ),
    "a dead OPA stays dead": (
        f"{DRAFT}plan_policy",
        "if not keep.is_running and keep.status not in BEING_HEALED:",
        "if False:",
        "OPA is waited for, and nobody starts it",
    ),
    "teardown forgets the network": (
        f"{DRAFT}tear_down",
        'self.add(RemoveNetwork(network.id, network.name), network.name, "torn down", *gone)',
        "pass",
        "something of ours is left",
    ),
    "a rolling update takes them all": (
        f"{MEMBERS}replaced",
        "gone = [c for c in old if c.replica in ready]",
        "gone = list(old)",
        "old replicas stop before their successors are ready",
    ),
    "who is not ready may join": (
        f"{MEMBERS}_members",
        "if c.id in before or c.is_ready",
        "",
        "nginx lists containers that have not shown that they can serve",
    ),
    "who has died stays a member": (
        f"{MEMBERS}_members",
        "serving or (member for member, _ in known)",
        "(member for member, _ in known)",
        "nginx goes on sending to a replica that is gone",
    ),
    "only the serving slot is shown": (
        f"{MEMBERS}shown_slots",
        "return frozenset({here, there})",
        "return frozenset({here})",
        "a canary's requests go to stable, and its evidence with them",
    ),
    "unknown is as good as allowed": (
        f"{CANARY}_judged",
        "if verdict is None or not verdict.known or is_blind:",
        "if verdict is None:",
        "a policy engine that is away lets a canary pass",
    ),
    "a denial is as good as allowed": (
        f"{CANARY}_judged",
        'if verdict.action != "promote":',
        "if False:",
        "what policy holds goes on all the same",
    ),
    "steps take no time": (
        f"{CANARY}_judged",
        "if left_s > 0:",
        "if False:",
        "a step is left as soon as policy agrees",
    ),
    "the last step comes first": (
        f"{CANARY}_judged",
        "if state.step + 1 < len(state.course.steps):",
        "if False:",
        "the first allow promotes",
    ),
    "silence is suffered for ever": (
        f"{CANARY}_judged",
        "if silent_s > budget_s:",
        "if False:",
        "an unjudged canary keeps its share",
    ),
    "a bad verdict changes nothing": (
        f"{CANARY}_judged",
        'if verdict.action == "rollback":',
        "if False:",
        "a canary that policy condemns stays",
    ),
    "suspended for good": (
        f"{CANARY}suspended",
        "if not state.is_suspended_by_verdict and is_back:",
        "if False:",
        "answers that are back do not go on",
    ),
    "a roll back is not heard": (
        f"{CANARY}_asked_back",
        "if asked is not None else None",
        "if False else None",
        "an operator's roll back of a canary does nothing",
    ),
    "a newer manifest waits": (
        f"{CANARY}_superseded",
        'return view.move(Move.SUPERSEDE, "the manifest asks for something else now")',
        "return None",
        "a rollout that nobody wants any more goes on",
    ),
    "switched before it is": (
        f"{PROMOTION}promoting",
        "if view.is_at(ALL):",
        "if True:",
        "the old containers go before the requests have left them",
    ),
    "a lost carrier is not missed": (
        f"{PROMOTION}_carrier_is_lost",
        "if view.ready(carrier):",
        "if True:",
        "a promotion waits for a canary that has died",
    ),
    "halted for good": (
        f"{PROMOTION}halted",
        'if view.asks("retry"):',
        "if False:",
        "an operator cannot try a promotion again",
    ),
    "the watch never ends": (
        f"{PROMOTION}watching",
        'return view.move(Move.SETTLED, "nothing bad was seen")',
        'return view.hold("watching")',
        "the kept containers stay for ever",
    ),
    "nobody looks while it watches": (
        f"{PROMOTION}watching",
        'if verdict is not None and verdict.known and verdict.action == "rollback":',
        "if False:",
        "what goes bad after its promotion stays",
    ),
    "quarantine is not heeded": (
        f"{REST}at_rest",
        "if release.revision in state.quarantined:",
        "if False:",
        "what was rolled back is tried again at once",
    ),
    "nothing is quarantined": (
        f"{ROLLOUT}with_quarantined",
        "return (*(kept for kept in quarantined if kept != revision), revision)[-QUARANTINE_KEPT:]",
        "return quarantined",
        "what was rolled back is tried again at once",
    ),
    "the gate stands open": (
        f"{REST}at_rest",
        "if not gate.allow:",
        "if False:",
        "a deployment begins although policy denies it",
    ),
    "silence counts as time": (
        f"{CLOCKS}_ticked",
        "if decision.is_observing else 0.0",
        "",
        "a step's time runs while nobody can judge",
    ),
    "the group is all of the service": (
        f"{MEMBERS}is_of",
        "and container.revision == group.release.revision",
        "",
        "containers of another revision pass for the ones that are wanted",
    ),
    "a full disk is not noticed": (
        f"{CYCLE}acting:save_decided",
        "return remember(advance(before, safe, context.now), context.observed, replicas)",
        "return after",
        "a rollout goes on that nobody could write down",
    ),
    "nothing is saved before acting": (
        f"{CYCLE}acting:save_decided",
        "ports.rollouts.save(after)",
        "pass",
        "a restart forgets where every rollout was",
    ),
    "revisions are not kept": (
        f"{CYCLE}acting:save_decided",
        "ports.rollouts.keep(kept)",
        "pass",
        "what is stable cannot be started again while the manifest asks for another",
    ),
    "no intent is written": (
        f"{CYCLE}run:_pass",
        "notes.is_recorded = append(ports, intent, notes)",
        "pass",
        "something is done that nobody announced",
    ),
    "words are forgotten in a crash": (
        f"{CYCLE}asking:save_words",
        "if not (words or memory.is_unsaved):",
        "if True:",
        "an operator's word is lost with the process",
    ),
    "any manifest is let in": (
        f"{CYCLE}gates:admit",
        "if not verdict.allow:",
        "if False:",
        "the admission policy is not heeded",
    ),
    "steps do not wait for one another": (
        f"{EXECUTOR}apply_plan",
        "all(needed in results for needed in step.after)",
        "True",
        "the order of a plan is not kept",
    ),
    "a failed step is as good as done": (
        f"{EXECUTOR}apply_plan",
        "if any(results[needed].outcome is not Outcome.OK for needed in step.after):",
        "if False:",
        "what depends on a step is done though the step failed",
    ),
    "pending is as good as done": (
        f"{EXECUTOR}apply_plan",
        "results[needed].outcome is not Outcome.OK",
        "results[needed].outcome not in (Outcome.OK, Outcome.PENDING)",
        "nobody waits for health, nginx or a drain",
    ),
    "evidence of another run counts": (
        f"{MEASURING}_begun",
        "if before is not None and before.about == about:",
        "if before is not None:",
        "a canary is judged by another one's requests",
    ),
    "only judged where there is a canary": (
        f"{MEASURING}judge",
        "if not trial.is_judged:",
        "if not trial.is_judged or not trial.beside:",
        "a release that is watched is never judged",
    ),
    "back at once to whoever is there": (
        f"{DRAFT}plan_traffic",
        "and self.is_named(state)",
        "",
        "a roll back goes to a healed container that nginx does not know yet",
    ),
    "late containers stay": (
        f"{DRAFT}sweep",
        "for container in self.left_over():",
        "for container in ():",
        "what Docker made late of a service that had left stays for ever",
    ),
    "the last one may go": (
        f"{DRAFT}clear",
        "(is_served or self.makes_room(container, state))",
        "True",
        "a canary is removed while those that replaced it hang",
    ),
    "one too many is always too many": (
        f"{MEMBERS}_as_many_as",
        "return few if is_enough else containers",
        "return few",
        "scaling down takes the only replica that is well",
    ),
    "a condemned canary gets its share first": (
        f"{CANARY}analyzing",
        "not is_condemned and not",
        "not",
        "requests go to a canary that policy has condemned",
    ),
    "moments may lie ahead": (
        f"{CLOCKS}_not_after",
        "since=min(state.since, now)",
        "since=state.since",
        "a clock that was set back while nobody ran makes a watch last an hour more",
    ),
}
