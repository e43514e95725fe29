/* SPDX-License-Identifier: Apache-2.0 */
/* siskin classify: verdicts on pictures, folders and clips. */
#include <dirent.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>

#include "cli.h"
#include "siskin/report.h"
#include "siskin/video.h"

static const cli_option options[] = {
    {0, "crops", CLI_CHOICE, "RULE", NULL, "crops per frame (the model's own rule unless given)",
     .choices = "1|3|squeeze"},
    {0, "threshold", CLI_DOUBLE, "P", NULL, "p of the centre crop that says bird (the model's own)",
     .least = 0, .most = 1},
    {0, "penalty", CLI_DOUBLE, "P", NULL, "p that a side crop must reach (the model's own)", .least = 0, .most = 1},
    {0, "every", CLI_DOUBLE, "SECONDS", "1", "time between two judged frames of a clip, 0: every frame", .least = 0,
     .most = 86400},
    {0, "saliency", CLI_STRING, "OUT.png", NULL, "sheet of what the model looked at, as OUT.png and OUT.svg; 60 "
     "pictures at most"},
    {0, "saliency-method", CLI_CHOICE, "NAME", "auto", "auto: cam for float models, occlusion for int8",
     .choices = "auto|cam|occlusion"},
    CLI_THREADS,
    {0}};

enum { SHEET_MOST = 60 };

/* What --saliency asks for. */
typedef struct sheet {
    sk_saliency *saliency; /* NULL: it was not asked for */
    sk_saliency_picture pictures[SHEET_MOST];
    size_t count;
    long left_out;
} sheet;

typedef struct job {
    cli *c;
    sk_classifier *classifier;
    const sk_card *card;
    sk_crops crops;
    float threshold, penalty;
    double every;
    int threads, bird; /* index of the logit */
    uint8_t *pixels;
    float *p;
    long judged, birds, bad;
    sheet sheet;
} job;

static double milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static int bad_input(job *j, const char *path, const sk_error *err) {
    j->bad++;
    /* the library's sentence usually names the file already */
    const int named = strstr(err->message, path) != NULL;
    cli_complain(j->c, "%s%s%s", named ? "" : path, named ? "" : ": ", err->message);
    return err->code == SK_ERR_MEMORY || err->code == SK_ERR_CANCELLED;
}

static void tell(job *j, const char *path, int64_t frame, double time_s, const sk_verdict *v, double ms) {
    static const char *const crop_names[3] = {"centre", "left", "right"};
    const char *decision = v->bird ? "bird" : "nobird";
    const char *deciding = j->crops == SK_CROPS_SQUEEZE ? "frame" : crop_names[v->deciding];
    if (cli_json(j->c)) {
        printf("{\"path\":");
        cli_json_string(stdout, path);
        if (frame >= 0) {
            printf(",\"frame\":%lld,\"time_s\":%.3f", (long long)frame, time_s);
        }
        printf(",\"decision\":\"%s\",\"crop\":\"%s\",\"p\":[", decision, deciding);
        for (int i = 0; i < v->crops; i++) {
            printf("%s%.6f", i ? "," : "", (double)v->p[i]);
        }
        printf("],\"ms\":%.3f}\n", ms);
    } else {
        printf("%s%-6s%s ", cli_color(stdout, v->bird ? "green" : "reset"), decision, cli_color(stdout, "reset"));
        for (int i = 0; i < v->crops; i++) {
            printf(" %.3f", (double)v->p[i]);
        }
        printf("  %6.1f ms  %s", ms, path);
        if (frame >= 0) {
            printf("  frame %lld  %.2f s", (long long)frame, time_s);
        }
        printf("\n");
    }
    fflush(stdout); /* a watcher behind a pipe wants each verdict when it falls */
}

/* Keeps the crop that decided and what in it spoke for the verdict. */
static sk_status add_to_sheet(job *j, const char *path, int64_t frame, const sk_verdict *v, sk_error *err) {
    const size_t pixels = (size_t)j->card->size * (size_t)j->card->size;
    sheet *s = &j->sheet;
    if (s->count == SHEET_MOST) {
        s->left_out++;
        return SK_OK;
    }
    uint8_t *image = malloc(pixels * 3);
    float *map = malloc(pixels * sizeof *map);
    sk_saliency_picture *p = &s->pictures[s->count];
    sk_status status = SK_ERR_MEMORY;
    *err = (sk_error){SK_ERR_MEMORY, "out of memory for the saliency maps"};
    if (image && map) {
        memcpy(image, j->pixels + pixels * 3 * (size_t)v->deciding, pixels * 3);
        status = sk_saliency_map(s->saliency, image, v->bird ? SK_LABEL_BIRD : SK_LABEL_NOBIRD, map, err);
    }
    if (status != SK_OK) {
        free(image);
        free(map);
        return status;
    }
    *p = (sk_saliency_picture){.image = image, .map = map, .size = j->card->size};
    const double border = sk_saliency_border(map, j->card->size) * 100;
    const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    snprintf(p->heading, sizeof p->heading, "called %s", v->bird ? "bird" : "no bird");
    if (border >= 0) {
        snprintf(p->detail, sizeof p->detail, "p of bird %.3f, %.0f %% of it at the border", (double)v->p[v->deciding],
                 border);
    } else {
        snprintf(p->detail, sizeof p->detail, "p of bird %.3f, nothing spoke for it", (double)v->p[v->deciding]);
    }
    if (frame >= 0) {
        snprintf(p->name, sizeof p->name, "%.220s, frame %lld", name, (long long)frame);
    } else {
        snprintf(p->name, sizeof p->name, "%.250s", name);
    }
    s->count++;
    return SK_OK;
}

