#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The numbers that tests/test_quant.c holds the observers and the paired interval to, computed without siskin.

Percentiles are numpy's, of the values themselves; mmse and kl are found by brute force over the 4096 bins of numpy's
histogram, each bin with its own code: no prefix sums. The interval is Newcombe's method 10 written out from Wilson's by root finding."""
import numpy as np


def values():
    u = (np.arange(200000) + 0.5) / 200000 * 2 - 1
    x = (0.4 * u + 2 * u**3 + 3 * u**15).astype(np.float32)
    x[::50000] = np.float32(11)
    return x


def histogram(x, low, high):
    n, _ = np.histogram(x, 4096, (low, high))
    return n.astype(float), low + (np.arange(4096) + 0.5) * (high - low) / 4096


def codes(x, low, high):
    scale = (high - low) / 255
    zero = np.floor(-low / scale + 0.5)
    return np.clip(np.floor(x / scale + 0.5) + zero, 0, 255), zero, scale


def mmse(x, low, high):
    n, middle = histogram(x, low, high)

    def error(l, h):
        code, zero, scale = codes(middle, l, h)
        return np.sum(n * (middle - (code - zero) * scale) ** 2)
    return search(error, low, high, 0)


def kl(x, low, high):
    n, middle = histogram(x, low, high)

    def error(l, h):
        inside = (middle >= l) & (middle < h)
        if not inside.any() or n[inside].sum() == 0:
            return np.inf
        first, last = np.flatnonzero(inside)[[0, -1]]
        p = np.where(inside, n, 0)
        p[first] += n[:first].sum()
        p[last] += n[last + 1:].sum()
        code, _, _ = codes(middle, l, h)
        q = np.zeros(4096)
        for c in np.unique(code[inside]):
            here = inside & (code == c)
            q[here] = max(n[here].sum(), 0.5) / max((here & (n > 0)).sum(), 1)
        p_share = p / p.sum()
        q_share = q / n[inside].sum()
        k = p_share > 0
        return np.sum(p_share[k] * np.log(p_share[k] / q_share[k]))
    return search(error, low, high, 256 * (high - low) / 4096)


def search(error, low, high, least):
    l, h, best = low, high, error(low, high)
    for _ in range(3):
        before = best
        for side in range(2):
            for i in range(1, 101):
                a, b = (low * i / 100, h) if side else (l, high * i / 100)
                now = error(a, b) if b - a > least else np.inf
                if now < best:
                    best, l, h = now, a, b
        if not best < before:
            break
    return l, h


def wilson(k, n):
    z = 1.959963984540054

    def end(sign):
        if (k == 0 and sign < 0) or (k == n and sign > 0):
            return k / n
        a, b = (0.0, k / n) if sign < 0 else (k / n, 1.0)
        for _ in range(200):  # where |k/n - p| = z sqrt(p (1 - p) / n)
            p = (a + b) / 2
            outside = abs(k / n - p) > z * np.sqrt(p * (1 - p) / n)
            if sign < 0:
                a, b = (p, b) if outside else (a, p)
            else:
                a, b = (a, p) if outside else (p, b)
        return (a + b) / 2
    return end(-1), end(1)


def newcombe(a, b, c, d):
    n = a + b + c + d
    (l1, u1), (l2, u2) = wilson(a + b, n), wilson(a + c, n)
    p1, p2 = (a + b) / n, (a + c) / n
    product = (a + b) * (c + d) * (a + c) * (b + d)
    excess = a * d - b * c
    excess = max(excess - n / 2, 0) if excess > 0 else excess
    phi = excess / np.sqrt(product) if product else 0
    low = np.sqrt((p2 - l2) ** 2 - 2 * phi * (p2 - l2) * (u1 - p1) + (u1 - p1) ** 2)
    high = np.sqrt((u2 - p2) ** 2 - 2 * phi * (u2 - p2) * (p1 - l1) + (p1 - l1) ** 2)
    return p2 - p1 - low, p2 - p1 + high


if __name__ == "__main__":
    x = values()
    low, high = min(float(x.min()), 0), max(float(x.max()), 0)
    print("values", x.size, "low %.6f high %.6f" % (low, high))
    print("percentile 99.9: %.5f %.5f" % tuple(np.percentile(x.astype(float), [0.1, 99.9])))
    print("percentile 99.99: %.5f %.5f" % tuple(np.percentile(x.astype(float), [0.01, 99.99])))
    print("mmse: %.5f %.5f" % mmse(x.astype(float), low, high))
    print("kl: %.5f %.5f" % kl(x, low, high))
    for table in ((36, 2, 12, 0), (247, 1, 0, 23), (108, 140, 0, 23), (50, 0, 0, 0), (10, 6, 3, 1)):
        print("paired", table, "%.6f %.6f" % newcombe(*table))
