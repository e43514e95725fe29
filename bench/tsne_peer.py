# SPDX-License-Identifier: Apache-2.0
"""The other side of bench/tsne: makes the points, runs openTSNE and scikit-learn, and judges every picture alike.

    tsne_peer.py make FILE N DIMS SEED          features of N pictures as raw float32
    tsne_peer.py opentsne|sklearn IN OUT DIMS PERPLEXITY ITERATIONS THREADS SEED     prints the seconds
    tsne_peer.py kl IN DIMS PERPLEXITY OUT...   prints the KL divergence of each, from all pairs in double precision
"""
import sys
import time

import numpy as np

EARLY = 250


def make(path, n, dims, seed):
    """Like pooled features of photographs: sources of different size and width on curved sheets of a few dimensions,
    with noise, mostly positive."""
    rng = np.random.default_rng(seed)
    sources = 12
    share = rng.dirichlet(np.full(sources, 3.0))
    source = rng.choice(sources, size=n, p=share)
    centre = rng.normal(size=(sources, dims)) * 0.5
    inner = 6
    sheet = rng.normal(size=(sources, inner, dims)) / np.sqrt(inner)
    bend = rng.normal(size=(sources, inner, dims)) / np.sqrt(inner)
    width = rng.uniform(0.4, 1.2, size=sources)
    latent = rng.normal(size=(n, inner)) * width[source][:, None]
    points = centre[source] + 0.15 * rng.normal(size=(n, dims))
    for s in range(sources):
        mine = source == s
        points[mine] += latent[mine] @ sheet[s] + np.sin(2 * latent[mine]) @ bend[s] * 0.5
    np.maximum(points, -0.375).astype(np.float32).tofile(path)


def run(which, source, out, dims, perplexity, iterations, threads, seed):
    data = np.fromfile(source, dtype=np.float32).reshape(-1, dims)
    start = time.perf_counter()
    if which == "opentsne":
        from openTSNE import TSNE
        model = TSNE(perplexity=perplexity, early_exaggeration_iter=EARLY, n_iter=iterations - EARLY,
                     early_exaggeration=12, initialization="pca", n_jobs=threads, random_state=seed)
        places = model.fit(data)
    else:
        from sklearn.manifold import TSNE
        model = TSNE(perplexity=perplexity, max_iter=iterations, n_iter_without_progress=iterations,
                     early_exaggeration=12, init="pca", n_jobs=threads, random_state=seed)
        places = model.fit_transform(data)
    print(f"{time.perf_counter() - start:.3f}")
    np.asarray(places, dtype=np.float32).tofile(out)


def distances(points, begin, end):
    block = points[begin:end]
    d = (block ** 2).sum(1)[:, None] + (points ** 2).sum(1)[None] - 2 * block @ points.T
    d[np.arange(end - begin), np.arange(begin, end)] = 0
    return np.maximum(d, 0)


def precisions(points, perplexity, step):
    """Precision and normaliser of each point's Gaussian, by bisection on all rows of a block at once."""
    n = len(points)
    beta, total = np.ones(n), np.ones(n)
    for begin in range(0, n, step):
        end = min(begin + step, n)
        d = distances(points, begin, end)
        d[np.arange(end - begin), np.arange(begin, end)] = np.inf
        d -= d.min(1, keepdims=True)
        finite = np.where(np.isfinite(d), d, 0)
        low, high = np.zeros(end - begin), np.full(end - begin, np.inf)
        b = 1 / np.maximum(finite.mean(1), 1e-12)
        for _ in range(60):
            p = np.exp(-b[:, None] * d)
            s = p.sum(1)
            entropy = np.log(s) + b * (p * finite).sum(1) / s
            wide = entropy > np.log(perplexity)
            low, high = np.where(wide, b, low), np.where(wide, high, b)
            b = np.where(np.isinf(high), 2 * b, (low + high) / 2)
        beta[begin:end] = b
        total[begin:end] = np.exp(-b[:, None] * d).sum(1)
    return beta, total


def divergences(source, dims, perplexity, pictures):
    points = np.fromfile(source, dtype=np.float32).reshape(-1, dims).astype(np.float64)
    points -= points.mean(0)
    n, step = len(points), 500
    beta, total = precisions(points, perplexity, step)
    least = np.empty(n)
    for begin in range(0, n, step):
        end = min(begin + step, n)
        d = distances(points, begin, end)
        d[np.arange(end - begin), np.arange(begin, end)] = np.inf
        least[begin:end] = d.min(1)
    places = [np.fromfile(p, dtype=np.float32).reshape(-1, 2).astype(np.float64) for p in pictures]
    # sum p log p, and sum p log(1 + d^2) and the normaliser of each picture
    own, pull, z = 0.0, np.zeros(len(places)), np.zeros(len(places))
    for begin in range(0, n, step):
        end = min(begin + step, n)
        itself = (np.arange(end - begin), np.arange(begin, end))
        d = distances(points, begin, end)
        p = np.exp(-beta[begin:end, None] * np.maximum(d - least[begin:end, None], 0)) / total[begin:end, None]
        p += np.exp(-beta[None] * np.maximum(d - least[None], 0)) / total[None]
        p /= 2 * n
        p[itself] = 0
        own += (p * np.log(np.maximum(p, 1e-300))).sum()
        for k, y in enumerate(places):
            e = 1 + distances(y, begin, end)
            pull[k] += (p * np.log(e)).sum()
            q = 1 / e
            q[itself] = 0
            z[k] += q.sum()
    return own + pull + np.log(z)


if __name__ == "__main__":
    job = sys.argv[1]
    if job == "make":
        make(sys.argv[2], *map(int, sys.argv[3:6]))
    elif job == "kl":
        found = divergences(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.argv[5:])
        print(" ".join(f"{kl:.5f}" for kl in found))
    else:
        run(job, sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5]), *map(int, sys.argv[6:9]))