/* OUT.png and OUT.svg; a name without .png gets both endings. */
static int write_sheet(job *j) {
    char path[4096];
    sk_error err = {0};
    snprintf(path, sizeof path, "%s", cli_string(j->c, "saliency"));
    char *end = strrchr(path, '.');
    if (end && strcasecmp(end, ".png") == 0) {
        *end = 0;
    }
    if (j->sheet.left_out) {
        cli_note(j->c, "the sheet shows the first %d pictures, %ld more are left out", SHEET_MOST, j->sheet.left_out);
    }
    const sk_status status = sk_plot_saliency(path, NULL, j->sheet.pictures, j->sheet.count, &err);
    return status == SK_OK ? CLI_OK : cli_fail(j->c, &err);
}

/* Non-zero: give up. */
static int judge(job *j, const char *path, const sk_image *image, int64_t frame, double time_s) {
    sk_error err = {0};
    const double start = milliseconds();
    sk_status status = sk_crops_prepare(image, j->crops, j->card->size, j->pixels, &err);
    const int n = sk_crops_count(j->crops);
    if (status == SK_OK) {
        status = sk_classifier_run(j->classifier, j->pixels, n, j->threads, j->p, NULL, &err);
    }
    if (status != SK_OK) {
        return bad_input(j, path, &err);
    }
    float p[3] = {0};
    for (int i = 0; i < n; i++) {
        p[i] = j->p[i * j->card->classes + j->bird];
    }
    const sk_verdict v = sk_decide(p, n, j->threshold, j->penalty);
    j->judged++;
    j->birds += v.bird;
    tell(j, path, frame, time_s, &v, milliseconds() - start);
    if (j->sheet.saliency && add_to_sheet(j, path, frame, &v, &err) != SK_OK) {
        return bad_input(j, path, &err);
    }
    return 0;
}

static int picture(job *j, const char *path) {
    sk_error err = {0};
    sk_image image = {0};
    const sk_status status = sk_image_read(path, &image, &err);
    const int stop = status != SK_OK ? bad_input(j, path, &err) : judge(j, path, &image, -1, -1);
    sk_image_free(&image);
    return stop;
}

static int clip(job *j, const char *path) {
    sk_error err = {0};
    sk_video *video = NULL;
    sk_video_info info;
    if (sk_video_open(path, &video, &info, &err) != SK_OK) {
        return bad_input(j, path, &err);
    }
    const sk_hooks *hooks = cli_hooks(j->c);
    sk_image image = {0};
    double next = 0, first = -1;
    int stop = 0;
    while (!stop) {
        int64_t index = -1;
        double time_s = 0;
        if (sk_video_next(video, &image, &index, &time_s, &err) != SK_OK) {
            stop = bad_input(j, path, &err);
            break;
        }
        if (index < 0) {
            break;
        }
        first = first < 0 ? time_s : first;
        if (hooks && hooks->cancelled && hooks->cancelled(hooks->user)) {
            stop = 1;
        } else if (time_s - first + 1e-6 >= next) {
            stop = judge(j, path, &image, index, time_s);
            next += j->every;
        }
    }
    sk_image_free(&image);
    sk_video_close(video);
    return stop;
}

static int is_picture_name(const char *name) {
    static const char *const endings[] = {".jpg", ".jpeg", ".png", ".jpe", ".jfif"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof endings / sizeof *endings; i++) {
        if (strcasecmp(dot, endings[i]) == 0) {
            return 1;
        }
    }
    return 0;
}

static int input(job *j, const char *path, int depth);

