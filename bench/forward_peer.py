# SPDX-License-Identifier: Apache-2.0
"""forward_peer.py PEER PREFIX BATCH THREADS: one peer of bench_forward. PEER is onnxruntime, openvino, ncnn or pytorch.

Loads PREFIX.onnx (ncnn: PREFIX.ncnn.param and .bin, made from it by pnnx; PyTorch: PREFIX.safetensors into torchvision's
network) and the pictures of PREFIX.bin, normalised beforehand, so that a peer's time does not include what siskin does
in its first layer. Prints a JSON line with the peer's version and logits; then, for each line with a number of seconds
on standard input, the median milliseconds of a forward pass over that time. All peers compute in fp32."""
import json
import os
import statistics
import struct
import sys
import time

peer, prefix, batch, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
os.environ["OMP_NUM_THREADS"] = str(threads)

import numpy  # noqa: E402 (after the environment is set)


def pictures():
    with open(prefix + ".bin", "rb") as file:
        count, size, _ = struct.unpack("<3i", file.read(12))
        images = numpy.frombuffer(file.read(count * size * size * 3), numpy.uint8).reshape(count, size, size, 3)
    x = ((images / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).astype(numpy.float32).transpose(0, 3, 1, 2)
    return numpy.ascontiguousarray(numpy.resize(x, (max(batch, count),) + x.shape[1:])), count


def onnxruntime_peer():
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(prefix + ".onnx", options, providers=["CPUExecutionProvider"])
    return onnxruntime.__version__, lambda x: session.run(None, {"input": x})[0]


def openvino_peer():
    import openvino

    model = openvino.Core().compile_model(prefix + ".onnx", "CPU", {
        "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"})
    request = model.create_infer_request()
    return openvino.__version__.split("-")[0], lambda x: request.infer([x], share_inputs=True, share_outputs=True)[0]


def ncnn_peer():
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    net.load_param(prefix + ".ncnn.param")
    net.load_model(prefix + ".ncnn.bin")

    def run(x):
        extractor = net.create_extractor()
        extractor.input("in0", ncnn.Mat(x[0]))
        return numpy.array(extractor.extract("out0")[1])[None]

    return ncnn.__version__, run


def read_safetensors(path, torch):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header, data = json.loads(file.read(length)), bytearray(file.read())
    return {name: torch.frombuffer(data, dtype=torch.float32, offset=entry["data_offsets"][0],
                                   count=(entry["data_offsets"][1] - entry["data_offsets"][0]) // 4)
            .reshape(entry["shape"]) for name, entry in header.items() if entry.get("dtype") == "F32"}


def pytorch_peer():
    import torch
    import torchvision
    from torch.fx.experimental.optimization import fuse

    torch.set_num_threads(threads)
    weights = read_safetensors(prefix + ".safetensors", torch)
    large = weights["classifier.0.weight"].shape[0] == 1280
    build = torchvision.models.mobilenet_v3_large if large else torchvision.models.mobilenet_v3_small
    model = build(num_classes=weights["classifier.3.weight"].shape[0])
    model.load_state_dict(weights, strict=False)
    model = fuse(model.eval()).to(memory_format=torch.channels_last)  # batch norm folded into the convolutions

    def run(x):
        with torch.inference_mode():
            return model(x).numpy()

    return torch.__version__.split("+")[0], run


def main():
    version, run = {"onnxruntime": onnxruntime_peer, "openvino": openvino_peer, "ncnn": ncnn_peer,
                    "pytorch": pytorch_peer}[peer]()
    x, count = pictures()
    inputs = [x[i:i + batch] for i in range(0, count, batch)]
    if peer == "pytorch":
        import torch
        inputs = [torch.from_numpy(part).contiguous(memory_format=torch.channels_last) for part in inputs]
    logits = numpy.concatenate([numpy.array(run(part)) for part in inputs])[:count]
    print(json.dumps({"version": version, "logits": logits.tolist()}), flush=True)
    for line in sys.stdin:
        end, times = time.perf_counter() + float(line), []
        while not times or time.perf_counter() < end:
            start = time.perf_counter()
            run(inputs[0])
            times.append(time.perf_counter() - start)
        print(f"{statistics.median(times) * 1000:.6f}", flush=True)


main()
