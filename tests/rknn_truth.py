# SPDX-License-Identifier: Apache-2.0
"""rknn_truth.py DIR [TARGET]: what the vendor's toolkit does with every model of DIR/models.tsv: a line with its name and
npu, cpu (a layer was left to the CPU, with its type) or fail (with the reason). Run by the toolkit's own python."""
import ctypes
import os
import re
import sys
import tempfile

import numpy

folder, target = sys.argv[1], (sys.argv[2:] or ["rv1103"])[0]
libc = ctypes.CDLL(None)
row = re.compile(r"^D RKNN: \[[^]]*\] \d+\s+(\S+)\s+\S+\s+(CPU|NPU)\s+\S+\s+\S+\s+\d+/\d+/\d+\s+\d+\s+\S", re.M)
answers = os.fdopen(os.dup(1), "w")
os.chdir(tempfile.mkdtemp())


def convert(path, dims):
    from rknn.api import RKNN

    rknn = RKNN(verbose=True)
    rknn.config(target_platform=target, quantized_algorithm="normal", quantized_method="channel")
    if rknn.load_onnx(model=path) != 0:
        return "fail", "load_onnx"
    shape = [int(d) if d.isdigit() else 32 for d in dims.split("x")]
    numpy.save("input.npy", numpy.random.RandomState(1).randint(0, 256, shape).astype(numpy.float32))
    with open("list.txt", "w") as out:
        out.write("input.npy\n")
    if rknn.build(do_quantization=True, dataset="list.txt") != 0:
        return "fail", "build"
    return "npu", ""


def judge(name, dims, log):
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    try:
        outcome, reason = convert(os.path.join(folder, name + ".onnx"), dims)
    except BaseException as error:
        lines = [part.strip() for part in str(error).splitlines() if part.strip()]
        outcome, reason = "fail", lines[-1] if lines else type(error).__name__
    sys.stdout.flush()
    libc.fflush(None)
    log.seek(0)
    layers = row.findall(log.read().decode(errors="replace").split("Export Mini RKNN")[0])
    ends = ("InputOperator", "OutputOperator")
    left = [op for op, where in layers if where == "CPU" and op not in ends]
    if outcome == "npu" and left:
        outcome, reason = "cpu", " ".join(left)
    elif outcome == "npu":
        reason = " ".join(op for op, where in layers if where == "NPU" and op not in ends) or "no table"
    answers.write("%s\t%s\t%s\n" % (name, outcome, reason[:160]))
    answers.flush()


import rknn.api  # noqa: E402,F401 once, before the forks

for line in open(os.path.join(folder, "models.tsv")):
    name, _, _, dims = line.rstrip("\n").split("\t")
    with tempfile.TemporaryFile() as log:
        child = os.fork()  # of its own: some models end the process
        if child == 0:
            judge(name, dims, log)
            os._exit(0)
        code = os.waitpid(child, 0)[1]
        if code != 0:
            answers.write("%s\tfail\tthe toolkit ends with signal %d\n" % (name, code & 127))
            answers.flush()
