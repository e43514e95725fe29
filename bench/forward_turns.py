# SPDX-License-Identifier: Apache-2.0
"""forward_turns.py PROGRAM PREFIX MODEL THREADS ROUNDS SECONDS: siskin (PROGRAM) and its peers in turns.

Each contender is a process that waits for its turn. Logits must agree with those of PREFIX.bin before anything is
timed. Prints a table per setting and, as the last line, JSON with ratios: peer's time / siskin's, > 1: siskin faster."""
import json
import os
import statistics
import struct
import subprocess
import sys

TOLERANCE = 1e-3


def expected(prefix):
    with open(prefix + ".bin", "rb") as file:
        count, size, classes = struct.unpack("<3i", file.read(12))
        file.seek(count * size * size * 3, 1)
        values = struct.unpack(f"<{count * classes}f", file.read())
    return [values[i * classes:(i + 1) * classes] for i in range(count)]


class Contender:
    def __init__(self, name, command, logits):
        self.name, self.times = name, []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        answer = json.loads(self.process.stdout.readline() or "{}")
        if not answer:
            sys.exit(f"bench/forward: {name} does not start")
        self.version = answer["version"]
        worst = max(abs(a - b) for row, want in zip(answer["logits"], logits) for a, b in zip(row, want))
        if not worst <= TOLERANCE:
            sys.exit(f"bench/forward: logits of {name} {self.version} differ from siskin's by {worst:.2g}")
        self.worst = worst

    def turn(self, seconds):
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        self.times.append(float(self.process.stdout.readline()))

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def compare(program, prefix, peers, batch, threads, rounds, seconds, result):
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "forward_peer.py")
    logits = expected(prefix)
    setting = [prefix, str(batch), str(threads)]
    field = [Contender("siskin", [program] + setting, logits)]
    field += [Contender(peer, [sys.executable, script, peer] + setting, logits) for peer in peers]
    for contender in field * (rounds + 1):
        contender.turn(seconds)  # the first round warms up
    key = f"batch{batch}_threads{threads}_"
    ours = statistics.median(field[0].times[1:])
    print(f"batch {batch}, {threads} thread{'s' * (threads > 1)}:")
    for contender in field:
        median, times = statistics.median(contender.times[1:]), contender.times[1:]
        result[key + contender.name + "_ms"] = round(median, 3)
        line = f"  {contender.name} {contender.version}: {median:.3f} ms ({min(times):.3f} to {max(times):.3f}), "
        line += f"{batch * 1000 / median:.0f} pictures/s"
        if contender is not field[0]:
            result[key + contender.name + "_ratio"] = round(median / ours, 3)
            line += f", ratio {median / ours:.3f}; logits within {contender.worst:.1e}"
        print(line, flush=True)
        contender.end()


def main():
    program, prefix, model = sys.argv[1:4]
    threads, rounds, seconds = [int(n) for n in sys.argv[4].split(",")], int(sys.argv[5]), float(sys.argv[6])
    result = {"bench": "forward", "model": model}
    compare(program, prefix, ["onnxruntime", "openvino", "ncnn", "pytorch"], 1, threads[0], rounds, seconds, result)
    for count in threads:
        compare(program, prefix, ["pytorch"], 64, count, rounds, 4 * seconds, result)
    print(json.dumps(result))


main()
