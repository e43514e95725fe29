#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""count-tests.py testlog.json: prints `passed failed skipped` of a meson test run, counting each cmocka case by itself
and telling on stderr why something was skipped."""
import json
import re
import sys

passed = failed = skipped = 0
for line in open(sys.argv[1], encoding="utf-8"):
    run = json.loads(line)
    text = (run.get("stdout") or "") + "\n" + (run.get("stderr") or "")
    cases = [len(re.findall(r"^\[ +%s +\] \S" % word, text, re.M)) for word in ("OK", "SKIPPED")]
    bad = len(set(re.findall(r"^\[ +FAILED +\] ([A-Za-z_]\w*)$", text, re.M)))
    if run["result"] == "SKIP":
        skipped += 1
    elif run["result"] in ("OK", "EXPECTEDFAIL"):
        passed += cases[0] if sum(cases) else 1
        skipped += cases[1]
    else:
        passed += cases[0]
        skipped += cases[1]
        failed += bad or 1
    if run["result"] == "SKIP" or cases[1]:
        why = [l for l in text.splitlines() if re.match(r"(skip|left out|no \.\./shared)", l.strip(), re.I)]
        print("skipped in %s: %s" % (run["name"], "; ".join(dict.fromkeys(why))[:300] or "no reason given"), file=sys.stderr)
print(passed, failed, skipped)
