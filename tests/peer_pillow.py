#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes pictures and what Pillow makes of them into a folder, for test_image: cases.tsv names the files.

rows: decode FILE WIDTH HEIGHT RAW MAXDIFF | resize FILE X0 Y0 X1 Y1 WIDTH HEIGHT RAW | eval FILE SIZE RAW
Raw files hold RGB bytes. PNGs that Pillow cannot write (16 bit, interlaced, 1/2/4 bit) are written here by hand.
"""
import os
import random
import struct
import sys
import zlib

from PIL import Image, ImageOps

out = sys.argv[1]
rng = random.Random(7)
rows = []


def path(name):
    return os.path.join(out, name)


def raw(name, data):
    with open(path(name), "wb") as f:
        f.write(data)


def picture(width, height):
    """Smooth areas, hard edges and noise: all that a resampler can get wrong."""
    base = Image.new("RGB", (width, height))
    pixels = base.load()
    for y in range(height):
        for x in range(width):
            r = x * 255 // max(1, width - 1)
            g = 255 if (x // 5 + y // 3) % 2 else 0
            b = rng.randrange(256) if y > height // 2 else y * 255 // max(1, height - 1)
            pixels[x, y] = (r, g, b)
    return base


def decode_case(name, image, tolerance):
    raw(name + ".raw", image.convert("RGB").tobytes())
    rows.append(("decode", name, image.width, image.height, name + ".raw", tolerance))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def write_png(name, width, height, depth, color, interlaced, palette=None):
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    limit = len(palette) if palette else 1 << depth
    samples = [[[rng.randrange(limit) for _ in range(channels)] for _ in range(width)] for _ in range(height)]
    packed = b""
    for x0, y0, dx, dy in PASSES if interlaced else [(0, 0, 1, 1)]:
        columns = range(x0, width, dx)
        if not columns:
            continue
        for y in range(y0, height, dy):
            bits = "".join(format(s, "0%db" % depth) for x in columns for s in samples[y][x])
            bits += "0" * (-len(bits) % 8)
            packed += b"\0" + bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits), 8))
    data = b"\x89PNG\r\n\x1a\n"
    data += chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced))
    if palette:
        data += chunk(b"PLTE", b"".join(bytes(c) for c in palette))
    data += chunk(b"IDAT", zlib.compress(packed)) + chunk(b"IEND", b"")
    raw(name, data)

    def byte(s):
        return s >> 8 if depth == 16 else s * 255 // ((1 << depth) - 1)
    rgb = bytearray()
    for row in samples:
        for p in row:
            if palette:
                rgb += bytes(palette[p[0]])
            elif channels < 3:
                rgb += bytes([byte(p[0])] * 3)
            else:
                rgb += bytes(byte(s) for s in p[:3])
    raw(name + ".raw", rgb)
    rows.append(("decode", name, width, height, name + ".raw", 0))


def jpegs():
    base = picture(61, 43)
    for name, options in (("420.jpg", {"subsampling": 2}), ("444.jpg", {"subsampling": 0}),
                          ("422.jpg", {"subsampling": 1}), ("progressive.jpg", {"progressive": True})):
        base.save(path(name), quality=88, **options)
        decode_case(name, Image.open(path(name)), 1)
    base.convert("L").save(path("grey.jpg"), quality=90)
    decode_case("grey.jpg", Image.open(path("grey.jpg")), 1)
    base.convert("CMYK").save(path("cmyk.jpg"), quality=90)
    decode_case("cmyk.jpg", Image.open(path("cmyk.jpg")), 1)
    data = bytearray(open(path("cmyk.jpg"), "rb").read())
    at = data.find(b"Adobe")
    if at >= 0 and data[at + 11] == 0:
        data[at + 11] = 2  # the same numbers read as YCCK
        raw("ycck.jpg", data)
        decode_case("ycck.jpg", Image.open(path("ycck.jpg")), 2)
    for orientation in range(1, 9):
        for endian in "<>":
            exif = Image.Exif()
            exif.endian = endian
            exif[0x0110] = "camera"
            exif[0x0112] = orientation
            name = "exif%d%s.jpg" % (orientation, "le" if endian == "<" else "be")
            base.save(path(name), quality=95, exif=exif.tobytes())
            decode_case(name, ImageOps.exif_transpose(Image.open(path(name))), 1)


def pngs():
    base = picture(37, 29)
    for mode in ("RGB", "L", "P", "1"):
        base.convert(mode).save(path(mode + ".png"))
        decode_case(mode + ".png", Image.open(path(mode + ".png")), 0)
    for interlaced in (0, 1):
        for color, depths in ((0, (1, 2, 4, 8, 16)), (2, (8, 16)), (4, (8, 16)), (6, (8, 16))):
            for depth in depths:
                write_png("c%dd%di%d.png" % (color, depth, interlaced), 19, 13, depth, color, interlaced)
        for depth in (1, 2, 4, 8):
            palette = [[rng.randrange(256) for _ in range(3)] for _ in range(min(1 << depth, 200))]
            write_png("c3d%di%d.png" % (depth, interlaced), 19, 13, depth, 3, interlaced, palette)


def resizes():
    shapes = [(1, 1), (2, 3), (7, 5), (64, 48), (341, 256), (256, 400), (640, 480)]
    targets = [(1, 1), (3, 2), (32, 32), (224, 224), (256, 192), (500, 333)]
    for width, height in shapes:
        name = "s%dx%d.png" % (width, height)
        image = picture(width, height)
        image.save(path(name))
        for tw, th in targets:
            boxes = [(0, 0, width, height)]
            for _ in range(3 if min(width, height) > 4 else 1):
                x0, y0 = rng.uniform(0, width * 0.6), rng.uniform(0, height * 0.6)
                boxes.append((x0, y0, rng.uniform(x0 + 0.3, width), rng.uniform(y0 + 0.3, height)))
            if width > 20:
                boxes.append((3, 5, 3 + tw, 5 + th) if 3 + tw <= width and 5 + th <= height else (1, 2, 17, 19))
            for box in boxes:
                box = struct.unpack("4f", struct.pack("4f", *box))
                target = "r%d.raw" % len(rows)
                raw(target, image.resize((tw, th), Image.BILINEAR, box=box).tobytes())
                rows.append(("resize", name) + tuple("%.9g" % v for v in box) + (tw, th, target))
    for width, height in ((640, 480), (256, 400), (341, 256), (300, 501)):
        name = "e%dx%d.png" % (width, height)
        image = picture(width, height)
        image.save(path(name))
        for size in (224, 256, 225):
            short = 256
            if width <= height:
                new = (short, int(short * height / width))
            else:
                new = (int(short * width / height), short)
            resized = image.resize(new, Image.BILINEAR) if new != image.size else image
            top, left = int(round((resized.height - size) / 2.0)), int(round((resized.width - size) / 2.0))
            target = "e%d.raw" % len(rows)
            raw(target, resized.crop((left, top, left + size, top + size)).tobytes())
            rows.append(("eval", name, size, target))


jpegs()
pngs()
resizes()
with open(path("cases.tsv"), "w") as f:
    for row in rows:
        f.write("\t".join(str(v) for v in row) + "\n")
