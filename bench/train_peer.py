# SPDX-License-Identifier: Apache-2.0
"""The peer of bench_train: the same network, batch, threads and optimiser in PyTorch. Prints the median of images/s and
the peak of resident memory in MB.

channels_last and the fused optimiser are PyTorch's fastest way here; the pictures are random, so no time is spent on
reading them on either side."""
import argparse
import resource
import statistics
import time

import torch
import torchvision

parser = argparse.ArgumentParser()
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--steps", type=int, default=5)
parser.add_argument("--warm", type=int, default=1)
parser.add_argument("--model", default="small", choices=("small", "large"))
args = parser.parse_args()

torch.set_num_threads(args.threads)
torch.manual_seed(1)
build = getattr(torchvision.models, "mobilenet_v3_" + args.model)
model = build(num_classes=2).to(memory_format=torch.channels_last).train()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
images = torch.randint(0, 256, (args.batch, 3, 224, 224)).float().div_(255).sub_(0.45).div_(0.225)
images = images.contiguous(memory_format=torch.channels_last)
labels = torch.arange(args.batch) % 2
speed = []
for step in range(-args.warm, args.steps):
    start = time.perf_counter()
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(images), labels).backward()
    optimizer.step()
    if step >= 0:
        speed.append(args.batch / (time.perf_counter() - start))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(f"{statistics.median(speed):.2f} {peak:.1f}")
