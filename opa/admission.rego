# May this manifest become the one this host is held to?
#
# Asked before a changed manifest is followed. Input: `project`, `manifest` (digest), `services` (a list),
# `nginx`, `opa`, and `previous`, what was followed until now, where there was something. All limits are
# optional: `max_replicas`, `allowed_image_prefixes`, `deny_latest`.
package swiftdeploy.admission

import data.swiftdeploy.evidence

default decision := {"allow": false, "action": "hold", "reason": "nothing was asked", "violations": []}

decision := evidence.answer(violations, "nothing forbids this manifest", "hold")

# In the order in which they are read out.
violations := array.concat(
	[violation | some check in [sort(malformed), replicas, prefixes, tags]; some violation in check],
	[violation | some violation in evidence.said(data.swiftdeploy.admission.user.deny)],
)

# What must be there before any rule can be trusted to have looked at all of it. The arguments of a negated call
# are looked up outside of it, so one that may be absent needs `object.get`, or the whole rule would vanish.
malformed contains evidence.missing_input(key, object.get(input, key, "missing")) if {
	some key in ["project", "manifest"]
	not is_name(object.get(input, key, null))
}

malformed contains evidence.violation(
	"missing_input",
	"services is not a list of services with name, image and replicas",
) if {
	not is_list_of_services(object.get(input, "services", null))
}

malformed contains evidence.violation("missing_input", "nginx is not an image and a port") if {
	not is_proxy(object.get(input, "nginx", null))
}

malformed contains evidence.violation("missing_input", "opa is not an image") if {
	not is_name(object.get(input, ["opa", "image"], null))
}

is_name(value) if {
	is_string(value)
	value != ""
}

is_list_of_services(services) if {
	is_array(services)
	services != []
	every service in services {
		is_name(service.name)
		is_name(service.image)
		is_count(service.replicas)
	}
}

is_proxy(nginx) if {
	is_name(nginx.image)
	is_count(nginx.port)
}

is_count(value) if {
	is_number(value)
	abs(value) == value
}

# Every image of the manifest, with what it is for.
images := array.concat(
	[{"of": service.name, "image": service.image} | some service in input.services],
	[{"of": part, "image": input[part].image} | some part in ["nginx", "opa"]],
)

replicas := [] if {
	not evidence.has_limit("admission", "max_replicas")
} else := [evidence.missing_limit("admission", "max_replicas")] if {
	not evidence.limit("admission", "max_replicas")
} else := [violation |
	some service in input.services
	service.replicas > evidence.limit("admission", "max_replicas")
	violation := {
		"id": "max_replicas",
		"message": sprintf("%s wants more than %s replicas", [
			service.name,
			evidence.limit_text("admission", "max_replicas"),
		]),
		"observed": service.replicas,
		"limit": evidence.limit("admission", "max_replicas"),
	}
]

prefixes := [] if {
	not evidence.has_limit("admission", "allowed_image_prefixes")
} else := [evidence.missing_limit("admission", "allowed_image_prefixes")] if {
	not is_list_of_names(data.limits.admission.allowed_image_prefixes)
} else := [violation |
	some used in images
	not has_prefix(used.image, data.limits.admission.allowed_image_prefixes)
	violation := {
		"id": "allowed_image_prefixes",
		"message": sprintf("image %s of %s is from none of the allowed places", [used.image, used.of]),
		"observed": used.image,
		"limit": concat(", ", data.limits.admission.allowed_image_prefixes),
	}
]

is_list_of_names(names) if {
	is_array(names)
	every name in names {
		is_name(name)
	}
}

has_prefix(image, allowed) if {
	some prefix in allowed
	startswith(image, prefix)
}

tags := [] if {
	not evidence.has_limit("admission", "deny_latest")
} else := [] if {
	data.limits.admission.deny_latest == false
} else := [evidence.missing_limit("admission", "deny_latest")] if {
	data.limits.admission.deny_latest != true
} else := [violation |
	some used in images
	floats(used.image)
	violation := {
		"id": "deny_latest",
		"message": sprintf("image %s of %s has no fixed tag", [used.image, used.of]),
		"observed": used.image,
		"limit": "",
	}
]

# No digest, and either no tag or `latest`: what runs tomorrow is not what was admitted today.
floats(image) if regex.match(`^([^@]*/)?[^/:@]+(:latest)?$`, image)
