"""Whether a commit may be followed: it goes on from the last one that was, and who signed it is trusted.

What git and the keys say is gathered elsewhere; here it is judged, and put into words for an operator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from reconciler.core.git_config import Signatures

SHOWN = 12
"""So many characters of an id are shown: enough to find it, few enough to read."""


class Kind(StrEnum):
    """What kind of trouble a repository makes; these words stand in the history."""

    UNREACHABLE = "git_unreachable"
    NOT_FORWARD = "git_nonff"
    UNTRUSTED = "git_untrusted"
    REF_MISSING = "git_ref_missing"
    TOO_BIG = "git_too_big"
    REPAIRED = "git_repaired"
    REJECTED = "manifest_rejected"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a repository cannot be followed further: what happened, where, and what to do."""

    kind: Kind
    message: str


class Relation(StrEnum):
    """How a candidate stands to the commit that was accepted last."""

    FIRST = "first"
    SAME = "same"
    FORWARD = "forward"
    NOT_FORWARD = "not_forward"
    UNKNOWN = "unknown"
    """Its history was followed as far as it may be, and the accepted commit was not met."""


class Signed(StrEnum):
    """What is known of one commit's signature."""

    GOOD = "good"
    NONE = "none"
    BAD = "bad"
    """It is a signature, but not over this commit, or no whole one."""
    TWICE = "twice"
    UNKNOWN_KEY = "unknown_key"
    OTHER_USE = "other_use"
    KEY_EXPIRED = "key_expired"
    EXPIRED = "expired"
    REVOKED = "revoked"
    NOT_CERTIFIED = "not_certified"
    """OpenPGP: the key is in the keyring, and nobody said that it is whose it says it is."""
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Signature:
    """One commit's signature: what is known of it, and by whom (a principal, a fingerprint, or nothing)."""

    commit: str
    state: Signed
    by: str = ""
    scheme: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A commit that may be the next one. `signatures` are those that were asked for, its own first."""

    id: str
    relation: Relation
    signatures: tuple[Signature, ...] = ()
    accepted: str | None = None
    is_moved_tag: bool = False
    history: int = 0
    """How many of its commits are known here."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration asks for."""

    signatures: Signatures = Signatures.OFF
    allow_rewind: bool = False


def judge(candidate: Candidate, rules: Rules) -> Trouble | None:
    """Why `candidate` must not be followed; None where it may."""
    return _backwards(candidate, rules) or _unsigned(candidate, rules)


def _backwards(candidate: Candidate, rules: Rules) -> Trouble | None:
    accepted = (candidate.accepted or "")[:SHOWN]
    here = candidate.id[:SHOWN]
    if rules.allow_rewind or candidate.relation in (Relation.FIRST, Relation.SAME):
        return None
    if candidate.is_moved_tag:
        words = f"the tag was moved from {accepted} to {here}: a tag that is followed must not move"
    elif candidate.relation is Relation.FORWARD:
        return None
    elif candidate.relation is Relation.UNKNOWN:
        words = f"{here} does not descend from {accepted} within the {candidate.history} commits that were looked at"
    else:
        words = (
            f"{here} does not descend from {accepted}, which was accepted before: history was rewritten or taken back"
        )
    return Trouble(Kind.NOT_FORWARD, f"{words}. {_accept(candidate.id)}")


def _unsigned(candidate: Candidate, rules: Rules) -> Trouble | None:
    if rules.signatures is Signatures.OFF:
        return None
    if not candidate.signatures:
        return Trouble(Kind.UNTRUSTED, f"{candidate.id[:SHOWN]}: its signature was not looked at, which is a bug")
    bad = next((one for one in candidate.signatures if one.state is not Signed.GOOD), None)
    if bad is None:
        return None
    which = bad.commit[:SHOWN]
    if bad.commit != candidate.id:
        which += f" (before {candidate.id[:SHOWN]}; every commit must be signed)"
    return Trouble(Kind.UNTRUSTED, f"{which} {_complaint(bad)}. {_accept(candidate.id)}")


def _complaint(signature: Signature) -> str:
    key = signature.by or "a key that is not named"
    return {
        Signed.GOOD: "is signed",
        Signed.NONE: "is not signed",
        Signed.BAD: "has a signature over something else: it was made for another commit, or this one was changed",
        Signed.TWICE: "has more than one signature, which git never makes",
        Signed.UNKNOWN_KEY: f"is signed by {key}, which is not among the trusted signers",
        Signed.OTHER_USE: f"is signed by {key}, which the list of signers does not allow for git",
        Signed.KEY_EXPIRED: f"is signed by {key}, which was not valid at the commit's time, or has expired",
        Signed.EXPIRED: f"has a signature by {key} that has expired",
        Signed.REVOKED: f"is signed by {key}, which was revoked",
        Signed.NOT_CERTIFIED: f"is signed by {key}, which is in the keyring but was not given full trust there",
        Signed.UNREADABLE: f"has {signature.scheme or 'some'} signature that cannot be checked with what is configured",
    }[signature.state]


def _accept(commit: str) -> str:
    return f'If that is meant: `reconcilerctl git accept {commit[:SHOWN]} --reason "why"`'


def signer(candidate: Candidate, rules: Rules) -> str | None:
    """Who signed the candidate itself, where that was asked and is trusted."""
    own = _own(candidate.signatures, candidate.id)
    if rules.signatures is Signatures.OFF or own is None or own.state is not Signed.GOOD:
        return None
    return own.by


def _own(signatures: Sequence[Signature], commit: str) -> Signature | None:
    return next((one for one in signatures if one.commit == commit), None)
