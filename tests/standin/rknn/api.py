# SPDX-License-Identifier: Apache-2.0
"""Stand-in for Rockchip's toolkit, for tests without its 0.6 GB: the same calls, the same shapes of lines and files as
its documentation and observation show, and every way to fail that $STANDIN names."""
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time

MODE = os.environ.get("STANDIN", "")
if MODE == "import":
    raise ImportError("No module named 'scipy'")

TABLE = """D RKNN: [10:00:00.000] ------
D RKNN: [10:00:00.000]     Network Layer Information Table
D RKNN: [10:00:00.000] ------
D RKNN: [10:00:00.000] ID   OpType  DataType Target InputShape OutputShape Cycles(DDR/NPU/Total) RW(KB) FullName
D RKNN: [10:00:00.000] ------
D RKNN: [10:00:00.000] 0    InputOperator      INT8     CPU    \\           (1,3,224,224)    0/0/0       0   InputOperator:input
D RKNN: [10:00:00.000] 1    ConvHardSwish      INT8     NPU    (1,3,224,224),(16,3,3,3),(16) (1,16,112,112) 57137/112896/112896 147 Conv:features.0
%sD RKNN: [10:00:00.000] 3    OutputOperator     INT8     CPU    (1,2)       \\                0/0/0       0   OutputOperator:logits
D RKNN: [10:00:00.000] Export Mini RKNN model to /tmp/x/check.rknn
D RKNN: [10:00:00.000] 9    Conv               INT8     CPU    (1,2)       (1,2)            7/7/7       0   not:in the table
D RKNN: [10:00:00.000] Total Internal Memory Size: 379.75KB
D RKNN: [10:00:00.000] Total Weight Memory Size: 1919.94KB
"""
CPU_ROW = "D RKNN: [10:00:00.000] 2    Sin                INT8     CPU    (1,2)       (1,2)            0/0/0       0   Sin:wave\n"


def say(text, colour=True):
    parts = text.split(" ", 1)
    sys.stderr.write("\x1b[1;33m%s\x1b[0m \x1b[1;33m%s\x1b[0m\n" % tuple(parts) if colour else text + "\n")


def string(text):
    data = text.encode()
    return struct.pack("<I", len(data)) + data + b"\0" * (4 - len(data) % 4)


class Table:
    """Of the ranges that were chosen, where the toolkit of version 2.5.0 keeps them."""
    quant_tab = {"input_int8": {"scale": [0.0187], "zero_point": [-14]}, "nothing": {"scale": [], "zero_point": []},
                 "features.0": {"scale": [0.75], "zero_point": [-128]},
                 "features.0.0.weight": {"scale": [0.01] * 15, "zero_point": [0] * 15}}


class RKNN:
    def __init__(self, verbose=False):
        self.verbose = verbose
        self.options = {}
        if MODE != "ranges":
            self.rknn_base = type("Base", (), {"quantizer": Table})
        self.outputs = ["logits"]

    def config(self, **options):
        self.options = options
        if MODE == "config":
            say("E config: Invalid target_platform 'rv9999'!")
            raise ValueError("Traceback (most recent call last)\n ...\nInvalid target_platform 'rv9999'!")

    def load_onnx(self, model, outputs=None):
        self.outputs = outputs or self.outputs
        return 0 if os.path.getsize(model) > 1000 else -1

    def build(self, do_quantization, dataset):
        for line in open(dataset):
            with open(line.strip(), "rb") as picture:
                if picture.read(8) != b"\x89PNG\r\n\x1a\n":
                    raise ValueError("The image of %s is invalid!" % line.strip())
        with tempfile.NamedTemporaryFile(delete=False) as own:  # as the toolkit leaves its own when killed
            own.write(b"0" * (20000000 if MODE == "disk" else 10))
        if MODE == "build":
            say("E build: The image of /x/y.png is invalid!")
            raise ValueError("Traceback\nRuntimeError")
        if MODE == "return":
            return -1
        if MODE == "exit":
            sys.exit(0)
        if MODE == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if MODE == "hang":
            child = subprocess.Popen(["sleep", "300"])
            with open(os.environ["STANDIN_PIDS"] + ".part", "w") as pids:
                pids.write("%d %d\n" % (os.getpid(), child.pid))
            os.rename(os.environ["STANDIN_PIDS"] + ".part", os.environ["STANDIN_PIDS"])
            child.wait()
        for done in (0, 66, 132):
            sys.stderr.write("\rI Quantizating : %3d%%|##   | %d/132 [00:00<00:00, 201.80it/s]" % (done * 100 // 132, done))
        say("\nW build: found outlier value, this may affect quantization accuracy")
        say("                  const name            abs_mean    abs_std     outlier value", False)
        say("                  features.0.0.weight   0.63        3.04        -38.886     \x1b[0m", False)
        say("W build: rv1103 only support mini rknn model, auto set mini_rknn=True")
        say("W build: a warning that nobody knows")
        if self.verbose and MODE != "silent":
            sys.stdout.write(TABLE % (CPU_ROW if MODE == "cpu" else ""))
        return 0

    def export_rknn(self, path):
        target = "rv1106" if MODE == "other" else self.options["target_platform"]
        body = bytes(range(256)) * 4
        metadata = struct.pack("<I", 12) + b"RKNN" + string(self.options["custom_string"]) + string("ONNX")
        metadata += string(target) + string("2.5.0(compiler version: stand-in)") + string("{'attrs': {}}")
        text = json.dumps({"version": "2.5.0", "target_platform": [target], "input_num": 1, "output_num": 1,
                           "norm_tensor": [{"url": "input", "size": [1, 3, 224, 224], "dtype": "int8"}]}).encode()
        length = 64 + len(body) + len(metadata)
        header = b"RKNN\0\0\0\0" + struct.pack("<QQ", 0x1004, length) + os.urandom(24) + struct.pack("<IIQ", 24, 7, 1)
        header += struct.pack("<IIIIII", len(metadata), 64, 1, 0, 388864, 1966022)
        with open(path, "wb") as out:
            out.write(header.ljust(128, b"\0") + body + metadata + struct.pack("<Q", len(text)) + text)
        return 0

    def init_runtime(self, target=None, device_id=None):
        if target and MODE == "pipe":
            raise RuntimeError("RKNN_ERR ... error code: RKNN_ERROR_PIPE")
        if target and MODE == "oom":
            raise RuntimeError("E RKNNAPI: failed to allocate fd, errno 12")
        if target and MODE == "silence":
            signal.alarm(1)  # earlier than the bridge would
            time.sleep(300)
        self.device = device_id
        return 0

    def inference(self, inputs, data_format):
        import numpy

        if MODE == "slow":
            time.sleep(0.02)
        if MODE == "none":
            return None
        mean = float(inputs[0].mean())
        wide = {"logits": [128 - mean, mean - 128], "avgpool": [mean] * 576}
        return [numpy.array([wide[name]], numpy.float32) for name in self.outputs]

    def accuracy_analysis(self, inputs, output_dir):
        import numpy

        os.makedirs(output_dir + "/simulator/npy")
        if MODE != "bare":
            numpy.save(output_dir + "/simulator/npy/features_0.npy", numpy.ones((1, 16, 112, 112), numpy.float32))
            numpy.save(output_dir + "/simulator/npy/logits.npy", numpy.array([[-1, 1]], numpy.float32))
            numpy.save(output_dir + "/simulator/npy/features_12.npy", numpy.ones((1, 2, 3), numpy.float32))
        return 0 if os.path.getsize(inputs[0]) else -1

    def release(self):
        pass
