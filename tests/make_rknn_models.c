/* SPDX-License-Identifier: Apache-2.0 */
/* make_rknn_models DIR: one small ONNX model per rule of the target lint, passing and failing, and DIR/models.tsv with
 * name, rules that the lint must find (notes are left out) and what the vendor's toolkit does with it. The protobuf
 * bytes are made here by hand, independent of the reader that is tested. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Nodes are parted by ';', each takes the value before as its first input. After the operator: +8x3x3x3 a float
 * initialiser, +p:8 a positive one, +i:1,8 an int64 one, @N the value of node N (0: the graph's input), NAME=2 an
 * integer, NAME=.5 a float, NAME=1,1 integers, NAME='text' a text as attribute. */
typedef struct model {
    const char *name, *input, *nodes;
    const char *rules, *outcome; /* npu: all on it; cpu: a layer is left to the CPU; fail: no model; ?: not pinned */
    int opset, ir, type;         /* 0: 13, 8, float */
} model;

#define CONV(k, s, p, o) "Conv kernel_shape=" k " strides=" s " pads=" p " +" o ";"
#define BASE CONV("3,3", "1,1", "1,1,1,1", "8x3x3x3")
#define DW(k, s, p) "Conv kernel_shape=" k "," k " strides=" s " pads=" p " group=8 +8x1x" k "x" k

static const model models[] = {
#include "rknn_models.inc"
};

typedef struct bytes {
    uint8_t data[1 << 21];
    size_t size;
} bytes;

static void put(bytes *b, const void *data, size_t size) {
    if (b->size + size > sizeof b->data) exit(2);
    memcpy(b->data + b->size, data, size);
    b->size += size;
}

static void varint(bytes *b, uint64_t v) {
    for (; v >= 0x80; v >>= 7) put(b, &(uint8_t){(uint8_t)(v | 0x80)}, 1);
    put(b, &(uint8_t){(uint8_t)v}, 1);
}

static void integer(bytes *b, int field, int64_t v) {
    varint(b, (uint64_t)field << 3);
    varint(b, (uint64_t)v);
}

static void part(bytes *b, int field, const void *data, size_t size) {
    varint(b, (uint64_t)field << 3 | 2);
    varint(b, size);
    put(b, data, size);
}

static void text(bytes *b, int field, const char *s) { part(b, field, s, strlen(s)); }

static bytes *fresh(void) {
    bytes *b = malloc(sizeof *b);
    if (!b) exit(2);
    b->size = 0;
    return b;
}

static void nest(bytes *b, int field, bytes *inner) {
    part(b, field, inner->data, inner->size);
    free(inner);
}

/* "8x3x3x3" or "1,8": the number of numbers. */
static int numbers(const char *s, int64_t *out) {
    int n = 0;
    for (char *end; n < 8; s = end + 1) {
        out[n++] = strtoll(s, &end, 10);
        if (*end != 'x' && *end != ',') break;
    }
    return n;
}

static void initializer(bytes *graph, const char *name, const char *spec) {
    bytes *t = fresh();
    int64_t dims[8];
    const int ints = strncmp(spec, "i:", 2) == 0, positive = strncmp(spec, "p:", 2) == 0;
    const int n = numbers(spec + 2 * (ints || positive), dims);
    size_t count = 1;
    for (int i = 0; i < n && !ints; i++) {
        integer(t, 1, dims[i]);
        count *= (size_t)dims[i];
    }
    if (ints) integer(t, 1, n);
    integer(t, 2, ints ? 7 : 1);
    text(t, 8, name);
    float *values = malloc(count * sizeof *values);
    if (!values) exit(2);
    for (size_t i = 0; i < count; i++) values[i] = (float)((int)(i * 7919 % 201) - (positive ? -10 : 100)) / 100.f;
    if (ints) part(t, 9, dims, (size_t)n * sizeof *dims);
    else part(t, 9, values, count * sizeof *values);
    free(values);
    nest(graph, 5, t);
}

