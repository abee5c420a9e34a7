# Has this host room for what a deployment is about to start?
#
# Asked once, before anything new is created. Input: `disk_free_gb`, `cpu_load` (1 minute) and
# `mem_used_percent`, each a number or {"unknown": "why"}.
package swiftdeploy.infrastructure

import data.swiftdeploy.evidence

default decision := {"allow": false, "action": "hold", "reason": "nothing was asked", "violations": []}

decision := evidence.answer(violations, "disk, CPU and memory are within their limits", "hold")

# In the order in which they are read out.
violations := array.concat(
	[violation | some check in [disk, load, memory]; some violation in check],
	[violation | some violation in evidence.said(data.swiftdeploy.infrastructure.user.deny)],
)

disk := evidence.at_least("infrastructure", "min_disk_free_gb", "disk_free_gb", "Disk space below %sGB")

load := evidence.at_most("infrastructure", "max_cpu_load", "cpu_load", "CPU load above %s")

# Only where the manifest sets a limit.
memory := evidence.at_most(
	"infrastructure", "max_mem_used_percent", "mem_used_percent",
	"Memory use above %s%%",
) if {
	evidence.has_limit("infrastructure", "max_mem_used_percent")
} else := []
