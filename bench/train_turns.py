# SPDX-License-Identifier: Apache-2.0
"""train_turns.py FOLDER [options of bench/train]: the programs of FOLDER and PyTorch (train_peer.py) in turns."""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))


def options():
    parser = argparse.ArgumentParser(prog="bench/train")
    parser.add_argument("folder")
    parser.add_argument("--model", default="small", choices=("small", "large"))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--brief", action="store_true")
    return parser.parse_args()


class Contender:
    """A program that prints pictures/s (median of its steps) and its peak memory in MB."""

    def __init__(self, name, command, **environment):
        self.name, self.command, self.environment = name, command, environment
        self.speeds, self.memory = [], 0

    def turn(self):
        answer = subprocess.run(self.command, env={**os.environ, **self.environment}, check=True, text=True,
                                stdout=subprocess.PIPE).stdout.split()
        self.speeds.append(float(answer[0]))
        self.memory = max(self.memory, float(answer[1]))

    @property
    def median(self):
        return statistics.median(self.speeds)

    def line(self):
        rounds = ", ".join(f"{speed:.1f}" for speed in self.speeds)
        return f"{self.name} {self.median:.1f} pictures/s (rounds {rounds}), peak {self.memory:.0f} MB"


def siskin(args, name, model, threads, *more, **environment):
    command = [os.path.join(args.folder, "bench_train"), "--model", model, "--batch", str(args.batch), "--threads",
               str(threads), "--steps", str(args.steps), *more]
    return Contender(name, command, **environment)


def pytorch(args, model, threads):
    command = [sys.executable, os.path.join(HERE, "train_peer.py"), "--model", model, "--batch", str(args.batch),
               "--threads", str(threads), "--steps", str(args.steps), "--warm", "4"]  # in some processes it gets faster for so long
    return Contender("PyTorch", command)


def compare(args, model, threads, others, result, key):
    """Turns of siskin, PyTorch and others (which do not enter the ratio)."""
    ours, theirs = siskin(args, "siskin", model, threads), pytorch(args, model, threads)
    for _ in range(args.rounds):
        for contender in [ours, theirs] + others:
            contender.turn()
    ratio, to_best = ours.median / theirs.median, ours.median / max(theirs.speeds)
    print(f"MobileNetV3-{model}, batch {args.batch}, {threads} thread{'s' * (threads > 1)}:")
    for contender in [ours, theirs] + others:
        print(f"  {contender.line()}")
    print(f"  ratio {ratio:.2f}, to PyTorch's best round {to_best:.2f}; memory {theirs.memory / ours.memory:.2f}",
          flush=True)
    result.update({key + "siskin": ours.median, key + "siskin_rounds": ours.speeds, key + "pytorch": theirs.median,
                   key + "pytorch_rounds": theirs.speeds, key + "ratio": round(ratio, 3),
                   key + "ratio_to_best": round(to_best, 3), key + "siskin_mb": ours.memory,
                   key + "pytorch_mb": theirs.memory, key + "memory_ratio": round(theirs.memory / ours.memory, 2)})
    return ours, theirs


def loader_share(args, speed, result):
    """Share of the loader in loader and step, both on one thread."""
    program = os.path.join(args.folder, "bench_loader")
    with tempfile.TemporaryDirectory() as work:
        data = os.path.join(work, "data")
        subprocess.run([program, "make", data, "384"], check=True)
        for recipe in ("seed", "colour", "feeder"):
            answer = subprocess.run([program, "run", data, recipe, "1", "1.5"], check=True, text=True,
                                    stdout=subprocess.PIPE).stdout.split()
            share = speed / (speed + float(answer[0]))
            result[f"loader_share_{recipe}"] = round(share, 4)
            print(f"loader, recipe {recipe}: {answer[0]} pictures/s, {100 * share:.1f} % of loader and step")


def main():
    args = options()
    counts, result = [int(n) for n in args.threads.split(",")], {"bench": "train", "model": args.model,
                                                                 "batch": args.batch}
    speed = {}
    for count in counts:
        others = []
        if count == counts[0] and not args.brief:
            others = [siskin(args, "siskin, batch norm frozen", args.model, count, "--freeze-bn", "1"),
                      siskin(args, "siskin, AVX2", args.model, count, SISKIN_CPU="avx2")]
        ours, theirs = compare(args, args.model, count, others, result, f"threads{count}_")
        speed[count] = ours.median
        if others:
            result["freeze_bn_ratio"] = round(others[0].median / ours.median, 3)
            result["avx2_ratio"] = round(others[1].median / theirs.median, 3)
            print(f"  batch norm frozen / live {result['freeze_bn_ratio']:.2f}; siskin on AVX2 / PyTorch, which takes "
                  f"what the CPU has, {result['avx2_ratio']:.2f}")
            loader_share(args, ours.median, result)
    for count in counts[1:]:
        result[f"scaling_{count}_over_{counts[0]}"] = round(speed[count] / speed[counts[0]], 3)
        print(f"{count} threads over {counts[0]}: {speed[count] / speed[counts[0]]:.2f}")
    if args.model == "small" and not args.brief:
        args.steps, args.rounds = 2, min(args.rounds, 2)
        compare(args, "large", counts[-1], [], result, f"large_threads{counts[-1]}_")
    print(json.dumps(result))


main()
