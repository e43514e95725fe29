/* SPDX-License-Identifier: Apache-2.0 */
/* The soft mask of a picture's object. There is no network here that knows objects, and none is wanted: a mask that
 * finds birds better than squirrels would mark the birds. What is used is what photographs have in common: the thing
 * that they are of is near the middle, and the border mostly shows something else. */
#include "image/paste.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = SK_MASK_SIDE, POINTS = SIDE * SIDE, CLUSTERS = 5, MOST_FIT = 400, ROUNDS = 3, LEAST = 8, FEATURES = 4 };

#define OPAQUE_CORE 0.35f /* radius of the middle, in half sides, that is taken for the object at first */
#define OVAL 2.0f         /* nats of the prior from the middle to the edge */
#define LIVELY 2.0f       /* weight of liveliness against colour */
#define EDGE 0.94f        /* radius (of the square norm) from which the mask fades to 0 at the picture's edge */

typedef struct mixture {
    float mean[CLUSTERS][FEATURES], spread[CLUSTERS], cost[CLUSTERS];
} mixture;

typedef struct work {
    int width, height, count;
    float evidence; /* mean nats, either way, that the colours tell */
    uint8_t pixels[POINTS * 3];
    float color[FEATURES][POINTS]; /* lightness, two differences of colour, liveliness nearby: weighted */
    float round[POINTS];    /* distance from the middle, 1 in the middle of an edge */
    float oval[POINTS];     /* prior in nats: positive near the middle */
    float edge[POINTS];     /* 1 inside, falling to 0 at the picture's edge */
    float p[POINTS], a[POINTS], b[POINTS], c[POINTS];
    float guide[POINTS], mean_guide[POINTS], mean_p[POINTS];
    float fit[FEATURES][MOST_FIT];
    int queue[POINTS];
    uint8_t border[POINTS], seen[POINTS];
} work;

/* Mean over (2r+1)^2 points, cut at the edges; `out` may be `in`. */
static void box_mean(work *w, const float *in, int r, float *out)
{
    const int width = w->width, height = w->height;
    for (int y = 0; y < height; y++) {
        const float *row = in + y * width;
        float *to = w->c + y * width, sum = 0;
        for (int x = 0; x < r; x++)
            sum += row[x];
        for (int x = 0; x < width; x++) {
            const int left = x - r - 1, right = x + r;
            sum += right < width ? row[right] : 0;
            sum -= left >= 0 ? row[left] : 0;
            to[x] = sum / (float)((right < width ? right : width - 1) - (left >= 0 ? left : -1));
        }
    }
    float sums[SIDE] = {0};
    for (int y = -r; y < height; y++) {
        const int top = y - r - 1, low = y + r;
        for (int x = 0; low < height && x < width; x++)
            sums[x] += w->c[low * width + x];
        for (int x = 0; top >= 0 && x < width; x++)
            sums[x] -= w->c[top * width + x];
        const float share = 1 / (float)((low < height ? low : height - 1) - (top >= 0 ? top : -1));
        for (int x = 0; y >= 0 && x < width; x++)
            out[y * width + x] = sums[x] * share;
    }
}

/* Point i of a side of `count`: -1 to 1. */
static float from_middle(int i, int count)
{
    return ((float)i + 0.5f) / (float)count * 2 - 1;
}

/* 1 inside, falling to 0 at the picture's edge. */
static float edge_of(float x, float y)
{
    return fminf(1, fmaxf(0, (1 - fmaxf(fabsf(x), fabsf(y))) / (1 - EDGE) - 0.35f));
}

static void describe(work *w)
{
    for (int i = 0; i < w->count; i++) {
        const float r = w->pixels[i * 3], g = w->pixels[i * 3 + 1], b = w->pixels[i * 3 + 2];
        w->color[0][i] = w->a[i] = (r + g + b) * 0.27f;
        w->color[1][i] = r - g;
        w->color[2][i] = (r + g) * 0.4f - b * 0.8f;
        const float x = from_middle(i % w->width, w->width), y = from_middle(i / w->width, w->height);
        const float square = fmaxf(fabsf(x), fabsf(y));
        w->round[i] = sqrtf(x * x + y * y);
        w->oval[i] = OVAL * (0.85f - w->round[i]);
        w->edge[i] = edge_of(x, y);
        /* Things stand on the ground: the middle of the lower border is as often the object's as the ground's. */
        w->border[i] = square > 0.88f && !(y > 0.5f && fabsf(x) < 0.75f);
    }
    /* What is in focus is livelier than what is not. */
    box_mean(w, w->a, 1, w->b);
    for (int i = 0; i < w->count; i++)
        w->a[i] = fabsf(w->a[i] - w->b[i]);
    box_mean(w, w->a, 2, w->a);
    for (int i = 0; i < w->count; i++)
        w->color[3][i] = LIVELY * fminf(w->a[i], 12);
}

