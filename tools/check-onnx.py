#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check-onnx.py PREFIX...: runs PREFIX.onnx in onnxruntime on the pictures of PREFIX.bin (tools/dump-logits) and
compares with the logits that siskin gave. Float: at most 1e-4 apart. Int8 (QDQ): the same logits on every picture, with
onnxruntime's default options and with its graph optimisations switched off."""
import struct
import sys

import numpy
import onnxruntime

TOLERANCE = 1e-4


def is_int8(prefix):
    with open(prefix + ".onnx", "rb") as file:
        return b"QuantizeLinear" in file.read()


def open_session(prefix, level):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(prefix + ".onnx", options, providers=["CPUExecutionProvider"])


def answers(session, inputs):
    return numpy.concatenate([session.run(None, {"input": x})[0] for x in inputs])


def check(prefix):
    with open(prefix + ".bin", "rb") as file:
        count, size, classes = struct.unpack("<3i", file.read(12))
        images = numpy.frombuffer(file.read(count * size * size * 3), numpy.uint8).reshape(count, size, size, 3)
        ours = numpy.frombuffer(file.read(), numpy.float32).reshape(count, classes)
    session = open_session(prefix, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL)
    takes, gives = session.get_inputs(), session.get_outputs()
    meta = session.get_modelmeta()
    assert [i.name for i in takes] == ["input"] and takes[0].shape == [1, 3, size, size], takes[0].shape
    assert [o.name for o in gives] == ["logits"] and gives[0].shape == [1, classes], gives[0].shape
    assert meta.producer_name == "siskin", meta.producer_name
    mean, std = ([float(v) for v in meta.custom_metadata_map["siskin." + key].split(",")] for key in ("mean", "std"))
    inputs = [((image / 255.0 - mean) / std).astype(numpy.float32).transpose(2, 0, 1)[None] for image in images]
    theirs = answers(session, inputs)
    worst = float(numpy.abs(theirs - ours).max())
    spread = float((ours.max(axis=0) - ours.min(axis=0)).max())
    print(f"{prefix.split('/')[-1]}: {count} pictures, logits from {ours.min():.3f} to {ours.max():.3f}, "
          f"pictures apart by {spread:.3f}, largest difference {worst:.2e}", end="")
    if not is_int8(prefix):
        print()
        return worst <= TOLERANCE and spread > 100 * TOLERANCE and bool(numpy.isfinite(ours).all())
    plain = answers(open_session(prefix, onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL), inputs)
    equal, equal_plain = (int((a == ours).all(axis=1).sum()) for a in (theirs, plain))
    print(f"; equal on {equal}, without optimisations on {equal_plain}")
    return equal == equal_plain == count and spread > 100 * TOLERANCE


if __name__ == "__main__":
    results = [check(prefix) for prefix in sys.argv[1:]]
    sys.exit(0 if results and all(results) else 1)
