"""The mutants: name → function, the piece of its source, what stands there instead, and what that breaks."""

from __future__ import annotations

PLANNER = "reconciler.core.planner."
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
        f"{PLANNER}leaving:clear",
        "draft.grace_s(container.revision), *after)",
        "draft.grace_s(container.revision))",
        "a container goes while nginx's workers still send to it",
    ),
    "park before nginx has let go": (
        f"{PLANNER}leaving:park",
        '"kept for a roll back", proxy)',
        '"kept for a roll back")',
        "the old containers stop while old workers still send to them",
    ),
    "park whoever is needed": (
        f"{PLANNER}leaving:park",
        "if not draft.has_ready(state, state.candidate if state.carries_all else state.stable):",
        "if False:",
        "the old containers are stopped although nobody else answers",
    ),
    "weight up before the reload": (
        f"{PLANNER}traffic:plan_traffic",
        "None if at_once else proxy,",
        "None,",
        "flags move before nginx knows both slots",
    ),
    "weight to a canary that is down": (
        f"{PLANNER}traffic:_weight",
        "case Phase.ANALYZING if not draft.has_ready(state, state.candidate):",
        "case Phase.ANALYZING if False:",
        "a canary that is not ready gets its share",
    ),
    "promote a canary that is down": (
        f"{PLANNER}traffic:_weight",
        "case Phase.PROMOTING if not draft.has_ready(state, state.candidate):",
        "case Phase.PROMOTING if False:",
        "all requests go to nobody",
    ),
    "switch to new ones that are down": (
        f"{PLANNER}traffic:_weight",
        "case Phase.SWITCHING if not draft.has_ready(state, state.fresh):",
        "case Phase.SWITCHING if False:",
        "all requests go to new containers that have died",
    ),
    "traffic moves while it returns": (
        f"{PLANNER}traffic:_weight",
        "case Phase.RETURNING:",
        "case Phase.RETURNING if False:",
        "requests go back before the old containers are well",
    ),
    "restore to the wrong slot": (
        f"{PLANNER}traffic:_restored",
        "return 0 if state.kept is None else 100",
        "return 100 if state.kept is None else 0",
        "a roll back sends requests to what is rolled back",
    ),
    "no test of the configuration": (
        f"{PLANNER}proxy:_configure",
        'tested = draft.add(TestProxyConfig(text, running.image_id, running.id), PROXY_CONFIG, "changed", connected)',
        "tested = connected",
        "nginx's text is put in place untested",
    ),
    "written is as good as running": (
        f"{PLANNER}proxy:_configure",
        "if proxy.live_hash != draft.wish.proxy_hash:",
        "if False:",
        "a reload that was lost is never asked for again",
    ),
    "no waiting for old workers": (
        f"{PLANNER}proxy:_configure",
        "if proxy.retiring and",
        "if False and proxy.retiring and",
        "what old workers still send to is stopped",
    ),
    "nginx is replaced without asking": (
        f"{PLANNER}proxy:plan_proxy",
        "if draft.wish.allow_interruption:",
        "if True:",
        "a change of port drops connections at once",
    ),
    "dead containers stay dead": (
        f"{PLANNER}containers:heal",
        "if container.status in (Status.EXITED, Status.CREATED):",
        "if container.status in (Status.CREATED,):",
        "nobody starts what has stopped",
    ),
    "created is as good as started": (
        f"{PLANNER}containers:heal",
        "if container.status in (Status.EXITED, Status.CREATED):",
        "if container.status in (Status.EXITED,):",
        "a crash between create and start is never made good",
    ),
    "lost networks are not joined again": (
        f"{PLANNER}containers:heal",
        "connected = connect(draft, container, ground.network, (alias,))",
        "connected = None",
        "a container that somebody disconnected stays alone",
    ),
    "superfluous replicas stay": (
        f"{PLANNER}leaving:_unwanted",
        "or (c.replica or 0) >= wanted]",
        "]",
        "scaling down changes nothing",
    ),
    "old groups stay": (
        f"{PLANNER}leaving:_unwanted",
        "found = list(others(state, draft.observed, *groups))",
        "found = []",
        "what was rolled back is never removed",
    ),
    "rolled back canaries are wanted": (
        f"{PLANNER}groups:wanted_groups",
        "found = (state.stable,)",
        "found = (state.stable, state.candidate)",
        "a roll back never ends",
    ),
    "one replica is enough": (
        f"{PLANNER}services:_plan_group",
        "range(draft.replicas(state, len(draft.here(state, group))))",
        "range(1)",
        "only the first replica is looked after",
    ),
    "the other slot may be anything": (
        f"{PLANNER}containers:create",
        "generation = 1 + max((c.generation for c in draft.observed.of(service)), default=0)",
        "generation = 1",
        "names collide with containers that are kept",
    ),
    "rendered files are not looked at": (
        f"{PLANNER}files:write",
        "if is_written(draft, path, text):",
        "if path in draft.observed.files:",
        "a file that was edited by hand, or is of yesterday, stays",
    ),
    "policies of yesterday stay": (
        f"{PLANNER}policies:plan_policies",
        "if container.id not in kept:",
        "if False:",
        "the OPA of an older policy is never removed",
    ),
    "a dead OPA stays dead": (
        f"{PLANNER}policies:_mend",
        "elif not container.is_running and container.status not in BEING_HEALED:",
        "elif False:",
        "OPA is waited for, and nobody starts it",
    ),
    "teardown forgets the network": (
        f"{PLANNER}teardown:_remove_networks",
        'draft.add(RemoveNetwork(network.id, network.name), network.name, "torn down", *gone)',
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
        "if answer is not None and state.service not in view.context.unread:",
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
        f"{PLANNER}traffic:plan_traffic",
        "and _is_named(draft, state)",
        "",
        "a roll back goes to a healed container that nginx does not know yet",
    ),
    "late containers stay": (
        f"{PLANNER}leaving:sweep",
        "for container in _left_over(draft):",
        "for container in ():",
        "what Docker made late of a service that had left stays for ever",
    ),
    "the last one may go": (
        f"{PLANNER}leaving:clear",
        "(is_served or _makes_room(draft, container, state))",
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
