package swiftdeploy.admission_test

import data.swiftdeploy.admission

good := {
	"project": "shop",
	"manifest": "0a1b",
	"services": [
		{"name": "api", "image": "registry.test/api:1.2", "replicas": 1, "mode": "stable"},
		{"name": "web", "image": "registry.test/web@sha256:00", "replicas": 3, "mode": "stable"},
	],
	"nginx": {"image": "registry.test/nginx:1.30", "port": 8080},
	"opa": {"image": "registry.test/opa:1.19.0"},
}

confusing := [null, false, true, "", [], {}, {"unknown": "why"}, -1]

asked(question, limits) := answer if {
	answer := admission.decision with input as question
		with data.limits as {"admission": limits}
		with data.limits_text as {"admission": {"max_replicas": "2"}}
		with data.revision as "r1"
}

ids(answer) := [violation.id | some violation in answer.violations]

service_with(key, value) := object.union(good, {"services": [object.union(
	object.remove(good.services[0], [key]),
	{key: value},
)]})

test_a_whole_manifest_is_allowed_where_nothing_is_forbidden if {
	asked(good, {}) == {
		"allow": true,
		"action": "promote",
		"reason": "nothing forbids this manifest",
		"violations": [],
		"revision": "r1",
		"asked": "",
	}
	answer := admission.decision with input as good with data.limits as {} with data.revision as "r1"
	answer.allow
}

test_the_manifest_before_it_is_welcome if asked(object.union(good, {"previous": good}), {}).allow

test_what_is_not_a_whole_manifest_is_denied if {
	every key in ["project", "manifest", "services", "nginx", "opa"] {
		every value in confusing {
			asked(object.union(object.remove(good, [key]), {key: value}), {}).allow == false
		}
		answer := asked(object.remove(good, [key]), {})
		answer.allow == false
		ids(answer) == ["missing_input"]
		contains(answer.reason, key)
	}
}

test_what_is_not_a_whole_service_is_denied if {
	every key in ["name", "image", "replicas"] {
		every value in confusing {
			asked(service_with(key, value), {}).allow == false
		}
		broken := object.union(good, {"services": [good.services[1], object.remove(good.services[0], [key])]})
		ids(asked(broken, {})) == ["missing_input"]
	}
	asked(service_with("replicas", "1"), {}).allow == false
	asked(object.union(good, {"nginx": {"image": "n", "port": "8080"}}), {}).allow == false
}

test_an_empty_question_is_denied if {
	count(asked({}, {}).violations) == 5
	every question in [null, false, true, "", "x", [], [good]] {
		asked(question, {}).allow == false
	}
}

test_too_many_replicas_are_denied if {
	answer := asked(good, {"max_replicas": 2})
	answer.reason == "web wants more than 2 replicas"
	answer.violations == [{
		"id": "max_replicas",
		"message": "web wants more than 2 replicas",
		"observed": 3,
		"limit": 2,
	}]
	asked(good, {"max_replicas": 3}).allow
}

test_every_image_must_come_from_an_allowed_place if {
	allowed := {"allowed_image_prefixes": ["mirror.test/", "registry.test/"]}
	asked(good, allowed).allow
	asked(service_with("image", "registry.test.evil.test/api:1"), allowed).reason == "image registry.test.evil.test/api:1 of api is from none of the allowed places"
	asked(object.union(good, {"nginx": {"image": "nginx:1.30", "port": 8080}}), allowed).allow == false
	asked(object.union(good, {"opa": {"image": "opa:1"}}), allowed).allow == false
	asked(good, {"allowed_image_prefixes": []}).allow == false
}

test_a_floating_tag_is_denied_where_that_is_forbidden if {
	every image in ["nginx", "nginx:latest", "r.test:5000/nginx", "r.test/a/b:latest", "localhost:5000/x:latest"] {
		answer := asked(service_with("image", image), {"deny_latest": true})
		answer.reason == sprintf("image %s of api has no fixed tag", [image])
		asked(service_with("image", image), {"deny_latest": false}).allow
		asked(service_with("image", image), {}).allow
	}
	every image in ["nginx:1.30", "r.test:5000/nginx:1", "nginx@sha256:00", "nginx:latest@sha256:00", "a/b:latest-1"] {
		asked(service_with("image", image), {"deny_latest": true}).allow
	}
}

test_a_rule_that_is_set_badly_denies if {
	every value in [null, false, true, "2", [], {}] {
		ids(asked(good, {"max_replicas": value})) == ["missing_limit"]
	}
	every value in [null, false, true, "registry.test/", {}, [""], [1], [null]] {
		ids(asked(good, {"allowed_image_prefixes": value})) == ["missing_limit"]
	}
	every value in [null, "true", 1, [], {}] {
		ids(asked(good, {"deny_latest": value})) == ["missing_limit"]
	}
}

test_several_reasons_are_one_decision if {
	limits := {"max_replicas": 2, "allowed_image_prefixes": ["mirror.test/"], "deny_latest": true}
	answer := asked(service_with("image", "nginx"), limits)
	ids(answer) == ["allowed_image_prefixes", "allowed_image_prefixes", "allowed_image_prefixes", "deny_latest"]
}

test_a_policy_of_the_operators_own_can_forbid if {
	answer := asked(good, {}) with data.swiftdeploy.admission.user.deny as {"api must stay"}
	answer.allow == false
	answer.reason == "api must stay"
}

test_an_operators_policy_in_the_wrong_form_denies if {
	every wrong in [true, false, "text", ["text"], {"text": true}, {}, [], null] {
		answer := asked(good, {}) with data.swiftdeploy.admission.user.deny as wrong
		ids(answer) == ["user"]
	}
}
