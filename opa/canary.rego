# Is this canary good enough to get more of the traffic?
#
# Asked in every cycle of a rollout, and before an operator's promotion. Input, over the last window:
# `error_rate` (0 to 1), `p99_latency` (milliseconds), `mode`, and `requests` where they were counted; each a
# number or {"unknown": "why"}.
package swiftdeploy.canary

import data.swiftdeploy.evidence

default decision := {"allow": false, "action": "hold", "reason": "nothing was asked", "violations": []}

decision := evidence.answer(violations, "error rate and P99 latency are within their limits", action)

# In the order in which they are read out.
violations := array.concat(
	[violation | some check in [errors, latency, traffic, mode]; some violation in check],
	[violation | some violation in evidence.said(data.swiftdeploy.canary.user.deny)],
)

errors := evidence.at_most("canary", "max_error_rate", "error_rate", "Error rate exceeds %s threshold")

latency := evidence.at_most("canary", "max_p99_latency_ms", "p99_latency", "P99 latency exceeds %sms")

# Too few requests prove nothing, neither good nor bad.
traffic := evidence.at_least("canary", "min_requests", "requests", "Fewer than %s requests in the window") if {
	_ = input.requests
} else := []

mode := [] if {
	input.mode in {"canary", "stable"}
} else := [evidence.missing_input("mode", object.get(input, "mode", "missing"))]

# Away with what is proven bad; what is only unproven stays where it is.
default action := "hold"

action := "rollback" if {
	traffic == []
	some violation in array.concat(errors, latency)
	violation.id in {"max_error_rate", "max_p99_latency_ms"}
}
