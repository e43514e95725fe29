#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check-onnx.py PREFIX...: runs PREFIX.onnx in onnxruntime on the pictures of PREFIX.bin (tools/dump-logits) and
compares with the logits that siskin gave. Float: at most 1e-4 apart. Int8 (QDQ): 99.9 % of the pictures in the same class,
90 % of them at most two quantisation steps apart, none more than eight: where a float sum rounds otherwise than the
integers, one code tips, and the layers behind it spread that."""
import struct
import sys

import numpy
import onnxruntime

TOLERANCE = 1e-4


def step_of(logits):
    """The quantisation step of logits that are multiples of one; 0 if they are not."""
    values = numpy.unique(logits.astype(numpy.float64))
    gaps = numpy.diff(values)
    step = gaps[gaps > 1e-5].min() if len(values) > 1 else 0
    return step if step and numpy.abs(values / step - numpy.round(values / step)).max() < 1e-2 else 0


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
    theirs = numpy.concatenate([session.run(None, {"input": ((image / 255.0 - mean) / std).astype(
        numpy.float32).transpose(2, 0, 1)[None]})[0] for image in images])
    worst = float(numpy.abs(theirs - ours).max())
    spread = float((ours.max(axis=0) - ours.min(axis=0)).max())
    print(f"{prefix.split('/')[-1]}: {count} pictures, logits from {ours.min():.3f} to {ours.max():.3f}, "
          f"pictures apart by {spread:.3f}, largest difference {worst:.2e}", end="")
    step = step_of(numpy.concatenate([ours, theirs]))
    if not step:
        print()
        return worst <= TOLERANCE and spread > 100 * TOLERANCE and bool(numpy.isfinite(ours).all())
    same = int((theirs.argmax(axis=1) == ours.argmax(axis=1)).sum())
    near = int((numpy.abs(theirs - ours).max(axis=1) < 2.5 * step).sum())
    print(f" or {worst / step:.0f} steps of {step:.4f}, within two steps {near}, same class {same} of {count}")
    return near >= .9 * count and worst < 8.5 * step and same >= .999 * count and spread > 10 * step


if __name__ == "__main__":
    results = [check(prefix) for prefix in sys.argv[1:]]
    sys.exit(0 if results and all(results) else 1)
