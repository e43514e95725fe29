/* SPDX-License-Identifier: Apache-2.0 */
/* Makes small feeder clips with labels for the demonstration: cut-out animal photographs of tuxpaint-stamps-default
 * land on a rail in front of photographs of tuxpaint-data, seen by a shaking camera with drifting light and noise.
 * Uses public headers only; the same seed gives the same files. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "siskin/image.h"
#include "siskin/video.h"

enum { WIDTH = 320, HEIGHT = 240, MARGIN = 16, SCENE_WIDTH = WIDTH + 2 * MARGIN, SCENE_HEIGHT = HEIGHT + 2 * MARGIN };
#define SECONDS 6.0
#define PI 3.14159265358979323846

typedef enum kind { EMPTY, BIRD, OTHER } kind;

/* What happens in a clip. No place twice: two cameras that see the same wall look like a leak between splits.
 * `height` is the animal's, in pixels; `floor` the rail's upper edge; rail NULL: none. */
typedef struct plot {
    const char *place, *rail, *animal;
    kind kind;
    int height, floor, rate;
    double from, to; /* seconds on the rail */
} plot;

#define BIRDS "animals/birds/"
#define RODENTS "animals/mammals/rodents/"
static const plot plots[] = {
    {"sun_behind_leaves", "burnt_bark", BIRDS "blackbird", BIRD, 88, 196, 24, 1.2, 4.8},
    {"mossy_log", NULL, BIRDS "lark", BIRD, 78, 200, 15, 0.0, 4.0},
    {"corn_maze", "burnt_bark", RODENTS "squirrel", OTHER, 118, 200, 24, 1.4, 5.0},
    {"trees_above", "mossy_bark", BIRDS "pigeon", BIRD, 105, 206, 12, 1.6, 6.0},
    {"rocks", NULL, BIRDS "silver-gull", BIRD, 126, 214, 20, 1.0, 4.4},
    {"redwoods_above", "mossy_bark", NULL, EMPTY, 0, 204, 15, 0, 0},
    {"trees_at_dusk", "burnt_bark", BIRDS "magpie", BIRD, 116, 200, 24, 1.5, 4.9},
    {"spiders_web", "mossy_bark", BIRDS "rainbow-lorikeet", BIRD, 84, 198, 15, 1.1, 4.6},
    {"mossy_bark", "burnt_bark", RODENTS "mouse", OTHER, 78, 196, 12, 1.2, 4.7},
    {"cliff", "burnt_bark", BIRDS "crow", BIRD, 112, 208, 20, 1.3, 4.5},
    {"lighthouse", "mossy_bark", BIRDS "adelaide-rosella", BIRD, 112, 214, 15, 1.8, 5.2},
    {"sheep", "burnt_bark", RODENTS "rat", OTHER, 76, 202, 24, 1.0, 4.2},
    {"mudstone", NULL, BIRDS "cuckoo", BIRD, 80, 196, 24, 1.4, 4.8},
    {"sun_behind_clouds", "mossy_bark", RODENTS "squirrel", OTHER, 96, 206, 12, 1.7, 5.4},
    {"wool_mill_machine", "burnt_bark", NULL, EMPTY, 0, 200, 20, 0, 0},
    {"ocean_waves", "mossy_bark", BIRDS "seagull", BIRD, 84, 206, 20, 1.3, 4.4},
};
enum { PLOTS = sizeof plots / sizeof *plots };

typedef struct actor {
    sk_image color, alpha; /* color is multiplied by alpha, so that scaling makes no dark rims */
    double weight;         /* sum of alpha */
} actor;

static uint64_t draw(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static double draw_between(uint64_t *state, double low, double high)
{
    return low + (high - low) * (double)(draw(state) >> 11) * 0x1p-53;
}

static uint8_t to_byte(double value)
{
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value + 0.5);
}

static uint8_t *pixel(const sk_image *image, int x, int y)
{
    return image->data + ((size_t)y * (size_t)image->width + (size_t)x) * 3;
}

/* Resizes the middle of `photo` with the target's aspect into target rows from `top` on. */
static sk_status paint_photo(const sk_image *photo, sk_image *scene, int top, double light, sk_error *err)
{
    const int height = scene->height - top;
    const double wanted = (double)scene->width / height, have = (double)photo->width / photo->height;
    double w = photo->width, h = photo->height;
    if (have > wanted)
        w = h * wanted;
    else
        h = w / wanted;
    const sk_box box = {(float)((photo->width - w) / 2), (float)((photo->height - h) / 2),
                        fminf((float)((photo->width + w) / 2), (float)photo->width),
                        fminf((float)((photo->height + h) / 2), (float)photo->height)};
    const sk_status status = sk_image_resize(photo, &box, scene->width, height, pixel(scene, 0, top), err);
    for (size_t i = (size_t)top * (size_t)scene->width * 3; i < (size_t)scene->width * (size_t)scene->height * 3; i++)
        scene->data[i] = to_byte(scene->data[i] * light);
    return status;
}

