# The canary question of a rollout: with evidence of the whole run.
package swiftdeploy.rollout_test

import data.swiftdeploy.canary

limits := {
	"max_error_rate": 0.01, "max_p99_latency_ms": 500, "window_seconds": 30, "min_requests": 20,
	"relative_gate": "limit", "margin": 0.5, "alpha": 0.05, "beta": 0.05, "rollback_tests": 4, "advance_e": 1,
	"caution_e": 3, "odds_ratio_tolerated": 1.5, "lean_e": 2, "min_excess": 0.005, "min_bad_cycles": 2,
	"catastrophic_e": 1000, "catastrophic_error_rate": 0.3, "max_restarts": 3, "warmup_seconds": 15,
	"min_evidence_seconds": 60,
}

texts := {"max_error_rate": "1%", "catastrophic_error_rate": "30%"}

units := {"percent": 100, "p99_tail": 0.01}

metric := {
	"count": 2, "rate": 0.001, "rate_low": 0.0002, "rate_high": 0.004, "baseline_rate": 0.001, "excess": -0.0005,
	"e_above_limit": 0.1, "e_below_limit": 34.2, "e_worse": 0.4, "baseline_e_above_limit": 0.1, "bad_cycles": 1,
	"design_effect": 1,
}

slow := {"threshold_ms": 500, "bucket_exact": true, "p99_low_ms": 100, "p99_high_ms": 250}

# At the last step, and proven.
good := {
	"service": "app", "mode": "canary", "error_rate": 0.002, "p99_latency": 120, "requests": 412,
	"window_seconds": 30, "purpose": "rollout", "is_held": false, "chaos": "none",
	"step": {
		"index": 3, "of": 3, "weight": 50, "is_last": true, "elapsed_seconds": 61,
		"duration_seconds": 60,
	},
	"rollout": {"min_requests": 20, "max_wait_seconds": 600, "on_timeout": "promote", "waited_seconds": 200},
	"evidence": {
		"requests": {"canary": 2400, "baseline": 9000}, "errors": metric, "latency": object.union(metric, slow),
		"e_catastrophic": 0.001, "traffic": {"expected_share": 0.5, "observed_share": 0.49, "e_mismatch": 0.2},
		"data_quality": {"ok": true, "why": "", "missed_scrapes": 0, "counter_resets": 0, "canary_restarts": 0},
		"observed_s": 180, "evidence_s": 165, "chaos": "none", "needs": {"requests": 0, "seconds": 0},
	},
}

# `question` with other values at some paths.
but(question, changes) := json.patch(question, [{"op": "add", "path": path, "value": value} | some path, value in changes])

asked(question) := told(question, limits)

told(question, by) := answer if {
	answer := canary.decision with input as question
		with data.limits as {"canary": by}
		with data.limits_text as {"canary": texts}
		with data.units as units
		with data.revision as "r1"
}

changed(changes) := asked(but(good, changes))

ids(answer) := [violation.id | some violation in answer.violations]

promotes(answer) if {
	answer.allow == true
	answer.action == "promote"
	answer.violations == []
	answer.revision == "r1"
}

holds(answer, reason) if {
	answer.allow == false
	answer.action == "hold"
	answer.violations == []
	answer.reason == reason
}

rolls_back(answer, reason) if {
	answer.allow == false
	answer.action == "rollback"
	answer.reason == reason
}

at_step_one := {"/step": {"index": 1, "of": 3, "weight": 5, "is_last": false}}

unproven := {"/evidence/errors/e_below_limit": 3.2, "/evidence/latency/e_below_limit": 12.4}

late := object.union(unproven, {"/rollout/waited_seconds": 600})

# --- up --------------------------------------------------------------------------------------------------------

test_what_is_proven_is_promoted if {
	promotes(asked(good))
	asked(good).reason == "ready to be promoted on evidence: 2,400 requests, errors 34:1 and latency 34:1 below their limits, needed 20:1"
}

