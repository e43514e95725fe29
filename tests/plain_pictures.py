# SPDX-License-Identifier: Apache-2.0
"""plain_pictures.py DIR: DIR/bird and DIR/nobird with 12 PNGs each, of one colour per picture; no library needed."""
import os
import struct
import sys
import zlib


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


for label, base in (("bird", 180), ("nobird", 60)):
    os.makedirs(os.path.join(sys.argv[1], label))
    for i in range(12):
        row = b"\0" + bytes([base + 3 * i, 255 - base, (40 * i) % 256]) * 320
        with open(os.path.join(sys.argv[1], label, "%d.png" % i), "wb") as out:
            out.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 320, 256, 8, 2, 0, 0, 0)) +
                      chunk(b"IDAT", zlib.compress(row * 256)) + chunk(b"IEND", b""))
