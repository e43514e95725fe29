# SPDX-License-Identifier: Apache-2.0
"""int8_turns.py PROGRAM FOLDER MODEL.skn ROUNDS SECONDS: siskin's int8 (PROGRAM) and its peers in turns.

FOLDER holds float.onnx, int8.onnx (QDQ export) and their .bin files of the same pictures. Each contender is a process that
waits for its turn. Prints a table, how far the logits are from siskin's float ones and from its int8 ones, and, as the
last line, JSON."""
import json
import logging
import os
import statistics
import struct
import subprocess
import sys


def read(path):
    with open(path, "rb") as file:
        count, size, classes = struct.unpack("<3i", file.read(12))
        images = file.read(count * size * size * 3)
        values = struct.unpack(f"<{count * classes}f", file.read())
    return size, images, [values[i * classes:(i + 1) * classes] for i in range(count)]


def quantize_statically(folder):
    """onnxruntime's own int8 of the float network, per channel, calibrated with the bench's pictures."""
    import numpy
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    size, images, _ = read(folder + "/float.bin")
    x = numpy.frombuffer(images, numpy.uint8).reshape(-1, size, size, 3) / 255.0
    x = ((x - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).astype(numpy.float32).transpose(0, 3, 1, 2)

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.left = [{"input": one[None]} for one in x]

        def get_next(self):
            return self.left.pop() if self.left else None

    logging.disable(logging.WARNING)
    quant_pre_process(folder + "/float.onnx", folder + "/prepared.onnx")
    quantize_static(folder + "/prepared.onnx", folder + "/static.onnx", Reader(), quant_format=QuantFormat.QDQ,
                    per_channel=True)


class Contender:
    def __init__(self, name, command, environment=None):
        self.name, self.times = name, []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={**os.environ, **(environment or {})})
        self.answer = json.loads(self.process.stdout.readline() or "{}")
        if not self.answer:
            sys.exit(f"bench/int8: {name} does not start")

    def turn(self, seconds):
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        self.times.append(float(self.process.stdout.readline()))

    def leave(self):
        self.process.stdin.close()
        self.process.wait()

    def off(self, logits):
        return max(abs(a - b) for row, want in zip(self.answer["logits"], logits) for a, b in zip(row, want))


def siskins(program, folder, skn):
    """siskin with the widest kernels, and held back to AVX2 and to AVX-VNNI, where the CPU has it."""
    field = [Contender("siskin", [program, folder + "/int8", skn])]
    for path in "avx2", "avxvnni":
        field.append(Contender("siskin_" + path, [program, folder + "/int8", skn], {"SISKIN_CPU": path}))
    if field[2].answer["version"] != "avxvnni kernels":
        field.pop().leave()
    return field


def main():
    program, folder, skn, rounds, seconds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5])
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "int8_peer.py")
    quantize_statically(folder)
    floats, ours = read(folder + "/float.bin")[2], read(folder + "/int8.bin")[2]

    def peer(name, engine, file):
        return Contender(name, [sys.executable, script, engine, f"{folder}/{file}.onnx", folder + "/float.bin"])

    own = siskins(program, folder, skn)
    field = own + [
        peer("onnxruntime_fp32", "onnxruntime", "float"), peer("onnxruntime_int8", "onnxruntime", "static"),
        peer("onnxruntime_qdq", "onnxruntime", "int8"), peer("openvino_int8", "openvino", "int8")]
    step = own[0].answer["step"]
    for contender in own:
        if contender.off(ours) > 1e-5:
            sys.exit(f"bench/int8: {contender.name} answers otherwise than the library")
    for contender in field * (rounds + 1):
        contender.turn(seconds)  # the first round warms up
    result = {"bench": "int8", "open_ms": field[0].answer["open_ms"]}
    medians = {c.name: statistics.median(c.times[1:]) for c in field}
    for c in field:
        result[c.name + "_ms"] = round(medians[c.name], 4)
        print(f"{c.name} {c.answer['version']}: {medians[c.name]:.4f} ms ({min(c.times[1:]):.4f} to "
              f"{max(c.times[1:]):.4f}); logits at most {c.off(floats):.3f} from the float model's, "
              f"{c.off(ours) / step:.1f} steps from siskin's int8")
    for name in list(medians)[len(own):]:
        for c in own:
            result[f"{c.name.removeprefix('siskin_')}_of_{name}_ratio"] = round(medians[c.name] / medians[name], 3)
    for c in field:
        c.leave()
    print(json.dumps(result))


main()
