# Words that every domain needs: a limit, a measurement, and what to say where one of them is not there.
#
# Nothing here answers a question. Limits are data (`data.limits.<domain>.<name>`), measurements are input.
# In Rego `null < 2` is true and so is `false < 2`: a comparison proves nothing before both sides are numbers.
package swiftdeploy.evidence

# The answer to a question that violations alone decide.
answer(violations, when_allowed, when_denied) := told("promote", when_allowed, []) if {
	violations == []
} else := told(when_denied, reasons(violations), violations)

# The whole answer. `asked` comes back as it was sent, so that no answer can be taken for another question's.
told(action, reason, violations) := {
	"allow": action == "promote",
	"action": action,
	"reason": reason,
	"violations": violations,
	"revision": data.revision,
	"asked": object.get(input, "asked", ""),
}

reasons(violations) := concat("; ", [violation.message | some violation in violations])

# The limit as a number; undefined where it is missing, negative or something else.
limit(domain, name) := data.limits[domain][name] if {
	is_number(data.limits[domain][name])
	abs(data.limits[domain][name]) == data.limits[domain][name]
}

# The limit as people read it: JSON makes 2 of 2.0, and a ratio is read as a percentage.
limit_text(domain, name) := data.limits_text[domain][name] if {
	is_string(data.limits_text[domain][name])
} else := sprintf("%v", [limit(domain, name)])

# The operator set this limit, well or badly.
has_limit(domain, name) if _ = data.limits[domain][name]

# The measurement as a number; undefined where it is missing, negative, unknown or something else. `key` may be a
# path: ["evidence", "errors", "rate"].
measured(key) := value if {
	value := object.get(input, key, "missing")
	is_number(value)
	abs(value) == value
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

# `key` is what the operator reads: for a path, its parts with dots between them.
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

# How much a number is, for people. Units are data too: Rego holds no number, so that none can be a limit.

# `3.1` for 0.031, with two digits behind the point at most.
points(key) := round((measured(key) * data.units.percent) * data.units.percent) / data.units.percent

percent(key) := sprintf("%v%%", [points(key)])

# `80:1`, what is needed.
odds(value) := sprintf("%s:1", [grouped(value)])

# `1.7:1`, the evidence there is: cut off and never rounded up, so that 19.9 is not the 20 that is needed, and beyond
# a thousand nobody counts. Odds of less than 1:1 are none.
weight(value) := "none yet" if {
	regex.match(`^0|e-`, sprintf("%v", [value]))
} else := "over 1,000:1" if {
	contains(sprintf("%v", [value]), "e+")
} else := sprintf("%s:1", [regex.replace(sprintf("%v", [value]), `^(\d\.[1-9]|\d+).*$`, "$1")]) if {
	regex.match(`^\d{1,3}(\.|$)`, sprintf("%v", [value]))
} else := "1,000:1" if {
	sprintf("%v", [value]) == "1000"
} else := "over 1,000:1"

# `1 error`, `1,240 errors`
counted(value, noun) := sprintf("%s %s%s", [grouped(value), noun, plural]) if {
	plural := {true: "", false: "s"}[grouped(value) == "1"]
}

# `1,240`: whole, with a comma for each thousand.
grouped(value) := commas(commas(commas(regex.replace(sprintf("%v", [round(value)]), `(\d)(\d{3})$`, "$1,$2"))))

commas(text) := regex.replace(text, `(\d)(\d{3}),`, "$1,$2,")
