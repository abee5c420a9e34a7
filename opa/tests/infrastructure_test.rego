package swiftdeploy.infrastructure_test

import data.swiftdeploy.infrastructure

limits := {"infrastructure": {"min_disk_free_gb": 10, "max_cpu_load": 2.0}}

texts := {"infrastructure": {"min_disk_free_gb": "10", "max_cpu_load": "2.0"}}

good := {"disk_free_gb": 50.5, "cpu_load": 0.3, "mem_used_percent": 40}

# What a measurement must not be taken for.
confusing := [null, false, true, "", "0", "1", "NaN", "1e9", [], [0], {}, {"unknown": "why"}, {"value": 50}, -1, -0.5]

asked(facts) := answer if {
	answer := infrastructure.decision with input as facts
		with data.limits as limits
		with data.limits_text as texts
		with data.revision as "r1"
}

with_memory_limit(facts, limit) := answer if {
	answer := infrastructure.decision with input as facts
		with data.limits as {"infrastructure": object.union(limits.infrastructure, {"max_mem_used_percent": limit})}
		with data.limits_text as {"infrastructure": {"max_mem_used_percent": "90"}}
		with data.revision as "r1"
}

ids(answer) := [violation.id | some violation in answer.violations]

test_a_host_with_room_is_allowed if {
	asked(good) == {
		"allow": true,
		"action": "promote",
		"reason": "disk, CPU and memory are within their limits",
		"violations": [],
		"revision": "r1",
		"asked": "",
	}
}

test_exactly_at_the_limits_is_allowed if {
	asked({"disk_free_gb": 10, "cpu_load": 2, "mem_used_percent": 100}).allow
}

test_an_idle_processor_is_allowed if asked(object.union(good, {"cpu_load": 0})).allow

test_a_full_disk_is_denied_in_the_guides_words if {
	answer := asked(object.union(good, {"disk_free_gb": 9.99}))
	answer.allow == false
	answer.action == "hold"
	answer.reason == "Disk space below 10GB"
	answer.violations == [{
		"id": "min_disk_free_gb",
		"message": "Disk space below 10GB",
		"observed": 9.99,
		"limit": 10,
	}]
}

test_a_busy_processor_is_denied_with_the_limit_as_written if {
	asked(object.union(good, {"cpu_load": 2.01})).reason == "CPU load above 2.0"
}

test_two_limits_exceeded_are_one_decision_that_names_both if {
	answer := asked({"disk_free_gb": 1, "cpu_load": 9, "mem_used_percent": 1})
	answer.allow == false
	answer.reason == "Disk space below 10GB; CPU load above 2.0"
	ids(answer) == ["min_disk_free_gb", "max_cpu_load"]
}

test_memory_counts_only_where_a_limit_is_set if {
	used := object.union(good, {"mem_used_percent": 99})
	asked(used).allow
	with_memory_limit(used, 90).reason == "Memory use above 90%"
	with_memory_limit(object.union(good, {"mem_used_percent": 90}), 90).allow
}

test_a_memory_limit_wants_a_measurement if {
	every value in confusing {
		with_memory_limit(object.union(good, {"mem_used_percent": value}), 90).allow == false
	}
	with_memory_limit(object.remove(good, ["mem_used_percent"]), 90).reason == "mem_used_percent is missing"
}

test_a_memory_limit_that_is_no_number_denies if {
	every limit in [false, true, "90", [], {}] {
		ids(with_memory_limit(good, limit)) == ["missing_limit"]
	}
}

test_nothing_confusing_is_a_measurement if {
	every key in ["disk_free_gb", "cpu_load"] {
		every value in confusing {
			answer := asked(object.union(object.remove(good, [key]), {key: value}))
			answer.allow == false
			answer.action == "hold"
			ids(answer) == ["missing_input"]
			startswith(answer.reason, key)
		}
		asked(object.remove(good, [key])).reason == sprintf("%s is missing", [key])
	}
}

test_why_something_is_unknown_is_told if {
	asked(object.union(good, {"cpu_load": {"unknown": "no /proc"}})).reason == "cpu_load is unknown: no /proc"
}

test_nothing_confusing_is_a_limit if {
	every name in ["min_disk_free_gb", "max_cpu_load"] {
		every value in [null, false, true, "", "2", [], {}] {
			broken := object.union(object.remove(limits.infrastructure, [name]), {name: value})
			answer := infrastructure.decision with input as good
				with data.limits as {"infrastructure": broken}
				with data.revision as "r1"
			answer.allow == false
			answer.reason == sprintf("no usable limit policy.infrastructure.%s", [name])
		}
	}
}

test_no_limits_at_all_deny if {
	every nothing in [{}, {"infrastructure": {}}, {"infrastructure": null}, {"canary": limits.infrastructure}] {
		answer := infrastructure.decision with input as good with data.limits as nothing with data.revision as "r1"
		answer.allow == false
		ids(answer) == ["missing_limit", "missing_limit"]
	}
}

test_an_empty_question_is_denied_and_says_what_is_missing if {
	asked({}).reason == "disk_free_gb is missing; cpu_load is missing"
}

test_what_is_no_question_is_denied if {
	every question in [null, false, true, "", "x", [], [good]] {
		asked(question).allow == false
	}
	infrastructure.decision.allow == false with data.limits as limits with data.revision as "r1"
}

test_the_question_is_named_in_the_answer if asked(object.union(good, {"asked": "d1"})).asked == "d1"

test_a_policy_of_the_operators_own_can_forbid if {
	answer := asked(good) with data.swiftdeploy.infrastructure.user.deny as {"not on Fridays", "and not now"}
	answer.allow == false
	answer.reason == "and not now; not on Fridays"
	ids(answer) == ["user", "user"]
}

test_a_policy_of_the_operators_own_can_not_allow if {
	asked({}).allow == false with data.swiftdeploy.infrastructure.user.deny as set()
}

test_an_operators_policy_in_the_wrong_form_denies if {
	every wrong in [true, false, "text", ["text"], {"text": true}, {}, [], null] {
		answer := asked(good) with data.swiftdeploy.infrastructure.user.deny as wrong
		answer.allow == false
		ids(answer) == ["user"]
	}
}
