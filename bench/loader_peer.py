# SPDX-License-Identifier: Apache-2.0
"""loader_peer.py FILE ROUTE RECIPE THREADS SECONDS: torchvision's transforms (v2) on the pictures of FILE.

ROUTE: "tensor" (uint8 tensors, channels_last, the layout that its resizing is fastest in) or "pillow" (pictures of
Pillow). RECIPE: "seed" or "colour". One thread works in this process, more are as many workers of a DataLoader with one
thread each. Prints pictures/s of normalised float batches."""
import struct
import sys
import time

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

BATCH, SIZE = 128, 224


def read(path):
    with open(path, "rb") as file:
        for _ in range(struct.unpack("<I", file.read(4))[0]):
            width, height = struct.unpack("<2I", file.read(8))
            yield width, height, file.read(width * height * 3)


def picture(route, width, height, data):
    if route == "pillow":
        return Image.frombytes("RGB", (width, height), data)
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).view(height, width, 3).permute(2, 0, 1)


def transform(route, recipe):
    steps = [v2.RandomResizedCrop(SIZE, antialias=True), v2.RandomHorizontalFlip()]
    if recipe == "colour":
        steps.append(v2.ColorJitter(0.4, 0.4, 0.4))
    if route == "pillow":
        steps.append(v2.PILToTensor())
    steps.append(v2.ToDtype(torch.float32, scale=True))
    return v2.Compose(steps + [v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])


class Pictures(Dataset):
    def __init__(self, path, route, recipe):
        self.pictures = [picture(route, *entry) for entry in read(path)]
        self.transform = transform(route, recipe)

    def __len__(self):
        return 1 << 20  # as many epochs as the time allows

    def __getitem__(self, index):
        return self.transform(self.pictures[index % len(self.pictures)])


def main():
    path, route, recipe, threads, seconds = *sys.argv[1:4], int(sys.argv[4]), float(sys.argv[5])
    torch.set_num_threads(1)
    torch.manual_seed(1)
    loader = DataLoader(Pictures(path, route, recipe), BATCH, num_workers=threads if threads > 1 else 0)
    batches = iter(loader)
    for _ in range(2 * threads):  # what the workers made before the clock runs
        next(batches)
    start, pictures = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        pictures += next(batches).shape[0]
    print(f"{pictures / (time.perf_counter() - start):.0f}", flush=True)
    sys.stdout.close()
    import os
    os._exit(0)  # the workers are in the middle of pictures that nobody waits for


main()
