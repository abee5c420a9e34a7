# What people read about a rollout: why it goes up, back, or waits.
#
# Nothing here decides, and no sentence goes missing for want of a number.
package swiftdeploy.wording

import data.swiftdeploy.evidence
import data.swiftdeploy.run

# --- a move --------------------------------------------------------------------------------------------------

# `ready to be promoted on evidence: 2,400 requests, …`; before the last step `one step further on …`. What is proven
# waits for the end of its step, so only time promotes at once.
upwards(grounds) := sprintf("%s %s: %s", [
	{
		true: {"on evidence": "ready to be promoted", "on time, not on evidence": "promoted"}[grounds],
		false: "one step further",
	}[input.step.is_last],
	grounds,
	{"on evidence": proof, "on time, not on evidence": figures}[grounds],
])

backwards(findings) := concat("; ", array.concat(
	sentences(findings),
	[sprintf("rolled back on time, not on evidence: %s", [figures])],
))

proof := sprintf("%s, errors %s and latency %s below their limits, needed %s", [
	evidence.counted(run.requests, "request"),
	odds("errors", "e_below_limit"),
	odds("latency", "e_below_limit"),
	evidence.odds(run.needed_e),
])

# `38 requests, 0 errors, 95 %: 0-9.2 %`
figures := sprintf("%s, %s, 95 %%: %v-%v %%", [
	evidence.counted(run.requests, "request"),
	evidence.counted(run.seen("errors", "count"), "error"),
	evidence.points(["evidence", "errors", "rate_low"]),
	evidence.points(["evidence", "errors", "rate_high"]),
])

default figures := "how many errors is unknown"

# --- what was found ------------------------------------------------------------------------------------------

# All findings, and the chaos that explains them; "" where there is neither.
told(findings) := concat("; ", array.concat(sentences(findings), chaos))

sentences(findings) := [sentence |
	some finding in findings
	sentence := concat(": ", [part | some part in [finding.violation.message, finding.detail]; part != ""])
]

chaos := [sprintf("chaos is active (%s): %s", [input.chaos, meanwhile])] if {
	input.chaos in {"slow", "error"}
} else := []

meanwhile := "nothing goes up meanwhile" if {
	input.is_held == false
} else := "no verdict moves a held canary"

# `3.1% of 412 requests failed (evidence 240:1, roll back at 80:1)`, about the whole run; "" where none of it counts.
against(metric) := "" if {
	is_uncounted
} else := sprintf("%s of %s %s (evidence %s, %s)", [
	share(metric, "rate"),
	all_requests,
	{"errors": "failed", "latency": "were slower"}[metric],
	odds(metric, "e_above_limit"),
	consequence(metric),
])

# Under chaos a held canary is not weighed: what it was before says nothing about what is seen now.
is_uncounted if {
	input.chaos in {"slow", "error"}
	input.is_held == true
}

is_uncounted if evidence.grouped(run.requests) == "0"

consequence(metric) := "but the baseline breaks the limit too: no roll back" if {
	run.is_shared(metric)
} else := sprintf("roll back at %s", [bar])

# `3.1% against 0.4% (evidence 120:1, roll back at 80:1)`
compared(metric) := sprintf("%s against %s (evidence %s, roll back at %s)", [
	share(metric, "rate"),
	share(metric, "baseline_rate"),
	odds(metric, "e_worse"),
	bar,
])

bar := evidence.odds(run.rollback_e)

default bar := "unknown odds"

catastrophic(e) := sprintf("evidence %s, roll back at %s", [
	evidence.weight(e),
	evidence.odds(run.limit("catastrophic_e")),
])

all_requests := evidence.counted(run.requests, "request")

default all_requests := "all requests"

share(metric, key) := text if {
	text := evidence.percent(["evidence", metric, key])
} else := "an unknown share"

odds(metric, key) := text if {
	text := evidence.weight(run.seen(metric, key))
} else := "unknown"

# --- why nothing moves, though nothing was found ---------------------------------------------------------------

# The first that fits.
waiting := sprintf("The measurements are not to be trusted: %v", [why]) if {
	not input.evidence.data_quality.ok
	why := object.get(input, ["evidence", "data_quality", "why"], "")
} else := "held by mode: canary; `promote` goes on" if {
	not run.is_free
} else := sprintf("Not enough evidence: %s%s", [concat("; ", too_few), help]) if {
	too_few != []
} else := concat("; ", suspicions) if {
	suspicions != []
} else := sprintf("Not enough evidence yet: %s%s%s", [concat(", ", lacking), more, overdue])

too_few := array.concat(
	[evidence.missing_input(key, input[key]).message |
		some key in ["requests", "error_rate", "p99_latency"]
		not evidence.is_measured(key)
	],
	[fewer(place) | some place in ["window", "whole run"]],
)

fewer("window") := of_requests(evidence.measured("requests"), run.limit("min_requests"), "in the window")

fewer("whole run") := of_requests(run.requests, evidence.measured(["rollout", "min_requests"]), "in the whole run")

of_requests(number, least, place) := sprintf("%s of %s requests %s", [
	evidence.grouped(number),
	evidence.grouped(least),
	place,
]) if {
	number < least
}

help := "; max_wait is over, requests of your own (rollout.probe) would help" if {
	run.is_late
} else := ""

suspicions := [suspicion |
	some group in [
		[sprintf("Too many %s for now: %s", [plural[metric], against(metric)]) |
			some metric in run.metrics
			run.seen(metric, "e_above_limit") >= run.limit("caution_e")
		],
		[sprintf("More %s than the baseline for now: %s", [plural[metric], compared(metric)]) |
			some metric in run.metrics
			not run.is_no_worse(metric)
		],
		[sprintf("Perhaps more than %s errors: %s", [most, catastrophic(run.e_catastrophic)]) |
			run.e_catastrophic >= run.limit("caution_e")
			most := run.limit_text("catastrophic_error_rate")
		],
	]
	some suspicion in group
]

plural := {"errors": "errors", "latency": "slow answers"}

lacking := array.concat(proof_lacking, time_lacking)

proof_lacking := [sprintf("errors %s, latency %s, needed %s", [
	odds("errors", "e_below_limit"),
	odds("latency", "e_below_limit"),
	evidence.odds(run.needed_e),
])] if {
	not run.is_proven_below
} else := []

time_lacking := [sprintf("%s of %s s since the warm-up", [
	evidence.grouped(evidence.measured(["evidence", "evidence_s"])),
	run.limit_text("min_evidence_seconds"),
])] if {
	not run.is_exposed
} else := []

# What would settle the promotion, where that is known: `; 1,240 more requests, 83 s at this rate`. Before the last
# step less is needed, and how much is not known.
more := sprintf("; %s more request%s%s", [number, {true: "", false: "s"}[number == "1"], in_seconds]) if {
	input.step.is_last == true
	number := evidence.grouped(evidence.measured(["evidence", "needs", "requests"]))
	number != "0"
} else := ""

in_seconds := sprintf(", %s s at this rate", [evidence.grouped(evidence.measured(["evidence", "needs", "seconds"]))])

default in_seconds := ""

overdue := "; max_wait is over, and on_timeout says hold" if {
	run.is_over
	input.rollout.on_timeout == "hold"
} else := ""
