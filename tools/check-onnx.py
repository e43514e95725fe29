#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check-onnx.py PREFIX...: runs PREFIX.onnx in onnxruntime on the pictures of PREFIX.bin (tools/dump-logits) and
compares with the logits that siskin gave: at most 1e-4 apart."""
import struct
import sys

import numpy
import onnxruntime

TOLERANCE = 1e-4


def check(prefix):
    with open(prefix + ".bin", "rb") as file:
        count, size, classes = struct.unpack("<3i", file.read(12))
        images = numpy.frombuffer(file.read(count * size * size * 3), numpy.uint8).reshape(count, size, size, 3)
        ours = numpy.frombuffer(file.read(), numpy.float32).reshape(count, classes)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(prefix + ".onnx", options, providers=["CPUExecutionProvider"])
    inputs, outputs = session.get_inputs(), session.get_outputs()
    meta = session.get_modelmeta()
    assert [i.name for i in inputs] == ["input"] and inputs[0].shape == [1, 3, size, size], inputs[0].shape
    assert [o.name for o in outputs] == ["logits"] and outputs[0].shape == [1, classes], outputs[0].shape
    assert meta.producer_name == "siskin", meta.producer_name
    mean, std = ([float(v) for v in meta.custom_metadata_map["siskin." + key].split(",")] for key in ("mean", "std"))
    worst = 0.0
    for image, expected in zip(images, ours):
        x = ((image / 255.0 - mean) / std).astype(numpy.float32).transpose(2, 0, 1)[None]
        worst = max(worst, float(numpy.abs(session.run(None, {"input": x})[0][0] - expected).max()))
    spread = float((ours.max(axis=0) - ours.min(axis=0)).max())
    print(f"{prefix.split('/')[-1]}: {count} pictures, logits from {ours.min():.3f} to {ours.max():.3f}, "
          f"pictures apart by {spread:.3f}, largest difference {worst:.2e}")
    return worst <= TOLERANCE and spread > 100 * TOLERANCE and bool(numpy.isfinite(ours).all())


if __name__ == "__main__":
    results = [check(prefix) for prefix in sys.argv[1:]]
    sys.exit(0 if results and all(results) else 1)
