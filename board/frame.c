/* SPDX-License-Identifier: Apache-2.0 */
/* Frames as a camera or a script leaves them: binary PPM, raw RGB, raw NV12. Pictures are decoded on the desk. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "board.h"

#define MOST_BYTES (64u << 20)
#define CROP_SIDE 256 /* shorter side that the crops are cut from; sk_crops_prepare does not resize it again */

static sk_status fail(sk_error *err, sk_status code, const char *path, const char *why) {
    err->code = code;
    snprintf(err->message, sizeof err->message, "cannot read %.300s: %s", path, why);
    return code;
}

static sk_status read_all(const char *path, uint8_t **bytes, size_t *size, sk_error *err) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        return fail(err, SK_ERR_IO, path, strerror(errno));
    }
    *size = 0;
    *bytes = NULL;
    size_t room = 0;
    sk_status status = SK_OK;
    for (;;) {
        if (*size == room) {
            room = room ? 2 * room : 1u << 18;
            uint8_t *more = room <= MOST_BYTES ? realloc(*bytes, room) : NULL;
            if (!more) {
                status = fail(err, SK_ERR_MEMORY, path, "more than 64 MB, or no memory for it");
                break;
            }
            *bytes = more;
        }
        const size_t got = fread(*bytes + *size, 1, room - *size, file);
        if (got == 0) {
            status = ferror(file) ? fail(err, SK_ERR_IO, path, strerror(errno)) : SK_OK;
            break;
        }
        *size += got;
    }
    fclose(file);
    if (status != SK_OK) {
        free(*bytes);
        *bytes = NULL;
    }
    return status;
}

/* A number of a PPM's head; comments are skipped. -1: none. */
static int ppm_number(const uint8_t *bytes, size_t size, size_t *at) {
    while (*at < size && (strchr(" \t\r\n", bytes[*at]) || bytes[*at] == '#')) {
        if (bytes[*at] == '#') {
            while (*at < size && bytes[*at] != '\n') {
                ++*at;
            }
        } else {
            ++*at;
        }
    }
    int value = -1;
    for (; *at < size && bytes[*at] >= '0' && bytes[*at] <= '9' && value < 100000; ++*at) {
        value = (value < 0 ? 0 : value) * 10 + bytes[*at] - '0';
    }
    return value;
}

static int is_blank(uint8_t byte) {
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

/* The pixels of a PPM: a view into `bytes`. */
static sk_status ppm(const char *path, uint8_t *bytes, size_t size, sk_image *out, sk_error *err) {
    size_t at = 2;
    const int width = ppm_number(bytes, size, &at), height = ppm_number(bytes, size, &at);
    const int most = ppm_number(bytes, size, &at);
    if (width < 1 || height < 1 || most != 255 || at >= size || !is_blank(bytes[at]) ||
        size - at - 1 != (size_t)width * (size_t)height * 3) {
        return fail(err, SK_ERR_FORMAT, path, "not a whole PPM (P6) picture of 8 bits");
    }
    *out = (sk_image){width, height, bytes + at + 1};
    return SK_OK;
}

static sk_status nv12(const char *path, const uint8_t *bytes, size_t size, const board_options *o, sk_image *out,
                      sk_error *err) {
    const size_t pixels = (size_t)o->width * (size_t)o->height;
    if (o->width % 2 || o->height % 2 || size != pixels / 2 * 3) {
        return fail(err, SK_ERR_FORMAT, path, "its size is not that of an NV12 frame as --frame says");
    }
    return sk_image_from_nv12(bytes, (size_t)o->width, bytes + pixels, (size_t)o->width, o->width, o->height,
                              o->limited_range, CROP_SIDE, out, err);
}

static sk_status cut(const sk_image *image, sk_crops crops, int size, uint8_t **out, int *count, sk_error *err) {
    *count = sk_crops_count(crops);
    *out = malloc((size_t)size * (size_t)size * 3 * (size_t)*count);
    if (!*out) {
        return fail(err, SK_ERR_MEMORY, "the frame", "no memory for its crops");
    }
    const sk_status status = sk_crops_prepare(image, crops, size, *out, err);
    if (status != SK_OK) {
        free(*out);
        *out = NULL;
    }
    return status;
}

sk_status board_read_frame(const char *path, const board_options *o, sk_crops crops, int size, uint8_t **out,
                           int *count, sk_error *err) {
    uint8_t *bytes = NULL;
    size_t length = 0;
    *out = NULL;
    *count = 1;
    sk_status status = read_all(path, &bytes, &length, err);
    if (status != SK_OK) {
        return status;
    }
    sk_image image = {0}, small = {0};
    if (o->format == FRAME_AUTO && length > 2 && memcmp(bytes, "P6", 2) == 0 && is_blank(bytes[2])) {
        status = ppm(path, bytes, length, &image, err);
    } else if (o->width && o->format == FRAME_NV12) {
        status = nv12(path, bytes, length, o, &small, err);
        image = small;
    } else if (o->width && length == (size_t)o->width * (size_t)o->height * 3) {
        image = (sk_image){o->width, o->height, bytes};
    } else if (!o->width && o->format == FRAME_AUTO && length == (size_t)size * (size_t)size * 3) {
        *out = bytes; /* the network's input itself */
        return SK_OK;
    } else {
        status = fail(err, SK_ERR_FORMAT, path, o->width ? "its size is not that of an RGB frame as --frame says"
                                                         : "neither a PPM nor a raw picture of the network's size; "
                                                           "say --frame WxH and --format rgb or nv12");
    }
    if (status == SK_OK) {
        status = cut(&image, crops, size, out, count, err);
    }
    sk_image_free(&small);
    free(bytes);
    return status;
}
