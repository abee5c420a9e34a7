"""The catalogue's rows about git in the simulated world: the manifest comes from a repository that misbehaves.

The repository and who looks at it are small ones in memory; whether a commit may be followed is asked of the product
itself (`core/trust.py`). The schedules are those of the other seeds; whatever anybody saves there is a commit here.
"""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass, field

import pytest

from reconciler.core.errors import Problem
from reconciler.core.git_config import Signatures
from reconciler.core.provenance import Commit
from reconciler.core.trust import Candidate, Kind, Relation, Rules, Signature, Signed, Trouble, judge
from tests.sim.ending import ends_well
from tests.sim.manifests import manifest
from tests.sim.schedule import drawn
from tests.sim.steps import happen
from tests.sim.watch import Violation
from tests.sim.world import World

SEEDS = 60
RULES = Rules(Signatures.HEAD)
SIGNED = (Signed.GOOD, Signed.GOOD, Signed.GOOD, Signed.NONE, Signed.UNKNOWN_KEY, Signed.KEY_EXPIRED, Signed.REVOKED)


@dataclass(frozen=True)
class Made:
    """A commit somebody pushed: the manifest's words, the commit before it, and what its signature is worth."""

    id: str
    words: str
    before: str
    signed: Signed


@dataclass
class Repository:
    """One branch, whoever pushes to it, and the copy of it that this host follows."""

    world: World
    chance: random.Random
    made: dict[str, Made] = field(default_factory=dict)
    head: str = ""
    is_down: bool = False
    accepted: str = ""
    pardoned: set[str] = field(default_factory=set)
    looks: int = 0

    def push(self, words: str, before: str | None = None, signed: Signed = Signed.GOOD) -> None:
        """Another commit, on top of the newest one or, history rewritten, of an older one."""
        id_ = f"{len(self.made) + 1:040x}"
        self.made[id_] = Made(id_, words, self.head if before is None else before, signed)
        self.head = id_

    def misbehaves(self) -> None:
        """Something that the rows GT1 to GT5 are about."""
        words = self.made[self.accepted].words if self.accepted else "1"
        match self.chance.randrange(6):
            case 0:
                self.is_down = not self.is_down
            case 1:
                self.push(words, before=self.chance.choice([*self.made, ""]))
            case 2:
                self.head = self.chance.choice([*self.made, ""])  # replayed, taken back, or the branch deleted
            case 3:
                self.push(words, signed=self.chance.choice(SIGNED))
            case 4:
                self.pardoned.add(self.head)
            case _:
                self.push(words)

    def look(self) -> None:
        """What a look finds; afterwards the world reads what is in force, and why nothing newer is."""
        self.looks += 1
        trouble = self._trouble()
        if trouble is None and self.head != self.accepted:
            self.accepted = self.head
            self.world.wants(self.made[self.head].words)
        told = () if trouble is None else (Problem("manifest.yaml", 0, 0, trouble.message),)
        commit = self._commit(self.accepted) if self.accepted else None
        self.world.loaded = dataclasses.replace(self.world.loaded, commit=commit, trouble=told)

    def _trouble(self) -> Trouble | None:
        if self.is_down:
            return Trouble(Kind.UNREACHABLE, "the server is down")
        if not self.head:
            return Trouble(Kind.REF_MISSING, "there is no branch main")
        one = self.made[self.head]
        if self.head in self.pardoned or self.head == self.accepted:
            return None
        relation = Relation.FIRST if not self.accepted else Relation.NOT_FORWARD
        if self.accepted in self.line(self.head):
            relation = Relation.FORWARD
        signature = Signature(one.id, one.signed, "ann", "ssh")
        return judge(Candidate(one.id, relation, (signature,), self.accepted or None), RULES)

    def line(self, commit: str) -> list[str]:
        """The commit and all before it."""
        found = []
        while commit:
            found.append(commit)
            commit = self.made[commit].before
        return found

    def _commit(self, id_: str) -> Commit:
        return Commit(id_, "Ann <ann@example.com>", self.made[id_].words, "2026-01-01T00:00:00Z", "ann", "git main")


def plays(seed: int) -> Repository:
    """The seed's schedule with a repository in the place of the file; the rules of the world hold throughout."""
    schedule, chance = drawn(seed), random.Random(f"git {seed}")
    world = World(schedule.first)
    repository = Repository(world, chance)
    repository.push(schedule.first)
    for step in schedule.steps:
        verb = step[0]
        if verb == "wants":
            repository.push(str(step[1]))
        elif verb == "cycle":
            for _ in range(int(step[1])):
                if chance.random() < 0.5:
                    repository.misbehaves()
                repository.look()
                happen(world, ["cycle", 1])
                in_force_is_trusted(repository)
        else:
            happen(world, step)
    before = world.loaded
    repository.is_down = True
    repository.look()
    assert (world.loaded.desired, world.loaded.commit) == (before.desired, before.commit), "what is in force stays"
    ends_well(world, None)
    return repository


def in_force_is_trusted(repository: Repository) -> None:
    """What the host goes by is a commit's manifest, one that is trusted or was let in by name."""
    memory = repository.world.memory
    if memory.commit is None or memory.last_good is None:
        return
    one = repository.made[memory.commit.id]
    assert one.signed is Signed.GOOD or one.id in repository.pardoned, "a commit that nobody trusts is in force"
    assert manifest(one.words).revision == memory.last_good.revision, "another commit is named than the one in force"


@pytest.mark.fault("GT1", "GT2", "GT3", "GT4", "GT5", "GT13")
@pytest.mark.parametrize("chunk", range(4))
def test_whatever_a_repository_does_the_host_goes_by_trusted_commits(chunk: int) -> None:
    looks, refused = 0, 0
    for seed in range(chunk * SEEDS, (chunk + 1) * SEEDS):
        try:
            played = plays(seed)
        except (Violation, AssertionError) as broken:
            raise AssertionError(f"seed {seed}: {broken}") from broken
        looks += played.looks
        refused += played.head != played.accepted
    assert looks > 4 * SEEDS
    assert refused > SEEDS // 10, "the repository never misbehaved"
