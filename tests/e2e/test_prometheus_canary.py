"""A canary that a real Prometheus server measures; it finds the containers by the engine, as docs/manifest.md shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.prometheus_world import Server
from tests.e2e.rollout_stack import variant
from tests.e2e.stack import Stack, wait_for
from tests.e2e.test_canaries import QUICK, manifest, traffic


@pytest.fixture
def server(stack: Stack, tmp_path: Path) -> Iterator[Server]:
    discovery = f"""\
docker_sd_configs: [{{host: "unix:///var/run/docker.sock", port: 3000, refresh_interval: 1s}}]
  relabel_configs:
  - {{source_labels: [__meta_docker_container_label_io_swiftdeploy_project], regex: {stack.project}, action: keep}}
  - {{source_labels: [__meta_docker_container_label_io_swiftdeploy_service], regex: app, action: keep}}
"""
    made = Server(tmp_path, {"shop": discovery})
    try:
        yield made.start()
    finally:
        made.stop()


def test_a_bad_image_is_rolled_back_on_the_word_of_a_server_that_scrapes_the_host(stack: Stack, server: Server) -> None:
    scraped = f"metrics: {{provider: prometheus, server: '{server.url}', match: {{job: shop}}}}\n{QUICK}"
    stack.write(manifest(stack, scraped))
    stack.start()
    wait_for("the first answer through nginx", stack.answers)
    stack.wait_converged()
    with traffic(stack, 100):
        stack.write(manifest(stack, scraped, variant("errors")))
        wait_for("rolled back", lambda: stack.service()["quarantined"], 120)
    told = {d["move"]: d["reason"] for r in stack.history() for d in r.get("decisions", ()) if d["move"] != "hold"}
    assert "Error rate exceeds 1% threshold" in told["give_up"]
    assert "requests failed (evidence" in told["give_up"]
