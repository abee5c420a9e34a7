# What the measurements of a canary say: those of the last window, and the evidence of its whole run.
#
# Predicates only; `swiftdeploy.canary` decides by them. An e-value is how often a fair bet against a statement would
# have multiplied its stake: 80 is "80 to 1 against it", however often one looks. Each one here is defined only where
# all numbers are there, so that `not` of it proves nothing.
package swiftdeploy.run

import data.swiftdeploy.evidence

metrics := ["errors", "latency"]

is_given(key) if _ = input[key]

limit(name) := evidence.limit("canary", name)

limit_text(name) := evidence.limit_text("canary", name)

# --- the last window -----------------------------------------------------------------------------------------

errors := evidence.at_most("canary", limit_of.errors, "error_rate", words.errors)

latency := evidence.at_most("canary", limit_of.latency, "p99_latency", words.latency)

limit_of := {"errors": "max_error_rate", "latency": "max_p99_latency_ms"}

words := {"errors": "Error rate exceeds %s threshold", "latency": "P99 latency exceeds %sms"}

# Too few requests prove nothing, neither good nor bad.
traffic := evidence.at_least("canary", "min_requests", "requests", "Fewer than %s requests in the window") if {
	some key in ["requests", "purpose"]
	is_given(key)
} else := []

is_within_limits if {
	every check in [errors, latency, traffic] {
		check == []
	}
}

# The limit that the window breaks, for a number that is there.
broken(metric) := violation if {
	some violation in {"errors": errors, "latency": latency}[metric]
	violation.id == limit_of[metric]
}

is_broken(metric) if broken(metric)

# --- the evidence of the whole run ---------------------------------------------------------------------------

seen(metric, key) := evidence.measured(["evidence", metric, key])

requests := evidence.measured(["evidence", "requests", "canary"])

restarts := evidence.measured(["evidence", "data_quality", "canary_restarts"])

e_catastrophic := evidence.measured(["evidence", "e_catastrophic"])

# The chance of a false roll back is shared among all tests that may cause one.
rollback_e := limit("rollback_tests") / limit("alpha")

inverse(number) := number / (number * number)

# Evidence below the limit, on both metrics, from which the canary goes one step up.
needed_e := inverse(limit("beta")) if {
	input.step.is_last == true
} else := limit("advance_e") if {
	input.step.is_last == false
}

# The share of requests that may be bad. P99 leaves out a fixed one, whatever its limit is.
most("errors") := limit("max_error_rate")

most("latency") := data.units.p99_tail

is_proven_over(metric) if {
	seen(metric, "e_above_limit") >= rollback_e
	seen(metric, "bad_cycles") >= limit("min_bad_cycles")
	not is_shared(metric)
} else := false

# The baseline breaks the limit too: going back would help nobody.
is_shared(metric) if seen(metric, "baseline_e_above_limit") >= inverse(limit("alpha"))

# The limit that the whole run is proven to be over, said as for the window.
proven_over(metric) := {
	"id": limit_of[metric],
	"message": sprintf(words[metric], [limit_text(limit_of[metric])]),
	"observed": object.get(input, observed[metric], ""),
	"limit": limit(limit_of[metric]),
}

observed := {"errors": ["evidence", "errors", "rate"], "latency": ["evidence", "latency", "p99_low_ms"]}

is_worse(metric) if {
	seen(metric, "e_worse") >= rollback_e
	seen(metric, "bad_cycles") >= limit("min_bad_cycles")
	is_material(metric)
}

# From here on it matters to be worse than the baseline.
is_material(metric) if {
	data.limits.canary.relative_gate == "limit"
	seen(metric, "rate") > most(metric)
	seen(metric, "e_above_limit") >= limit("lean_e")
}

is_material(metric) if {
	data.limits.canary.relative_gate == "excess"
	excess(metric) >= limit("min_excess")
}

# Up to here it does not. What is unknown is neither.
is_immaterial(metric) if {
	data.limits.canary.relative_gate == "limit"
	seen(metric, "rate") <= most(metric)
}

is_immaterial(metric) if {
	data.limits.canary.relative_gate == "limit"
	seen(metric, "e_above_limit") < limit("lean_e")
}

is_immaterial(metric) if {
	data.limits.canary.relative_gate == "excess"
	excess(metric) < limit("min_excess")
}

# Below zero where the canary is the better one.
excess(metric) := input.evidence[metric].excess if is_number(input.evidence[metric].excess)

is_unsuspected(metric) if {
	seen(metric, "e_above_limit") < limit("caution_e")
	is_no_worse(metric)
}

is_no_worse(metric) if seen(metric, "e_worse") < limit("caution_e")

is_no_worse(metric) if is_immaterial(metric)

# --- where the rollout is ------------------------------------------------------------------------------------

is_calm if input.chaos in {"none", "unknown"}

# While chaos is active no verdict moves a held canary.
is_movable if is_calm

is_movable if input.is_held == false

# A held canary climbs its steps, and stays at the last.
is_free if input.is_held == false

is_free if {
	input.is_held == true
	input.step.is_last == false
}

is_proven if {
	is_proven_below
	is_exposed
}

is_proven_below if {
	every metric in metrics {
		seen(metric, "e_below_limit") >= needed_e
	}
}

# Faults that take their time (leaks, caches) need some to show: no statistics, and asked for at the end only.
is_exposed if input.step.is_last == false

is_exposed if evidence.measured(["evidence", "evidence_s"]) >= limit("min_evidence_seconds")

# Time alone may end the analysis: it took long enough, and enough was seen.
is_over if {
	is_late
	requests >= evidence.measured(["rollout", "min_requests"])
}

is_late if evidence.measured(["rollout", "waited_seconds"]) >= evidence.measured(["rollout", "max_wait_seconds"])
