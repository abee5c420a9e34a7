"""What an operator's request is answered with: deploying, looking, validating, tearing down."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.core.errors import ManifestError, Refused
from reconciler.core.observed import Status
from reconciler.core.rollout import Phase
from reconciler.loop import Loop
from reconciler.operations import Exit
from reconciler.operations.progress import STEPS
from tests.operations.desk_world import GOOD, Desk, lines, steps

# ---------------------------------------------------------------- deploy


def test_a_deployment_tells_its_six_steps_in_their_order(desk: Desk) -> None:
    code, events = desk.ask("deploy")
    assert code is Exit.OK
    assert steps(events) == [text for _, text in STEPS]
    assert desk.images() == ["demo:1"]


def test_deploying_what_runs_already_says_the_same_and_touches_nothing(deployed: Desk) -> None:
    before = set(deployed.world.engine.boxes)
    code, events = deployed.ask("deploy")
    assert (code, steps(events)) == (Exit.OK, [text for _, text in STEPS])
    assert set(deployed.world.engine.boxes) == before


def test_looking_again_does_not_wait_for_the_rollout_that_goes_on(deployed: Desk) -> None:
    deployed.wants("demo:2")
    deployed.reaches(Phase.ANALYZING)
    code, events = deployed.ask("reconcile")
    assert (code, deployed.app.phase) == (Exit.OK, Phase.ANALYZING)
    assert events[-1]["text"] == "app is analyzing; `status` follows it, `why` explains it"


def test_looking_again_waits_for_what_it_repairs(deployed: Desk) -> None:
    boxes = deployed.world.engine.boxes
    (mine,) = [key for key, box in boxes.items() if "-app-" in box.name]
    del boxes[mine]
    assert deployed.ask("reconcile")[0] is Exit.OK
    assert [box.status for box in boxes.values() if "-app-" in box.name] == [Status.RUNNING]


def test_a_bad_manifest_ends_a_deployment_with_its_reason(deployed: Desk) -> None:
    deployed.write(GOOD.replace("port: 3000", "port: 99999"))
    code, events = deployed.ask("deploy")
    assert (code, steps(events)) == (Exit.BAD_MANIFEST, [])
    assert "manifest.yaml:3" in events[-1]["text"]
    assert deployed.images() == ["demo:1"]


@pytest.mark.parametrize("domain", ["admission", "infrastructure"])
@pytest.mark.parametrize(("known", "code"), [(True, Exit.DENIED), (False, Exit.POLICY_FAILED)])
def test_a_denial_ends_a_deployment_at_once_with_a_code_of_its_own(
    desk: Desk, domain: str, known: bool, code: Exit
) -> None:
    desk.world.says(domain, allow=False, reason="Disk space below 10GB", known=known)
    found, events = desk.ask("deploy")
    assert found is code
    assert "Disk space below 10GB" in events[-1]["text"]
    assert desk.world.clock.seconds < 10, "nobody waits for what waiting does not cure"
    assert desk.images() == []


def test_a_policy_engine_that_never_answers_is_not_a_yes(desk: Desk) -> None:
    desk.world.opa_answers = False
    code, _ = desk.ask("deploy")
    assert (code, desk.images()) == (Exit.POLICY_FAILED, [])


def test_a_first_release_that_is_not_healthy_in_time_says_so(desk: Desk) -> None:
    desk.world.sick = {"demo:1"}
    code, events = desk.ask("deploy")
    assert code is Exit.UNHEALTHY
    assert "503" in events[-1]["text"] or "not healthy within" in events[-1]["text"]
    assert "Health check passed" not in steps(events)


def test_an_update_that_is_not_healthy_leaves_what_ran(deployed: Desk) -> None:
    deployed.world.sick = {"demo:2"}
    deployed.write(GOOD.replace("demo:1", "demo:2"))
    code, events = deployed.ask("deploy", timeout_s=300)
    assert code is Exit.UNHEALTHY
    assert "What ran before goes on serving." in events[-1]["text"]
    assert deployed.images() == ["demo:1"]


def test_an_update_is_deployed_once_it_is_promoted_and_only_watched(deployed: Desk) -> None:
    deployed.world.traffic.rate = 20.0
    deployed.wants("demo:2")
    code, events = deployed.ask("deploy", timeout_s=900)
    assert (code, steps(events)) == (Exit.OK, [text for _, text in STEPS])
    assert deployed.app.phase is Phase.WATCHING
    assert deployed.status()["services"][0]["image"] == "demo:2"


def test_the_climb_of_a_canary_is_told_step_by_step(deployed: Desk) -> None:
    deployed.world.traffic.rate = 20.0
    deployed.wants("demo:2")
    _, events = deployed.ask("deploy", timeout_s=900)
    for step in ("step 1 of 3, 5 %", "step 2 of 3, 25 %", "step 3 of 3, 50 %"):
        assert step in lines(events)


def test_a_canary_that_the_manifest_keeps_is_deployed_with_its_first_requests(deployed: Desk) -> None:
    deployed.wants("demo:2", "canary")
    assert deployed.ask("deploy", timeout_s=300)[0] is Exit.OK
    assert (deployed.app.phase, deployed.world.nginx.weights["app"]) == (Phase.ANALYZING, 5)
    assert deployed.status()["services"][0]["mode"] == "canary"


def test_an_update_that_policy_condemns_says_so_and_leaves_what_ran(deployed: Desk) -> None:
    deployed.world.traffic.rate = 20.0
    deployed.world.says("canary", allow=False, action="rollback", reason="Error rate exceeds 1% threshold")
    deployed.wants("demo:2")
    code, events = deployed.ask("deploy", timeout_s=900)
    assert code is Exit.UNHEALTHY
    assert events[-1]["text"] == ("Rolled back: Error rate exceeds 1% threshold. What ran before goes on serving.")
    assert deployed.images() == ["demo:1"]
    again, events = deployed.ask("deploy")
    assert (again, "quarantined" in events[-1]["text"]) == (Exit.ERROR, True)


def test_a_dead_engine_ends_a_deployment_after_a_few_tries(desk: Desk) -> None:
    desk.world.engine.is_down = True
    code, events = desk.ask("deploy")
    assert code is Exit.ERROR
    assert "Start the Docker Engine" in events[-1]["text"]


def test_an_image_that_nobody_has_is_an_error_with_its_name(desk: Desk) -> None:
    desk.write(GOOD.replace("demo:1", "nobody:1"))
    code, events = desk.ask("deploy", timeout_s=60)
    assert (code, "nobody:1" in events[-1]["text"]) == (Exit.ERROR, True)


def test_a_taken_port_is_an_error_that_says_by_whom(desk: Desk) -> None:
    desk.world.engine.ports_of_others[8080] = "container web"
    code, events = desk.ask("deploy")
    assert (code, "port 8080 is taken by container web" in events[-1]["text"]) == (Exit.ERROR, True)


def test_once_the_manifest_has_a_free_port_the_next_deployment_works(desk: Desk) -> None:
    desk.world.engine.ports_of_others[8080] = "container web"
    assert desk.ask("deploy")[0] is Exit.ERROR
    desk.write(desk.path.read_text().replace("8080", "8081"))
    assert desk.ask("deploy")[0] is Exit.OK


# ---------------------------------------------------------------- looking


def test_status_of_an_empty_host_has_the_same_keys_as_of_a_running_one(desk: Desk) -> None:
    empty = desk.ask("status")[1][-1]["value"]
    desk.ask("deploy")
    running = desk.ask("status")[1][-1]["value"]
    assert empty.keys() == running.keys()
    assert (running["state"], running["services"][0]["ready"]) == ("converged", 1)


def test_diff_says_what_would_change_and_changes_nothing(deployed: Desk) -> None:
    assert deployed.ask("diff")[0] is Exit.OK
    before = dict(deployed.world.files.texts), set(deployed.world.engine.boxes)
    deployed.write(GOOD.replace("demo:1", "demo:2"))
    code, events = deployed.ask("diff")
    assert code is Exit.CHANGES
    assert any(step["verb"] == "create" for step in events[-1]["value"]["plan"])
    assert (deployed.world.files.texts, set(deployed.world.engine.boxes)) == before


def test_diff_of_a_bad_manifest_is_a_bad_manifest(desk: Desk) -> None:
    desk.write("services: [")
    assert desk.ask("diff")[0] is Exit.BAD_MANIFEST


def test_validation_needs_neither_engine_nor_lock_for_the_manifest_alone(desk: Desk) -> None:
    def refuse(_acts: bool) -> Loop:
        pytest.fail("opened")

    desk.operations._open_loop = refuse
    assert desk.ask("validate", manifest_only=True)[0] is Exit.OK
    desk.write("services: [")
    code, events = desk.ask("validate")
    assert (code, [event["ok"] for event in events if event["event"] == "check"]) == (Exit.BAD_MANIFEST, [False])


def test_validation_makes_five_checks_and_starts_nothing(desk: Desk) -> None:
    code, events = desk.ask("validate")
    assert [event["number"] for event in events if event["event"] == "check"] == [1, 2, 3, 4, 5]
    assert (code, desk.world.engine.boxes) == (Exit.OK, {})


def test_init_writes_files_and_starts_nothing(desk: Desk) -> None:
    code, events = desk.ask("init")
    assert code is Exit.OK
    assert "docker-compose.yml" in events[-1]["value"]["files"]
    assert (set(events[-1]["value"]["files"]), desk.world.engine.boxes) == (set(desk.world.files.texts), {})


# ---------------------------------------------------------------- promote, teardown, the rest


def test_promoting_to_what_it_is_does_nothing(deployed: Desk) -> None:
    before = deployed.path.read_bytes()
    code, events = deployed.ask("promote", mode="stable")
    assert (code, "nothing to do" in events[-1]["text"], deployed.path.read_bytes()) == (Exit.OK, True, before)


def test_promoting_an_unknown_service_or_a_bad_manifest_is_refused(deployed: Desk) -> None:
    with pytest.raises(Refused, match="there is no service 'db'"):
        deployed.ask("promote", mode="canary", service="db")
    deployed.write("services: [")
    with pytest.raises(ManifestError):
        deployed.ask("promote", mode="canary")


def test_a_teardown_where_nothing_ever_was_says_so(desk: Desk) -> None:
    code, events = desk.ask("teardown")
    assert (code, "nothing to tear down" in events[-1]["text"]) == (Exit.OK, True)


@pytest.mark.parametrize("clean", [False, True])
def test_a_teardown_leaves_nothing_running_and_clean_no_files(deployed: Desk, clean: bool) -> None:
    code, _ = deployed.ask("teardown", clean=clean)
    assert (code, deployed.world.engine.boxes, deployed.world.engine.networks) == (Exit.OK, {}, {})
    assert bool(deployed.world.files.texts) is not clean
    assert deployed.ask("status")[1][-1]["value"]["state"] == "torn_down"
    assert deployed.ask("deploy")[0] is Exit.OK


def test_logs_are_those_of_the_service_asked_for(deployed: Desk) -> None:
    deployed.world.boxes()[0].log += [b"one\n", b"two\n"]
    events = deployed.ask("logs", tail=1)[1]
    assert [event["text"] for event in events if event["event"] == "line"] == ["two"]
    with pytest.raises(Refused, match="no container of 'db' runs; there are: "):
        deployed.ask("logs", service="db")


def test_another_manifest_than_the_daemons_is_refused(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="the daemon follows"):
        desk.ask("status", manifest=str(tmp_path / "other.yaml"))


def test_a_request_nobody_knows_is_refused(desk: Desk) -> None:
    with pytest.raises(Refused, match="no such request"):
        desk.ask("dance")
