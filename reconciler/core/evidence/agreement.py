"""Whether a service and the proxy in front of it tell the same story."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.core.evidence.counting import Gained

FEW = 5
MISSING_SHARE = 0.05
CATCH_UP_S = 0.5


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a service and the proxy counted of the same containers in the same cycles, in all.

    `loose` is how many requests may be on one side only: those that ended between the two readings.
    """

    service_total: int = 0
    service_failed: int = 0
    proxy_total: int = 0
    proxy_failed: int = 0
    seconds: float = 0.0
    loose_s: float = 0.0


def compared(agreement: Agreement, gained: Gained, span_s: float) -> Agreement:
    """The comparison with one more cycle in it; unchanged by a cycle in which not both counted."""
    if not gained.by_service.requests and not gained.by_proxy.requests:
        return agreement
    return Agreement(
        service_total=agreement.service_total + gained.by_service.total,
        service_failed=agreement.service_failed + gained.by_service.failed,
        proxy_total=agreement.proxy_total + gained.by_proxy.total,
        proxy_failed=agreement.proxy_failed + gained.by_proxy.failed,
        seconds=agreement.seconds + span_s,
        loose_s=max(agreement.loose_s, gained.skew_s),
    )


def disagreement(agreement: Agreement, max_error_rate: float) -> str:
    """In words how the two disagree so much that it could change a decision; "" where they do not.

    Both count the same requests, so they differ only by those that end between the two readings: a few, and what
    comes in that time at this rate. Beyond that, material is a difference of error rates of half the limit, or one
    request in twenty that the proxy passed on and the service does not know. More requests at the service are no
    lie: others may ask it directly; they do not hide failures, since the rates are compared.
    """
    service, proxy = agreement.service_total, agreement.proxy_total
    per_second = max(service, proxy) / agreement.seconds if agreement.seconds else 0.0
    loose = FEW + per_second * (agreement.loose_s + CATCH_UP_S)
    if proxy - service > loose + MISSING_SHARE * proxy:
        return f"the proxy passed on {proxy} requests, the service counted {service}"
    by_service = agreement.service_failed / service if service else 0.0
    by_proxy = agreement.proxy_failed / proxy if proxy else 0.0
    hidden = abs(by_proxy - by_service) * min(service, proxy)
    if hidden > loose and abs(by_proxy - by_service) > max_error_rate / 2.0:
        return f"the proxy saw {_percent(by_proxy)} fail, the service {_percent(by_service)}"
    return ""


def _percent(rate: float) -> str:
    return f"{100.0 * rate:.2g} %"
