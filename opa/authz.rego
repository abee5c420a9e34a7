# Who may ask OPA what: the daemon, one decision of one domain, nothing else.
#
# Paths are listed, never matched by prefix; a query parameter (metrics, explain, …) is another question. OPA
# holds the digest of the token only.
package system.authz

default allow := false

allow if {
	crypto.sha256(input.identity) == data.swiftdeploy_auth.token_sha256
	input.method == "POST"
	input.params == {}
	["v1", "data", "swiftdeploy", domain, "decision"] = input.path
	domain in data.domains
}

allow if {
	input.method == "GET"
	input.params == {}
	input.path == ["health"]
}
