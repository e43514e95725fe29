/* SPDX-License-Identifier: Apache-2.0 */
/* siskin-board: the runtime on the board. Verdicts on frames, by the NPU if there is one, by the CPU otherwise. Links
 * libsiskin-rt and libc only. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "board.h"

typedef struct engine {
    const board_options *options;
    sk_rt *rt;
    sk_npu *npu; /* NULL: the CPU alone */
    const char *npu_trouble; /* why there is none, or NULL */
    sk_error error;
    int8_t *codes;
    float *logits, *p;
    sk_npu_outcome outcome; /* of the last picture */
} engine;

static int told(const char *message) {
    fprintf(stderr, "siskin-board: %s\n", message);
    return 1;
}

static void engine_close(engine *e) {
    sk_npu_close(e->npu);
    sk_rt_close(e->rt);
    free(e->codes);
    free(e->logits);
    free(e->p);
}

/* 0, or 1 after a sentence. An NPU that does not open is told and done without: a camera shall go on answering. */
static int engine_open(engine *e, const board_options *o) {
    *e = (engine){.options = o};
    if (sk_rt_open(o->model, &e->rt, &e->error) != SK_OK) {
        return told(e->error.message);
    }
    const size_t classes = (size_t)sk_rt_get_info(e->rt)->classes;
    e->codes = malloc(classes);
    e->logits = malloc(classes * sizeof *e->logits);
    e->p = malloc(classes * sizeof *e->p);
    if (!e->codes || !e->logits || !e->p) {
        return told("no memory for an answer");
    }
    const sk_npu_options npu = {o->library, o->deadline_ms};
    if (o->npu && sk_npu_open(o->npu, e->rt, &npu, &e->npu, &e->error) != SK_OK) {
        e->npu_trouble = e->error.message;
        told(e->npu_trouble);
        told("the CPU answers instead");
    }
    return 0;
}

/* logits, p and outcome of one picture of the network's size. */
static void engine_run(engine *e, const uint8_t *picture) {
    if (e->npu) {
        sk_npu_run(e->npu, picture, e->logits, &e->outcome);
    } else {
        const double start = sk_npu_clock();
        sk_rt_run(e->rt, picture, e->codes, NULL);
        sk_rt_logits(e->rt, e->codes, e->logits);
        e->outcome = (sk_npu_outcome){.on_cpu = 1, .ms = sk_npu_clock() - start};
    }
    sk_rt_softmax(e->rt, e->logits, e->p);
}

/* Text between quotes as JSON wants it. */
static void json_text(const char *text) {
    putchar('"');
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '"' || *c == '\\') {
            printf("\\%c", *c);
        } else if (*c < 0x20) {
            printf("\\u%04x", *c);
        } else {
            putchar(*c);
        }
    }
    putchar('"');
}

/* ---- classify -------------------------------------------------------------------------------------------- */

/* Which class is "bird": the names are joined by commas or blanks in the card, in the order of the logits. */
static int bird_class(const sk_rt_info *info) {
    const char *at = strstr(info->class_names, "bird");
    while (at && at != info->class_names && at[-1] != ',' && at[-1] != ' ' && at[-1] != '\n') {
        at = strstr(at + 1, "bird");
    }
    int index = 0;
    for (const char *c = info->class_names; at && c < at; c++) {
        index += *c == ',' || *c == ' ' || *c == '\n';
    }
    return at && index < info->classes ? index : -1;
}

static void tell_verdict(const engine *e, const char *path, const sk_verdict *v, int npu_crops, double ms,
                         const char *note) {
    static const char *const crops[] = {"centre", "left", "right"};
    const char *backend = npu_crops == v->crops ? "npu" : npu_crops ? "npu and cpu" : "cpu";
    if (e->options->json) {
        printf("{\"file\":");
        json_text(path);
        printf(",\"verdict\":\"%s\",\"p\":[", v->bird ? "bird" : "nobird");
        for (int i = 0; i < v->crops; i++) {
            printf("%s%.6f", i ? "," : "", (double)v->p[i]);
        }
        printf("],\"deciding\":%d,\"backend\":\"%s\",\"ms\":%.2f,\"note\":", v->deciding, backend, ms);
        json_text(note);
        printf("}\n");
        return;
    }
    printf("%s: %s, p %.3f (%s), %s, %.1f ms%s%s\n", path, v->bird ? "bird" : "no bird", (double)v->p[v->deciding],
           crops[v->deciding], backend, ms, *note ? "; " : "", note);
}

