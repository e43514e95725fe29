#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the seeds of fuzz_safetensors, fuzz_onnx and fuzz_pth in this folder: small whole files of every kind of
content. The checkpoints are those of tests/fixtures. Usage: make_model_seeds.py (Python's own library is enough)."""
import json
import os
import pathlib
import shutil
import struct

HERE = pathlib.Path(__file__).resolve().parent
CARD = {"siskin.arch": "mobilenet_v3_small", "siskin.size": "224", "siskin.classes": "2", "siskin.crops": "3",
        "siskin.mean": "0.485,0.456,0.406", "siskin.std": "0.229,0.224,0.225", "siskin.threshold": "0.5",
        "siskin.penalty": "0.8", "siskin.class_names": "nobird,bird", "siskin.run_id": "r1"}


def safetensors(name, tensors, metadata):
    header, data = ({"__metadata__": metadata} if metadata else {}), b""
    for key, dtype, shape, raw in tensors:
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    (HERE / "safetensors" / name).write_bytes(struct.pack("<Q", len(text)) + text + data)


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensor(name, shape, values):
    return field(5, b"".join(field(1, d) for d in shape) + field(2, 1) + field(8, name)
                 + field(9, struct.pack(f"<{len(values)}f", *values)))


def main():
    for folder in ("safetensors", "onnx", "pth"):
        os.makedirs(HERE / folder, exist_ok=True)
    safetensors("plain", [("a.weight", "F32", [2, 1], struct.pack("<2f", 1, 2))], None)
    safetensors("types", [("n", "I64", [], struct.pack("<q", 7)), ("d", "F64", [1], struct.pack("<d", .5)),
                          ("f", "F32", [1], struct.pack("<f", .5)), ("h", "F16", [2], b"\0\x3c\0\x40"),
                          ("b", "BF16", [1, 1], b"\x80\x3f")], CARD)
    safetensors("empty", [], {"k": "v\n\"\u00e4"})
    graph = (field(1, field(1, "input") + field(2, "features.0") + field(4, "Conv")) + field(2, "small")
             + tensor("features.0.0.weight", [2, 1, 1, 1], [1, 2]) + tensor("features.0.0.bias", [2], [3, 4])
             + tensor("classifier.3.weight", [2, 2], [1, 2, 3, 4]) + tensor("classifier.3.bias", [2], [5, 6]))
    model = field(1, 8) + field(2, "siskin") + field(3, "0.1.0") + field(7, graph) + field(8, field(1, "") + field(2, 13))
    model += b"".join(field(14, field(1, key) + field(2, value)) for key, value in CARD.items())
    (HERE / "onnx" / "folded").write_bytes(model)
    for name in ("tiny", "tiny_stream", "tiny_wrapped", "tiny_args"):
        shutil.copy(HERE.parent.parent / "tests" / "fixtures" / f"{name}.pth", HERE / "pth" / name)


main()
