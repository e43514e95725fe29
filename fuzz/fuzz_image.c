/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a picture: decoding must end in a picture or a named error, and what is a picture can be used. */
/* sources: src/base/error.c src/base/memory.c src/base/file.c src/base/output.c src/base/path.c src/base/text.c
 *          src/base/random.c src/base/hooks.c src/image/image.c src/image/jpeg.c src/image/png.c src/image/exif.c
 *          src/image/resize.c src/image/augment.c src/image/camera.c src/image/effects_light.c
 *          src/image/effects_sensor.c src/image/effects_text.c src/image/surround.c src/image/simd.c
 *          src/image/phash.c src/image/picture.c
 * libs: -lturbojpeg -lspng -lm -lpthread */
#include <stdlib.h>

#include "image/augment.h"
#include "image/codec.h"
#include "image/phash.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    sk_image image = {0}, alpha = {0};
    sk_error err = {0};
    if (sk_exif_orientation(bytes, size) < 1)
        abort();
    const sk_status status = sk_image_decode(bytes, size, "input", &image, &err);
    if ((status == SK_OK) != (image.data != NULL) || (status != SK_OK && !err.message[0]))
        abort();
    if (status == SK_OK && (int64_t)image.width * image.height < 1000000) {
        static uint8_t out[64 * 64 * 3];
        uint64_t hash = 0;
        sk_rng rng = sk_rng_make(1, 2, size);
        const sk_augment augment = sk_augment_seed();
        if (sk_phash(&image, &hash) != SK_OK || sk_transform_train(&image, &augment, &rng, 64, out, NULL) != SK_OK)
            abort();
        if (size % 8 == 0)
            (void)sk_transform_eval(&image, 64, out, NULL);
    }
    sk_image_free(&image);
    if (sk_png_is(bytes, size) && sk_png_decode(bytes, size, "input", &image, &alpha, NULL) == SK_OK) {
        if (alpha.width != image.width || alpha.height != image.height)
            abort();
        sk_image_free(&image);
        sk_image_free(&alpha);
    }
    return 0;
}