test_exactly_enough_is_enough if {
	promotes(changed({
		"/evidence/errors/e_below_limit": 20, "/evidence/latency/e_below_limit": 20, "/evidence/evidence_s": 60,
		"/error_rate": 0.01, "/p99_latency": 500, "/requests": 20, "/evidence/requests/canary": 20,
	}))
}

test_a_hair_less_is_not if {
	every path, value in {
		"/evidence/errors/e_below_limit": 19.9, "/evidence/latency/e_below_limit": 19.9, "/evidence/evidence_s": 59,
		"/error_rate": 0.0101, "/p99_latency": 501, "/requests": 19, "/evidence/requests/canary": 19,
		"/evidence/errors/e_above_limit": 3, "/evidence/latency/e_above_limit": 3, "/evidence/e_catastrophic": 3,
		"/evidence/data_quality/ok": false,
	} {
		changed({path: value}).action == "hold"
	}
}

test_an_earlier_step_needs_less if {
	answer := changed(object.union(at_step_one, object.union(unproven, {"/evidence/evidence_s": 5})))
	promotes(answer)
	answer.reason == "one step further on evidence: 2,400 requests, errors 3.2:1 and latency 12:1 below their limits, needed 1:1"
	holds(
		changed(object.union(at_step_one, {"/evidence/latency/e_below_limit": 0.9})),
		"Not enough evidence yet: errors 34:1, latency none yet, needed 1:1",
	)
}

test_odds_are_cut_off_and_not_rounded_up if {
	every e, words in {0.99: "none yet", 0.0000001: "none yet", 1: "1:1", 1.99: "1.9:1", 9.04: "9:1", 19.99: "19:1"} {
		answer := changed({"/evidence/errors/e_below_limit": e, "/evidence/evidence_s": 5})
		startswith(answer.reason, sprintf("Not enough evidence yet: errors %s, latency 34:1, needed 20:1", [words]))
	}
	every e, words in {999.9: "999:1", 1000: "1,000:1", 1000.5: "over 1,000:1", 1834567.89: "over 1,000:1", 1e12: "over 1,000:1", 1e30: "over 1,000:1"} {
		contains(changed({"/evidence/errors/e_below_limit": e}).reason, sprintf("requests, errors %s and latency 34:1", [words]))
	}
}

test_how_many_more_is_said_where_it_is_meant if {
	needing := object.union(at_step_one, {
		"/evidence/latency/e_below_limit": 0.9,
		"/evidence/needs": {"requests": 1240, "seconds": 83.4},
	})
	holds(changed(needing), "Not enough evidence yet: errors 34:1, latency none yet, needed 1:1")
}

test_traffic_that_need_not_be_exact_says_nothing if {
	promotes(changed({"/evidence/traffic/e_mismatch": {"unknown": "sticky"}}))
}

# --- not yet ---------------------------------------------------------------------------------------------------

test_what_is_not_proven_yet_says_what_it_needs if {
	holds(changed(unproven), "Not enough evidence yet: errors 3.2:1, latency 12:1, needed 20:1")
	needing := object.union(unproven, {"/evidence/needs": {"requests": 1240, "seconds": 83.4}})
	holds(
		changed(needing),
		"Not enough evidence yet: errors 3.2:1, latency 12:1, needed 20:1; 1,240 more requests, 83 s at this rate",
	)
	holds(
		changed(object.union(needing, {"/evidence/needs": {"requests": 1, "seconds": {"unknown": "no traffic"}}})),
		"Not enough evidence yet: errors 3.2:1, latency 12:1, needed 20:1; 1 more request",
	)
	holds(changed({"/evidence/evidence_s": 34}), "Not enough evidence yet: 34 of 60 s since the warm-up")
}

test_few_requests_prove_nothing if {
	few := {"/requests": 7, "/error_rate": 0.14, "/p99_latency": 900}
	holds(changed(few), "Not enough evidence: 7 of 20 requests in the window")
	holds(
		changed(object.union(few, {"/rollout/waited_seconds": 601})),
		"Not enough evidence: 7 of 20 requests in the window; max_wait is over, requests of your own (rollout.probe) would help",
	)
	holds(changed({"/rollout/min_requests": 5000}), "Not enough evidence: 2,400 of 5,000 requests in the whole run")
}

