"""A log with a limit: old segments go, and what is left still proves that it is all that should be there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from history_tools import failing, fill, kinds, log, names, needs_ssh_keygen, numbers, raw_lines, rechained

from reconciler.adapters import history_disk
from reconciler.adapters.history_file import HistoryReader
from reconciler.adapters.history_key import HistoryKey
from reconciler.core.errors import StateError
from reconciler.formats.history import Link, seal
from reconciler.formats.history_checkpoint import public_keys
from reconciler.formats.history_verdict import Verdict, judge

pytestmark = needs_ssh_keygen
LIMIT = 20_000
SEGMENT = 9_000


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of things is what these tests look at."""
    monkeypatch.setattr(history_disk, "sync_file", lambda fd: None)
    monkeypatch.setattr(history_disk, "sync_directory", lambda path: None)


def limited(directory: Path, **more: Any) -> Any:
    directory.mkdir(exist_ok=True)
    given = {"sign": HistoryKey(directory).sign, "keep_bytes": LIMIT, **more}
    return log(directory, SEGMENT, 50, **given)


@pytest.fixture(scope="module")
def outgrown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log that has outgrown its limit several times over."""
    state = tmp_path_factory.mktemp("outgrown") / "s"
    made = limited(state)
    fill(made, 150, pad=150)
    made.close()
    assert numbers(state)[0] > 60, "segments have gone"
    return state


@pytest.fixture
def state(outgrown: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(outgrown, tmp_path / "s"))


def verdict(state: Path, **more: Any) -> Verdict:
    return judge(HistoryReader(state).segments(), full=True, **more)


def finished_bytes(state: Path) -> int:
    return sum((state / name).stat().st_size for name in names(state))


def of_kind(state: Path, kind: str) -> list[dict[str, Any]]:
    return [record for record in HistoryReader(state).read() if record["kind"] == kind]


# ---------------------------------------------------------------- what is kept


def test_the_finished_segments_stay_within_the_limit_and_what_is_left_is_the_newest(state: Path) -> None:
    left = numbers(state)
    assert left == list(range(left[0], 150))
    assert finished_bytes(state) <= LIMIT + 2 * SEGMENT
    again = limited(state)
    fill(again, 60, start=150, pad=150)
    again.close()
    assert again.damage() == []
    assert numbers(state)[-1] == 209
    assert numbers(state)[0] > left[0]
    assert finished_bytes(state) <= LIMIT + 2 * SEGMENT


def test_without_a_limit_and_below_it_nothing_goes(tmp_path: Path) -> None:
    for name, keep in (("none", None), ("much", 10**6)):
        made = limited(tmp_path / name, keep_bytes=keep)
        fill(made, 80, pad=150)
        made.close()
        assert numbers(tmp_path / name) == list(range(80))
        assert {"history_pruned", "history_kept"}.isdisjoint(kinds(tmp_path / name))


def test_the_newest_finished_segment_stays_however_small_the_limit(tmp_path: Path) -> None:
    made = limited(tmp_path / "s", keep_bytes=1)
    fill(made, 80, pad=150)
    made.close()
    assert len(names(tmp_path / "s")) >= 1
    assert verdict(tmp_path / "s").is_whole


def test_compressed_segments_count_as_they_are_on_the_disk(tmp_path: Path) -> None:
    """The same log: where it is compressed, more of it is kept within the limit."""
    begins = {}
    for packs in (False, True):
        state = tmp_path / str(packs)
        made = limited(state, packs=packs)
        fill(made, 250, pad=150)
        made.close()
        assert finished_bytes(state) <= LIMIT + 2 * SEGMENT
        assert verdict(state).is_whole
        begins[packs] = numbers(state)[0]
    assert begins[True] < begins[False]


# ---------------------------------------------------------------- what it proves


def test_what_is_left_is_whole_and_says_behind_what_it_begins(state: Path) -> None:
    own = public_keys(HistoryKey(state).public() or "")
    found = verdict(state, trusted=own, must_be_signed=True)
    assert (found.is_whole, found.broken) == (True, ())
    first = json.loads(raw_lines(state)[0])
    assert found.removal is not None
    assert (found.removal.last.seq, found.removal.last.hash) == (first["seq"] - 1, first["prev"])
    assert found.removal.said_by <= found.vouched_up_to
    named = [one["file"] for record in of_kind(state, "history_pruned") for one in record["removed"]]
    assert set(named).isdisjoint(names(state)), "what is named is gone"


def test_a_beginning_that_somebody_else_removed_is_a_break(state: Path) -> None:
    (state / names(state)[0]).unlink()
    found = verdict(state)
    assert (found.is_whole, found.chain.breaks, found.removal) == (False, 1, None)
    assert "no signed record says" in found.broken[0].reason


def test_a_forged_account_of_what_was_removed_needs_a_signature(state: Path) -> None:
    """Cut off the beginning, write a record that accounts for it, and chain everything again: nobody signed that."""
    lines = rechained([line for line in raw_lines(state) if json.loads(line)["kind"] == "cycle"])[5:]
    first, last = json.loads(lines[0]), json.loads(lines[-1])
    removed = [{"file": "history-000001.jsonl", "last": f"{first['seq'] - 1}:{first['prev']}"}]
    record = {"kind": "history_pruned", "reason": "forged", "removed": removed}
    forged, _ = seal({"timestamp": "2026-11-23T01:02:03Z", **record}, Link(last["seq"], last["hash"]))
    for name in names(state):
        (state / name).unlink()
    (state / "history.jsonl").write_bytes(b"".join(line + b"\n" for line in lines) + forged)
    found = verdict(state)
    assert (found.is_whole, found.chain.breaks) == (False, 1)


def test_a_signature_of_a_stranger_accounts_for_nothing_where_a_key_was_named(state: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = HistoryKey(tmp_path / "other")
    other.sign(b"so that there is one")
    found = verdict(state, trusted=public_keys(other.public() or ""), must_be_signed=True)
    assert found.chain.breaks == 1


# ---------------------------------------------------------------- what is never removed


def test_nothing_goes_that_no_signature_covers_and_a_record_says_so(tmp_path: Path) -> None:
    def no_key(_message: bytes) -> str:
        raise StateError("ssh-keygen is not installed.")

    made = limited(tmp_path / "s", sign=no_key)
    fill(made, 120, pad=150)
    made.close()
    assert numbers(tmp_path / "s") == list(range(120))
    assert "cannot be signed" in str(of_kind(tmp_path / "s", "history_kept")[0]["reason"])
    assert "history_pruned" not in kinds(tmp_path / "s")


@pytest.mark.parametrize("how", ["changed", "cut", "a line gone", "removed"])
def test_what_somebody_changed_stays_as_evidence(tmp_path: Path, how: str) -> None:
    made = limited(tmp_path / "s", keep_bytes=None)
    fill(made, 100, pad=150)
    made.close()
    second = tmp_path / "s" / names(tmp_path / "s")[1]
    content = second.read_bytes()
    second.chmod(0o640)
    if how == "removed":
        second.unlink()
    else:
        first, *others = content.splitlines(keepends=True)
        damaged = {"changed": content.replace(b"xxx", b"xyx", 1), "cut": content[:-40]}
        second.write_bytes(damaged.get(how, b"".join([first, *others[1:]])))
    before = names(tmp_path / "s")
    again = limited(tmp_path / "s")
    fill(again, 60, start=100, pad=150)
    again.close()
    kept = names(tmp_path / "s")
    assert set(before[1:] if how != "removed" else before) <= set(kept)
    assert not verdict(tmp_path / "s").is_whole
    told = " ".join(str(record["reason"]) for record in of_kind(tmp_path / "s", "history_kept"))
    assert (second.name if how != "removed" else before[0]) in told


@pytest.mark.fault("C11")
def test_a_segment_that_will_not_go_is_said_and_the_log_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = history_disk.remove
    refuse = failing(1)
    monkeypatch.setattr(history_disk, "remove", lambda path: refuse() if "history-0" in path.name else real(path))
    made = limited(tmp_path / "s")
    fill(made, 100, pad=150)
    made.close()
    assert numbers(tmp_path / "s") == list(range(100))
    assert verdict(tmp_path / "s").is_whole
    assert of_kind(tmp_path / "s", "history_kept")


def test_a_crash_before_any_removal_leaves_a_log_that_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dead after the record, before the first, the second, the third file: the next writer does the rest."""
    for survived in range(3):
        state = tmp_path / f"s{survived}"
        made = limited(state, keep_bytes=None)
        fill(made, 100, pad=150)
        made.close()
        dying = limited(state, keep_bytes=SEGMENT)
        real, left = history_disk.remove, [survived]

        def remove(path: Path, real: Any = real, left: list[int] = left) -> None:
            if "history-0" in path.name:
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt
            real(path)

        with monkeypatch.context() as patch:
            patch.setattr(history_disk, "remove", remove)
            with pytest.raises(KeyboardInterrupt):
                fill(dying, 40, start=100, pad=150)
        assert verdict(state).is_whole, survived
        again = limited(state, keep_bytes=SEGMENT)
        fill(again, 40, start=200, pad=150)
        again.close()
        found = verdict(state)
        assert found.is_whole, (survived, found.broken)
        assert found.removal is not None
        assert len(names(state)) <= 4


def test_a_reader_that_listed_the_segments_before_they_went_reads_the_rest(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = HistoryReader.finished
    gone = state / "history-000001.jsonl"
    monkeypatch.setattr(HistoryReader, "finished", lambda self: [gone, *real(self)])
    reader = HistoryReader(state)
    first = json.loads(raw_lines(state)[0])["seq"]
    assert next(reader.read())["seq"] == first
    assert next(reader.read(first + 10))["seq"] == first + 10
    assert next(json.loads(line)["seq"] for line in reader.lines()) == first
    assert reader.damage() == []
    assert len(reader.tail(10_000)) == len(raw_lines(state))
