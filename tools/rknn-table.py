#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The table of docs/rknn.md on the vendor's simulator, measured: rknn-table.py SISKIN DATASET NAME=MODEL...
[--normal N] [--mmse N] [--equalise] [--refine] [--threads N]

Judges the test part of DATASET with every float MODEL, in float and as the toolkit's `normal` (N calibration pictures,
100) and `mmse` (20) make int8 of it, by each decision rule: one crop, three crops with penalties .7, .8 and .9, and the
squeezed frame. Prints Markdown: right in percent with the Wilson 95 % interval over pictures, per source, birds missed
and false alarms. The rules with crops are read off one run with three crops, whose p are in the JSON; the frame is
calibrated with squeezed frames only if the model's card says so."""
import argparse
import json
import math
import subprocess

RULES = [("1 crop", 1, 2.0), ("3 crops, penalty .7", 3, 0.7), ("3 crops, penalty .8", 3, 0.8),
         ("3 crops, penalty .9", 3, 0.9), ("squeezed", 0, 2.0)]


def call(*command):
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def interval(right, n, z=1.959964):
    """Wilson 1927."""
    p, d = right / n, 1 + z * z / n
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return 100 * (centre - half) / d, 100 * (centre + half) / d


def judge(pictures, threshold, penalty):
    """(source, is a bird, called a bird) of every picture."""
    return [(p["source"], p["label"] == "bird", p["p"][0] >= threshold or any(q >= penalty for q in p["p"][1:]))
            for p in pictures]


def row(head, verdicts, sources):
    right = [bird == called for _, bird, called in verdicts]
    cells = head + ["%.1f" % (100 * sum(right) / len(right)), "%.1f - %.1f" % interval(sum(right), len(right))]
    for source in sources:
        mine = [bird == called for name, bird, called in verdicts if name == source]
        cells.append("%.1f (%.1f - %.1f)" % ((100 * sum(mine) / len(mine),) + interval(sum(mine), len(mine))))
    cells.append("%d" % sum(bird and not called for _, bird, called in verdicts))
    cells.append("%d" % sum(called and not bird for _, bird, called in verdicts))
    print("| " + " | ".join(cells) + " |", flush=True)


def named(text):
    name, sign, model = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError("%s is no NAME=MODEL" % text)
    return name, model


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("siskin")
    parser.add_argument("dataset")
    parser.add_argument("models", nargs="+", metavar="NAME=MODEL", type=named)
    for name, value in (("--normal", "100"), ("--mmse", "20"), ("--threads", "0")):
        parser.add_argument(name, default=value, metavar="N")
    for name in ("--equalise", "--refine"):
        parser.add_argument(name, action="append_const", const=name, dest="form", default=[])
    return parser.parse_args()


def main():
    o = options()
    runs = [("float", []), ("normal", ["--backend", "rknn-sim", "--algorithm", "normal", "-n", o.normal]),
            ("mmse", ["--backend", "rknn-sim", "--algorithm", "mmse", "-n", o.mmse])]
    sources = None
    for name, model in o.models:
        for algorithm, backend in runs:
            found = {}
            for crops in ("3", "squeeze"):
                found[crops] = call(o.siskin, "eval", model, o.dataset, "--split", "test", "--crops", crops, "--json", "-q",
                                    "--threads", o.threads, *backend, *(o.form if backend else []))
            if sources is None:
                sources = [s["name"] for s in found["3"]["sources"]]
                head = ["model", "int8", "rule", "all, %", "95 % interval"] + sources + ["missed", "alarms"]
                print("| " + " | ".join(head) + " |\n|" + "---|" * len(head), flush=True)
            for rule, crops, penalty in RULES:
                one = found["3" if crops else "squeeze"]
                verdicts = judge(one["pictures"], one["rule"]["threshold"], penalty)
                row([name, algorithm, rule], verdicts, sources)


main()
