# SPDX-License-Identifier: Apache-2.0
"""Between siskin and Rockchip's rknn-toolkit2, the only Python of siskin; run in the venv of `siskin rknn setup`.

    python3 -I rknn-bridge.py PARENT

PARENT is siskin's process id. Descriptor 3 is a socket: one request per line, a JSON object with "do", answered by one
line, {"ok": true, ...} or {"ok": false, "error": "..."}. Raw bytes follow a line that announces them with "bytes".
What the toolkit prints goes to descriptors 1 and 2, which siskin keeps as the log.
"""
import ctypes
import json
import os
import signal
import socket
import sys
import time
import traceback

libc = ctypes.CDLL(None)
libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: never outlive siskin, not even in the middle of native code
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.environ["TQDM_MININTERVAL"] = "0.5"
os.environ["TMPDIR"] = os.path.abspath("temporary")  # siskin removes it, which a killed toolkit could not
os.makedirs(os.environ["TMPDIR"], exist_ok=True)
stream = socket.socket(fileno=3).makefile("rwb")


class Failure(Exception):
    pass


def check(what, result):
    """The toolkit tells some failures by a return value."""
    if result not in (0, True):
        raise Failure("%s returned %r" % (what, result))


class Toolkit:
    rknn = None
    seconds = 0  # that a picture may take; 0: any number

    def versions(self, names, **_):
        """Installed versions of the packages, and whether the toolkit can be imported."""
        import importlib.metadata as metadata

        found = {}
        for name in names:
            try:
                found[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                found[name] = ""
        problem = ""
        try:
            from rknn.api import RKNN  # noqa: F401
        except BaseException as error:
            problem = "%s: %s" % (type(error).__name__, error)
        return {"versions": found, "problem": problem}

    def load(self, onnx, target, algorithm, method, mean=None, std=None, outputs=None, custom=None, **_):
        from rknn.api import RKNN

        self.rknn = RKNN(verbose=True)  # the table of layers is printed in no other mode
        options = dict(target_platform=target, quantized_algorithm=algorithm, quantized_method=method)
        if mean:
            options.update(mean_values=[mean], std_values=[std])
        if custom:
            options["custom_string"] = custom
        check("config", self.rknn.config(**options) or 0)
        more = {"outputs": outputs} if outputs else {}
        check("load_onnx", self.rknn.load_onnx(model=onnx, **more))
        return {}

    def build(self, dataset, **_):
        start = time.monotonic()
        check("build", self.rknn.build(do_quantization=True, dataset=dataset))
        return {"seconds": time.monotonic() - start}

    def export(self, path, **_):
        check("export_rknn", self.rknn.export_rknn(path))
        return {}

    def simulate(self, **_):
        check("init_runtime", self.rknn.init_runtime())
        return {}

    def connect(self, target, device, **_):
        """A board by USB. Its server may never answer, in native code that no Python handler interrupts: SIGALRM ends
        the process, which siskin knows how to tell."""
        self.seconds = 30
        signal.alarm(60)
        check("init_runtime", self.rknn.init_runtime(target=target, device_id=device))
        signal.alarm(0)
        return {}

    def run(self, n, size, **_):
        """n pictures of size x size x 3 bytes follow the request; the outputs, float32, follow the answer."""
        import numpy

        pictures = numpy.frombuffer(stream.read(n * size * size * 3), numpy.uint8).reshape(n, 1, size, size, 3)
        rows = []
        for picture in pictures:
            signal.alarm(self.seconds)
            outputs = self.rknn.inference(inputs=[picture], data_format=["nhwc"])
            if outputs is None:
                raise Failure("inference returned nothing")
            rows.append([numpy.asarray(o, numpy.float32).reshape(-1) for o in outputs])
        signal.alarm(0)
        parts = [numpy.stack([row[i] for row in rows]) for i in range(len(rows[0]))]
        return {"widths": [p.shape[1] for p in parts]}, b"".join(p.astype("<f4").tobytes() for p in parts)

    def ranges(self, **_):
        """Scales and zero points of every tensor as build() chose them, float32, row after row. The toolkit has no
        documented way to them but a file for hybrid quantisation, whose making would search a second time."""
        import numpy

        try:
            table = self.rknn.rknn_base.quantizer.quant_tab.items()
            rows = [(name, row["scale"], row["zero_point"]) for name, row in table if len(row["scale"])]
        except (AttributeError, KeyError, TypeError) as error:
            raise Failure("this version tells no ranges (%s)" % error)
        tensors = [{"name": name, "count": len(scale)} for name, scale, _ in rows]
        return {"tensors": tensors}, b"".join(numpy.array([s, z], "<f4").tobytes() for _, s, z in rows)

    def analyse(self, picture, folder, **_):
        """Every tensor of one picture, as .npy files in folder/golden (float) and folder/simulator (int8)."""
        check("accuracy_analysis", self.rknn.accuracy_analysis(inputs=[picture], output_dir=folder))
        return {}


def answer(document, data=b""):
    sys.stdout.flush()
    sys.stderr.flush()
    libc.fflush(None)  # the native compiler's lines must be in the log before siskin reads it
    stream.write(json.dumps(dict(document, bytes=len(data))).encode() + b"\n" + data)
    stream.flush()


toolkit = Toolkit()
for line in stream:
    request = json.loads(line)
    try:
        result = getattr(toolkit, request.pop("do"))(**request)
        document, data = result if isinstance(result, tuple) else (result, b"")
        answer(dict(document, ok=True), data)
    except BaseException as error:  # SystemExit too: the toolkit must not decide how siskin ends
        traceback.print_exc()
        lines = [part.strip() for part in str(error).splitlines() if part.strip()]
        answer({"ok": False, "error": lines[-1] if lines else type(error).__name__})
