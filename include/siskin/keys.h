/* SPDX-License-Identifier: Apache-2.0 */
/* The one list of what can be set about a training run: keys of a recipe file, options of `siskin train`, lines of a
 * run's identity and of run.json, and the table of docs/recipes.md all come out of it.
 *
 *     X(key, option, letter, TYPE, member of sk_train_options, argument, least, most, choices, help)
 *
 * TYPE: INT, FLOAT (both within least..most), FLAG (yes or no), CHOICE (an enum, values in the order of `choices`),
 * MODEL, SEED (uint64_t), TEXT (const char *; the caller's text is kept, not copied). Numbers that must be positive
 * have a least value that nobody wants. */
#ifndef SISKIN_KEYS_H
#define SISKIN_KEYS_H

#include "siskin/train.h"

/* Of one run, so not in a recipe file. */
#define SK_TRAIN_KEYS_RUN(X)                                                                                          \
    X("model", "model", 0, MODEL, card.arch, "NAME", 0, 0, "small|large", "MobileNetV3 of this size")                 \
    X("size", "size", 0, INT, card.size, "PIXELS", 32, 256, NULL, "side of the network's input")                      \
    X("pretrained", "pretrained", 0, TEXT, pretrained, "FILE", 0, 0, NULL,                                            \
      "first weights: safetensors, .pth or a run; random without")                                                    \
    X("seed", "seed", 0, SEED, seed, "N", 0, 0, NULL, "seed of weights, order, augmentation and dropout")             \
    X("threads", "threads", 0, INT, threads, "N", 0, 1024, NULL, "threads, 0 for all cores; the result is the same")  \
    X("max_bad", "max-bad", 0, INT, max_bad, "N", 0, 1000000000, NULL, "more unreadable pictures end the run")

/* Section [train] of a recipe. */
#define SK_TRAIN_KEYS_TRAIN(X)                                                                                        \
    X("epochs", "epochs", 'e', INT, epochs, "N", 1, 1000000, NULL, "passes over the train part")                      \
    X("batch", "batch", 'b', INT, batch, "N", 2, 65536, NULL, "pictures per step")                                    \
    X("epoch_size", "epoch-size", 0, INT, epoch_size, "N", 0, 1000000000, NULL,                                       \
      "pictures per epoch, drawn anew each epoch; 0 for all")                                                         \
    X("lr", "lr", 0, FLOAT, lr, "RATE", 1e-12, 1000, NULL, "learning rate after the warm-up")                         \
    X("optimizer", "optimizer", 0, CHOICE, optimizer, "NAME", 0, 0, "adam|adamw|sgd",                                 \
      "how a gradient moves the weights")                                                                             \
    X("weight_decay", "weight-decay", 0, FLOAT, weight_decay, "W", 0, 10, NULL,                                       \
      "pull of the weights to 0 (AdamW, SGD), not of biases and batch norm")                                          \
    X("momentum", "momentum", 0, FLOAT, momentum, "M", 0, 0.9999, NULL, "Nesterov momentum of SGD")                   \
    X("schedule", "schedule", 0, CHOICE, schedule, "NAME", 0, 0, "constant|cosine",                                   \
      "learning rate after the warm-up: kept, or down to 0 along a cosine")                                           \
    X("warmup", "warmup", 0, FLOAT, warmup, "EPOCHS", 0, 1000000, NULL,                                               \
      "epochs in which the learning rate grows from 0, may be a fraction")                                            \
    X("ema", "ema", 0, FLOAT, ema, "DECAY", 0, 0.999999, NULL,                                                        \
      "validate and keep a moving average of the weights with this decay per step; 0 for none")                       \
    X("label_smoothing", "label-smoothing", 0, FLOAT, label_smoothing, "S", 0, 0.99, NULL,                            \
      "share of the target that is spread over all classes")                                                          \
    X("balance", "balance", 0, CHOICE, balance, "HOW", 0, 0, "none|weights|sampling",                                 \
      "classes as they are, weighted in the loss, or drawn equally often")                                            \
    X("source_mix", "source-mix", 0, FLOAT, source_mix, "M", 0, 1, NULL,                                              \
      "0: sources as large as they are, 1: all drawn equally often, or between")                                      \
    X("dropout", "dropout", 0, FLOAT, dropout, "P", 0, 0.99, NULL, "dropout before the last layer")                   \
    X("head_epochs", "head-epochs", 0, INT, head_epochs, "N", 0, 1000000, NULL,                                       \
      "first epochs in which only the classifier is trained")                                                         \
    X("freeze_features", "freeze-features", 0, FLAG, freeze_features, NULL, 0, 0, NULL, "train the classifier only")  \
    X("freeze_bn", "freeze-bn", 0, FLAG, freeze_bn, NULL, 0, 0, NULL,                                                 \
      "batch norm uses and keeps the running statistics it began with")                                               \
    X("patience", "patience", 0, INT, patience, "N", 0, 1000000, NULL,                                                \
      "stop after so many epochs without a better one; 0 for never")                                                  \
    X("clip_repeat", "clip-repeat", 0, INT, clip_repeat, "N", 1, 1000, NULL,                                          \
      "how often a clip's frame comes per epoch")                                                                     \
    X("adjust", "adjust", 0, CHOICE, adjust, "METHOD", 0, 0, "none|sigma|percentile|tukey",                           \
      "pull outliers of the pretrained convolutions in before the first step")                                        \
    X("adjust_k", "adjust-k", 0, FLOAT, adjust_k, "K", 0, 100, NULL,                                                  \
      "deviations, percentile or interquartile ranges; 0 for 3, 99.9, 3")                                             \
    X("adjust_on", "adjust-on", 0, CHOICE, adjust_on, "WHICH", 0, 0, "folded|raw",                                    \
      "weights as batch norm scales them, or as they are")                                                            \
    X("adjust_per", "adjust-per", 0, CHOICE, adjust_per, "GROUP", 0, 0, "tensor|channel",                             \
      "limits of a whole tensor or of each output channel")                                                           \
    X("adjust_keep", "adjust-keep", 0, FLAG, adjust_keep, NULL, 0, 0, NULL,                                           \
      "after every step, back into the limits that --adjust had")                                                     \
    X("range_penalty", "range-penalty", 0, FLOAT, range_penalty, "W", 0, 1000000, NULL,                               \
      "pull of wide weights and batch norms to their limits, times lr; 0 for none")                                    \
    X("equalise", "equalise", 0, FLOAT, equalise, "VALUE", 0, 1e6, NULL,                                              \
      "channels ahead of depthwise layers that reach beyond VALUE are scaled down before the first step, their "      \
      "readers up; 0 for none")                                                                                       \
    X("qat", "qat", 0, CHOICE, qat, "SCHEME", 0, 0, "off|engine|npu",                                                 \
      "round as int8 does while training, from the model of --pretrained")                                            \
    X("qat_per", "qat-per", 0, CHOICE, qat_per, "GROUP", 0, 0, "channel|tensor",                                      \
      "with --qat: what has a scale of its own among a layer's weights")                                              \
    X("distill", "distill", 0, FLOAT, distill, "D", 0, 1, NULL,                                                       \
      "with --qat: share of the loss that holds to the float model's answers")                                        \
    X("qat_lr", "qat-lr", 0, FLOAT, qat_lr, "RATE", 0, 1, NULL,                                                       \
      "with --qat engine: learning rate of the ranges, in parts of themselves")                                       \
    X("qat_pull", "qat-pull", 0, FLOAT, qat_pull, "G", 0, 1000, NULL,                                                 \
      "with --qat npu: how strongly values beyond the best range are drawn in")