static sk_status read_photo(const char *root, const char *name, sk_image *out, sk_error *err)
{
    char path[1200];
    snprintf(path, sizeof path, "%s/templates/%s.jpg", root, name);
    return sk_image_read(path, out, err);
}

/* Background and, before it, the rail with a bright upper edge and a dark lower one. */
static sk_status build_scene(const char *root, const plot *p, sk_image *scene, sk_error *err)
{
    sk_image photo = {0};
    sk_status status = sk_image_create(SCENE_WIDTH, SCENE_HEIGHT, scene, err);
    if (status == SK_OK)
        status = read_photo(root, p->place, &photo, err);
    if (status == SK_OK)
        status = paint_photo(&photo, scene, 0, 0.92, err);
    sk_image_free(&photo);
    if (status != SK_OK || !p->rail)
        return status;
    status = read_photo(root, p->rail, &photo, err);
    if (status == SK_OK)
        status = paint_photo(&photo, scene, p->floor + MARGIN, 0.8, err);
    for (int y = p->floor + MARGIN; status == SK_OK && y < scene->height; y++) {
        const int depth = y - p->floor - MARGIN;
        const double light = depth < 3 ? 1.25 : 1.0 - 0.7 * depth / (scene->height - p->floor - MARGIN);
        for (int i = 0; i < scene->width * 3; i++)
            pixel(scene, 0, y)[i] = to_byte(pixel(scene, 0, y)[i] * light);
    }
    sk_image_free(&photo);
    return status;
}

/* The tight frame around what is not transparent. */
static sk_box opaque_box(const sk_image *alpha)
{
    int x0 = alpha->width, y0 = alpha->height, x1 = 0, y1 = 0;
    for (int y = 0; y < alpha->height; y++)
        for (int x = 0; x < alpha->width; x++)
            if (pixel(alpha, x, y)[0] > 24) {
                x0 = x < x0 ? x : x0;
                x1 = x + 1 > x1 ? x + 1 : x1;
                y0 = y < y0 ? y : y0;
                y1 = y + 1;
            }
    if (x0 >= x1)
        return (sk_box){0, 0, (float)alpha->width, (float)alpha->height};
    return (sk_box){(float)x0, (float)y0, (float)x1, (float)y1};
}

static void actor_free(actor *a)
{
    sk_image_free(&a->color);
    sk_image_free(&a->alpha);
}

static sk_status load_actor(const char *root, const plot *p, actor *a, sk_error *err)
{
    char path[1200];
    sk_image color = {0}, alpha = {0};
    snprintf(path, sizeof path, "%s/stamps/%s.png", root, p->animal);
    sk_status status = sk_image_read_cutout(path, &color, &alpha, err);
    if (status != SK_OK)
        return status;
    const sk_box box = opaque_box(&alpha);
    const int width = (int)lround((double)p->height * (double)(box.x1 - box.x0) / (double)(box.y1 - box.y0));
    for (size_t i = 0; i < (size_t)color.width * (size_t)color.height * 3; i++)
        color.data[i] = (uint8_t)(color.data[i] * alpha.data[i] / 255);
    if ((status = sk_image_create(width, p->height, &a->color, err)) == SK_OK &&
        (status = sk_image_create(width, p->height, &a->alpha, err)) == SK_OK &&
        (status = sk_image_resize(&color, &box, width, p->height, a->color.data, err)) == SK_OK)
        status = sk_image_resize(&alpha, &box, width, p->height, a->alpha.data, err);
    for (size_t i = 0; status == SK_OK && i < (size_t)width * (size_t)p->height; i++)
        a->weight += a->alpha.data[i * 3];
    sk_image_free(&color);
    sk_image_free(&alpha);
    return status;
}

/* Puts the actor's lower middle at (x, floor); returns the part of it inside the camera's frame. */
static double paint_actor(const actor *a, sk_image *scene, double x, double floor, int mirrored, double light)
{
    const int left = (int)lround(x) - a->color.width / 2, top = (int)lround(floor) - a->color.height;
    double seen = 0;
    for (int v = 0; v < a->color.height; v++) {
        for (int u = 0; u < a->color.width; u++) {
            const int sx = left + u, sy = top + v, from = mirrored ? a->color.width - 1 - u : u;
            if (sx < 0 || sy < 0 || sx >= scene->width || sy >= scene->height)
                continue;
            const double opacity = pixel(&a->alpha, from, v)[0] / 255.0;
            if (sx >= MARGIN && sy >= MARGIN && sx < MARGIN + WIDTH && sy < MARGIN + HEIGHT)
                seen += opacity * 255;
            for (int c = 0; c < 3; c++)
                pixel(scene, sx, sy)[c] =
                    to_byte(pixel(&a->color, from, v)[c] * light + pixel(scene, sx, sy)[c] * (1 - opacity));
        }
    }
    return a->weight > 0 ? seen / a->weight : 0;
}