static void attribute(bytes *node, char *name, const char *value) {
    bytes *a = fresh();
    int64_t v[8];
    text(a, 1, name);
    if (value[0] == '\'') {
        part(a, 4, value + 1, strlen(value) - 2);
        integer(a, 20, 3);
    } else if (strchr(value, ',')) {
        const int n = numbers(value, v);
        for (int i = 0; i < n; i++) integer(a, 8, v[i]);
        integer(a, 20, 7);
    } else if (strchr(value, '.')) {
        const float f = strtof(value, NULL);
        varint(a, 2 << 3 | 5);
        put(a, &f, sizeof f);
        integer(a, 20, 1);
    } else {
        integer(a, 3, strtoll(value, NULL, 10));
        integer(a, 20, 2);
    }
    nest(node, 5, a);
}

static void value(bytes *graph, int field, const char *name, const char *dims, int type) {
    bytes *info = fresh(), *proto = fresh(), *tensor = fresh(), *shape = fresh();
    for (const char *at = dims; *at; at += *at == 'x') {
        bytes *dim = fresh();
        if (*at >= '0' && *at <= '9') integer(dim, 1, strtoll(at, NULL, 10));
        else text(dim, 2, "N");
        nest(shape, 1, dim);
        at += strcspn(at, "x");
    }
    integer(tensor, 1, type);
    if (dims[0]) nest(tensor, 2, shape);
    else free(shape);
    nest(proto, 1, tensor);
    text(info, 1, name);
    nest(info, 2, proto);
    nest(graph, field, info);
}

static bytes *build(const model *m) {
    bytes *all = fresh(), *graph = fresh(), *opset = fresh();
    char spec[2000], names[64][32] = {"input"}, *outer = NULL;
    int count = 0, consts = 0, nodes = 0;
    snprintf(spec, sizeof spec, "%s", m->nodes);
    for (const char *p = m->nodes; *p; p++) nodes += *p == ';' && p[1];
    for (char *line = strtok_r(spec, ";", &outer); line; line = strtok_r(NULL, ";", &outer)) {
        bytes *node = fresh(), *attributes = fresh();
        char *inner = NULL, *op = strtok_r(line, " ", &inner), name[32];
        snprintf(names[count + 1], 32, count == nodes ? "output" : "v%d", count + 1);
        text(node, 1, names[count]);
        for (char *word; (word = strtok_r(NULL, " ", &inner)) != NULL;) {
            char *equal = strchr(word, '=');
            snprintf(name, sizeof name, "c%d", consts);
            if (word[0] == '+') {
                initializer(graph, name, word + 1);
                text(node, 1, name);
                consts++;
            } else if (word[0] == '@') {
                text(node, 1, names[atoi(word + 1)]);
            } else if (equal) {
                *equal = 0;
                attribute(attributes, word, equal + 1);
            }
        }
        text(node, 2, names[++count]);
        snprintf(name, sizeof name, "node%d", count);
        text(node, 3, name);
        text(node, 4, op);
        put(node, attributes->data, attributes->size);
        free(attributes);
        nest(graph, 1, node);
    }
    text(graph, 2, m->name);
    value(graph, 11, "input", m->input, m->type ? m->type : 1);
    value(graph, 12, "output", "", 1);
    integer(all, 1, m->ir ? m->ir : 8);
    text(all, 2, "hand");
    nest(all, 7, graph);
    text(opset, 1, "");
    integer(opset, 2, m->opset ? m->opset : 13);
    nest(all, 8, opset);
    return all;
}

int main(int argc, char **argv) {
    char path[4200];
    if (argc != 2) return 2;
    snprintf(path, sizeof path, "%s/models.tsv", argv[1]);
    FILE *table = fopen(path, "w");
    if (!table) return 1;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        bytes *b = build(&models[i]);
        snprintf(path, sizeof path, "%s/%s.onnx", argv[1], models[i].name);
        FILE *file = fopen(path, "wb");
        if (!file || fwrite(b->data, 1, b->size, file) != b->size || fclose(file) != 0) return 1;
        fprintf(table, "%s\t%s\t%s\t%s\n", models[i].name, models[i].rules, models[i].outcome, models[i].input);
        free(b);
    }
    return fclose(table) != 0;
}
