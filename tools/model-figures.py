#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Figures of the model card, measured: model-figures.py SISKIN DATASET MODEL... [--tsv FILE]

Evaluates every model on the test part of DATASET with one crop, three crops (penalty .8) and the squeezed picture, prints
a Markdown table of the accuracy per source and, with --tsv, writes the lines that the test of the shipped models holds
them to (model, crops, source, accuracy in percent; sources of photographs alone)."""
import json
import os
import subprocess
import sys

RULES = ("1", "3", "squeeze")


def evaluate(siskin, dataset, model, crops):
    command = [siskin, "eval", model, dataset, "--split", "test", "--crops", crops, "--penalty", "0.8", "--json", "-q"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def cell(metrics):
    return "%.1f (%.1f–%.1f)" % tuple(100 * metrics[k] for k in ("accuracy", "accuracy_low", "accuracy_high"))


def main():
    arguments = sys.argv[1:]
    tsv = None
    if "--tsv" in arguments:
        at = arguments.index("--tsv")
        tsv = arguments[at + 1]
        del arguments[at:at + 2]
    if len(arguments) < 3:
        sys.exit(__doc__)
    siskin, dataset, models = arguments[0], arguments[1], arguments[2:]
    lines = []
    for model in models:
        name = os.path.basename(model)
        runs = {crops: evaluate(siskin, dataset, model, crops) for crops in RULES}
        print("\n### %s\n\n| test source | n (birds) | one crop | three crops | squeezed |\n|---|---|---|---|---|" % name)
        table = {crops: {s["name"]: s for s in run["sources"]} for crops, run in runs.items()}
        clips = {p["source"] for p in runs["1"]["pictures"] if "frame" in p}
        for source, first in sorted(table["1"].items()):
            birds = sum(first["confusion"][1])
            print("| %s | %d (%d) | %s |" % (source, first["n"], birds, " | ".join(cell(table[c][source]) for c in RULES)))
            if source not in clips:
                lines += ["%s\t%s\t%s\t%.2f" % (name, c, source, 100 * table[c][source]["accuracy"]) for c in ("1", "3")]
        print("| all | %d | %s |" % (runs["1"]["metrics"]["n"], " | ".join(cell(runs[c]["metrics"]) for c in RULES)))
        print("| birds found, false alarms | | %s |" % " | ".join(
            "%d/%d, %d/%d" % (m[1][1], sum(m[1]), m[0][1], sum(m[0])) for m in (runs[c]["metrics"]["confusion"] for c in RULES)))
    if tsv:
        with open(tsv, "w", encoding="utf-8") as out:
            out.write("# model, crops, source, accuracy in percent (tools/model-figures.py)\n" + "\n".join(lines) + "\n")


main()
