/* SPDX-License-Identifier: Apache-2.0 */
/* EXIF orientation: the one tag of a camera's metadata that changes what a picture shows. Parsed here, since a whole
 * metadata library is not worth one number; every read is checked against the end of the bytes. */
#include <string.h>

#include "image/codec.h"

typedef struct tiff {
    const uint8_t *bytes;
    size_t size;
    int big_endian;
} tiff;

static uint32_t tiff_u16(const tiff *t, size_t at)
{
    if (t->size < 2 || at > t->size - 2)
        return 0;
    const uint8_t *p = t->bytes + at;
    return t->big_endian ? (uint32_t)p[0] << 8 | p[1] : (uint32_t)p[1] << 8 | p[0];
}

static uint32_t tiff_u32(const tiff *t, size_t at)
{
    if (t->size < 4 || at > t->size - 4)
        return 0;
    const uint32_t a = tiff_u16(t, at), b = tiff_u16(t, at + 2);
    return t->big_endian ? a << 16 | b : b << 16 | a;
}

static int tiff_orientation(const uint8_t *bytes, size_t size)
{
    tiff t = {bytes, size, 0};
    if (size < 8)
        return 1;
    if (memcmp(bytes, "MM\0*", 4) == 0)
        t.big_endian = 1;
    else if (memcmp(bytes, "II*\0", 4) != 0)
        return 1;
    const size_t ifd = tiff_u32(&t, 4);
    if (ifd > size - 2)
        return 1;
    const uint32_t count = tiff_u16(&t, ifd);
    for (uint32_t i = 0; i < count; i++) {
        const size_t entry = ifd + 2 + (size_t)i * 12;
        if (entry > size || size - entry < 12)
            return 1;
        if (tiff_u16(&t, entry) != 0x0112)
            continue;
        const int type_is_short = tiff_u16(&t, entry + 2) == 3;
        const uint32_t value = tiff_u16(&t, entry + 8);
        return type_is_short && value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}

int sk_exif_orientation(const uint8_t *jpeg, size_t size)
{
    static const uint8_t signature[6] = {'E', 'x', 'i', 'f', 0, 0};
    size_t at = 2;
    while (size >= 4 && at <= size - 4 && jpeg[at] == 0xFF) {
        const int marker = jpeg[at + 1];
        if (marker == 0xFF) { /* fill byte */
            at++;
            continue;
        }
        if (marker == 0xDA || marker == 0xD9)
            break;
        if (marker == 0x01 || (marker >= 0xD0 && marker <= 0xD8)) { /* without a length */
            at += 2;
            continue;
        }
        const size_t length = (size_t)jpeg[at + 2] << 8 | jpeg[at + 3];
        if (length < 2 || length > size - at - 2)
            break;
        if (marker == 0xE1 && length >= 8 && memcmp(jpeg + at + 4, signature, 6) == 0)
            return tiff_orientation(jpeg + at + 10, length - 8);
        at += 2 + length;
    }
    return 1;
}

sk_status sk_image_orient(sk_image *image, int orientation, sk_error *err)
{
    if (orientation <= 1 || orientation > 8)
        return SK_OK;
    const int swapped = orientation >= 5;
    const int width = image->width, height = image->height;
    sk_image out = {0};
    const sk_status status = sk_image_create(swapped ? height : width, swapped ? width : height, &out, err);
    if (status != SK_OK)
        return status;
    /* Where source pixel (0,0) goes, and how far the target moves per source column and row. */
    const ptrdiff_t row = (ptrdiff_t)out.width * 3;
    const int mirror_x = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
    const int mirror_y = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
    const ptrdiff_t along_x = mirror_x ? -3 : 3, along_y = mirror_y ? -row : row;
    uint8_t *const origin = out.data + (mirror_x ? row - 3 : 0) + (mirror_y ? row * (out.height - 1) : 0);
    const ptrdiff_t per_column = swapped ? along_y : along_x, per_row = swapped ? along_x : along_y;
    const uint8_t *from = image->data;
    for (int y = 0; y < height; y++) {
        uint8_t *to = origin + per_row * y;
        for (int x = 0; x < width; x++, from += 3, to += per_column) {
            to[0] = from[0];
            to[1] = from[1];
            to[2] = from[2];
        }
    }
    sk_image_free(image);
    *image = out;
    return SK_OK;
}