static void tell_logits(const engine *e, const char *path, int crop) {
    printf("%s crop %d logits", path, crop);
    for (int c = 0; c < sk_rt_get_info(e->rt)->classes; c++) {
        printf(" %.9g", (double)e->logits[c]);
    }
    printf("\n");
}

static int classify_file(engine *e, const char *path, sk_crops crops, float threshold, float penalty, int bird) {
    const sk_rt_info *info = sk_rt_get_info(e->rt);
    uint8_t *pictures = NULL;
    int count = 0, npu_crops = 0;
    sk_error err = {0};
    if (board_read_frame(path, e->options, crops, info->size, &pictures, &count, &err) != SK_OK) {
        return told(err.message);
    }
    float p[3] = {0};
    double ms = 0;
    char note[sizeof e->outcome.note] = "";
    for (int i = 0; i < count; i++) {
        engine_run(e, pictures + (size_t)i * (size_t)info->size * (size_t)info->size * 3);
        p[i] = bird < 0 ? 0 : e->p[bird];
        ms += e->outcome.ms;
        npu_crops += !e->outcome.on_cpu;
        if (*e->outcome.note) {
            memcpy(note, e->outcome.note, sizeof note);
        }
        if (e->options->logits) {
            tell_logits(e, path, i);
        }
    }
    free(pictures);
    if (!e->options->logits) {
        const sk_verdict verdict = sk_decide(p, count, threshold, penalty);
        tell_verdict(e, path, &verdict, npu_crops, ms, note);
    }
    return 0;
}

static int classify(engine *e) {
    const board_options *o = e->options;
    const sk_rt_info *info = sk_rt_get_info(e->rt);
    const int bird = bird_class(info);
    if (bird < 0 && !o->logits) {
        return told("the model has no class 'bird': ask for --logits");
    }
    if (o->file_count == 0) {
        return told("no file to classify is named");
    }
    const sk_crops crops = (sk_crops)(o->crops < 0 ? info->crops : o->crops);
    int bad = 0;
    for (int i = 0; i < o->file_count; i++) {
        bad |= classify_file(e, o->files[i], crops, o->threshold < 0 ? info->threshold : o->threshold,
                             o->penalty < 0 ? info->penalty : o->penalty, bird);
    }
    return bad;
}

/* ---- bench ----------------------------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static int bench(engine *e) {
    const sk_rt_info *info = sk_rt_get_info(e->rt);
    const size_t bytes = (size_t)info->size * (size_t)info->size * 3;
    const int runs = e->options->runs;
    uint8_t *picture = malloc(bytes);
    double *ms = malloc((size_t)runs * sizeof *ms);
    if (!picture || !ms) {
        free(picture);
        free(ms);
        return told("no memory for a picture");
    }
    for (size_t i = 0; i < bytes; i++) {
        picture[i] = (uint8_t)(i * 2654435761u >> 24);
    }
    int npu = 0;
    for (int i = -1; i < runs; i++) { /* the first one warms up */
        engine_run(e, picture);
        if (i >= 0) {
            ms[i] = e->outcome.ms;
            npu += !e->outcome.on_cpu;
        }
    }
    qsort(ms, (size_t)runs, sizeof *ms, ascending);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    if (e->options->json) {
        printf("{\"runs\":%d,\"npu_runs\":%d,\"min_ms\":%.3f,\"median_ms\":%.3f,\"max_ms\":%.3f,\"working_bytes\":%zu,"
               "\"peak_rss_kib\":%ld}\n", runs, npu, ms[0], ms[runs / 2], ms[runs - 1], sk_rt_memory(e->rt),
                   usage.ru_maxrss);
    } else {
        printf("%d pictures of %d x %d, %d by the NPU: min %.2f, median %.2f, max %.2f ms\n", runs, info->size,
               info->size, npu, ms[0], ms[runs / 2], ms[runs - 1]);
        printf("working memory %zu KiB, peak RSS %ld KiB\n", sk_rt_memory(e->rt) / 1024, usage.ru_maxrss);
    }
    free(picture);
    free(ms);
    return 0;
}

