"""Print the table: one line per measure, with what it was measured beside. `python -m bench planner cycle` for some."""

from __future__ import annotations

import sys

from bench import audit, git, history, rollouts, scorecard
from bench.measures import ROWS as BASIC
from bench.measures import Row

ROWS = {**BASIC, **rollouts.ROWS, "audit": audit.audit_cost, **history.ROWS, **git.ROWS}
ALL = {**ROWS, **scorecard.ROWS}
"""With what only runs when it is asked for."""


def main() -> int:
    names = sys.argv[1:] or list(ROWS)
    unknown = [name for name in names if name not in ALL]
    if unknown:
        print(f"bench: no such measure: {', '.join(unknown)}. There are: {', '.join(ALL)}", file=sys.stderr)
        return 64
    print("| what | SwiftDeploy | beside it | ratio | target | |\n|---|---|---|---|---|---|", flush=True)
    rows: list[Row] = []
    for name in names:
        for row in ALL[name]():
            rows.append(row)
            met = "met" if row.met else "MISSED"
            print(f"| {row.what} | {row.ours} | {row.peer} | {row.ratio} | {row.target} | {met} |", flush=True)
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
