# Words that every domain needs: a limit, a measurement, and what to say where one of them is not there.
#
# Nothing here answers a question. Limits are data (`data.limits.<domain>.<name>`), measurements are input.
# In Rego `null < 2` is true and so is `false < 2`: a comparison proves nothing before both sides are numbers.
package swiftdeploy.evidence

# The whole answer to a question. `asked` comes back as it was sent, so that no answer can be taken for
# another question's.
answer(violations, when_allowed, when_denied) := {
	"allow": true,
	"action": "promote",
	"reason": when_allowed,
	"violations": [],
	"revision": data.revision,
	"asked": object.get(input, "asked", ""),
} if {
	violations == []
} else := {
	"allow": false,
	"action": when_denied,
	"reason": concat("; ", [violation.message | some violation in violations]),
	"violations": violations,
	"revision": data.revision,
	"asked": object.get(input, "asked", ""),
}

# The limit as a number; undefined where it is missing or something else.
limit(domain, name) := data.limits[domain][name] if is_number(data.limits[domain][name])

# The limit as people read it: JSON makes 2 of 2.0, and a ratio is read as a percentage.
limit_text(domain, name) := data.limits_text[domain][name] if {
	is_string(data.limits_text[domain][name])
} else := sprintf("%v", [limit(domain, name)])

# The operator set this limit, well or badly.
has_limit(domain, name) if _ = data.limits[domain][name]

# The measurement as a number; undefined where it is missing, negative, unknown or something else.
measured(key) := input[key] if {
	is_number(input[key])
	abs(input[key]) == input[key]
}

is_measured(key) if is_number(measured(key))

# No violation when the measurement is at least the limit; else exactly one, whatever is wrong.
at_least(domain, name, key, words) := [] if {
	measured(key) >= limit(domain, name)
} else := [unproven(domain, name, key, words)]

# No violation when the measurement is at most the limit; else exactly one, whatever is wrong.
at_most(domain, name, key, words) := [] if {
	measured(key) <= limit(domain, name)
} else := [unproven(domain, name, key, words)]

# Why a comparison did not come out well: no limit, no measurement, or a limit that is not kept.
unproven(domain, name, key, words) := missing_limit(domain, name) if {
	not limit(domain, name)
} else := missing_input(key, object.get(input, key, "missing")) if {
	not is_measured(key)
} else := {
	"id": name,
	"message": sprintf(words, [limit_text(domain, name)]),
	"observed": measured(key),
	"limit": limit(domain, name),
}

missing_limit(domain, name) := violation("missing_limit", sprintf("no usable limit policy.%s.%s", [domain, name]))

missing_input(key, value) := violation("missing_input", sprintf("%s is missing", [key])) if {
	value == "missing"
} else := violation("missing_input", sprintf("%s is unknown: %v", [key, value.unknown])) if {
	is_string(value.unknown)
} else := violation("missing_input", sprintf("%s is not usable: %s", [key, json.marshal(value)]))

violation(id, message) := {"id": id, "message": message, "observed": "", "limit": ""}

# What the operator's own `deny contains message` says, sorted. Anything but a set is a mistake, and a mistake
# must not allow.
said(messages) := [violation("user", sprintf("%v", [message])) | some message in sort(messages)] if {
	is_set(messages)
} else := [violation("user", "a policy of your own must say `deny contains message if …`")]