test_what_cannot_be_measured_says_why if {
	silence := {"unknown": "no requests"}
	holds(changed({"/error_rate": silence}), "Not enough evidence: error_rate is unknown: no requests")
	holds(
		changed({"/error_rate": silence, "/p99_latency": silence, "/requests": silence}),
		"Not enough evidence: requests is unknown: no requests; error_rate is unknown: no requests; p99_latency is unknown: no requests",
	)
	holds(
		changed({"/evidence/data_quality/ok": false, "/evidence/data_quality/why": "counters fell"}),
		"The measurements are not to be trusted: counters fell",
	)
}

test_a_suspicion_stops_the_way_up if {
	holds(
		changed({"/evidence/errors/e_above_limit": 12, "/evidence/errors/rate": 0.031}),
		"Too many errors for now: 3.1% of 2,400 requests failed (evidence 12:1, roll back at 80:1)",
	)
	holds(
		changed({"/evidence/latency/e_above_limit": 3, "/evidence/latency/rate": {"unknown": "no buckets"}}),
		"Too many slow answers for now: an unknown share of 2,400 requests were slower (evidence 3:1, roll back at 80:1)",
	)
	holds(
		changed({"/evidence/e_catastrophic": 50}),
		"Perhaps more than 30% errors: evidence 50:1, roll back at 1,000:1",
	)
}

# --- limits on the window ----------------------------------------------------------------------------------------

test_a_broken_window_holds_and_says_so if {
	answer := changed({"/error_rate": 0.02, "/p99_latency": 620, "/evidence/errors/e_above_limit": 5})
	answer.action == "hold"
	ids(answer) == ["max_error_rate", "max_p99_latency_ms"]
	answer.violations[0] == {
		"id": "max_error_rate", "message": "Error rate exceeds 1% threshold",
		"observed": 0.02, "limit": 0.01,
	}
	startswith(
		answer.reason,
		"Error rate exceeds 1% threshold: 0.1% of 2,400 requests failed (evidence 5:1, roll back at 80:1); P99 latency exceeds 500ms: ",
	)
}

# --- back ------------------------------------------------------------------------------------------------------

proven_bad := {
	"/evidence/errors/e_above_limit": 240, "/evidence/errors/bad_cycles": 2,
	"/evidence/errors/rate": 0.031, "/evidence/requests/canary": 412,
}

test_what_is_proven_bad_goes_back if {
	answer := changed(proven_bad)
	rolls_back(
		answer,
		"Error rate exceeds 1% threshold: 3.1% of 412 requests failed (evidence 240:1, roll back at 80:1)",
	)
	answer.violations == [{
		"id": "max_error_rate", "message": "Error rate exceeds 1% threshold",
		"observed": 0.031, "limit": 0.01,
	}]
	in_window := changed(object.union(proven_bad, {"/error_rate": 0.04}))
	in_window.action == "rollback"
	[violation.observed | some violation in in_window.violations] == [0.04]
}

test_what_is_proven_slow_goes_back if {
	answer := changed({"/evidence/latency/e_above_limit": 80, "/evidence/latency/bad_cycles": 2})
	answer.action == "rollback"
	startswith(answer.reason, "P99 latency exceeds 500ms: 0.1% of 2,400 requests were slower (evidence 80:1, ")
	answer.violations[0].observed == 100
}

test_one_bad_cycle_is_not_enough if {
	changed(object.union(proven_bad, {"/evidence/errors/bad_cycles": 1})).action == "hold"
	changed(object.union(proven_bad, {"/evidence/errors/e_above_limit": 79.9})).action == "hold"
}

