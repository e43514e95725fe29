/* SPDX-License-Identifier: Apache-2.0 */
/* What training may do to a picture before the network sees it. */
#ifndef SISKIN_AUGMENT_H
#define SISKIN_AUGMENT_H

#ifdef __cplusplus
extern "C" {
#endif

/* Every effect is off at 0. A "chance" is the probability, per picture and epoch, that the effect is applied at all; a
 * "strength" is the largest change that is then drawn, uniformly. The order is that of the fields: place, paste, light,
 * colour, optics, sensor, file. Fields are named as the keys of a recipe file (docs/recipes.md). */
typedef struct sk_augment {
    /* ---- place: torchvision's RandomResizedCrop and RandomHorizontalFlip ---- */
    float scale_min, scale_max; /* area of the crop as a share of the picture: .08 and 1 */
    float flip;                 /* chance of a mirror image: .5 */
    float shrink, shrink_min;   /* chance that the picture is shown small on a ground of its own edge, and the least
                                 * side as a share of the input */
    float cut, cut_max;         /* chance that it is moved over the border, and the largest share that is lost */
    float paste, paste_min;     /* chance that it is pasted on an empty frame of the training part as a soft-edged
                                 * patch (its label stays, whichever it is), and the least side of the patch */
    /* ---- light and colour ---- */
    float brightness, contrast, saturation; /* strengths, factors 1-s to 1+s (torchvision's ColorJitter) */
    float gamma;                            /* strength of an exposure change, exponent exp(-s) to exp(s) */
    float cast;                             /* strength of a colour cast: gain of each channel 1-s to 1+s */
    float grey;                             /* chance of greyscale */
    float infrared;                         /* chance of a night picture: grey, dark, lit from the camera, noisy */
    /* ---- optics, sensor, file ---- */
    float blur;    /* chance of defocus or motion blur */
    float noise;   /* chance of sensor noise */
    float jpeg;    /* chance of JPEG artefacts, quality 20 to 80 */
    float overlay; /* chance of a camera's text (time, frames per second) at an edge */
} sk_augment;

/* torchvision's training transform and nothing else: scale .08 to 1, flip .5. */
sk_augment sk_augment_seed(void);

#ifdef __cplusplus
}
#endif
#endif
