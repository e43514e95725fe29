/* SPDX-License-Identifier: Apache-2.0 */
/* PNG through libspng: every colour type, depth and interlacing comes out as 8-bit RGB, optionally with the opacity
 * beside it. Its memory comes from base, so that the tests of failing allocations reach into it. */
#include <spng.h>
#include <string.h>

#include "image/codec.h"

int sk_png_is(const uint8_t *bytes, size_t size)
{
    return size >= 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0;
}

/* realloc of base wants the old size; one cache line before each block keeps it and the alignment. */
#define HEADER 64

/* libspng passes nothing to its allocator, and tells a failed allocation inside zlib as a broken stream: this is the
 * only way to know better. Per thread, meaningful between the making of a context and the end of its picture. */
static _Thread_local int ran_out;

static void *spng_give(size_t size)
{
    uint8_t *block = size > SIZE_MAX - HEADER ? NULL : sk_alloc(size + HEADER, 1);
    if (!block) {
        ran_out = 1;
        return NULL;
    }
    memcpy(block, &size, sizeof size);
    return block + HEADER;
}

static void *spng_give_zeroed(size_t count, size_t size)
{
    if (size && count > (SIZE_MAX - HEADER) / size)
        return NULL;
    void *block = spng_give(count * size);
    if (block)
        memset(block, 0, count * size);
    return block;
}

static void spng_take(void *pointer)
{
    if (pointer)
        sk_free((uint8_t *)pointer - HEADER);
}

static void *spng_resize(void *pointer, size_t size)
{
    void *block = spng_give(size);
    if (block && pointer) {
        size_t old = 0;
        memcpy(&old, (uint8_t *)pointer - HEADER, sizeof old);
        memcpy(block, pointer, old < size ? old : size);
        spng_take(pointer);
    }
    return block;
}

static spng_ctx *png_context(int flags)
{
    ran_out = 0;
    struct spng_alloc alloc = {spng_give, spng_resize, spng_give_zeroed, spng_take};
    return spng_ctx_new2(&alloc, flags);
}

static sk_status png_fail(int code, const char *name, sk_error *err)
{
    if (ran_out || code == SPNG_EMEM)
        return sk_fail_memory(err, "a PNG picture");
    if (code == SPNG_IO_EOF || code == SPNG_EIDAT_TOO_SHORT)
        return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: the PNG picture is cut off", name);
    return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: broken PNG picture (%s)", name, spng_strerror(code));
}

static sk_status png_alpha(spng_ctx *png, const char *name, sk_image *out, sk_image *alpha, sk_error *err)
{
    const size_t count = (size_t)out->width * (size_t)out->height;
    uint8_t *rgba = sk_alloc(count, 4);
    if (!rgba)
        return sk_fail_memory(err, "a PNG picture");
    const int code = spng_decode_image(png, rgba, count * 4, SPNG_FMT_RGBA8, SPNG_DECODE_TRNS);
    for (size_t i = 0; code == 0 && i < count; i++) {
        memcpy(out->data + i * 3, rgba + i * 4, 3);
        memset(alpha->data + i * 3, rgba[i * 4 + 3], 3);
    }
    sk_free(rgba);
    return code ? png_fail(code, name, err) : SK_OK;
}

sk_status sk_png_decode(const uint8_t *bytes, size_t size, const char *name, sk_image *out, sk_image *alpha,
                        sk_error *err)
{
    sk_image image = {0}, opacity = {0};
    spng_ctx *png = png_context(0);
    if (!png)
        return sk_fail_memory(err, "the PNG decoder");
    sk_status status = SK_OK;
    struct spng_ihdr header;
    spng_set_chunk_limits(png, (size_t)64 << 20, (size_t)64 << 20);
    int code = spng_set_png_buffer(png, bytes, size);
    if (code == 0)
        code = spng_get_ihdr(png, &header);
    if (code) {
        status = png_fail(code, name, err);
        goto done;
    }
    if ((uint64_t)header.width * header.height > (uint64_t)SK_IMAGE_MAX_PIXELS) {
        status = sk_fail(err, SK_ERR_FORMAT, "cannot read %s: %u x %u pixels are more than 100 million", name,
                         (unsigned)header.width, (unsigned)header.height);
        goto done;
    }
    status = sk_image_create((int)header.width, (int)header.height, &image, err);
    if (status == SK_OK && alpha)
        status = sk_image_create(image.width, image.height, &opacity, err);
    if (status != SK_OK)
        goto done;
    if (alpha) {
        status = png_alpha(png, name, &image, &opacity, err);
    } else {
        code = spng_decode_image(png, image.data, (size_t)image.width * (size_t)image.height * 3, SPNG_FMT_RGB8, 0);
        if (code)
            status = png_fail(code, name, err);
    }
    if (status == SK_OK) {
        *out = image;
        image = (sk_image){0};
        if (alpha)
            *alpha = opacity;
        opacity = (sk_image){0};
    }
done:
    sk_image_free(&image);
    sk_image_free(&opacity);
    spng_ctx_free(png);
    return status;
}

sk_status sk_png_encode(const sk_image *image, uint8_t **bytes, size_t *size, sk_error *err)
{
    sk_status status = SK_OK;
    size_t used = 0;
    void *encoded = NULL;
    int code = 0;
    struct spng_ihdr header = {.width = (uint32_t)image->width, .height = (uint32_t)image->height, .bit_depth = 8,
                               .color_type = SPNG_COLOR_TYPE_TRUECOLOR};
    spng_ctx *png = png_context(SPNG_CTX_ENCODER);
    if (!png)
        return sk_fail_memory(err, "the PNG encoder");
    if ((code = spng_set_option(png, SPNG_ENCODE_TO_BUFFER, 1)) == 0 && (code = spng_set_ihdr(png, &header)) == 0)
        code = spng_encode_image(png, image->data, (size_t)image->width * (size_t)image->height * 3, SPNG_FMT_PNG,
                                 SPNG_ENCODE_FINALIZE);
    if (code == 0)
        encoded = spng_get_png_buffer(png, &used, &code);
    /* The encoder's block starts with our header, so what leaves this file is a copy. */
    uint8_t *copy = encoded ? sk_alloc(used, 1) : NULL;
    if (copy) {
        memcpy(copy, encoded, used);
        *bytes = copy;
        *size = used;
    } else if (encoded || code == 0 || ran_out) {
        status = sk_fail_memory(err, "encoding a PNG picture");
    } else {
        status = sk_fail(err, SK_ERR_ARGUMENT, "cannot encode a PNG picture: %s", spng_strerror(code));
    }
    spng_take(encoded);
    spng_ctx_free(png);
    return status;
}
