# Is this canary good enough to get more of the traffic?
#
# Asked in every cycle of a rollout (`purpose` is rollout), and before an operator's promotion (promote). Input, over
# the last window: `error_rate` (0 to 1), `p99_latency` (milliseconds), `mode` and `requests`; each number may be
# {"unknown": "why"}. For a rollout also `evidence` of the whole run, `step`, `rollout`, `is_held` and `chaos`, see
# docs/policy.md. Without `purpose` and `evidence` the limits on the window decide alone.
#
# `violations` are broken limits, the operator's own messages, and what of the question cannot be read. What is only
# not proven yet holds without a violation.
package swiftdeploy.canary

import data.swiftdeploy.evidence
import data.swiftdeploy.run
import data.swiftdeploy.wording

default decision := {"allow": false, "action": "hold", "reason": "nothing was asked", "violations": []}

decision := evidence.answer(on_window, "error rate and P99 latency are within their limits", on_window_denied) if {
	kind == "window"
}

decision := evidence.told(move.action, move.reason, [finding.violation | some finding in findings]) if {
	kind == "rollout"
}

decision := evidence.answer([evidence.missing_input("purpose", object.get(input, "purpose", "missing"))], "", "hold") if {
	kind == "unclear"
}

kind := "rollout" if {
	input.purpose == "rollout"
} else := "window" if {
	input.purpose == "promote"
} else := "window" if {
	not run.is_given("purpose")
	not run.is_given("evidence")
} else := "unclear"

# What the operator's own policies say: `deny` holds, `rollback` takes the canary back.
denied := [violation | some violation in evidence.said(data.swiftdeploy.canary.user.deny)]

unwanted := [violation | some violation in evidence.said(data.swiftdeploy.canary.user.rollback)]

# In the wrong form it is a mistake, and a mistake moves nothing.
is_unwanted if {
	is_set(data.swiftdeploy.canary.user.rollback)
	unwanted != []
}

# --- on the window alone -------------------------------------------------------------------------------------

# In the order in which they are read out.
on_window := [violation |
	some check in [run.errors, run.latency, run.traffic, mode, denied, unwanted]
	some violation in check
]

mode := [] if {
	input.mode in {"canary", "stable"}
} else := [evidence.missing_input("mode", object.get(input, "mode", "missing"))]

# Away with what is proven bad; what is only unproven stays where it is, and an operator's word is only denied.
default on_window_denied := "hold"

on_window_denied := "rollback" if {
	not run.is_given("purpose")
	run.traffic == []
	some metric in run.metrics
	run.is_broken(metric)
}

on_window_denied := "rollback" if {
	not run.is_given("purpose")
	is_unwanted
}

# --- in a rollout --------------------------------------------------------------------------------------------

# The first that fits.
move := {"action": "rollback", "reason": told} if {
	run.is_movable
	some finding in findings
	finding.rolls_back
} else := {"action": "promote", "reason": wording.upwards("on evidence")} if {
	is_fit
	run.is_proven
} else := {"action": "promote", "reason": wording.upwards("on time, not on evidence")} if {
	is_fit
	run.is_over
	input.rollout.on_timeout == "promote"
} else := {"action": "rollback", "reason": wording.backwards(findings)} if {
	run.is_over
	input.rollout.on_timeout == "rollback"
	run.is_calm
	input.is_held == false
	array.concat(malformed, denied) == []
} else := {"action": "hold", "reason": told} if {
	told != ""
} else := {"action": "hold", "reason": wording.waiting}

told := wording.told(findings)

# Nothing speaks against the next step. Each condition is a measurement that is there, and good.
is_fit if {
	findings == []
	run.is_calm
	run.is_free
	run.is_within_limits
	input.evidence.data_quality.ok == true
	run.requests >= evidence.measured(["rollout", "min_requests"])
	run.e_catastrophic < run.limit("caution_e")
	every metric in run.metrics {
		run.is_unsuspected(metric)
	}
}

# What speaks against the canary, in the order in which it is read out. A call that is undefined leaves its element
# out.
findings := [finding |
	some group in [
		[over_limit(metric) | some metric in run.metrics],
		[worse(metric) | some metric in run.metrics],
		[sudden(sign) | some sign in ["catastrophe", "mismatch", "restarts"]],
		[found(violation, "", false) | some violation in array.concat(malformed, denied)],
		[found(violation, "", is_set(data.swiftdeploy.canary.user.rollback)) | some violation in unwanted],
	]
	some finding in group
]

found(violation, detail, rolls_back) := {"violation": violation, "detail": detail, "rolls_back": rolls_back}

