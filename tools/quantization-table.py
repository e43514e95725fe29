#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The table of docs/quantization.md, measured. Quantises every float MODEL with each step of the ladder, weights per channel
and per tensor, and compares it with float on the test part of DATASET: accuracy per source, flips, mean and largest change
of p, cosine of the pooled features, size."""
import argparse
import json
import os
import subprocess
import tempfile

BARE = ["--weights", "max", "--equalise", "none", "--correct-bias", "no", "--adaround", "no"]
STEPS = [
    ("normal", ["--observer", "normal"] + BARE),
    ("percentile 99.99", ["--observer", "percentile"] + BARE),
    ("kl", ["--observer", "kl"] + BARE),
    ("mmse", ["--observer", "mmse", "--weights", "mmse"] + BARE[2:]),
    ("+ equalisation", ["--correct-bias", "no", "--adaround", "no"]),
    ("+ bias correction", ["--adaround", "no"]),
    ("+ AdaRound (best)", []),
    ("+ blocks", ["--reconstruct", "block"]),
]


def call(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def compare(siskin, dataset, model, skn, threads):
    return json.loads(call(siskin, "eval", model, dataset, "--compare", skn, "--threads", threads, "--json", "-q"))


def milliseconds(siskin, evaluation, skn):
    """The lowest of the test pictures' times: the one that was disturbed least."""
    pictures = [p["path"] for p in evaluation["pictures"] if "frame" not in p][:40]
    lines = call(siskin, "classify", skn, *pictures, "--threads", "1", "--json", "-q").splitlines()
    return min(json.loads(line)["ms"] for line in lines)


def cells(evaluation):
    c = evaluation["comparison"]
    sources = ["%+.1f" % (100 * s["accuracy_difference"]) for s in c["sources"]]
    return sources + ["%.1f" % (100 * c["other_metrics"]["accuracy"]),
                      "%+.1f to %+.1f" % (100 * c["difference_low"], 100 * c["difference_high"]),
                      "%d (%.1f %%)" % (c["flips"], 100 * c["flip_rate"]), "%.3f" % c["mean_dp"], "%.2f" % c["max_dp"],
                      "%.4f" % c["mean_cosine"]]


def header(evaluation, time):
    names = [s["name"] for s in evaluation["comparison"]["sources"]]
    head = ["steps", "weights per"] + names + ["all, %", "95 % interval", "flips", "mean dp", "max dp", "cosine", "MB"]
    head += ["ms"] if time else []
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head), flush=True)


def row(name, per, siskin, evaluation, skn, time):
    line = [name, per] + cells(evaluation) + ["%.2f" % (os.path.getsize(skn) / 1e6)]
    line += ["%.2f" % milliseconds(siskin, evaluation, skn)] if time else []
    print("| " + " | ".join(line) + " |", flush=True)


def pair(text):
    if "=" not in text:
        raise argparse.ArgumentTypeError("'%s' has to be NAME=MODEL" % text)
    return text.split("=", 1)


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("siskin")
    parser.add_argument("dataset", help="calibration pictures are of its training part")
    parser.add_argument("models", metavar="NAME=MODEL", nargs="+", type=pair)
    parser.add_argument("--threads", default="0")
    parser.add_argument("--per", choices=("channel", "tensor", "both"), default="both")
    parser.add_argument("--steps", nargs="+", metavar="STEP", choices=[name for name, _ in STEPS],
                        help="rows by name; all")
    parser.add_argument("--time", action="store_true", help="milliseconds per picture as well, one thread")
    parser.add_argument("--seeds", type=int, default=0, metavar="N",
                        help="instead: the spread of the recipe best over N draws of the calibration pictures")
    parser.add_argument("--int8", nargs="+", default=[], metavar="NAME=FLOAT,SKN,PER", type=pair,
                        help="rows of models that were quantised elsewhere, e.g. after quantisation-aware training; PER, "
                             "channel or tensor, is what their weights have scales for")
    return parser.parse_args()


def table(given, model, skn):
    first = True
    for per in ("channel", "tensor") if given.per == "both" else (given.per,):
        for name, step in STEPS:
            if given.steps and name not in given.steps:
                continue
            call(given.siskin, "quantize", model, "-c", given.dataset, "-o", skn, "--per", per, "--threads", given.threads,
                 "-q", *step)
            evaluation = compare(given.siskin, given.dataset, model, skn, given.threads)
            if first:
                print("float: %.1f %%; per source: points that int8 gains\n" % (100 * evaluation["metrics"]["accuracy"]))
                header(evaluation, given.time)
            first = False
            row(name, per, given.siskin, evaluation, skn, given.time)


def spread(given, model, skn):
    found = []
    for seed in range(1, given.seeds + 1):
        call(given.siskin, "quantize", model, "-c", given.dataset, "-o", skn, "--seed", str(seed), "--threads",
             given.threads, "-q")
        found.append(compare(given.siskin, given.dataset, model, skn, given.threads)["comparison"])
        c = found[-1]
        print("seed %d: %.2f %%, %d flips, cosine %.4f" % (seed, 100 * c["other_metrics"]["accuracy"], c["flips"],
                                                         c["mean_cosine"]), flush=True)
    accuracy = [100 * c["other_metrics"]["accuracy"] for c in found]
    mean = sum(accuracy) / len(accuracy)
    deviation = (sum((a - mean) ** 2 for a in accuracy) / max(len(accuracy) - 1, 1)) ** 0.5
    print("accuracy %.2f to %.2f %%, mean %.2f, standard deviation %.2f points; most flips %d" %
          (min(accuracy), max(accuracy), mean, deviation, max(c["flips"] for c in found)))


def main():
    given = options()
    with tempfile.TemporaryDirectory() as folder:
        skn = os.path.join(folder, "model.skn")
        for name, model in given.models:
            print("\n### %s" % name)
            if given.seeds:
                spread(given, model, skn)
            else:
                table(given, model, skn)
    for name, files in given.int8:
        model, other, per = files.split(",")
        row(name, per, given.siskin, compare(given.siskin, given.dataset, model, other, given.threads), other,
            given.time)


main()
