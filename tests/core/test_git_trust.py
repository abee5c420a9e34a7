"""What is judged of a commit, and when a repository is looked at again."""

from __future__ import annotations

import pytest

from reconciler.core.git_config import Signatures
from reconciler.core.git_poll import CAP_S, next_look_s
from reconciler.core.trust import Candidate, Kind, Relation, Rules, Signature, Signed, judge, signer

NEW, OLD, MIDDLE = "a" * 40, "b" * 40, "c" * 40
HEAD, EVERY = Rules(Signatures.HEAD), Rules(Signatures.EVERY)


def candidate(relation: Relation, *signatures: Signature, is_moved_tag: bool = False) -> Candidate:
    return Candidate(NEW, relation, signatures, OLD, is_moved_tag, history=7)


@pytest.mark.fault("GT2", "GT3")
@pytest.mark.parametrize(
    ("relation", "expected", "words"),
    [
        (Relation.FIRST, None, ""),
        (Relation.SAME, None, ""),
        (Relation.FORWARD, None, ""),
        (Relation.NOT_FORWARD, Kind.NOT_FORWARD, "rewritten or taken back"),
        (Relation.UNKNOWN, Kind.NOT_FORWARD, "within the 7 commits"),
    ],
)
def test_history_only_goes_forward(relation: Relation, expected: Kind | None, words: str) -> None:
    trouble = judge(candidate(relation), Rules())
    assert (trouble.kind if trouble else None) is expected
    assert trouble is None or (words in trouble.message and f"git accept {NEW[:12]}" in trouble.message)
    assert judge(candidate(relation), Rules(allow_rewind=True)) is None


def test_a_tag_must_not_move_not_even_forward() -> None:
    moved = candidate(Relation.FORWARD, is_moved_tag=True)
    trouble = judge(moved, Rules())
    assert trouble is not None
    assert "tag was moved" in trouble.message
    assert judge(moved, Rules(allow_rewind=True)) is None


@pytest.mark.fault("GT4")
@pytest.mark.control("K12")
@pytest.mark.parametrize("state", Signed)
def test_only_a_good_signature_is_good_and_each_other_says_why(state: Signed) -> None:
    asked = candidate(Relation.FORWARD, Signature(NEW, state, "SHA256:key", "an SSH"))
    trouble = judge(asked, HEAD)
    if state is Signed.GOOD:
        assert trouble is None
        assert signer(asked, HEAD) == "SHA256:key"
        return
    assert trouble is not None
    assert trouble.kind is Kind.UNTRUSTED
    others = {judge(candidate(Relation.FORWARD, Signature(NEW, one)), HEAD) for one in Signed if one is not state}
    assert judge(candidate(Relation.FORWARD, Signature(NEW, state)), HEAD) not in others
    assert signer(asked, HEAD) is None


@pytest.mark.control("K12")
def test_a_signature_that_was_not_looked_at_is_none() -> None:
    trouble = judge(candidate(Relation.FIRST), HEAD)
    assert trouble is not None
    assert trouble.kind is Kind.UNTRUSTED


@pytest.mark.control("K12")
def test_every_commit_counts_and_the_bad_one_is_named() -> None:
    good, bad = Signature(NEW, Signed.GOOD, "ann"), Signature(MIDDLE, Signed.NONE)
    trouble = judge(candidate(Relation.FORWARD, good, bad), EVERY)
    assert trouble is not None
    assert trouble.message.startswith(f"{MIDDLE[:12]} (before {NEW[:12]}")
    assert judge(candidate(Relation.FORWARD, good), EVERY) is None


def test_history_comes_before_signatures() -> None:
    trouble = judge(candidate(Relation.NOT_FORWARD, Signature(NEW, Signed.NONE)), HEAD)
    assert trouble is not None
    assert trouble.kind is Kind.NOT_FORWARD


def test_where_signatures_are_not_asked_for_nobody_is_named() -> None:
    assert signer(candidate(Relation.FORWARD, Signature(NEW, Signed.GOOD, "ann")), Rules()) is None


# ── the next look ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_looks_are_a_tenth_apart_from_the_time_that_was_asked_for() -> None:
    assert next_look_s(15.0, 0, 0.0) == pytest.approx(13.5)
    assert next_look_s(15.0, 0, 1.0) == pytest.approx(16.5)


@pytest.mark.fault("GT1")
def test_after_failures_the_wait_doubles_up_to_five_minutes() -> None:
    longest = [next_look_s(15.0, failures, 1.0) for failures in range(1, 8)]
    assert longest == [30.0, 60.0, 120.0, 240.0, CAP_S, CAP_S, CAP_S]
    assert next_look_s(15.0, 3, 0.0) == 60.0
    assert next_look_s(15.0, 10_000, 1.0) == CAP_S
    assert next_look_s(3600.0, 4, 1.0) == 3600.0, "never sooner than was asked for"