/* ---- info ------------------------------------------------------------------------------------------------ */

static void info_json(const engine *e) {
    const sk_rt_info *m = sk_rt_get_info(e->rt);
    printf("{\"arch\":");
    json_text(m->arch);
    printf(",\"class_names\":");
    json_text(m->class_names);
    printf(",\"run_id\":");
    json_text(m->run_id);
    printf(",\"size\":%d,\"crops\":%d,\"threshold\":%g,\"penalty\":%g,\"temperature\":%g,\"working_bytes\":%zu",
           m->size, m->crops, (double)m->threshold, (double)m->penalty, (double)m->temperature, sk_rt_memory(e->rt));
    if (e->npu) {
        const sk_npu_info *n = sk_npu_get_info(e->npu);
        printf(",\"npu\":{\"api\":");
        json_text(n->api);
        printf(",\"driver\":");
        json_text(n->driver);
        printf(",\"weight_bytes\":%u,\"working_bytes\":%u,\"attr_bytes\":%d,\"row_bytes\":%d,\"output_count\":%d,"
               "\"output_layout\":\"%s\",\"scale\":%g,\"zero_point\":%d,\"other_run\":%s}", n->weight_bytes,
                   n->working_bytes,
               n->attr_bytes, n->row_bytes, n->output_count, n->output_layout, (double)n->scale, n->zero_point,
               n->other_run ? "true" : "false");
    } else if (e->npu_trouble) {
        printf(",\"npu_error\":");
        json_text(e->npu_trouble);
    }
    printf("}\n");
}

static int info(engine *e) {
    const sk_rt_info *m = sk_rt_get_info(e->rt);
    if (e->options->json) {
        info_json(e);
        return 0;
    }
    printf("model        %s, %d x %d, classes %s, run %s\n", m->arch, m->size, m->size, m->class_names, m->run_id);
    printf("decision     crops %d, threshold %g, penalty %g, temperature %g\n", m->crops, (double)m->threshold,
           (double)m->penalty, (double)m->temperature);
    printf("memory       %zu KiB\n", sk_rt_memory(e->rt) / 1024);
    if (!e->npu) {
        printf("NPU          %s\n", e->npu_trouble ? e->npu_trouble : "not asked for (--npu FILE.rknn)");
        return 0;
    }
    const sk_npu_info *n = sk_npu_get_info(e->npu);
    printf("NPU          librknnmrt %s, driver %s, attributes of %d bytes\n", n->api, n->driver, n->attr_bytes);
    printf("NPU memory   weights %u, working %u bytes, rows of %d bytes\n", n->weight_bytes, n->working_bytes,
           n->row_bytes);
    printf("NPU output   %s, %d elements for %d classes, scale %g, zero point %d\n", n->output_layout, n->output_count,
           m->classes, (double)n->scale, n->zero_point);
    if (n->other_run) {
        printf("beware       the .rknn is of another run than the .skn\n");
    }
    return 0;
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        int (*run)(engine *e);
    } verbs[] = {{"classify", classify}, {"bench", bench}, {"info", info}};
    const char *verb = argc > 1 ? argv[1] : "";
    if (strcmp(verb, "help") == 0 || strcmp(verb, "--help") == 0) {
        board_usage();
        return 0;
    }
    if (strcmp(verb, "version") == 0 || strcmp(verb, "--version") == 0) {
        puts("siskin-board " SK_VERSION);
        return 0;
    }
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (strcmp(verb, verbs[i].name) == 0) {
            board_options options;
            const int usage = board_parse(argc - 2, argv + 2, &options);
            if (usage) {
                return usage;
            }
            engine e;
            int bad = engine_open(&e, &options);
            bad = bad ? bad : verbs[i].run(&e);
            engine_close(&e);
            if (fflush(stdout) != 0) {
                return told("cannot write the answer to standard output");
            }
            return bad;
        }
    }
    fprintf(stderr, "siskin-board: %s%s; try 'siskin-board help'\n", *verb ? "unknown verb " : "no verb", verb);
    return 2;
}