test_what_the_baseline_does_too_is_not_the_canarys_doing if {
	shared := object.union(proven_bad, {"/evidence/errors/baseline_e_above_limit": 20})
	holds(
		changed(shared),
		"Too many errors for now: 3.1% of 412 requests failed (evidence 240:1, but the baseline breaks the limit too: no roll back)",
	)
	changed(object.union(shared, {"/evidence/errors/baseline_e_above_limit": 19.9})).action == "rollback"
}

worse_errors := {"/evidence/errors/e_worse": 120, "/evidence/errors/bad_cycles": 2, "/evidence/errors/baseline_rate": 0.004}

leaning := {"/evidence/errors/rate": 0.031, "/evidence/errors/e_above_limit": 2}

test_worse_than_the_baseline_counts_over_the_limit_only if {
	answer := changed(object.union(worse_errors, leaning))
	rolls_back(answer, "More errors than the baseline: 3.1% against 0.4% (evidence 120:1, roll back at 80:1)")
	answer.violations[0] == {
		"id": "worse_than_baseline", "message": "More errors than the baseline",
		"observed": 0.031, "limit": 0.004,
	}
	changed(object.union(object.union(worse_errors, leaning), {"/evidence/errors/bad_cycles": 1})).action == "hold"
	promotes(changed(worse_errors))
	promotes(changed(object.union(worse_errors, {"/evidence/errors/rate": 0.031})))
	promotes(changed(object.union(worse_errors, {"/evidence/errors/e_above_limit": 2})))
}

test_with_the_gate_excess_it_counts_inside_the_limit_too if {
	by := object.union(limits, {"relative_gate": "excess"})
	told(but(good, object.union(worse_errors, {"/evidence/errors/excess": 0.005})), by).action == "rollback"
	promotes(told(but(good, object.union(worse_errors, {"/evidence/errors/excess": 0.0049})), by))
	told(but(good, object.union(worse_errors, {"/evidence/errors/excess": {"unknown": "no baseline"}})), by).action == "hold"
}

test_slower_than_the_baseline_is_measured_by_what_p99_leaves_out if {
	slower := {
		"/evidence/latency/e_worse": 120, "/evidence/latency/bad_cycles": 2,
		"/evidence/latency/e_above_limit": 2,
	}
	wide := object.union(limits, {"max_error_rate": 0.2})
	answer := told(but(good, object.union(slower, {"/evidence/latency/rate": 0.011})), wide)
	answer.action == "rollback"
	startswith(answer.reason, "Slower than the baseline: ")
	promotes(told(but(good, object.union(slower, {"/evidence/latency/rate": 0.01})), wide))
}

test_being_a_little_worse_stops_the_way_up if {
	holds(
		changed(object.union(leaning, {"/evidence/errors/e_worse": 3})),
		"More errors than the baseline for now: 3.1% against 0.1% (evidence 3:1, roll back at 80:1)",
	)
}

test_sudden_signs_go_back_at_once if {
	rolls_back(
		changed({"/evidence/e_catastrophic": 5000}),
		"More than 30% errors: evidence over 1,000:1, roll back at 1,000:1",
	)
	rolls_back(
		changed({"/evidence/traffic/e_mismatch": 1000}),
		"The canary does not answer its share of the requests: evidence 1,000:1, roll back at 1,000:1",
	)
	rolls_back(changed({"/evidence/data_quality/canary_restarts": 3}), "The canary restarted 3 times")
	every changes in [
		{"/evidence/e_catastrophic": 5000, "/error_rate": {"unknown": "warm-up"}, "/requests": 0},
		{"/evidence/data_quality/canary_restarts": 3, "/evidence/data_quality/ok": false},
	] {
		changed(changes).action == "rollback"
	}
}

test_a_broken_limit_is_said_first if {
	answer := changed(object.union(proven_bad, {"/evidence/e_catastrophic": 5000, "/evidence/errors/e_worse": 100}))
	startswith(answer.reason, "Error rate exceeds 1% threshold: ")
	ids(answer) == ["max_error_rate", "worse_than_baseline", "catastrophic_error_rate"]
}

# --- time --------------------------------------------------------------------------------------------------------