/* Squared distances of `n` colours, `stride` apart per feature, from `centre`; features lie apart, so that the compiler
 * takes several colours at a time. */
static void distances(const float *colors, size_t stride, int n, const float *centre, float *out)
{
    for (int i = 0; i < n; i++) {
        const float x = colors[i] - centre[0], y = colors[stride + (size_t)i] - centre[1];
        const float z = colors[2 * stride + (size_t)i] - centre[2], u = colors[3 * stride + (size_t)i] - centre[3];
        out[i] = x * x + y * y + z * z + u * u;
    }
}

/* First centres: each the colour farthest from those before it, which needs no random draw. */
static void first_centres(const work *w, int n, mixture *m)
{
    float near[MOST_FIT], d[MOST_FIT];
    for (int k = 0; k < FEATURES; k++) {
        float sum = 0;
        for (int i = 0; i < n; i++)
            sum += w->fit[k][i];
        m->mean[0][k] = sum / (float)n;
    }
    for (int c = 1; c < CLUSTERS; c++) {
        int far = 0;
        distances(w->fit[0], MOST_FIT, n, m->mean[c - 1], d);
        for (int i = 0; i < n; i++)
            near[i] = c > 1 && near[i] < d[i] ? near[i] : d[i];
        for (int i = 1; i < n; i++)
            far = near[i] > near[far] ? i : far;
        for (int k = 0; k < FEATURES; k++)
            m->mean[c][k] = w->fit[k][far];
    }
}

/* The nearest centre of each colour and its squared distance. */
static void nearest(const work *w, int n, const mixture *m, float *least, int *member)
{
    float d[MOST_FIT];
    distances(w->fit[0], MOST_FIT, n, m->mean[0], least);
    for (int i = 0; i < n; i++)
        member[i] = 0;
    for (int c = 1; c < CLUSTERS; c++) {
        distances(w->fit[0], MOST_FIT, n, m->mean[c], d);
        for (int i = 0; i < n; i++) {
            member[i] = d[i] < least[i] ? c : member[i];
            least[i] = d[i] < least[i] ? d[i] : least[i];
        }
    }
}

/* k-means, then a round Gaussian per cluster: cost + distance / spread is its negative log likelihood. */
static void fit_mixture(const work *w, int n, mixture *m)
{
    float least[MOST_FIT], square[CLUSTERS], members[CLUSTERS];
    int member[MOST_FIT];
    first_centres(w, n, m);
    for (int round = 0; round < 4; round++) {
        float sums[CLUSTERS][FEATURES] = {{0}};
        memset(members, 0, sizeof members);
        memset(square, 0, sizeof square);
        nearest(w, n, m, least, member);
        for (int i = 0; i < n; i++) {
            for (int k = 0; k < FEATURES; k++)
                sums[member[i]][k] += w->fit[k][i];
            members[member[i]] += 1;
            square[member[i]] += least[i];
        }
        for (int c = 0; c < CLUSTERS; c++)
            for (int k = 0; k < FEATURES && members[c] > 0; k++)
                m->mean[c][k] = sums[c][k] / members[c];
    }
    for (int c = 0; c < CLUSTERS; c++) {
        /* 40: noise and JPEG of a flat area. */
        const float variance = square[c] / (FEATURES * fmaxf(1, members[c])) + 40;
        m->spread[c] = 2 * variance;
        m->cost[c] = 0.5f * FEATURES * logf(variance) - logf((members[c] + 0.5f) / (float)n);
    }
}

/* Negative log likelihood of every point's colour under the mixture's likeliest member. */
static void unlikely(const work *w, const mixture *m, float *out)
{
    float d[POINTS];
    for (int c = 0; c < CLUSTERS; c++) {
        const float share = 1 / m->spread[c], cost = m->cost[c];
        distances(w->color[0], POINTS, w->count, m->mean[c], d);
        for (int i = 0; i < w->count; i++) {
            const float told = cost + d[i] * share;
            out[i] = c > 0 && out[i] < told ? out[i] : told;
        }
    }
}

/* Gathers at most MOST_FIT colours of the object (or the rest), evenly over the picture. */
static int gather(work *w, int object, int round)
{
    int n = 0, all = 0;
    for (int pass = 0; pass < 2; pass++) {
        const int step = all / MOST_FIT + 1;
        for (int i = 0, k = 0; i < w->count; i++) {
            const int in = object ? (round == 0 ? w->round[i] < OPAQUE_CORE : w->p[i] > 0.7f)
                                  : w->border[i] || (round > 0 && w->p[i] < 0.2f);
            if (!in)
                continue;
            if (pass == 0)
                all++;
            else if (k++ % step == 0 && n < MOST_FIT)
            {
                for (int f = 0; f < FEATURES; f++)
                    w->fit[f][n] = w->color[f][i];
                n++;
            }
        }
    }
    return n;
}

