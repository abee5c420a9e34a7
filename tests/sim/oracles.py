"""What must hold after every effect, seen from the host: containers, nginx's live text, what OPA was heard to say.

Nothing here asks the planner, the rollout or a decision. The rules carry the names of the reference (S1-S18).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.core.desired import POLICY, PROXY, Strategy
from reconciler.core.errors import RenderError
from reconciler.core.plan import (
    HARMLESS,
    WAITING,
    ConnectContainer,
    CreateContainer,
    Plan,
    ReloadProxy,
    RemoveContainer,
    RemoveNetwork,
    RemoveVolume,
    SetRestartPolicy,
    SetTraffic,
    StartContainer,
    StopContainer,
    TestProxyConfig,
    WriteFile,
)
from reconciler.core.record import Cycle, Verdict
from reconciler.core.words import Deploy, Promote, Resume, Retry, Rollback, Teardown, Word
from tests.sim.engine import OURS, SERVICE
from tests.sim.manifests import DRAIN_S, manifest
from tests.sim.proxy import CONFIG, routes, shares
from tests.sim.watch import Violation, Watch

PATIENCE_S = DRAIN_S - 0.5
HURT_CYCLES = 6
"""How many cycles after an accident of the world's making an older text may know more than a newer one."""

_MOVES_REQUESTS = (StopContainer, RemoveContainer, ReloadProxy, SetTraffic, StartContainer, ConnectContainer)