few_but_good := object.union(late, {
	"/requests": 38, "/evidence/requests/canary": 38, "/evidence/errors/count": 0,
	"/evidence/errors/rate_low": 0, "/evidence/errors/rate_high": 0.092,
})

test_time_promotes_what_showed_nothing_bad if {
	answer := changed(few_but_good)
	promotes(answer)
	answer.reason == "promoted on time, not on evidence: 38 requests, 0 errors, 95 %: 0-9.2 %"
	early := changed(object.union(few_but_good, object.union(at_step_one, {"/evidence/errors/e_below_limit": 0.5})))
	promotes(early)
	startswith(early.reason, "one step further on time, not on evidence: 38 requests, ")
	changed(object.union(few_but_good, {"/rollout/waited_seconds": 599})).action == "hold"
}

test_time_promotes_nothing_suspicious if {
	every path, value in {
		"/evidence/errors/e_above_limit": 3, "/evidence/latency/e_above_limit": 3, "/error_rate": 0.02,
		"/p99_latency": {"unknown": "no buckets"}, "/requests": 19, "/evidence/requests/canary": 19, "/evidence/data_quality/ok": false,
		"/chaos": "slow", "/evidence/e_catastrophic": 3,
	} {
		changed(object.union(few_but_good, {path: value})).action == "hold"
	}
}

test_time_holds_where_it_shall if {
	holds(
		changed(object.union(late, {"/rollout/on_timeout": "hold"})),
		"Not enough evidence yet: errors 3.2:1, latency 12:1, needed 20:1; max_wait is over, and on_timeout says hold",
	)
}

test_time_rolls_back_where_it_shall if {
	back := object.union(few_but_good, {"/rollout/on_timeout": "rollback"})
	rolls_back(changed(back), "rolled back on time, not on evidence: 38 requests, 0 errors, 95 %: 0-9.2 %")
	rolls_back(
		changed(object.union(back, {"/evidence/errors/rate_high": {"unknown": "why"}})),
		"rolled back on time, not on evidence: how many errors is unknown",
	)
	startswith(changed(object.union(back, {"/error_rate": 0.02})).reason, "Error rate exceeds 1% threshold: ")
	promotes(changed({"/rollout/waited_seconds": 601, "/rollout/on_timeout": "rollback"}))
	every path, value in {
		"/evidence/requests/canary": 19, "/chaos": "slow", "/is_held": true,
		"/evidence/errors/e_worse": null,
	} {
		changed(object.union(back, {path: value})).action == "hold"
	}
}

# --- chaos, and held canaries --------------------------------------------------------------------------------------

test_nothing_goes_up_under_chaos if {
	every word in ["slow", "error"] {
		holds(changed({"/chaos": word}), sprintf("chaos is active (%s): nothing goes up meanwhile", [word]))
	}
	promotes(changed({"/chaos": "unknown"}))
}

test_chaos_may_roll_back_what_is_not_held if {
	changed(object.union(proven_bad, {"/chaos": "error"})).action == "rollback"
}

test_where_nothing_was_counted_no_share_is_named if {
	unknown := {"unknown": "no requests"}
	uncounted := {"/evidence/requests/canary": 0, "/evidence/latency/rate": unknown, "/p99_latency": 620}
	changed(uncounted).reason == "P99 latency exceeds 500ms"
}

test_no_verdict_moves_a_held_canary_under_chaos if {
	answer := changed(object.union(proven_bad, {"/chaos": "error", "/is_held": true, "/p99_latency": 3000}))
	answer.action == "hold"
	ids(answer) == ["max_error_rate", "max_p99_latency_ms"]
	answer.reason == concat("", [
		"Error rate exceeds 1% threshold; P99 latency exceeds 500ms; ",
		"chaos is active (error): no verdict moves a held canary",
	])
	changed(object.union(proven_bad, {"/is_held": true})).action == "rollback"
	changed(object.union(proven_bad, {"/chaos": "error", "/is_held": null})).action == "hold"
}