/* One round: what the two mixtures and the oval say, smoothed over neighbours. 0 if there is nothing to fit. */
static int judge(work *w, int round)
{
    mixture object, rest;
    int n = gather(w, 1, round);
    if (n < 12)
        return 0;
    fit_mixture(w, n, &object);
    n = gather(w, 0, round);
    fit_mixture(w, n, &rest);
    unlikely(w, &rest, w->a);
    unlikely(w, &object, w->b);
    float evidence = 0;
    for (int i = 0; i < w->count; i++) {
        const float told = 0.8f * (w->a[i] - w->b[i]), most = told < 4 ? told : 4, bound = most > -4 ? most : -4;
        evidence += fabsf(bound);
        w->a[i] = bound + w->oval[i];
    }
    w->evidence = evidence / (float)w->count;
    box_mean(w, w->a, 1, w->b);
    for (int i = 0; i < w->count; i++) { /* tanh, but for its far ends */
        const float x = 0.75f * w->b[i], bound = x < 3 ? (x > -3 ? x : -3) : 3;
        w->p[i] = (0.5f + 0.5f * bound * (27 + bound * bound) / (27 + 9 * bound * bound)) * w->edge[i];
    }
    return 1;
}

/* Marks what hangs together with `from` and is (`above` or not) above one half; returns the sum of p times the oval's
 * closeness. */
static float flood(work *w, int from, int above)
{
    float sum = 0;
    int head = 0, tail = 0;
    w->queue[tail++] = from;
    w->seen[from] = 1;
    while (head < tail) {
        const int i = w->queue[head++], x = i % w->width;
        const int next[4] = {x > 0 ? i - 1 : -1, x + 1 < w->width ? i + 1 : -1, i - w->width, i + w->width};
        sum += w->p[i] * fmaxf(0.1f, w->oval[i]);
        for (int k = 0; k < 4; k++)
            if (next[k] >= 0 && next[k] < w->count && !w->seen[next[k]] && (w->p[next[k]] > 0.5f) == above) {
                w->seen[next[k]] = 1;
                w->queue[tail++] = next[k];
            }
    }
    w->queue[0] = tail;
    return sum;
}

/* Keeps the one piece that weighs most and closes its holes. */
static void keep_one_piece(work *w)
{
    float best = 0;
    int start = -1;
    memset(w->seen, 0, sizeof w->seen);
    for (int i = 0; i < w->count; i++) {
        if (w->seen[i] || w->p[i] <= 0.5f)
            continue;
        const float sum = flood(w, i, 1);
        if (sum > best) {
            best = sum;
            start = i;
        }
    }
    if (start < 0)
        return;
    memset(w->seen, 0, sizeof w->seen);
    flood(w, start, 1);
    for (int i = 0; i < w->count; i++)
        if (!w->seen[i])
            w->p[i] = fminf(w->p[i], 0.5f) * 0.6f;
    /* What the outside does not reach is a hole. */
    memset(w->seen, 0, sizeof w->seen);
    for (int i = 0; i < w->count; i++) {
        const int x = i % w->width, y = i / w->width;
        if ((x == 0 || y == 0 || x == w->width - 1 || y == w->height - 1) && !w->seen[i] && w->p[i] <= 0.5f)
            flood(w, i, 0);
    }
    for (int i = 0; i < w->count; i++)
        if (!w->seen[i])
            w->p[i] = fmaxf(w->p[i], 0.9f);
}

/* The guided filter with the lightness as the guide: the mask's edge moves to the picture's edge nearby. */
static void follow_edges(work *w)
{
    enum { R = 2 };
    for (int i = 0; i < w->count; i++) {
        w->guide[i] = w->color[0][i] / 200;
        w->a[i] = w->guide[i] * w->p[i];
        w->b[i] = w->guide[i] * w->guide[i];
    }
    box_mean(w, w->guide, R, w->mean_guide);
    box_mean(w, w->p, R, w->mean_p);
    box_mean(w, w->a, R, w->a);
    box_mean(w, w->b, R, w->b);
    for (int i = 0; i < w->count; i++) {
        const float variance = w->b[i] - w->mean_guide[i] * w->mean_guide[i];
        w->a[i] = (w->a[i] - w->mean_guide[i] * w->mean_p[i]) / (variance + 1e-3f);
        w->b[i] = w->mean_p[i] - w->a[i] * w->mean_guide[i];
    }
    box_mean(w, w->a, R, w->a);
    box_mean(w, w->b, R, w->b);
    for (int i = 0; i < w->count; i++)
        w->p[i] = w->a[i] * w->guide[i] + w->b[i];
}

