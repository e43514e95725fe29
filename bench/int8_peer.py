# SPDX-License-Identifier: Apache-2.0
"""int8_peer.py PEER ONNX BIN: one peer of bench/int8, onnxruntime or openvino, with the network ONNX on one thread.

The pictures of BIN are normalised beforehand, so that a peer's time does not include what siskin does in its first
step. Prints a JSON line with the peer's version and logits; then, for each line with a number of seconds on standard
input, the median milliseconds of a picture over that time."""
import json
import os
import statistics
import struct
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"

import numpy  # noqa: E402 (after the environment is set)


def pictures(path):
    with open(path, "rb") as file:
        count, size, _ = struct.unpack("<3i", file.read(12))
        images = numpy.frombuffer(file.read(count * size * size * 3), numpy.uint8).reshape(count, size, size, 3)
    x = ((images / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).astype(numpy.float32).transpose(0, 3, 1, 2)
    return [numpy.ascontiguousarray(one[None]) for one in x]


def onnxruntime_peer(path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return onnxruntime.__version__, lambda x: session.run(None, {"input": x})[0]


def openvino_peer(path):
    import openvino

    model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"})
    request = model.create_infer_request()
    return openvino.__version__.split("-")[0], lambda x: request.infer([x], share_inputs=True, share_outputs=True)[0]


def main():
    version, run = {"onnxruntime": onnxruntime_peer, "openvino": openvino_peer}[sys.argv[1]](sys.argv[2])
    inputs = pictures(sys.argv[3])
    print(json.dumps({"version": version, "logits": [numpy.array(run(x))[0].tolist() for x in inputs]}), flush=True)
    for line in sys.stdin:
        end, times = time.perf_counter() + float(line), []
        while not times or time.perf_counter() < end:
            x = inputs[len(times) % len(inputs)]
            start = time.perf_counter()
            run(x)
            times.append(time.perf_counter() - start)
        print(f"{statistics.median(times) * 1000:.6f}", flush=True)


main()
