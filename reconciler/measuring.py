"""Between seeing and deciding: count what is on trial, keep the evidence, ask policy what it makes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.core.containers import KeptRevision
from reconciler.core.desired import PROXY, DesiredState, Service
from reconciler.core.errors import StateError
from reconciler.core.evidence import Baseline, Evidence, Summary, as_json, baseline_of, begin, measure, summarise
from reconciler.core.evidence.limits import Limits, limits_of
from reconciler.core.observed import ObservedState
from reconciler.core.record import Verdict
from reconciler.core.rollout import Phase, Rollout
from reconciler.core.trial import Trial, trials, was_returned
from reconciler.formats.policy import AskedStep, AskedWindow, CanaryQuestion, question_canary, unknown
from reconciler.ports import MeasureTarget, Ports


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of measuring, all by service: the evidence, its summary, and policy's verdict where it was asked.

    `trouble` is why the evidence could not be kept on disk, "" where it was or need not be.
    """

    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    summaries: Mapping[str, Summary] = field(default_factory=dict)
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    trouble: str = ""

    @property
    def unread(self) -> Mapping[str, str]:
        """Why services cannot be measured now, by service, as far as it is no dispute."""
        found = {name: summary.data_quality for name, summary in self.summaries.items()}
        return {name: quality.why for name, quality in found.items() if not quality.ok and not quality.disagreement}

    @property
    def disputed(self) -> Mapping[str, str]:
        """How services' own counts contradict nginx's, by service."""
        said = {name: summary.data_quality.disagreement for name, summary in self.summaries.items()}
        return {name: words for name, words in said.items() if words}


def look_at(
    ports: Ports,
    desired: DesiredState,
    kept: Mapping[str, KeptRevision],
    rollout: Rollout,
    observed: ObservedState,
    before: Mapping[str, Evidence],
) -> tuple[tuple[Trial, ...], Measured]:
    """Read every trial's containers once, and what the evidence then says; nothing is asked or kept.

    Each container is read as its own revision says: an older one may have had another port or another page.
    """
    found, limits, now = (
        trials(desired, rollout, observed),
        limits_of(desired.limits.get("canary", {})),
        ports.clock.now(),
    )
    if not found:
        return (), Measured()
    targets = [
        MeasureTarget(c, _counted_as(kept[c.revision].service, trial.service) if c.revision in kept else trial.service)
        for trial in found
        for c in (*trial.tried, *trial.beside)
    ]
    proxy = next((c for c in observed.of(PROXY) if c.is_running), None)
    counted = ports.metrics.read(targets, proxy)
    evidence: dict[str, Evidence] = {}
    for trial in found:
        evidence[trial.service.name] = measure(
            _begun(before.get(trial.service.name), trial.about, now),
            {c.id: counted[c.id] for c in trial.tried if c.id in counted},
            {c.id: counted[c.id] for c in trial.beside if c.id in counted},
            limits,
            provider=trial.service.metrics.provider,
            now=now,
            horizon_s=trial.horizon_s,
            share=trial.share,
            excuses_chaos=trial.is_held,
        )
    summaries = {name: summarise(one, limits, now) for name, one in evidence.items()}
    return found, Measured(evidence, summaries)


def _counted_as(own: Service, wanted: Service) -> Service:
    """A container's own port, page and names; who counts its requests is the manifest's word of today."""
    metrics = dataclasses.replace(wanted.metrics, path=own.metrics.path, names=own.metrics.names)
    return dataclasses.replace(own, metrics=metrics)


def _begun(before: Evidence | None, about: str, now: float) -> Evidence:
    """The evidence so far, or a fresh one that knows how bursty stable has been."""
    if before is not None and before.about == about:
        return before
    is_known = before is not None and not was_returned(before.about, about)
    history: Baseline | None = baseline_of(before) if before is not None and is_known else None
    return begin(about, now, history)


def judge(
    ports: Ports, desired: DesiredState, found: Sequence[Trial], measured: Measured, revision: str | None
) -> Measured:
    """`measured` with policy's verdicts; `revision` is whose OPA is asked, None for none."""
    limits = limits_of(desired.limits.get("canary", {}))
    verdicts = {}
    for trial in found:
        name = trial.service.name
        if not trial.is_judged:
            continue
        if revision is None:
            verdicts[name] = unknown("canary", "the policy engine does not answer")
        else:
            asked = question(trial, measured.summaries[name], limits)
            verdicts[name] = ports.policy.evaluate("canary", question_canary(asked), revision)
    return dataclasses.replace(measured, verdicts=verdicts)


def keep(ports: Ports, measured: Measured) -> Measured:
    """`measured` once its evidence is on disk, as far as somebody judges by it: the rest is not worth a sync."""
    judged = {name: measured.evidence[name] for name in measured.verdicts}
    try:
        if judged:
            ports.rollouts.save_evidence(judged)
    except StateError as error:
        return dataclasses.replace(measured, trouble=str(error))
    return measured


def question(trial: Trial, summary: Summary, limits: Limits, purpose: str = "rollout") -> CanaryQuestion:
    """What policy is asked about one trial; `purpose` is `rollout`, or `promote` for an operator's word."""
    state, rollout = trial.state, trial.service.rollout
    is_watched = state.phase is Phase.WATCHING
    steps = max(1, len(state.course.steps))
    index = steps if is_watched else state.step + 1
    duration_s = state.course.steps[state.step].duration_s if state.course.steps else 0.0
    window = summary.window
    return CanaryQuestion(
        service=trial.service.name,
        mode="canary",
        window=AskedWindow(
            window.requests,
            window.error_rate,
            window.p99_ms,
            limits.window_seconds,
            window.why_unknown or "no requests",
        ),
        purpose=purpose,
        rollout=rollout,
        step=AskedStep(index, steps, state.weight_pct, index == steps, state.step_s, duration_s),
        is_held=trial.is_held,
        waited_s=state.waited_s,
        chaos=summary.chaos,
        evidence=as_json(summary),
    )
