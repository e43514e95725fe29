/* SPDX-License-Identifier: Apache-2.0 */
/* What training may do to a picture before the network sees it. */
#ifndef SISKIN_AUGMENT_H
#define SISKIN_AUGMENT_H

#ifdef __cplusplus
extern "C" {
#endif

/* Every effect is off at 0. A "chance" is the probability, per picture and epoch, that the effect is applied at all; a
 * "strength" is the largest change that is then drawn, uniformly. The order is that of the fields: place, paste, light,
 * optics, sensor, recorder. Fields are named as the keys of a recipe file (docs/recipes.md). Pixels are those of an
 * input of 224; they grow with it. Each effect draws from a stream of its own: the same seed shows the same crops and
 * the same noise whether or not another effect is added. */
typedef struct sk_augment {
    /* ---- place: torchvision's RandomResizedCrop and RandomHorizontalFlip, and what feeders do beyond ---- */
    float scale_min, scale_max; /* area of the crop as a share of the picture: .08 and 1; aspect 3/4 to 4/3 */
    float flip;                 /* chance of a mirror image: .5 */
    float shrink, shrink_min;   /* chance that the crop does not fill the input, and the least side as a share of the
                                 * input, at least .05. Around it the picture goes on; where the picture ends, its edge
                                 * is stretched and blurred with the distance, so that no border line tells */
    float cut, cut_max;         /* chance that the crop is moved over one of the four borders, and the largest share of
                                 * it that is lost there, at most .9; on the other side the same as with shrink */
    float paste, paste_min;     /* chance that its object is cut out with a soft mask and pasted on an empty frame
                                 * instead (any picture; its label stays), and the object's least side as a share of
                                 * the input; cut holds for it too. Empty frames are the training part's samples
                                 * labelled nobird: half the time one of a clip, if there are any */
    /* ---- light: brightness, contrast and saturation are blends with black, with the mean grey and with each pixel's
     * grey, in a drawn order, as in torchvision's ColorJitter ---- */
    float brightness, contrast, saturation; /* strengths 0 to 1, factors 1-s to 1+s */
    float gamma;                            /* strength 0 to 2 of an exposure change: value^e, e exp(-s) to exp(s) */
    float cast;                             /* strength 0 to 1 of a colour cast: gain of each channel 1-s to 1+s */
    float grey;                             /* chance of greyscale */
    float infrared;                         /* chance of a night picture: grey from red, green and little blue, lit by a
                                             * lamp near the lens that falls off to the sides (nearby things may be
                                             * burnt out, far ones black), with strong noise */
    /* ---- optics ---- */
    float blur;    /* chance of defocus (disc, radius .8 to 3 pixels) or motion (line of any angle, 2.5 to 11 pixels) */
    /* ---- sensor: shot and read noise after Foi et al. 2008, "Practical Poissonian-Gaussian noise modeling and fitting
     * for single-image raw-data": variance y / electrons + read^2 in linear light y ---- */
    float noise;   /* chance of noise: 200 to 3000 electrons at white, read noise .0005 to .004 of white */
    /* ---- recorder ---- */
    float overlay; /* chance of a camera's text (date, time, frames per second, temperature, camera) at the upper or
                    * lower edge: capitals 6.5 to 15 pixels high, white, yellow or black, with an outline, in a box or
                    * on a strip */
    float jpeg;    /* chance of JPEG artefacts: encoded and decoded, quality 20 to 80, colour 4:2:0, 4:2:2 or 4:4:4 */
} sk_augment;

/* torchvision's training transform and nothing else: scale .08 to 1, flip .5. */
sk_augment sk_augment_seed(void);

#ifdef __cplusplus
}
#endif
#endif