class Oracles:
    """The rules, with what has to be remembered to judge the next effect: services by name, revisions by image."""

    def __init__(self) -> None:
        self.watch = Watch()
        self.proven: frozenset[tuple[str, str]] = frozenset()
        self.free: frozenset[tuple[str, str]] = frozenset()
        self.level: Mapping[tuple[str, str], int] = {}
        self.courses: Mapping[tuple[str, str], list[tuple[int, float]]] = {}
        self.condemned: frozenset[tuple[str, str]] = frozenset()
        self.tested: frozenset[str] = frozenset()
        self.may_interrupt = False
        self.torn_down = False
        self.hurt_at = -100
        self.misled_at = -100
        self.full_at = -100
        self.live: str | None = None
        self.looked_at = 0.0
        self.asked_for: Any = None
        self.begun_with: Mapping[tuple[str, str], int] = {}
        self.asked_back: frozenset[str] = frozenset()
        self.intended: tuple[str, ...] = ()
        self.planned: tuple[str, ...] = ()
        self.unwritten: tuple[str, ...] | None = None
        self.splits: Mapping[str, dict[str, float]] = {}
        self.had: Mapping[str, dict[str, float]] = {}
        self._before: dict[tuple[str, str], bool] = {}
        self._weight_before = 0
        self.is_surprised = False
        self._pending: set[tuple[str, str]] = set()

    def clone(self) -> Oracles:
        """The same knowledge in another world."""
        twin = Oracles()
        for name in _SHARED:
            setattr(twin, name, getattr(self, name))
        twin.level, twin.watch = dict(self.level), self.watch.clone()
        return twin

    def key(self) -> tuple[Any, ...]:
        """What the next judgement can depend on, time aside."""
        return (
            self.proven,
            self.free,
            tuple(sorted(self.level.items())),
            self.condemned,
            self.may_interrupt,
            self.torn_down,
            self.asked_back,
            self.watch.key(),
        )

    # ---------------------------------------------------------------- what people and the world do

    def told(self, world: Any, word: Word) -> None:
        """An operator said something."""
        match word:
            case Deploy(allow_interruption=allow):
                self.torn_down = False
                self.may_interrupt = self.may_interrupt or allow
                self.condemned = self.asked_back = frozenset()
            case Teardown():
                self.torn_down = True
            case Rollback(service=service):
                self.asked_back |= {service}
                if not self._goes_back(world, service):
                    self.condemned |= self._on_trial(world, service)
            case Promote(service=service):
                wanted = world.desired.service(service)
                self._free(service, self.images(world, service) | ({wanted.image} if wanted else set()))
            case Resume(service=service) | Retry(service=service):
                self._begin_anew(world, service)
                self.condemned = frozenset(each for each in self.condemned if each[0] != service)

    def _begin_anew(self, world: Any, service: str) -> None:
        """What is tried again, and is not there, takes the course that the manifest has by now."""
        here = self.images(world, service)
        self.courses = {place: c for place, c in self.courses.items() if place[0] != service or place[1] in here}

    def _goes_back(self, world: Any, service: str) -> bool:
        """It was on its way back for another reason when somebody asked for it: who asks is told so, and no more."""
        stored = world.store.disk.values.get("rollout.json")
        return stored is not None and stored.of(service).phase in ("rolling_back", "returning", "restoring")

    def _on_trial(self, world: Any, service: str) -> frozenset[tuple[str, str]]:
        """Images that run beside a proven one that is well, and are not proven themselves."""
        here = {box.request.spec.image for box in world.engine.ours(service) if world.is_well(box)}
        proven = {image for name, image in self.proven if name == service}
        return frozenset((service, image) for image in here - proven) if here & proven else frozenset()

    def unheard(self, world: Any) -> None:
        """The process died: a teardown counts if it reached the disk, since nobody was told that it had not."""
        stored = world.store.disk.values.get("rollout.json")
        self.torn_down = bool(stored and stored.torn_down)

    def restarted(self, world: Any) -> None:
        """Another process starts: what people said and what never reached the disk (they were told) is forgotten."""
        stored = world.store.disk.values.get("rollout.json")
        if world.latest is not None and any("rollout.json" in error for error in world.latest.errors):
            self.torn_down = self.torn_down and bool(stored and stored.torn_down)
        kept = {name for name, s in stored.services.items() if s.quarantined or s.dismissed} if stored else set()
        forgotten = {place for place in self.condemned if place[0] not in kept}
        self.condemned, self.free = self.condemned - forgotten, self.free | forgotten

    def wanted(self, words: str) -> None:
        """A manifest was saved: what it says about analysis counts for its images."""
        for service in manifest(words).services:
            needs_none = not service.rollout.steps or service.rollout.strategy in (Strategy.ROLLING, Strategy.RECREATE)
            if needs_none or service.route is None:
                self._free(service.name, {service.image})

    def _free(self, service: str, images: set[str]) -> None:
        self.free |= {(service, image) for image in images}

    def hurt(self, world: Any) -> None:
        """The world did something to containers, nginx or the clock; how requests move by it is nobody's doing."""
        if world.cycles - self.hurt_at >= HURT_CYCLES:
            self.had = self.splits
        self.hurt_at = world.cycles
        if world.proxy.live is None:
            return
        self.splits = {name: self.split(world, name) for name in ("app", "shop")}
        for service, found in self.splits.items():
            if not any(name == service for name, _ in self.proven):  # its first deployment came with it
                self.proven |= {(service, image) for image in found if image != "nobody"}

    def mislead(self, world: Any) -> None:
        """An old list was given for a new one, which Docker never does: what came of it takes some cycles to mend."""
        self.surprise(world)
        self.misled_at = world.cycles

    def surprise(self, world: Any) -> None:
        """It did so after the cycle had looked, which nobody can foresee: the next one must know."""
        self.hurt(world)
        self.is_surprised = True

    def forget(self, world: Any) -> None:
        """The rollout's state was lost: whatever serves counts as stable, and no verdict or teardown is remembered."""
        self.condemned, self.proven = frozenset(), frozenset()
        self.torn_down = False
        self.free |= {(box.labels.get(SERVICE, ""), box.request.spec.image) for box in world.engine.ours()}

    # ---------------------------------------------------------------- what is seen

    def images(self, world: Any, service: str) -> set[str]:
        """What the service's containers run."""
        return {box.request.spec.image for box in world.engine.ours(service)}

    def split(self, world: Any, service: str) -> dict[str, float]:
        """The share of a service's requests by image, as nginx's newest workers send them."""
        found: dict[str, float] = {}
        if world.proxy.live is None:
            return found
        holders = {a: box for box in world.engine.boxes.values() for a in box.endpoints.values() if a}
        for address, part in shares(world.proxy.live, world.proxy.weights, service):
            box = holders.get(address)
            image = box.request.spec.image if box is not None else "nobody"
            found[image] = found.get(image, 0.0) + part
        return found

    def served(self, world: Any) -> Iterator[tuple[str, str, bool]]:
        """For each text by which workers serve, and each service: whether anybody who is well gets its requests."""
        well = world.well_by_address()
        for text in world.proxy.generations(PATIENCE_S):
            for service in routes(text).default:
                there = [a for a, _ in shares(text, world.proxy.weights, service)]
                yield text, service, any(a in well for a in there)

    def is_excused(self, world: Any, service: str) -> bool:
        """Requests of the service may be lost: it is taken down, replaced in place, or gone from the manifest."""
        asked = [world.desired, world.in_force]
        specs = [found for one in asked if one and (found := one.service(service))]
        in_place = "recreate" in world.ever
        return self.torn_down or in_place or len(specs) < 2 or self.may_interrupt or self.is_surprised

    # ---------------------------------------------------------------- effects

    def foresee(self, world: Any, action: Any) -> None:
        """Before an effect: S7, S1 (nobody who gets requests is taken away), S10 (it was written down before)."""
        if isinstance(action, _MOVES_REQUESTS):
            self._before = dict(_by_place(self.served(world)))
        if isinstance(action, StopContainer | RemoveContainer | ConnectContainer | SetRestartPolicy):
            self._ours_only(world, action)
        if isinstance(action, StopContainer | RemoveContainer):
            self._needed(world, action)
        if isinstance(action, SetTraffic):
            self._known_to_nginx(world, action)
        if isinstance(action, RemoveNetwork):
            net = world.engine.networks.get(action.network_id)
            if net is not None and net.labels.get("io.swiftdeploy.project") != "demo":
                raise Violation("S7", f"the network {net.name} is not ours, and was to be removed")
        if isinstance(action, RemoveVolume):
            labels = world.engine.volumes.get(action.name, {})
            if labels and labels.get("io.swiftdeploy.project") != "demo":
                raise Violation("S7", f"the volume {action.name} is not ours, and was to be removed")
        if action is not None and not isinstance(action, HARMLESS) and self.intended != self.planned:
            raise Violation("S10", f"{type(action).__name__} before its plan was written down")
        if isinstance(action, WriteFile) and action.path == CONFIG:
            self._shown_that_they_can(world, action.content)
        if isinstance(action, SetTraffic):
            self._weight_before = world.proxy.weights.get(action.service, 0)
        self.watch.foresee(world, action, is_tearing_down=self.torn_down or self.is_surprised)

    def look(self, world: Any, action: Any) -> None:
        """After an effect: S1, S3, S4, S6, S8, S9."""
        if isinstance(action, WriteFile) and action.path == CONFIG:
            self._tested(world, action.content)
        if isinstance(action, TestProxyConfig):
            self.tested |= {action.content}
        if isinstance(action, CreateContainer):
            self._not_too_many(world)
            self._begun(world, action)
        if not isinstance(action, _MOVES_REQUESTS):
            return
        is_way_down = isinstance(action, SetTraffic) and action.weight_pct == 0 and self._weight_before < 100
        for (text, service), was_served in _by_place(self.served(world)).items():
            is_ending = text != world.proxy.live  # old workers: they have little left to do
            if is_way_down and (is_ending or world.is_newborn or not self._is_stable_well(world, text, service)):
                continue  # what is rolled back gets no requests, whoever is left; KNOWN GAP: nor who nginx knows
            if not was_served and self._before.get((text, service)) and not self.is_excused(world, service):
                raise Violation("S1", f"{type(action).__name__} took the last healthy container of {service} away")
        self._right_addresses(world)
        if isinstance(action, SetTraffic):
            self._allowed(world)

    def _shown_that_they_can(self, world: Any, text: str) -> None:
        """S3: who joins nginx's configuration is well when it is written, unless nobody of the service is."""
        before = world.files.texts.get(CONFIG)
        if before is None or world.cycles - max(self.hurt_at, self.full_at) < HURT_CYCLES:
            return
        if world.is_newborn:  # what it reads may be older than what the last process did: it goes on from there
            return
        try:
            known = frozenset().union(*routes(before).members.values())
        except RenderError:
            return
        holders = {a: box for box in world.engine.boxes.values() for a in box.endpoints.values() if a}
        for name, addresses in routes(text).members.items():
            for address in addresses - known:
                box = holders.get(address)
                if box is None or world.is_well(box):
                    continue
                if any(map(world.is_well, world.engine.ours(box.labels.get(SERVICE, "")))):
                    raise Violation("S3", f"{box.name} joins {name} before it is well")

    def _way_back(self, world: Any, box: Any) -> None:
        """S16: whoever could take over from what policy condemns is not removed."""
        service, image = box.labels.get(SERVICE, ""), box.request.spec.image
        bad = {name for of, name in self.condemned - self.free if of == service}
        others = [each for each in world.engine.ours(service) if each is not box]
        is_last = bool(others) and all(each.request.spec.image in bad for each in others)
        if image not in bad and is_last and not (self.torn_down or self.is_surprised):
            raise Violation("S16", f"{box.name} was to be removed, the only one besides what was condemned")

    def _makes_room(self, world: Any, service: str) -> bool:
        """The manifest asks for an image that no container runs yet: what is there has to go before it can come."""
        wanted = world.in_force.service(service) if world.in_force else None
        return wanted is not None and wanted.image not in self.images(world, service)

    def _is_stable_well(self, world: Any, text: str, service: str, for_s: float = 0.0) -> bool:
        """Somebody is well beside those on trial, who are in the slot that is not the default one of `text`.

        `for_s` is how long they must have been so.
        """
        found = routes(text)
        here = found.default.get(service, "blue")
        blue, green = (found.members.get(f"{service}-{slot}", frozenset()) for slot in ("blue", "green"))
        tried = green - blue if here == "blue" else blue - green
        others = [box for box in world.engine.ours(service) if not tried & set(box.endpoints.values())]
        return any(world.is_well(box) and world.engine.up_s(box) >= for_s for box in others)

    def _ours_only(self, world: Any, action: Any) -> None:
        box = world.engine.boxes.get(action.container_id)
        if box is None:
            return
        if box.labels.get("io.swiftdeploy.project") != "demo" or box.labels.get("io.swiftdeploy.instance") != OURS:
            raise Violation("S7", f"{type(action).__name__} of {box.name}, which is not ours")

    def _needed(self, world: Any, action: StopContainer | RemoveContainer) -> None:
        box = world.engine.boxes.get(action.container_id)
        if box is not None and isinstance(action, RemoveContainer):
            self._way_back(world, box)
        if box is None or not world.is_well(box) or not any(box.endpoints.values()):
            return
        service = box.labels.get(SERVICE, "")
        if service == PROXY:
            others = [b for b in world.engine.ours(PROXY) if b is not box and world.is_well(b)]
            if not (self.torn_down or self.may_interrupt or others or self.is_surprised):
                raise Violation("S1", "nginx was to be stopped, and nobody had allowed it")
            return
        if service == POLICY or self.is_excused(world, service):
            return
        others = [b for b in world.engine.ours(service) if b is not box]
        is_last = not any(map(world.is_well, others)) and (service, box.request.spec.image) in self.proven
        if is_last and not (self._makes_room(world, service) or service in self.asked_back):
            raise Violation("S1", f"{box.name} is the last one of {service} that is well, and was to be stopped")
        mine = set(box.endpoints.values())
        for text in world.proxy.generations(PATIENCE_S):
            found = routes(text).members
            if any(mine & found.get(f"{service}-{slot}", frozenset()) for slot in ("blue", "green")):
                raise Violation("S1", f"nginx still names {box.name}, and it was to be stopped")

    def _known_to_nginx(self, world: Any, action: SetTraffic) -> None:
        """S3: more requests only for a slot whose own members the running configuration names."""
        text, service = world.proxy.live, action.service
        if text is None or action.weight_pct <= world.proxy.weights.get(service, 0):
            return
        found = routes(text)
        if service not in found.default or self.is_surprised:
            return
        blue, green = (found.members.get(f"{service}-{slot}", frozenset()) for slot in ("blue", "green"))
        here, other = (blue, green) if found.default[service] == "blue" else (green, blue)
        well = world.well_by_address().keys()
        if other and here & well and not other & well:
            raise Violation("S3", f"{action.weight_pct} % of {service} for a slot in which nobody is well")
        asked = world.in_force.service(service) if world.in_force else None
        is_first = self.hurt_at < 0 and not world.proxy.weights.get(service, 0) and blue != green
        least = min(asked.replicas, self.begun_with.get((service, asked.image), 1)) if asked else 0
        if is_first and len(other & well) < least:
            raise Violation("S3", f"{action.weight_pct} % of {service} while {len(other & well)} of {least} are well")
        if self.hurt_at < 0 and blue and blue == green:
            raise Violation("S3", f"{action.weight_pct} % of {service} for a slot that nginx does not know yet")

    def _tested(self, world: Any, text: str) -> None:
        """A first nginx tests its configuration by starting with it; any other one is tested before it is in place."""
        try:
            routes(text)
        except RenderError as error:
            raise Violation("S9", str(error)) from error
        if text not in self.tested and world.engine.ours(PROXY) and not self.is_surprised:
            raise Violation("S9", "a configuration that nginx did not test was put in place")
        self.tested |= {text}

    def _not_too_many(self, world: Any) -> None:
        """Kept, candidate and new ones may stand side by side: three of each replica, and a little."""
        asked = [one for one in (world.desired, world.in_force) if one]
        for service in {s.name for one in asked for s in one.services}:
            most = max(found.replicas for one in asked if (found := one.service(service)))
            there = len(world.engine.ours(service))
            if there > 3 * max(most, world.most_replicas) + 2:
                raise Violation("S8", f"{there} containers of {service}")

    def _right_addresses(self, world: Any) -> None:
        """S6: an address that gets requests belongs to a container of that service, or to nobody."""
        holders = {a: b for b in world.engine.boxes.values() if b.holds_things for a in b.endpoints.values() if a}
        for text in world.proxy.generations(PATIENCE_S):
            for service in routes(text).default:
                for address, _ in shares(text, world.proxy.weights, service):
                    box = holders.get(address)
                    if box is not None and box.labels.get(SERVICE) != service:
                        raise Violation("S6", f"requests of {service} go to {box.name}")

    # ---------------------------------------------------------------- canaries

    def heard(self, world: Any, domain: str, question: Mapping[str, Any], verdict: Verdict) -> None:
        """OPA answered: what it allows becomes allowed, what it condemns is remembered until the cycle is over."""
        service = str(question["service"]) if domain == "canary" else ""
        if domain != "canary":
            self.watch.heard(world, domain, service, verdict, {})
            return
        wanted = world.desired.service(service)
        self._settle_course(world, service)
        split = self.split(world, service)
        stands: dict[tuple[str, str], int] = {}
        gone = {wanted.image} if wanted is not None and self.is_surprised else set()  # after the cycle had looked
        for image in self.images(world, service) | gone:
            place, share = (service, image), split.get(image, 0.0)
            for index, (weight, _) in enumerate(self.courses.get(place, [])):
                if abs(share * 100 - weight) < 0.5:
                    stands[place] = index
            if place in self.proven:
                continue
            if verdict.known and verdict.allow:
                steps = self.courses.get(place, [])
                level = self.level.get(place, 0)
                flags = world.proxy.weights.get(service, 0)
                percent = share * 100 if world.proxy.live is not None else flags
                if level < len(steps) and (self.is_surprised or abs(percent - steps[level][0]) < 0.5):
                    self.level = {**self.level, place: level + 1}
        self.watch.heard(world, domain, service, verdict, stands)
        text = world.proxy.live
        has_a_way_back = text is not None and self._is_stable_well(world, text, service)
        if verdict.known and verdict.action == "rollback" and wanted is not None and has_a_way_back:
            on_trial = {b.request.spec.image for b in world.engine.ours(service)}
            unproven = {image for image in on_trial if (service, image) not in self.proven}
            is_watched = not unproven and wanted.image in on_trial and split.get(wanted.image, 0.0) > 0
            is_meant = wanted.image in unproven or is_watched
            if is_meant and wanted.mode.value == "stable" and world.in_force is world.desired:
                self._pending.add((service, wanted.image))

    def _begun(self, world: Any, action: CreateContainer) -> None:
        """The course of a rollout is fixed when its first container is made."""
        service, image = dict(action.labels).get(SERVICE, ""), action.spec.image
        wanted = world.in_force.service(service) if world.in_force else None
        stored = world.store.disk.values.get("rollout.json")
        is_starting = stored is not None and stored.of(service).phase == "starting"
        is_alone = sum(box.request.spec.image == image for box in world.engine.ours(service)) == 1
        is_anew = (service, image) not in self.courses or (is_alone and is_starting)
        if wanted is not None and wanted.image == image and is_anew:
            is_blue_green = wanted.rollout.strategy is Strategy.BLUE_GREEN
            steps = [(0, 0.0)] if is_blue_green else [(s.weight_pct, s.duration_s) for s in wanted.rollout.steps]
            self.courses = {**self.courses, (service, image): steps}
            self.begun_with = {**self.begun_with, (service, image): wanted.replicas}
            if (service, image) not in self.proven and not self.is_surprised:
                self.watch.begun(world, service, action)

    def _settle_course(self, world: Any, service: str) -> None:
        """It goes the course that the manifest gives when the first requests may come: what is written down, if that is
        what the manifest in force asks for.
        """
        wanted = world.in_force.service(service) if world.in_force else None
        stored = world.store.disk.values.get("rollout.json")
        if wanted is None or stored is None or self.level.get((service, wanted.image), 0):
            return
        steps = [(step.weight_pct, step.duration_s) for step in stored.of(service).course.steps]
        is_blue_green = wanted.rollout.strategy is Strategy.BLUE_GREEN
        asked = [(0, 0.0)] if is_blue_green else [(s.weight_pct, s.duration_s) for s in wanted.rollout.steps]
        if (service, wanted.image) in self.courses and [w for w, _ in steps] == [w for w, _ in asked]:
            self.courses = {**self.courses, (service, wanted.image): steps}

    def _allowed(self, world: Any) -> None:
        """S3, S4, S16: more requests for an image that is not proven only as far as policy or an operator allowed."""
        if world.proxy.live is None:
            return
        seen, self.splits = self.splits, {name: self.split(world, name) for name in ("app", "shop")}
        for service, after in self.splits.items():
            before = seen.get(service, {})
            known = {image for name, image in self.proven if name == service}
            if not before.keys() - {"nobody"} and not known & self.images(world, service):
                known = set()  # nothing of it is left: this is a first deployment again
            for image, share in after.items():
                place = (service, image)
                if image == "nobody" or share <= before.get(image, 0.0) + 0.005 or self._had(world, place, share):
                    continue
                if not known:
                    self.proven |= {place}
                elif place in self.condemned and place not in self.free and not self._bridges(world, place):
                    raise Violation("S16", f"{image} of {service} was rolled back, and gets {share:.0%} again")
                elif place not in self.proven and place not in self.free:
                    self._within(world, place, share)
                if share > 0.995:
                    self.proven |= {place}

    def _had(self, world: Any, place: tuple[str, str], share: float) -> bool:
        """It gets back what it had before an accident took it away: until the way back is gone, it keeps that."""
        is_soon = world.cycles - self.hurt_at < HURT_CYCLES
        return is_soon and share <= self.had.get(place[0], {}).get(place[1], 0.0) + 0.005

    def _bridges(self, world: Any, place: tuple[str, str]) -> bool:
        """What carried all requests keeps them until those it gives them back to have started, and nobody else is."""
        stored = world.store.disk.values.get("rollout.json")
        is_returning = stored is not None and stored.of(place[0]).phase == "returning"
        others = (box for box in world.engine.ours(place[0]) if box.request.spec.image != place[1])
        return is_returning and not any(world.is_well(box) and world.engine.up_s(box) > 2.0 for box in others)

    def _within(self, world: Any, place: tuple[str, str], share: float) -> None:
        self._settle_course(world, place[0])
        steps = self.courses.get(place, [])
        level = self.level.get(place, 0)
        most = 100 if level >= len(steps) else steps[level][0]
        if share * 100 > most + 0.5:
            raise Violation("S4", f"{place[1]} of {place[0]} gets {share:.0%}, policy allowed {most} %")
        wanted = world.in_force.service(place[0]) if world.in_force else None
        is_same = wanted is not None and steps == [(step.weight_pct, step.duration_s) for step in wanted.rollout.steps]
        for index, (weight, lasts_s) in enumerate(steps if is_same else ()):
            is_early = weight > 0 and self.watch.observed.get((*place, index), 0.0) < lasts_s - 0.01
            if share * 100 > weight + 0.5 and is_early and not world.clock.jumped:
                raise Violation(
                    "S5", f"{place[1]} of {place[0]} left {weight} % before it was watched for {lasts_s:g} s"
                )
        is_here = wanted is not None and wanted.image in world.engine.images and world.in_force is self.asked_for
        is_promoted = level >= len(steps)  # what policy promoted goes on to the end, and then gives way
        if wanted is not None and is_here and wanted.image != place[1] and share < 0.995 and not is_promoted:
            raise Violation(
                "S4", f"{place[1]} of {place[0]} gets {share:.0%}, and the manifest asks for {wanted.image}"
            )

    # ---------------------------------------------------------------- cycles

    def plans(self, world: Any, plan: Plan) -> None:
        """A plan is about to be carried out: the newest durable intent must be its own, if it could be written."""
        self.planned = tuple(str(step) for step in plan.steps if not isinstance(step.action, WAITING))
        newest = next((r for r in reversed(world.history.records) if r["kind"] == "intent"), None)
        self.intended = tuple(newest["plan"]) if newest else ()
        if world.is_history_lost:
            self.unwritten = self.planned
        if self.planned == self.unwritten:
            self.intended = self.planned

    def begin_cycle(self, world: Any) -> None:
        """Time has passed since the last one: requests must still have somewhere to go."""
        self._pending = set()
        if world.files.is_full:  # what is written once there is room may know of somebody who was well until then
            self.full_at = world.cycles
        self.watch.begin(world)
        self.asked_for = world.in_force
        self.is_surprised = world.cycles - self.misled_at < HURT_CYCLES
        self._allowed(world)
        live, self.live = self.live, world.proxy.live
        looked_at, self.looked_at = self.looked_at, world.clock.seconds
        if live is None or live == self.live or self.live is None:
            return
        if world.cycles - self.hurt_at < HURT_CYCLES:
            return
        well = world.well_by_address()
        for service in routes(self.live).default:
            if self.is_excused(world, service) or service not in routes(live).default:
                continue
            old = [a for a, _ in shares(live, world.proxy.weights, service) if a in well]
            new = [a for a, _ in shares(self.live, world.proxy.weights, service) if a in well]
            if old and not new and self._is_stable_well(world, live, service, world.clock.seconds - looked_at + 0.5):
                raise Violation("S1", f"the new configuration sends requests of {service} to nobody who is well")

    def end_cycle(self, world: Any, cycle: Cycle) -> None:
        """S15: nothing but what the schedule broke may be called a bug. Condemnations count from now on."""
        if not world.fired and any("bug:" in text for text in (*cycle.errors, *(r.detail for r in cycle.results))):
            raise Violation("S15", "; ".join((*cycle.errors, *(r.detail for r in cycle.results if "bug:" in r.detail))))
        if not world.fired and not cycle.errors:
            self.condemned |= self._pending
            self.level = {place: n for place, n in self.level.items() if place not in self._pending}
            self.proven -= self._pending
        self.watch.end(world, cycle, self, is_calm=world.cycles - self.hurt_at >= HURT_CYCLES)
        self._left(world)
        if self.hurt_at < 0:
            self._forgotten(world)

    def _left(self, world: Any) -> None:
        """A service that is gone and that nobody asks for begins anew when it comes back."""
        asked = {service.name for one in (world.desired, world.in_force) if one for service in one.services}
        gone = {name for name, _ in self.proven if name not in asked and not world.engine.ours(name)}
        self.proven = frozenset(place for place in self.proven if place[0] not in gone)

    def _forgotten(self, world: Any) -> None:
        """An image that no container runs any more is new again, once another one serves."""
        here = {(box.labels[SERVICE], box.request.spec.image) for box in world.engine.ours() if SERVICE in box.labels}
        stored = world.store.disk.values.get("rollout.json")
        tried = {name for name, state in stored.services.items() if state.candidate} if stored else set()
        known = {place for place in self.courses if place in here or place[0] in tried}  # a restart takes it up again
        self.level = {place: n for place, n in self.level.items() if place in known}
        self.watch.observed = {key: s for key, s in self.watch.observed.items() if key[:2] in known}
        self.courses = {place: steps for place, steps in self.courses.items() if place in known}
        rests = {name for name, state in stored.services.items() if state.phase == "stable"} if stored else set()
        stays = {service for service, _ in self.proven & here} & rests
        self.proven = frozenset(place for place in self.proven if place in here or place[0] not in stays)


_SHARED = (
    "proven",
    "free",
    "condemned",
    "courses",
    "begun_with",
    "tested",
    "may_interrupt",
    "torn_down",
    "asked_back",
    "hurt_at",
    "misled_at",
    "full_at",
    "live",
    "looked_at",
    "asked_for",
    "splits",
    "had",
    "intended",
    "planned",
    "unwritten",
)


def _by_place(found: Iterator[tuple[str, str, bool]]) -> dict[tuple[str, str], bool]:
    return {(text, service): is_served for text, service, is_served in found}
