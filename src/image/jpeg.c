/* SPDX-License-Identifier: Apache-2.0 */
/* JPEG through libturbojpeg. Accurate DCT, so that a picture gives the same numbers as in other programs; CMYK and
 * YCCK come from Adobe programs, which store them inverted, and are turned to RGB without a colour profile. */
#include <limits.h>
#include <string.h>
#include <turbojpeg.h>

#include "image/codec.h"

int sk_jpeg_is(const uint8_t *bytes, size_t size)
{
    return size >= 3 && bytes[0] == 0xFF && bytes[1] == 0xD8 && bytes[2] == 0xFF;
}

static sk_status jpeg_fail(tjhandle handle, const char *name, sk_error *err)
{
    const char *text = tjGetErrorStr2(handle);
    if (strstr(text, "emory"))
        return sk_fail_memory(err, "decoding a JPEG picture");
    if (strstr(text, "remature end"))
        return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: the JPEG picture is cut off", name);
    return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: broken JPEG picture (%s)", name, text);
}

/* Decodes; a warning of damage is an error, bytes between segments are not. */
static sk_status jpeg_pixels(tjhandle handle, const uint8_t *bytes, size_t size, const char *name, uint8_t *pixels,
                             int width, int height, int format, sk_error *err)
{
    const int flags = TJFLAG_ACCURATEDCT | TJFLAG_LIMITSCANS;
    const int pitch = width * tjPixelSize[format];
    if (tjDecompress2(handle, bytes, (unsigned long)size, pixels, width, pitch, height, format, flags) == 0)
        return SK_OK;
    if (tjGetErrorCode(handle) == TJERR_WARNING) {
        const char *text = tjGetErrorStr2(handle);
        if (strstr(text, "extraneous bytes") || strstr(text, "Adobe"))
            return SK_OK;
    }
    return jpeg_fail(handle, name, err);
}

static uint8_t ink_to_light(unsigned ink, unsigned key)
{
    const unsigned product = (255 - ink) * key + 128; /* both stored inverted: 255 is no ink */
    return (uint8_t)(key - (((product >> 8) + product) >> 8));
}

static sk_status jpeg_cmyk(tjhandle handle, const uint8_t *bytes, size_t size, const char *name, sk_image *out,
                           sk_error *err)
{
    const size_t count = (size_t)out->width * (size_t)out->height;
    uint8_t *cmyk = sk_alloc(count, 4);
    if (!cmyk)
        return sk_fail_memory(err, "a CMYK picture");
    const sk_status status = jpeg_pixels(handle, bytes, size, name, cmyk, out->width, out->height, TJPF_CMYK, err);
    for (size_t i = 0; status == SK_OK && i < count; i++)
        for (int c = 0; c < 3; c++)
            out->data[i * 3 + (size_t)c] = ink_to_light(cmyk[i * 4 + (size_t)c], cmyk[i * 4 + 3]);
    sk_free(cmyk);
    return status;
}

sk_status sk_jpeg_decode(const uint8_t *bytes, size_t size, const char *name, sk_image *out, sk_error *err)
{
    sk_image image = {0};
    tjhandle handle = tjInitDecompress();
    if (!handle)
        return sk_fail_memory(err, "the JPEG decoder");
    sk_status status = SK_OK;
    int width = 0, height = 0, sampling = 0, space = 0;
    if (tjDecompressHeader3(handle, bytes, (unsigned long)size, &width, &height, &sampling, &space) != 0 &&
        tjGetErrorCode(handle) != TJERR_WARNING) {
        status = jpeg_fail(handle, name, err);
        goto done;
    }
    if (width < 1 || height < 1 || (int64_t)width * height > SK_IMAGE_MAX_PIXELS) {
        status = sk_fail(err, SK_ERR_FORMAT, "cannot read %s: %d x %d pixels are more than 100 million", name, width,
                         height);
        goto done;
    }
    status = sk_image_create(width, height, &image, err);
    if (status != SK_OK)
        goto done;
    if (space == TJCS_CMYK || space == TJCS_YCCK)
        status = jpeg_cmyk(handle, bytes, size, name, &image, err);
    else
        status = jpeg_pixels(handle, bytes, size, name, image.data, width, height, TJPF_RGB, err);
    if (status == SK_OK)
        status = sk_image_orient(&image, sk_exif_orientation(bytes, size), err);
    if (status == SK_OK) {
        *out = image;
        image = (sk_image){0};
    }
done:
    sk_image_free(&image);
    tjDestroy(handle);
    return status;
}

sk_status sk_jpeg_encode(const sk_image *image, int quality, uint8_t **bytes, size_t *size, sk_error *err)
{
    if (image->width > 65500 || image->height > 65500)
        return sk_fail(err, SK_ERR_UNSUPPORTED, "JPEG holds at most 65500 pixels per side: write a PNG");
    /* Sharp colour edges matter for plots and fine quality, size for the rest. */
    const int sampling = quality >= 90 ? TJSAMP_444 : TJSAMP_420;
    sk_status status = SK_OK;
    tjhandle handle = tjInitCompress();
    unsigned long used = tjBufSize(image->width, image->height, sampling);
    unsigned char *buffer = handle && used != ULONG_MAX ? sk_alloc(used, 1) : NULL;
    if (!buffer) {
        status = sk_fail_memory(err, "encoding a JPEG picture");
        goto done;
    }
    if (tjCompress2(handle, image->data, image->width, 0, image->height, TJPF_RGB, &buffer, &used, sampling, quality,
                    TJFLAG_NOREALLOC | TJFLAG_ACCURATEDCT) != 0) {
        status = sk_fail(err, SK_ERR_MEMORY, "cannot encode a JPEG picture: %s", tjGetErrorStr2(handle));
        goto done;
    }
    *bytes = buffer;
    *size = used;
    buffer = NULL;
done:
    sk_free(buffer);
    if (handle)
        tjDestroy(handle);
    return status;
}

sk_status sk_jpeg_recode(uint8_t *pixels, int width, int height, int quality, sk_jpeg_colour colour, sk_error *err)
{
    static const int samplings[] = {TJSAMP_444, TJSAMP_422, TJSAMP_420};
    const int sampling = samplings[colour];
    unsigned long used = tjBufSize(width, height, sampling);
    tjhandle in = tjInitCompress(), out = tjInitDecompress();
    unsigned char *buffer = in && out && used != ULONG_MAX ? sk_alloc(used, 1) : NULL;
    sk_status status = SK_OK;
    if (!buffer) {
        status = sk_fail_memory(err, "JPEG artefacts");
        goto done;
    }
    if (tjCompress2(in, pixels, width, 0, height, TJPF_RGB, &buffer, &used, sampling, quality,
                    TJFLAG_NOREALLOC | TJFLAG_ACCURATEDCT) != 0)
        status = sk_fail(err, SK_ERR_MEMORY, "cannot encode a JPEG picture: %s", tjGetErrorStr2(in));
    else
        status = jpeg_pixels(out, buffer, used, "a picture in memory", pixels, width, height, TJPF_RGB, err);
done:
    sk_free(buffer);
    if (in)
        tjDestroy(in);
    if (out)
        tjDestroy(out);
    return status;
}