test_a_held_canary_stays_at_its_last_step if {
	held := {"/is_held": true}
	holds(changed(held), "held by mode: canary; `promote` goes on")
	holds(changed(object.union(held, few_but_good)), "held by mode: canary; `promote` goes on")
	promotes(changed(object.union(held, at_step_one)))
	ids(changed(object.union(held, {"/p99_latency": 620}))) == ["max_p99_latency_ms"]
}

# --- an operator's promotion -----------------------------------------------------------------------------------------

promote := {"/purpose": "promote"}

test_an_operators_promotion_asks_the_window_only if {
	promotes(changed(promote))
	promotes(changed(object.union(promote, {"/evidence": null, "/chaos": "slow", "/is_held": true})))
	promotes(changed(object.union(object.union(promote, proven_bad), {"/rollout": null, "/step": null})))
}

test_an_operators_promotion_is_denied_in_the_guides_words if {
	every changes, reason in {
		{"/error_rate": 0.04}: "Error rate exceeds 1% threshold",
		{"/p99_latency": 620}: "P99 latency exceeds 500ms",
		{"/requests": 19}: "Fewer than 20 requests in the window",
		{"/error_rate": 0.04, "/p99_latency": 620}: "Error rate exceeds 1% threshold; P99 latency exceeds 500ms",
		{"/requests": null}: "requests is not usable: null",
	} {
		answer := changed(object.union(promote, changes))
		answer.allow == false
		answer.action == "hold"
		answer.reason == reason
	}
	without := json.remove(but(good, promote), ["/requests"])
	asked(without).reason == "requests is missing"
}

# --- what cannot be read -----------------------------------------------------------------------------------------

needed := [
	"error_rate", "p99_latency", "requests", "mode", "is_held", "chaos", "step/is_last", "rollout/min_requests",
	"rollout/max_wait_seconds", "rollout/waited_seconds", "rollout/on_timeout", "evidence/requests/canary",
	"evidence/e_catastrophic", "evidence/evidence_s", "evidence/data_quality/ok",
	"evidence/data_quality/canary_restarts", "evidence/traffic/e_mismatch", "evidence/errors/e_above_limit",
	"evidence/errors/e_below_limit", "evidence/errors/e_worse", "evidence/errors/baseline_e_above_limit",
	"evidence/errors/bad_cycles", "evidence/latency/e_above_limit", "evidence/latency/e_below_limit",
	"evidence/latency/e_worse", "evidence/latency/baseline_e_above_limit", "evidence/latency/bad_cycles",
]

test_nothing_confusing_is_a_measurement if {
	every value in [null, "0", [], {}, -1] {
		answer := changed({sprintf("/%s", [path]): value | some path in needed})
		answer.action == "hold"
		said := [violation.message | some violation in answer.violations]
		every path in needed {
			sprintf("%s is not usable: %s", [replace(path, "/", "."), json.marshal(value)]) in said
		}
	}
}

# The rest is the suite's, which asks with random parts of the question gone wrong.
test_nothing_is_left_out if {
	every path in needed {
		answer := asked(json.remove(good, [sprintf("/%s", [path])]))
		answer.action == "hold"
		answer.reason == sprintf("%s is missing", [replace(path, "/", ".")])
	}
}

test_a_truth_value_is_no_number_and_a_number_no_truth_value if {
	truths := {"is_held", "step/is_last", "evidence/data_quality/ok"}
	every values in [{"truth": 1, "number": true}, {"truth": "true", "number": false}] {
		answer := changed(object.union(
			{sprintf("/%s", [path]): values.truth | some path in truths},
			{sprintf("/%s", [path]): values.number | some path in needed; not path in truths},
		))
		count(answer.violations) == count(needed)
	}
}

test_no_evidence_is_no_approval if {
	every value in [null, true, "", [], {}] {
		asked(but(good, {"/evidence": value})).action == "hold"
	}
	asked(json.remove(good, ["/evidence"])).reason == "evidence is missing"
}