/* Section [augment] of a recipe: siskin/augment.h. */
#define SK_TRAIN_KEYS_AUGMENT(X)                                                                                      \
    SK_AUGMENT_KEY(X, scale_min, "scale-min", "SHARE", 0.001, 1, "least area of the crop")                            \
    SK_AUGMENT_KEY(X, scale_max, "scale-max", "SHARE", 0.001, 1, "largest area of the crop")                          \
    SK_AUGMENT_KEY(X, flip, "flip", "P", 0, 1, "chance of a mirror image")                                            \
    SK_AUGMENT_KEY(X, shrink, "shrink", "P", 0, 1, "chance to be shown small on a ground of its own edge")            \
    SK_AUGMENT_KEY(X, shrink_min, "shrink-min", "SHARE", 0, 1, "least side when shown small")                         \
    SK_AUGMENT_KEY(X, cut, "cut", "P", 0, 1, "chance to be moved over the border")                                    \
    SK_AUGMENT_KEY(X, cut_max, "cut-max", "SHARE", 0, 1, "largest share that is lost over the border")                \
    SK_AUGMENT_KEY(X, paste, "paste", "P", 0, 1, "chance to be pasted on an empty frame")                             \
    SK_AUGMENT_KEY(X, paste_min, "paste-min", "SHARE", 0, 1, "least side of the pasted patch")                        \
    SK_AUGMENT_KEY(X, brightness, "brightness", "S", 0, 1, "strength of a change of brightness")                      \
    SK_AUGMENT_KEY(X, contrast, "contrast", "S", 0, 1, "strength of a change of contrast")                            \
    SK_AUGMENT_KEY(X, saturation, "saturation", "S", 0, 1, "strength of a change of saturation")                      \
    SK_AUGMENT_KEY(X, gamma, "gamma", "S", 0, 2, "strength of a change of exposure")                                  \
    SK_AUGMENT_KEY(X, cast, "cast", "S", 0, 1, "strength of a colour cast")                                           \
    SK_AUGMENT_KEY(X, grey, "grey", "P", 0, 1, "chance of greyscale")                                                 \
    SK_AUGMENT_KEY(X, infrared, "infrared", "P", 0, 1, "chance of a night picture")                                   \
    SK_AUGMENT_KEY(X, blur, "blur", "P", 0, 1, "chance of defocus or motion blur")                                    \
    SK_AUGMENT_KEY(X, noise, "noise", "P", 0, 1, "chance of sensor noise")                                            \
    SK_AUGMENT_KEY(X, jpeg, "jpeg", "P", 0, 1, "chance of JPEG artefacts")                                            \
    SK_AUGMENT_KEY(X, overlay, "overlay", "P", 0, 1, "chance of a camera's text at an edge")
#define SK_AUGMENT_KEY(X, member, option, argument, least, most, help)                                                \
    X("augment." #member, "augment-" option, 0, FLOAT, augment.member, argument, least, most, NULL, help)

#define SK_TRAIN_KEYS(X) SK_TRAIN_KEYS_RUN(X) SK_TRAIN_KEYS_TRAIN(X) SK_TRAIN_KEYS_AUGMENT(X)

#endif