static void paint_shadow(sk_image *scene, double x, double floor, double width)
{
    for (int dy = -4; dy <= 6; dy++) {
        for (int dx = (int)(-width / 2); dx <= (int)(width / 2); dx++) {
            const int sx = (int)lround(x) + dx, sy = (int)lround(floor) + dy;
            const double r = 4.0 * dx * dx / (width * width) + dy * dy / 36.0;
            if (r >= 1 || sx < 0 || sy < 0 || sx >= scene->width || sy >= scene->height)
                continue;
            for (int c = 0; c < 3; c++)
                pixel(scene, sx, sy)[c] = to_byte(pixel(scene, sx, sy)[c] * (0.55 + 0.45 * r));
        }
    }
}

/* Place of the actor at a time. A bird flies in and out on an arc, others run along the rail. */
static double ease(double t)
{
    t = t < 0 ? 0 : t > 1 ? 1 : t;
    return t * t * (3 - 2 * t);
}

typedef struct motion {
    double rest, hop_every, phase;
    int from_left, to_left;
} motion;

static void place_actor(const plot *p, const motion *m, double width, double t, double *x, double *y, int *mirrored)
{
    const double away = width / 2 + 6, left = MARGIN - away, right = MARGIN + WIDTH + away;
    const double travel = p->kind == BIRD ? 0.7 : 1.1, arc = p->kind == BIRD ? 90 : 0;
    const double in = p->from > 0 ? ease((t - p->from + travel) / travel) : 1;
    const double out = p->to < SECONDS ? ease((t - p->to) / travel) : 0;
    const double start = m->from_left ? left : right, end = m->to_left ? left : right;
    const double hop = fmod(t + m->phase, m->hop_every) / 0.25;
    const double step = floor((t + m->phase) / m->hop_every) * 0.37;
    double rest = m->rest + 22 * sin(step * 2 * PI + ease(hop) * 0.8);
    *x = start + (rest - start) * in + (end - rest) * out;
    *y = p->floor + MARGIN + 6 - arc * (1 - in) - arc * out;
    if (in >= 1 && out <= 0 && hop < 1)
        *y -= (p->kind == BIRD ? 7 : 3) * sin(hop * PI);
    *mirrored = out > 0 ? m->to_left : in < 1 ? !m->from_left : (int)floor((t + m->phase) / (2 * m->hop_every)) % 2;
}

/* What the camera makes of the scene: shake, light, noise. */
static sk_status take_frame(const sk_image *scene, double t, double phase, double noise, uint64_t *state,
                            sk_image *frame, sk_error *err)
{
    const double dx = 1.6 * sin(2.1 * t + phase) + draw_between(state, -0.9, 0.9);
    const double dy = 1.2 * sin(1.7 * t + 2 * phase) + draw_between(state, -0.9, 0.9);
    const double x = MARGIN + dx, y = MARGIN + dy;
    const sk_box box = {(float)x, (float)y, (float)(x + WIDTH), (float)(y + HEIGHT)};
    const sk_status status = sk_image_resize(scene, &box, WIDTH, HEIGHT, frame->data, err);
    const double gain = 0.95 + 0.14 * sin(0.8 * t + phase), warm = 0.04 * sin(0.5 * t + 3 * phase);
    const double gains[3] = {gain * (1 + warm), gain, gain * (1 - warm)};
    for (size_t i = 0; i < (size_t)WIDTH * HEIGHT * 3; i++) {
        const uint64_t bits = draw(state); /* a sum of four bytes is near enough to a normal draw */
        const double sum = (double)((bits & 255) + (bits >> 8 & 255) + (bits >> 16 & 255) + (bits >> 24 & 255));
        frame->data[i] = to_byte(frame->data[i] * gains[i % 3] + noise * (sum - 510) / 148);
    }
    return status;
}

static const char *label_of(kind k, double seen)
{
    if (k != BIRD || seen <= 0)
        return "nobird";
    return seen > 0.4 ? "bird" : "unknown";
}

