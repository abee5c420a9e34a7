package system.authz_test

import data.system.authz

decision := ["v1", "data", "swiftdeploy", "canary", "decision"]

good := {"identity": "secret", "method": "POST", "path": decision, "params": {}}

allowed(request) if {
	authz.allow with input as request
		with data.swiftdeploy_auth as {"token_sha256": crypto.sha256("secret")}
		with data.domains as ["admission", "canary", "infrastructure"]
}

test_the_three_decisions_can_be_asked_for if {
	every domain in ["admission", "canary", "infrastructure"] {
		allowed(object.union(good, {"path": ["v1", "data", "swiftdeploy", domain, "decision"]}))
	}
}

test_health_needs_no_token if allowed({"method": "GET", "path": ["health"], "params": {}})

test_no_token_but_the_right_one if {
	not allowed(object.remove(good, ["identity"]))
	every token in ["", "Secret", "secret ", crypto.sha256("secret"), null, true, 0, [], {}] {
		not allowed(object.union(good, {"identity": token}))
	}
}

test_no_token_at_all_is_known_then_nobody_is if {
	not authz.allow with input as good with data.domains as ["canary"]
	not authz.allow with input as good with data.domains as ["canary"] with data.swiftdeploy_auth as {"token_sha256": null}
}

test_no_other_path if {
	every path in [
		[],
		[""],
		["health"],
		["metrics"],
		["v1"],
		["v1", "data"],
		["v1", "data", ""],
		["v1", "data", "swiftdeploy_auth"],
		["v1", "data", "swiftdeploy_auth", "token_sha256"],
		["v1", "data", "limits"],
		["v1", "data", "system", "authz", "allow"],
		["v1", "data", "swiftdeploy"],
		["v1", "data", "swiftdeploy", "canary"],
		["v1", "data", "swiftdeploy", "canary", "decision", ""],
		["v1", "data", "swiftdeploy", "canary", "decision", "allow"],
		["v1", "data", "swiftdeploy", "canary", "violations"],
		["v1", "data", "swiftdeploy", "evidence", "decision"],
		["v1", "data", "swiftdeploy", "", "decision"],
		["v1", "data", "swiftdeploy/canary/decision"],
		["", "v1", "data", "swiftdeploy", "canary", "decision"],
		["v0", "data", "swiftdeploy", "canary", "decision"],
		["v1", "compile"],
		["v1", "query"],
		["v1", "config"],
		["v1", "status"],
		["v1", "policies"],
		["v1", "policies", "policy", "canary.rego"],
	] {
		not allowed(object.union(good, {"path": path}))
	}
}

test_no_other_method if {
	every method in ["GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "post", ""] {
		not allowed(object.union(good, {"method": method}))
	}
	every method in ["POST", "PUT", "HEAD"] {
		not allowed({"method": method, "path": ["health"], "params": {}})
	}
}

test_no_parameters if {
	every name in ["metrics", "explain", "instrument", "provenance", "pretty", "strict-builtin-errors", "x"] {
		not allowed({"identity": "secret", "method": "POST", "path": decision, "params": {name: ["true"]}})
	}
	not allowed({"method": "GET", "path": ["health"], "params": {"bundles": [""]}})
	not allowed(object.remove(good, ["params"]))
}

test_nothing_is_asked if {
	every request in [null, false, true, "", [], {}] {
		not allowed(request)
	}
	not authz.allow
}