static int skip_dots(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

/* Pictures and clips of a folder and its sub-folders, by name. */
static int folder(job *j, const char *path, int depth) {
    struct dirent **entries = NULL;
    const int n = depth < 32 ? scandir(path, &entries, skip_dots, alphasort) : -1;
    if (n < 0) {
        const sk_error err = {SK_ERR_IO, "cannot list this folder"};
        return bad_input(j, path, &err);
    }
    int stop = 0;
    for (int i = 0; i < n; i++) {
        const size_t size = strlen(path) + strlen(entries[i]->d_name) + 2;
        char *name = stop ? NULL : malloc(size);
        if (name) {
            snprintf(name, size, "%s%s%s", path, path[strlen(path) - 1] == '/' ? "" : "/", entries[i]->d_name);
            struct stat s;
            if (stat(name, &s) == 0 &&
                (S_ISDIR(s.st_mode) || is_picture_name(entries[i]->d_name) || sk_is_video_name(entries[i]->d_name))) {
                stop = input(j, name, depth + 1);
            }
        }
        free(name);
        free(entries[i]);
    }
    free(entries);
    return stop;
}

static int input(job *j, const char *path, int depth) {
    const sk_hooks *hooks = cli_hooks(j->c);
    if (hooks && hooks->cancelled && hooks->cancelled(hooks->user)) {
        return 1;
    }
    struct stat s;
    if (path[0] && stat(path, &s) == 0 && S_ISDIR(s.st_mode)) {
        return folder(j, path, depth);
    }
    return sk_is_video_name(path) ? clip(j, path) : picture(j, path);
}

/* Index of the class called bird; the last one if none is. */
static int bird_index(const sk_card *card) {
    const char *at = card->class_names;
    for (int i = 0; i < card->classes; i++) {
        const size_t n = strcspn(at, ",");
        if (n == 4 && strncmp(at, "bird", 4) == 0) {
            return i;
        }
        at += n + (at[n] == ',');
    }
    return card->classes - 1;
}

static int finish(job *j) {
    const sk_hooks *hooks = cli_hooks(j->c);
    if (hooks && hooks->cancelled && hooks->cancelled(hooks->user)) {
        return CLI_CANCELLED;
    }
    if (j->sheet.saliency && write_sheet(j) != CLI_OK) {
        return CLI_FAILURE;
    }
    if (!cli_json(j->c)) {
        cli_note(j->c, "%ld judged, %ld with a bird, %ld unreadable", j->judged, j->birds, j->bad);
    }
    return j->bad ? CLI_FAILURE : CLI_OK;
}

static int run(cli *c) {
    sk_error err = {0};
    job j = {.c = c, .every = cli_double(c, "every"), .threads = (int)cli_int(c, "threads")};
    if (sk_classifier_open(cli_arg(c, 0), &j.classifier, &err) != SK_OK) {
        return cli_fail(c, &err);
    }
    j.card = sk_classifier_card(j.classifier);
    j.crops = (sk_crops)j.card->crops;
    j.threshold = cli_given(c, "threshold") ? (float)cli_double(c, "threshold") : j.card->threshold;
    j.penalty = cli_given(c, "penalty") ? (float)cli_double(c, "penalty") : j.card->penalty;
    j.bird = bird_index(j.card);
    int code = CLI_FAILURE;
    if (cli_given(c, "crops") && sk_crops_parse(cli_string(c, "crops"), &j.crops, &err) != SK_OK) {
        code = cli_fail(c, &err);
        goto done;
    }
    sk_saliency_method method = SK_SALIENCY_AUTO;
    if (cli_given(c, "saliency") &&
        (sk_saliency_method_parse(cli_string(c, "saliency-method"), &method, &err) != SK_OK ||
         sk_saliency_create(j.classifier, method, j.threads, &j.sheet.saliency, &err) != SK_OK)) {
        code = cli_fail(c, &err);
        goto done;
    }
    const size_t n = (size_t)sk_crops_count(j.crops);
    j.pixels = malloc(n * (size_t)j.card->size * (size_t)j.card->size * 3);
    j.p = malloc(n * (size_t)j.card->classes * sizeof *j.p);
    if (!j.pixels || !j.p) {
        err = (sk_error){SK_ERR_MEMORY, "out of memory for the crops"};
        code = cli_fail(c, &err);
        goto done;
    }
    int stop = 0;
    for (int i = 1; !stop && i < cli_count(c); i++) {
        stop = input(&j, cli_arg(c, i), 0);
    }
    code = finish(&j);
done:
    free(j.pixels);
    free(j.p);
    for (size_t i = 0; i < j.sheet.count; i++) {
        free((void *)(uintptr_t)j.sheet.pictures[i].image);
        free((void *)(uintptr_t)j.sheet.pictures[i].map);
    }
    sk_saliency_free(j.sheet.saliency);
    sk_classifier_close(j.classifier);
    return code;
}

const cli_verb verb_classify = {
    "classify", "says bird or no bird for pictures and clips", "MODEL INPUT...", 2, -1, options, run,
    .description = "MODEL is a run folder, a float model (.safetensors, .pth, .onnx) or an int8 one (.skn). INPUT is a "
                   "picture, a clip, or a folder that is searched for both. Each picture and each sampled frame of a "
                   "clip gives one line: the decision, p of bird per crop (centre, left, right), milliseconds from the "
                   "decoded picture to the verdict, and where it came from; with --json one object per line.\n\n"
                   "With three crops the centre says bird from the threshold on, a side crop only from the penalty on. "
                   "With --saliency a sheet shows each picture beside a map of what spoke for the verdict.\n\n"
                   "Inputs that cannot be read are named on stderr, the rest is judged, and the exit code is 1 at the "
                   "end.",
    .examples = "siskin classify models/bird-small.skn feeder.jpg\n"
                "siskin classify models/bird-small.safetensors --saliency looked.png pictures/\n"
                "siskin classify models/bird-small.skn --crops 3 --penalty 0.8 --every 0.5 --json clips/\n"};