test_a_purpose_that_is_none_holds if {
	every value in [null, true, {}, "", "Rollout", "promote "] {
		answer := changed({"/purpose": value})
		answer.action == "hold"
		ids(answer) == ["missing_input"]
	}
	asked(json.remove(good, ["/purpose"])).reason == "purpose is missing"
}

# Those that the policy reads; the others are for what measures.
judged := object.keys(object.remove(limits, ["window_seconds", "margin", "odds_ratio_tolerated", "warmup_seconds"]))

test_no_sentence_goes_missing_for_want_of_a_number if {
	broken := {"/error_rate": 0.04, "/evidence/requests/canary": null, "/evidence/errors/e_above_limit": null}
	answer := told(but(good, broken), object.remove(limits, ["alpha"]))
	answer.action == "hold"
	startswith(
		answer.reason,
		"Error rate exceeds 1% threshold: 0.1% of all requests failed (evidence unknown, roll back at unknown odds); ",
	)
}

no_limit(name) := sprintf("no usable limit policy.canary.%s", [name])

test_every_limit_must_be_usable if {
	every value in [null, "1", {}, -1] {
		answer := told(good, {name: value | some name in judged})
		answer.action == "hold"
		said := {violation.message | some violation in answer.violations}
		said == {no_limit(name) | some name in judged}
	}
}

test_every_limit_must_be_there if {
	every name in judged {
		answer := told(but(good, few_but_good), object.remove(limits, [name]))
		answer.action == "hold"
		answer.reason == no_limit(name)
	}
	every changes in [proven_bad, object.union(worse_errors, leaning)] {
		told(but(good, changes), object.filter(limits, ["relative_gate"])).action == "hold"
	}
}

test_without_units_nothing_is_promoted_by_mistake if {
	answer := canary.decision with input as but(good, object.union(proven_bad, {"/error_rate": 0.04}))
		with data.limits as {"canary": limits}
		with data.limits_text as {}
		with data.revision as "r1"
	answer.action == "rollback"
	startswith(answer.reason, "Error rate exceeds 0.01 threshold: an unknown share of 412 requests failed")
}

# --- the operator's own policies -----------------------------------------------------------------------------------

test_an_operators_policy_can_forbid_the_way_up if {
	answer := asked(good) with data.swiftdeploy.canary.user.deny as {"not on Fridays"}
	answer.action == "hold"
	answer.reason == "not on Fridays"
	ids(answer) == ["user"]
	back := changed(proven_bad) with data.swiftdeploy.canary.user.deny as {"not on Fridays"}
	back.action == "rollback"
	late_one := changed(object.union(few_but_good, {"/rollout/on_timeout": "rollback"})) with data.swiftdeploy.canary.user.deny as {"wait"}
	late_one.action == "hold"
}

test_an_operators_policy_can_roll_back if {
	answer := asked(good) with data.swiftdeploy.canary.user.rollback as {"orders are lost"}
	rolls_back(answer, "orders are lost")
	held := changed({"/is_held": true, "/chaos": "slow"}) with data.swiftdeploy.canary.user.rollback as {"orders are lost"}
	held.action == "hold"
	flat := asked({"error_rate": 0, "p99_latency": 1, "mode": "canary"}) with data.swiftdeploy.canary.user.rollback as {"lost"}
	flat.action == "rollback"
	operators := changed(promote) with data.swiftdeploy.canary.user.rollback as {"lost"}
	operators.action == "hold"
	promotes(asked(good)) with data.swiftdeploy.canary.user.rollback as set()
}

test_an_operators_policy_in_the_wrong_form_holds if {
	every wrong in [true, false, "text", ["text"], {"text": true}, {}, [], null] {
		answer := asked(good) with data.swiftdeploy.canary.user.rollback as wrong
		answer.action == "hold"
		ids(answer) == ["user"]
		flat := asked({"error_rate": 0, "p99_latency": 1, "mode": "canary"}) with data.swiftdeploy.canary.user.rollback as wrong
		flat.action == "hold"
	}
}
