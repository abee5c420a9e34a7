package swiftdeploy.canary_test

import data.swiftdeploy.canary

limits := {"canary": {"max_error_rate": 0.01, "max_p99_latency_ms": 500, "min_requests": 20}}

texts := {"canary": {"max_error_rate": "1%", "max_p99_latency_ms": "500", "min_requests": "20"}}

good := {"error_rate": 0.004, "p99_latency": 120, "mode": "canary"}

counted := object.union(good, {"requests": 200})

# What a measurement must not be taken for.
confusing := [null, false, true, "", "0", "1", "NaN", "1e9", [], [0], {}, {"unknown": "why"}, {"value": 0}, -1, -0.5]

asked(facts) := answer if {
	answer := canary.decision with input as facts
		with data.limits as limits
		with data.limits_text as texts
		with data.revision as "r1"
}

ids(answer) := [violation.id | some violation in answer.violations]

test_a_good_canary_is_promoted if {
	every facts in [good, counted] {
		asked(facts) == {
			"allow": true,
			"action": "promote",
			"reason": "error rate and P99 latency are within their limits",
			"violations": [],
			"revision": "r1",
			"asked": "",
		}
	}
}

test_exactly_at_the_limits_is_allowed if {
	asked({"error_rate": 0.01, "p99_latency": 500, "mode": "canary", "requests": 20}).allow
}

test_no_errors_at_no_latency_is_allowed if asked({"error_rate": 0, "p99_latency": 0, "mode": "canary"}).allow

test_the_guides_question_is_denied if {
	answer := asked({"error_rate": 0.04, "p99_latency": 600, "mode": "canary"})
	answer.allow == false
	answer.action == "rollback"
	answer.reason == "Error rate exceeds 1% threshold; P99 latency exceeds 500ms"
	ids(answer) == ["max_error_rate", "max_p99_latency_ms"]
}

test_each_limit_alone_is_enough if {
	asked(object.union(good, {"error_rate": 0.011})).reason == "Error rate exceeds 1% threshold"
	asked(object.union(good, {"p99_latency": 501})).reason == "P99 latency exceeds 500ms"
	asked(object.union(good, {"error_rate": 0.011})).action == "rollback"
	asked(object.union(good, {"p99_latency": 501})).action == "rollback"
}

test_too_few_requests_hold_and_prove_nothing_bad if {
	few := asked(object.union(counted, {"requests": 19}))
	few.allow == false
	few.action == "hold"
	few.reason == "Fewer than 20 requests in the window"
	asked(object.union(counted, {"requests": 1, "error_rate": 1})).action == "hold"
}

test_one_proven_breach_rolls_back_whatever_else_is_unknown if {
	answer := asked({"error_rate": 0.5, "p99_latency": {"unknown": "no buckets"}, "mode": "canary"})
	answer.action == "rollback"
	answer.reason == "Error rate exceeds 1% threshold; p99_latency is unknown: no buckets"
}

test_what_is_only_unknown_holds if {
	answer := asked({"error_rate": {"unknown": "no traffic"}, "p99_latency": {"unknown": "no traffic"}, "mode": "canary"})
	answer.allow == false
	answer.action == "hold"
}

test_nothing_confusing_is_a_measurement if {
	every key in ["error_rate", "p99_latency", "requests"] {
		every value in confusing {
			answer := asked(object.union(object.remove(counted, [key]), {key: value}))
			answer.allow == false
			answer.action == "hold"
			ids(answer) == ["missing_input"]
			startswith(answer.reason, key)
		}
	}
	every key in ["error_rate", "p99_latency", "mode"] {
		asked(object.remove(counted, [key])).reason == sprintf("%s is missing", [key])
	}
}

test_nothing_confusing_is_a_mode if {
	every value in array.concat(confusing, [0, 1, "Canary", "canary ", ["canary"], "production"]) {
		answer := asked(object.union(object.remove(good, ["mode"]), {"mode": value}))
		answer.allow == false
		answer.action == "hold"
	}
}

test_nothing_confusing_is_a_limit if {
	every name in ["max_error_rate", "max_p99_latency_ms", "min_requests"] {
		every value in [null, false, true, "", "1", [], {}, -1] {
			broken := object.union(object.remove(limits.canary, [name]), {name: value})
			answer := canary.decision with input as counted with data.limits as {"canary": broken} with data.revision as "r1"
			answer.allow == false
			answer.action == "hold"
			answer.reason == sprintf("no usable limit policy.canary.%s", [name])
		}
	}
}

test_a_limit_without_a_text_is_printed_as_it_is if {
	answer := canary.decision with input as object.union(good, {"p99_latency": 900})
		with data.limits as limits
		with data.limits_text as {}
		with data.revision as "r1"
	answer.reason == "P99 latency exceeds 500ms"
}

test_no_limits_at_all_deny if {
	answer := canary.decision with input as counted with data.limits as {} with data.revision as "r1"
	answer.allow == false
	ids(answer) == ["missing_limit", "missing_limit", "missing_limit"]
}

test_an_empty_question_is_denied_and_says_what_is_missing if {
	asked({}).reason == "error_rate is missing; p99_latency is missing; mode is missing"
}

test_what_is_no_question_is_denied if {
	every question in [null, false, true, "", "x", [], [good]] {
		asked(question).allow == false
	}
	canary.decision.allow == false with data.limits as limits with data.revision as "r1"
}

test_the_question_is_named_in_the_answer if asked(object.union(good, {"asked": "d1"})).asked == "d1"

test_a_policy_of_the_operators_own_can_forbid_but_not_roll_back if {
	answer := asked(good) with data.swiftdeploy.canary.user.deny as {"not on Fridays"}
	answer.allow == false
	answer.action == "hold"
	answer.reason == "not on Fridays"
}

test_an_operators_policy_in_the_wrong_form_denies if {
	every wrong in [true, false, "text", ["text"], {"text": true}, {}, [], null] {
		answer := asked(good) with data.swiftdeploy.canary.user.deny as wrong
		answer.allow == false
		ids(answer) == ["user"]
	}
}