# A limit that is broken in the window, or proven to be over the whole run.
over_limit(metric) := found(run.broken(metric), wording.against(metric), run.is_proven_over(metric)) if {
	run.traffic == []
	run.is_broken(metric)
} else := found(run.proven_over(metric), wording.against(metric), true) if {
	run.is_proven_over(metric)
}

worse(metric) := found(violation, wording.compared(metric), true) if {
	run.is_worse(metric)
	violation := {
		"id": "worse_than_baseline",
		"message": {"errors": "More errors than the baseline", "latency": "Slower than the baseline"}[metric],
		"observed": object.get(input, ["evidence", metric, "rate"], ""),
		"limit": object.get(input, ["evidence", metric, "baseline_rate"], ""),
	}
}

# Bad signs that wait for no second cycle.
sudden("catastrophe") := found(violation, wording.catastrophic(run.e_catastrophic), true) if {
	run.e_catastrophic >= run.limit("catastrophic_e")
	violation := {
		"id": "catastrophic_error_rate",
		"message": sprintf("More than %s errors", [run.limit_text("catastrophic_error_rate")]),
		"observed": object.get(input, ["evidence", "errors", "rate"], ""),
		"limit": run.limit("catastrophic_error_rate"),
	}
}

sudden("mismatch") := found(violation, wording.catastrophic(e), true) if {
	e := evidence.measured(["evidence", "traffic", "e_mismatch"])
	e >= run.limit("catastrophic_e")
	violation := {
		"id": "traffic_mismatch",
		"message": "The canary does not answer its share of the requests",
		"observed": object.get(input, ["evidence", "traffic", "observed_share"], ""),
		"limit": object.get(input, ["evidence", "traffic", "expected_share"], ""),
	}
}

sudden("restarts") := found(violation, "", true) if {
	run.restarts >= run.limit("max_restarts")
	violation := {
		"id": "max_restarts",
		"message": sprintf("The canary restarted %s", [evidence.counted(run.restarts, "time")]),
		"observed": run.restarts,
		"limit": run.limit("max_restarts"),
	}
}

# --- can the question be read? -------------------------------------------------------------------------------

malformed := array.concat(
	[evidence.missing_limit("canary", name) | some name in limits; not is_usable_limit(name)],
	[evidence.missing_input(concat(".", path), object.get(input, path, "missing")) |
		some path in paths
		not is_usable(path)
	],
)

limits := [
	"max_error_rate", "max_p99_latency_ms", "min_requests", "relative_gate", "alpha", "beta", "rollback_tests",
	"advance_e", "caution_e", "lean_e", "min_excess", "min_bad_cycles", "catastrophic_e", "catastrophic_error_rate",
	"max_restarts", "min_evidence_seconds",
]

is_usable_limit(name) if is_number(run.limit(name))

is_usable_limit("relative_gate") if data.limits.canary.relative_gate in {"limit", "excess"}

paths := [path |
	some group in [
		[["error_rate"], ["p99_latency"], ["requests"], ["mode"], ["is_held"], ["step", "is_last"], ["chaos"]],
		[["rollout", key] | some key in ["min_requests", "max_wait_seconds", "waited_seconds", "on_timeout"]],
		paths_of_evidence,
	]
	some path in group
]

paths_of_evidence := [["evidence"]] if {
	not is_object(object.get(input, "evidence", "missing"))
} else := array.concat(
	[
		["evidence", "requests", "canary"], ["evidence", "e_catastrophic"], ["evidence", "evidence_s"],
		["evidence", "data_quality", "ok"], ["evidence", "data_quality", "canary_restarts"],
		["evidence", "traffic", "e_mismatch"],
	],
	[["evidence", metric, key] |
		some metric in run.metrics
		some key in ["e_above_limit", "e_below_limit", "e_worse", "baseline_e_above_limit", "bad_cycles"]
	],
)

is_usable(path) if object.get(input, path, "missing") in choices[path]

is_usable(path) if {
	not choices[path]
	evidence.is_measured(path)
}

# There may be nothing to measure; then the question says why.
is_usable(path) if {
	path in {["error_rate"], ["p99_latency"], ["requests"], ["evidence", "traffic", "e_mismatch"]}
	is_string(object.get(input, array.concat(path, ["unknown"]), null))
}

choices := {
	["mode"]: {"canary", "stable"},
	["chaos"]: {"none", "slow", "error", "unknown"},
	["rollout", "on_timeout"]: {"promote", "hold", "rollback"},
	["is_held"]: {true, false},
	["step", "is_last"]: {true, false},
	["evidence", "data_quality", "ok"]: {true, false},
}
