"""The story that records tell one after the other: modes, chaos, words, moves, verdicts, repairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reconciler.formats.audit_ledger import MAX_TEXT, Entry, Key, Ledger
from reconciler.formats.audit_words import (
    DONE_AT_ONCE,
    MOVES,
    NO_NEWS,
    WORDS,
    by,
    dicts,
    is_waiting,
    joined,
    mapping,
    number_in,
    revisions,
    step_words,
    text,
    violations,
    without_numbers,
)

GUIDE_LIMITS = (("error_rate", "max_error_rate", 0.01), ("p99_latency", "max_p99_latency_ms", 500))
"""Measurement, violation and limit behind a snapshot's FAIL: the guide's own."""


@dataclass(slots=True)
class Story:
    """What must be known of the records so far to tell what the next one brings.

    `is_repeatable`: a record that says the same as the last one would only make the touched rows longer.
    """

    ledger: Ledger = field(default_factory=Ledger)
    project: str = ""
    is_waiting: bool = False
    _mode: str = "stable"
    _modes: Mapping[str, str] = field(default_factory=dict)
    _chaos: dict[str, str] = field(default_factory=dict)
    _unheard: dict[str, int] = field(default_factory=dict)
    _revision: object = None
    _is_applying: bool = False
    _asked: object = None
    _commit: str = ""

    @property
    def is_repeatable(self) -> bool:
        return not self.ledger.is_news and not self._unheard

    def hear(self, kind: str | None, record: dict[str, Any], at: str) -> None:
        """The next record, of one of the `KINDS`."""
        self.is_waiting = False
        self.ledger.begin(at)
        KINDS[kind](self, record, at)

    def _snapshot(self, record: dict[str, Any], at: str) -> None:
        """A line of the guide's."""
        self._overall_mode(record, at)
        word = record.get("policy")
        self.ledger.is_news = word != "PASS" or self.ledger.is_news  # which limits are exceeded is in the numbers
        failed = isinstance(word, str) and word.upper().startswith("FAIL")
        keys: set[Key] = set()
        for measured, name, limit in GUIDE_LIMITS if failed else ():
            value = number_in(record.get(measured))
            if value is not None and value > limit:
                keys.add(key := ("policy", "snapshot", "", name))
                said = Entry(at, at, _MESSAGES[name], "", "FAIL", id=name, low=value, high=value, limit=limit)
                self.ledger.violate(key, said)
        if failed and not keys:
            keys.add(key := ("policy", "snapshot", "", ""))
            self.ledger.violate(key, Entry(at, at, "Policy failed", "", text(word)))
        self.ledger.close(("policy", "snapshot"), keys)

    def _idle(self, record: dict[str, Any], at: str) -> None:
        """Many cycles in which nothing happened: what was wrong before still is, what was not is not."""
        self._overall_mode(record, at)
        self._is_applying = False
        count = record.get("count")
        times = count if isinstance(count, int) and not isinstance(count, bool) else 1
        self.ledger.close(("errors",))
        self.ledger.close(("problems",))
        if record.get("policy") != "FAIL":
            if record.get("policy") == "PASS":
                self.ledger.close(("policy",))
            return
        self.ledger.is_news = True  # its count is a number
        lasting = self.ledger.lasting("policy")
        for entry in lasting:
            entry.last = at
            entry.count += times
        if not lasting:
            first = record.get("first")
            begun = first[:19].replace("T", " ") if isinstance(first, str) and first.endswith("Z") else at
            self.ledger.violate(("policy", "idle"), Entry(begun, at, "Policy failed"), times)

    def _cycle(self, record: dict[str, Any], at: str) -> None:
        rollouts = mapping(record.get("rollouts"))
        self._mode_of_each(record, rollouts, at)
        self._commit_seen(mapping(record.get("commit")), at)
        words = dicts(record.get("words"))
        self._words(words, at)
        self._chaos_seen(rollouts, at)
        self._moves(dicts(record.get("decisions")), rollouts, at)
        self._trigger(record, at)
        self._verdicts(dicts(record.get("verdicts")), rollouts, at)
        self._repairs(record, words, at)
        self._lasting("errors", "Trouble", record.get("errors"), at)
        self._lasting("problems", "Manifest refused", record.get("problems"), at)
        self._lasting("trouble", "Source not followed", record.get("trouble"), at)

    def _commit_seen(self, commit: Mapping[str, Any], at: str) -> None:
        """Another commit is in force."""
        id_ = text(commit.get("id"))
        if not id_ or id_ == self._commit:
            return
        self._commit = id_
        signer = text(commit.get("signer"))
        signed = f", signed by {signer}" if signer else ""
        self.ledger.tell(
            at,
            f"Commit {id_[:12]} in force",
            "",
            f"{text(commit.get('subject'))} ({text(commit.get('author'))}{signed})",
        )

    def _nothing(self, record: dict[str, Any], at: str) -> None:
        """Written for other readers."""

    def _genesis(self, record: dict[str, Any], at: str) -> None:
        self.project = self.project or text(record.get("project"))

    def _log_itself(self, record: dict[str, Any], at: str) -> None:
        what = _LOG[str(record["kind"])]
        self.ledger.tell(at, what, "", text(record.get("reason") or record.get("kept_as") or ""))

    # ------------------------------------------------------------ what a cycle tells

    def _overall_mode(self, record: dict[str, Any], at: str) -> None:
        mode, phase = record.get("mode"), mapping(record.get("phase"))
        if not isinstance(mode, str) or not mode:
            return
        if mode != self._mode:
            services = [name for name, known in self._modes.items() if known != mode] or [*phase]
            self.ledger.tell(at, f"Mode switched to {text(mode)}", services[0] if len(services) == 1 else "")
            self._modes = {name: mode for name in self._modes} if mode == "stable" else self._modes
        self._mode = mode

    def _mode_of_each(self, record: dict[str, Any], rollouts: Mapping[str, Any], at: str) -> None:
        """Where a record tells it for each service, that is what counts."""
        mode = record.get("mode")
        beside = {
            name: "canary" if mode == "canary" and each.get("canary") and each.get("stable") else "stable"
            for name, each in rollouts.items()
            if isinstance(each, dict)
        }
        if not beside or mode is None or (mode == "canary" and "canary" not in beside.values()):
            self._overall_mode(record, at)
            return
        for name, each in beside.items():
            if each != self._modes.get(name, self._mode):
                self.ledger.tell(at, f"Mode switched to {each}", name)
        self._modes, self._mode = beside, str(mode)

    def _words(self, words: list[dict[str, Any]], at: str) -> None:
        self.ledger.is_news = self.ledger.is_news or bool(words)
        for word in words:
            name, service, detail = text(word.get("word")), text(word.get("service")), text(word.get("detail"))
            noun = WORDS.get(name, name)
            outcome = text(word.get("outcome") or "done")
            if name in NO_NEWS:
                continue
            if outcome.lower().startswith(("denied", "unknown")):
                why = outcome.partition(":")[2].strip()
                what = f"{noun} {'denied' if outcome.lower().startswith('denied') else 'not decided'}"
                self.ledger.violate(
                    ("word", name, service, outcome), Entry(at, at, what, service, joined(why, by(word)))
                )
            elif name == "chaos":
                self._chaos_word(service, detail, outcome, by(word), at)
            else:
                said = "" if outcome == "done" else outcome
                told = f"{noun} failed" if said else DONE_AT_ONCE.get(name, f"{noun} asked for")
                self.ledger.tell(at, told, service, joined(said, detail, by(word)))

    def _chaos_word(self, service: str, detail: str, outcome: str, said_by: str, at: str) -> None:
        kind = detail.split(" ")[0]
        if outcome != "done":
            self.ledger.tell(at, "Chaos failed", service, joined(outcome, said_by))
        elif kind in ("recover", "none"):
            self.ledger.tell(at, "Chaos ended", service, said_by)
            self._expect_chaos(service, "none")
        else:
            self.ledger.tell(at, f"Chaos injected: {detail}", service, said_by)
            self._expect_chaos(service, kind)

    def _expect_chaos(self, service: str, kind: str) -> None:
        """The service was told; what it was seen to do in the last cycles may still be the old."""
        self._chaos.pop(service, None)
        if kind != "none":
            self._chaos[service] = kind
        self._unheard[service] = 3

    def _chaos_seen(self, rollouts: Mapping[str, Any], at: str) -> None:
        for name, each in rollouts.items():
            seen = each.get("chaos") if isinstance(each, dict) else None
            if seen in ("none", "slow", "error"):
                self._chaos_is(name, seen, at)
            elif not mapping(each).get("canary"):
                self._unheard.pop(name, None)
                if self._chaos.pop(name, None):
                    self.ledger.tell(at, "Chaos ended", name, "the canary is gone")

    def _chaos_is(self, name: str, seen: str, at: str) -> None:
        waits = self._unheard.pop(name, 0)
        if seen == self._chaos.get(name, "none"):
            return
        if waits > 1:
            self._unheard[name] = waits - 1
        elif seen == "none":
            del self._chaos[name]
            self.ledger.tell(at, "Chaos ended", name)
        else:
            self._chaos[name] = seen
            self.ledger.tell(at, f"Chaos injected: {seen}", name, "not by a word to us")

    def _moves(self, decisions: list[dict[str, Any]], rollouts: Mapping[str, Any], at: str) -> None:
        for decision in decisions:
            move = text(decision.get("move"))
            if move in ("", "hold"):
                continue
            service = text(decision.get("service"))
            each = mapping(rollouts.get(service))
            parts = [step_words(each) if move in ("advance", "resume") else "", revisions(move, decision, each)]
            parts.append(text(decision.get("reason")))
            self.ledger.tell(at, _move_words(move, each), service, joined(*parts))

    def _trigger(self, record: dict[str, Any], at: str) -> None:
        """What an operator asked for, in records that carry no words."""
        trigger = mapping(record.get("trigger"))
        asked = None if "words" in record or trigger.get("kind") != "operator" else trigger
        name = text(asked.get("detail")) if asked else ""
        if asked and asked != self._asked and name in WORDS:
            self.ledger.tell(at, f"{WORDS[name]} asked for", "", by(asked))
        self._asked = asked
        self.ledger.is_news = self.ledger.is_news or asked is not None

    def _verdicts(self, verdicts: list[dict[str, Any]], rollouts: Mapping[str, Any], at: str) -> None:
        judged = [name for name, each in rollouts.items() if isinstance(each, dict) and each.get("canary")]
        for verdict in verdicts:
            domain = text(verdict.get("domain"))
            sole = judged[0] if domain == "canary" and len(judged) == 1 else ""
            service = text(verdict.get("service") or sole)
            keys: set[Key] = set()
            if is_waiting(verdict):
                self.is_waiting = True
            elif not verdict.get("allow"):
                for entry in violations(domain, service, verdict, at):
                    keys.add(key := ("policy", domain, service, entry.id, without_numbers(entry.what), entry.detail))
                    self.ledger.violate(key, entry)
            self.ledger.close(("policy", domain, service), keys)
            self.ledger.close(("policy", "idle"))

    def _repairs(self, record: dict[str, Any], words: list[dict[str, Any]], at: str) -> None:
        """What was put right while nothing was rolled out.

        After a change of the manifest it is that change; before any service has a phase it is the first start.
        """
        done = [action for action in dicts(record.get("actions")) if action.get("outcome") == "ok"]
        mended = [action for action in done if text(action.get("verb")) in _MENDING]
        revision = record.get("revision")
        is_new = revision != self._revision and self._revision is not None
        self._revision = self._revision if revision is None else revision
        self._is_applying = is_new or (self._is_applying and bool(done))
        moves = any(d.get("move") not in (None, "hold") for d in dicts(record.get("decisions")))
        phases = mapping(record.get("phase"))
        at_rest = all(phase in ("stable", "watching") for phase in phases.values())
        if not mended or moves or words or not at_rest or self._asked:
            return
        what = "Manifest applied" if self._is_applying else "Drift repaired" if phases else "Started"
        said = "; ".join(text(f"{each.get('verb')} {each.get('target')}: {each.get('cause')}") for each in mended[:5])
        detail = f"{said}; and {len(mended) - 5} more" if len(mended) > 5 else said
        self.ledger.is_news = True
        key = ("repair", what, without_numbers(detail))
        self.ledger.tell_lasting(key, Entry(at, at, what, "", detail[:MAX_TEXT]))

    def _lasting(self, kind: str, what: str, said: object, at: str) -> None:
        keys: set[Key] = set()
        for line in [text(each) for each in said[:20]] if isinstance(said, list) else []:
            keys.add(key := (kind, without_numbers(line)))
            self.ledger.tell_lasting(key, Entry(at, at, what, "", line))
        self.ledger.close((kind,), keys)


def _move_words(move: str, each: Mapping[str, Any]) -> str:
    return "Deployment started" if move == "start" and each and not each.get("stable") else MOVES.get(move, move)


KINDS = {
    None: Story._snapshot,
    "cycle": Story._cycle,
    "idle": Story._idle,
    "genesis": Story._genesis,
    "intent": Story._nothing,
    "segment_start": Story._nothing,
    "checkpoint": Story._nothing,
    "history_tampered": Story._log_itself,
    "history_corrupt": Story._log_itself,
    "history_recovered": Story._log_itself,
    "storage_recovered": Story._log_itself,
    "history_pruned": Story._log_itself,
    "history_kept": Story._log_itself,
}
_LOG = {
    "history_tampered": "History changed by another",
    "history_corrupt": "History damaged",
    "history_recovered": "History recovered after a crash",
    "storage_recovered": "History writable again",
    "history_pruned": "Old history removed",
    "history_kept": "History over its limit",
}
_MENDING = frozenset({"create", "start", "connect", "write", "delete", "set traffic", "create network"})
_MESSAGES = {"max_error_rate": "Error rate exceeds 1% threshold", "max_p99_latency_ms": "P99 latency exceeds 500ms"}