static sk_status film(const char *root, const char *dir, int number, uint64_t seed, FILE *table, sk_error *err)
{
    const plot *p = &plots[number % PLOTS];
    uint64_t state = seed * 1000003u + (uint64_t)number;
    const double phase = draw_between(&state, 0, 6), noise = draw_between(&state, 2.5, 6);
    const motion m = {MARGIN + draw_between(&state, 105, 215), draw_between(&state, 1.1, 1.7),
                      draw_between(&state, 0, 1), (int)(draw(&state) & 1), (int)(draw(&state) & 1)};
    char name[40], path[1200];
    snprintf(name, sizeof name, "feeder-%02d.mp4", number + 1);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    sk_image scene = {0}, moment = {0}, frame = {0};
    sk_video_writer *writer = NULL;
    actor a = {0};
    sk_status status = build_scene(root, p, &scene, err);
    if (status == SK_OK && p->animal)
        status = load_actor(root, p, &a, err);
    if (status == SK_OK)
        status = sk_image_create(SCENE_WIDTH, SCENE_HEIGHT, &moment, err);
    if (status == SK_OK)
        status = sk_image_create(WIDTH, HEIGHT, &frame, err);
    if (status == SK_OK)
        status = sk_video_writer_open(path, WIDTH, HEIGHT, p->rate, &writer, err);
    for (int i = 0; status == SK_OK && i < (int)(SECONDS * p->rate); i++) {
        const double t = (double)i / p->rate;
        double seen = 0;
        memcpy(moment.data, scene.data, (size_t)SCENE_WIDTH * SCENE_HEIGHT * 3);
        if (p->animal) {
            double x, y;
            int mirrored;
            place_actor(p, &m, a.color.width, t, &x, &y, &mirrored);
            if (y > p->floor + MARGIN - 12)
                paint_shadow(&moment, x, p->floor + MARGIN + 4, a.color.width * 0.8);
            seen = paint_actor(&a, &moment, x, y, mirrored, 0.88);
        }
        status = take_frame(&moment, t, phase, noise, &state, &frame, err);
        if (status == SK_OK)
            status = sk_video_writer_add(writer, &frame, err);
        if (i % (p->rate / 4) == p->rate / 8)
            fprintf(table, "%s\t%d\t%.3f\t%s\n", name, i, t, label_of(p->kind, seen));
    }
    const sk_status closed = sk_video_writer_close(writer, status == SK_OK ? err : NULL);
    sk_image_free(&scene);
    sk_image_free(&moment);
    sk_image_free(&frame);
    actor_free(&a);
    return status != SK_OK ? status : closed;
}

static int usage(FILE *to)
{
    fprintf(to, "usage: make-demo-clips [--seed N] [--clips N] [--tuxpaint DIR] OUTDIR\n"
                "Writes N (default %d) clips feeder-NN.mp4 and their labels frames.tsv into OUTDIR. Needs the Debian\n"
                "packages tuxpaint-stamps-default and tuxpaint-data (default DIR /usr/share/tuxpaint).\n", (int)PLOTS);
    return to == stdout ? 0 : 2;
}

int main(int argc, char **argv)
{
    const char *root = "/usr/share/tuxpaint", *dir = NULL;
    unsigned long seed = 1;
    int clips = PLOTS;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0)
            return usage(stdout);
        if (argv[i][0] != '-' && !dir)
            dir = argv[i];
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            seed = strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--clips") == 0 && i + 1 < argc)
            clips = atoi(argv[++i]);
        else if (strcmp(argv[i], "--tuxpaint") == 0 && i + 1 < argc)
            root = argv[++i];
        else
            return usage(stderr);
    }
    if (!dir || clips < 1 || clips > 99)
        return usage(stderr);
    char path[1200];
    snprintf(path, sizeof path, "%s/frames.tsv", dir);
    if (mkdir(dir, 0777) != 0 && errno != EEXIST)
        return fprintf(stderr, "make-demo-clips: cannot create %s: %s\n", dir, strerror(errno)), 1;
    FILE *table = fopen(path, "w");
    if (!table)
        return fprintf(stderr, "make-demo-clips: cannot write %s: %s\n", path, strerror(errno)), 1;
    fprintf(table, "video\tframe\ttime_s\tlabel\n");
    sk_error err = {0};
    sk_status status = SK_OK;
    for (int i = 0; status == SK_OK && i < clips; i++)
        status = film(root, dir, i, seed, table, &err);
    if (fclose(table) != 0 && status == SK_OK) {
        status = SK_ERR_IO;
        snprintf(err.message, sizeof err.message, "cannot write %.400s", path);
    }
    if (status != SK_OK) {
        fprintf(stderr, "make-demo-clips: %s\n", err.message);
        return 1;
    }
    printf("%d clips and frames.tsv in %s\n", clips, dir);
    return 0;
}
