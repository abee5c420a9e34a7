"""The attack corpus (docs/security.md): every attempt, and that it comes to nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.security import corpus
from tests.security.cases import Attack


def _parameters() -> list[object]:
    return [
        pytest.param(
            attack,
            id=f"{attack.row}-{attack.name}".replace("[", "(").replace("]", ")").replace(" ", "-"),
            marks=pytest.mark.attack(attack.row),
        )
        for attack in corpus.ATTACKS
    ]


@pytest.mark.parametrize("attack", _parameters())
def test_the_attack_comes_to_nothing(attack: Attack, tmp_path: Path) -> None:
    attack.attempt(tmp_path)


def test_the_corpus_has_its_size(capsys: pytest.CaptureFixture[str]) -> None:
    """At least 300, no two alike; the figure is printed, by class."""
    counted = Counter(attack.kind for attack in corpus.ATTACKS)
    with capsys.disabled():
        print(f"\nattack corpus: {len(corpus.ATTACKS)} cases, {corpus.figures(counted)}")
    assert len({(attack.row, attack.name) for attack in corpus.ATTACKS}) == len(corpus.ATTACKS)
    assert len(corpus.ATTACKS) >= 300
    assert set(counted) == set(corpus.KINDS)