/* A mask that is nearly nothing, nearly everything or undecided everywhere says that nothing was told apart. */
static int is_separated(const work *w)
{
    float inside = 0, middle = 0, unsure = 0;
    int middles = 0;
    for (int i = 0; i < w->count; i++) {
        const int core = w->round[i] < 0.5f;
        inside += w->p[i];
        unsure += w->p[i] > 0.3f && w->p[i] < 0.7f;
        middle += core ? w->p[i] : 0;
        middles += core;
    }
    const float all = (float)w->count;
    return w->evidence > 0.5f && inside > 0.05f * all && inside < 0.72f * all && unsure < 0.22f * all &&
           middle > 0.3f * (float)middles;
}

/* Opacity from what the mask says at a point, and from how far the point is from the picture's edge. */
static uint8_t opacity(float p, float edge)
{
    /* The outer half of the soft edge shows the picture's own surroundings: left out. */
    const float t = fminf(1, fmaxf(0, (p - 0.4f) / 0.5f));
    const float alpha = t * t * (3 - 2 * t) * fminf(1, edge * 1.5f);
    return (uint8_t)lrintf(alpha * 255);
}

static void clear_edge(sk_mask *mask)
{
    for (int y = 0; y < mask->height; y++)
        mask->alpha[y * mask->width] = mask->alpha[(y + 1) * mask->width - 1] = 0;
    memset(mask->alpha, 0, (size_t)mask->width);
    memset(mask->alpha + (mask->height - 1) * mask->width, 0, (size_t)mask->width);
}

/* The way out: an oval whose edge wanders, so that no two leave the same trace. */
void sk_mask_oval(uint64_t seed, sk_mask *mask)
{
    sk_rng rng = sk_rng_make(seed, 0x0a7a1, 0);
    float size[4], phase[4];
    for (int k = 0; k < 4; k++) {
        size[k] = (0.02f + 0.06f * (float)sk_rng_uniform(&rng)) / (1 + 0.3f * (float)k);
        phase[k] = 6.2831853f * (float)sk_rng_uniform(&rng);
    }
    for (int i = 0; i < mask->width * mask->height; i++) {
        const float x = from_middle(i % mask->width, mask->width), y = from_middle(i / mask->width, mask->height);
        const float angle = atan2f(y, x);
        float limit = 0.68f;
        for (int k = 0; k < 4; k++)
            limit += size[k] * sinf((float)(k + 2) * angle + phase[k]);
        mask->alpha[i] = opacity(0.5f + (limit - sqrtf(x * x + y * y)) * 1.6f, edge_of(x, y));
    }
    clear_edge(mask);
}

sk_status sk_mask_find(const sk_image *picture, sk_mask *out, sk_error *err)
{
    memset(out, 0, sizeof *out);
    if (!picture->data || picture->width < 1 || picture->height < 1)
        return sk_fail(err, SK_ERR_ARGUMENT, "cannot guess the mask of an empty picture");
    work *w = sk_calloc(1, sizeof *w);
    if (!w)
        return sk_fail_memory(err, "the mask of a picture");
    const int wide = picture->width > picture->height, longer = wide ? picture->width : picture->height;
    const int other = (int)((int64_t)(wide ? picture->height : picture->width) * SIDE / longer);
    out->width = w->width = wide ? SIDE : other < LEAST ? LEAST : other;
    out->height = w->height = wide ? (other < LEAST ? LEAST : other) : SIDE;
    w->count = w->width * w->height;
    const sk_status status = sk_image_resize(picture, NULL, w->width, w->height, w->pixels, err);
    if (status == SK_OK) {
        describe(w);
        int round = 0;
        while (round < ROUNDS && judge(w, round))
            round++;
        if (round == ROUNDS) {
            keep_one_piece(w);
            follow_edges(w);
            out->separated = is_separated(w);
        }
        for (int i = 0; out->separated && i < w->count; i++)
            out->alpha[i] = opacity(w->p[i], w->edge[i]);
        clear_edge(out);
    }
    sk_free(w);
    return status;
}

sk_status sk_mask_guess(const sk_image *picture, uint64_t seed, sk_mask *out, sk_error *err)
{
    const sk_status status = sk_mask_find(picture, out, err);
    if (status == SK_OK && !out->separated)
        sk_mask_oval(seed, out);
    return status;
}
