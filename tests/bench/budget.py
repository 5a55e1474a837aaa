#!/usr/bin/env python3
"""Holds the hot path to a budget of instructions: what a record costs between the answer that it came in and the child's line.

    tests/bench/budget.py HOT_PATH            fails where a record costs more than its budget and 3 %
    tests/bench/budget.py HOT_PATH --renew    writes what it costs now into budget.json

Counted by callgrind: the same program and input always take the same number of instructions, whatever else the machine does.
"""

import json
import os
import pathlib
import re
import subprocess
import sys

BUDGET = pathlib.Path(__file__).resolve().with_name("budget.json")
#: Another compiler of the same make, or another C library, may differ by so much.
TOLERANCE = 0.03
#: (bytes of a record, records in an answer)
CASES = {"100 B": (100, 2000), "1 KB": (1024, 1000), "10 KB": (10_240, 200)}
#: What the C library's copying would otherwise choose by the size of this processor's caches.
ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.cpu.x86_rep_movsb_threshold=1073741824:glibc.cpu.x86_non_temporal_threshold=1073741824"}


def main():
    hot_path, *rest = sys.argv[1:]
    costs = {what: per_record(hot_path, *case) for what, case in CASES.items()}
    if rest == ["--renew"]:
        BUDGET.write_text(json.dumps(costs, indent=1) + "\n")
        sys.exit(print(f"{BUDGET.name}: {costs}"))
    exceeded = False
    for what, budget in json.loads(BUDGET.read_text()).items():
        more = costs[what] / budget - 1
        print(f"budget: a record of {what} costs {costs[what]} instructions, {more:+.1%} to its budget of {budget}")
        exceeded |= more > TOLERANCE
        if more < -TOLERANCE:
            print("budget: renew it, so that the gain is kept: make budget RENEW=1")
    if exceeded:
        sys.exit("budget: exceeded. `callgrind_annotate` shows where; if it is worth that, say so in the commit of: make budget RENEW=1")


def per_record(hot_path, record_bytes, records):
    """The difference between three answers and one, so that start and end of the program do not count."""
    one, three = (instructions(hot_path, record_bytes, records, answers) for answers in (1, 3))
    return round((three - one) / 2 / records)


def instructions(hot_path, *arguments):
    words = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", hot_path, *map(str, arguments)]
    done = subprocess.run(words, env=os.environ | ENVIRONMENT, stderr=subprocess.PIPE, text=True, check=False)
    counted = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not counted:
        sys.exit(f"{' '.join(words)}:\n{done.stderr}")
    return int(counted[1])


if __name__ == "__main__":
    main()
