/* SPDX-License-Identifier: Apache-2.0 */
/* The loader's copy-paste: which grounds, how often, and for both labels alike. Every ground has one colour of its own,
 * so that a corner of the picture tells where it lies. */
#include "data_help.h"

#include "train/loader.h"

enum { SIZE = 48, BIRDS = 120, NOBIRDS = 60 };

/* A dark disc on `color`; without `disc` the colour alone. A little noise, so that no two pictures are the same. */
static void write_picture(const char *path, const uint8_t color[3], int disc, uint64_t seed)
{
    sk_image image;
    assert_int_equal(sk_image_create(64, 64, &image, NULL), SK_OK);
    sk_rng rng = sk_rng_make(seed, 1, 1);
    for (int i = 0; i < 64 * 64; i++) {
        const int x = i % 64 - 32, y = i / 64 - 32, in = disc && x * x + y * y < 300;
        for (int c = 0; c < 3; c++)
            image.data[i * 3 + c] = (uint8_t)((in ? 40 : color[c]) + (int)sk_rng_below(&rng, 8));
    }
    assert_int_equal(sk_image_write(path, &image, 0, NULL), SK_OK);
    sk_image_free(&image);
}

static const uint8_t red[3] = {200, 30, 30}, blue[3] = {30, 30, 200}, green[3] = {30, 200, 30};
static const uint8_t grey[3] = {180, 180, 180};

/* Birds on grey; of those without, a third are clip frames (red), the rest web pictures (blue); validation is green. */
static int make_set(void **state)
{
    if (start(state))
        return 1;
    sk_text rows = {0};
    make_dir(at("set"));
    for (int i = 0; i < BIRDS + NOBIRDS + 6; i++) {
        const int bird = i < BIRDS, val = i >= BIRDS + NOBIRDS, clip = !bird && i % 3 == 0;
        write_picture(at("set/%d.png", i), bird ? grey : val ? green : clip ? red : blue, bird, (uint64_t)i);
        sk_text_add(&rows, "%d.png\t\t\t%s\ts\tg%d\t%s\t%s\n", i, bird ? "bird" : "nobird", i,
                    val || clip ? "clip" : "web", val ? "val" : "train");
    }
    write_dataset("set", rows.data);
    sk_text_free(&rows);
    return 0;
}

/* One epoch: pictures and labels. */
typedef struct epoch {
    size_t n;
    uint8_t *images;
    int *labels;
} epoch;

/* All batches of an epoch of a loader. */
static epoch take(sk_loader *loader, int number)
{
    sk_error err = {0};
    epoch e = {.images = sk_alloc(sk_loader_size(loader), SIZE * SIZE * 3),
               .labels = sk_calloc(sk_loader_size(loader), sizeof(int))};
    sk_loader_start(loader, number);
    for (;;) {
        sk_batch got;
        assert_int_equal(sk_loader_next(loader, &got, &err), SK_OK);
        if (!got.n)
            return e;
        memcpy(e.images + e.n * SIZE * SIZE * 3, got.images, (size_t)got.n * SIZE * SIZE * 3);
        memcpy(e.labels + e.n, got.labels, (size_t)got.n * sizeof(int));
        e.n += (size_t)got.n;
    }
}

static void drop(epoch *e)
{
    sk_free(e->images);
    sk_free(e->labels);
}

/* Epoch `number` of a new loader, which gives epoch `before` first (0: none). */
static epoch load_after(const char *dir, float paste, int batch, int threads, int before, int number)
{
    sk_dataset *set = open_dataset(at("%s", dir));
    sk_cache *cache = NULL;
    sk_loader *loader = NULL;
    sk_error err = {0};
    size_t bad = 0;
    assert_int_equal(sk_cache_open(set, 0, 1, NULL, &cache, &bad, &err), SK_OK);
    const sk_loader_options options = {.split = SK_SPLIT_TRAIN, .train = 1, .batch = batch, .size = SIZE,
                                       .threads = threads, .clip_repeat = 1, .seed = 5,
                                       .augment = {.scale_min = 0.08f, .scale_max = 1, .flip = 0.5f, .paste = paste,
                                                   .paste_min = 0.2f}};
    assert_int_equal(sk_loader_create(set, cache, &options, &loader, &err), SK_OK);
    if (before) {
        epoch e = take(loader, before);
        drop(&e);
    }
    const epoch e = take(loader, number);
    sk_loader_free(loader);
    sk_cache_close(cache);
    sk_dataset_close(set);
    return e;
}

static epoch load(const char *dir, float paste, int batch, int threads, int number)
{
    return load_after(dir, paste, batch, threads, 0, number);
}

/* The colour that most of the four corners show. */
static int corners(const uint8_t *image, const uint8_t color[3])
{
    int n = 0;
    for (int k = 0; k < 4; k++) {
        const uint8_t *p = image + ((k & 1 ? SIZE - 1 : 0) + (k & 2 ? SIZE - 1 : 0) * SIZE) * 3;
        n += abs(p[0] - color[0]) + abs(p[1] - color[1]) + abs(p[2] - color[2]) < 30;
    }
    return n >= 3;
}

static void grounds_are_empty_frames_of_the_part(void **state)
{
    (void)state;
    epoch e = load("set", 1, 30, 2, 1);
    int clip = 0, web = 0, own = 0, birds = 0;
    assert_int_equal(e.n, BIRDS + NOBIRDS);
    for (size_t i = 0; i < e.n; i++) {
        const uint8_t *image = e.images + i * SIZE * SIZE * 3;
        assert_false(corners(image, green));
        if (e.labels[i] != SK_LABEL_BIRD)
            continue;
        birds++;
        clip += corners(image, red);
        web += corners(image, blue);
        own += corners(image, grey);
    }
    assert_int_equal(birds, BIRDS);
    assert_int_equal(own, 0);
    /* Half of 120 each: five standard deviations are 27. */
    assert_true(abs(clip - 60) < 27 && abs(web - 60) < 27);
    assert_true(clip + web > 110);
    drop(&e);
}

/* The draws of pasting are their own: who is not pasted looks as if there were no pasting at all. */
static void both_labels_are_pasted_as_often(void **state)
{
    (void)state;
    int changed[2] = {0}, all[2] = {0};
    for (int number = 1; number <= 4; number++) {
        epoch plain = load("set", 0, 30, 2, number), half = load("set", 0.4f, 30, 2, number);
        assert_memory_equal(plain.labels, half.labels, plain.n * sizeof(int));
        for (size_t i = 0; i < plain.n; i++) {
            const size_t first = i * SIZE * SIZE * 3;
            all[plain.labels[i]]++;
            changed[plain.labels[i]] += memcmp(plain.images + first, half.images + first, SIZE * SIZE * 3) != 0;
        }
        drop(&plain);
        drop(&half);
    }
    for (int label = 0; label < 2; label++) { /* .4 within four standard deviations */
        const double share = (double)changed[label] / all[label];
        assert_true(fabs(share - 0.4) < 4 * sqrt(0.24 / all[label]));
    }
}

static void same_bytes_for_any_batch_and_threads(void **state)
{
    (void)state;
    epoch a = load("set", 0.7f, 30, 1, 2), b = load("set", 0.7f, 45, 3, 2), c = load("set", 0.7f, 30, 1, 3);
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.images, b.images, a.n * SIZE * SIZE * 3);
    assert_memory_not_equal(a.images, c.images, a.n * SIZE * SIZE * 3);
    drop(&a);
    drop(&b);
    drop(&c);
}

/* Masks are kept from epoch to epoch; a run that goes on in the middle has none yet. */
static void same_bytes_whatever_came_before(void **state)
{
    (void)state;
    epoch fresh = load("set", 0.7f, 30, 2, 3), after = load_after("set", 0.7f, 30, 2, 1, 3);
    assert_memory_equal(fresh.images, after.images, fresh.n * SIZE * SIZE * 3);
    drop(&fresh);
    drop(&after);
}

/* Without an empty frame nothing can be pasted, and nothing is. */
static void no_ground_no_paste(void **state)
{
    (void)state;
    sk_text rows = {0};
    for (int i = 0; i < 10; i++)
        sk_text_add(&rows, "../set/%d.png\t\t\tbird\ts\tg\tweb\ttrain\n", i);
    write_dataset("birds", rows.data);
    sk_text_free(&rows);
    epoch plain = load("birds", 0, 5, 1, 1), pasted = load("birds", 1, 5, 1, 1);
    assert_memory_equal(plain.images, pasted.images, plain.n * SIZE * SIZE * 3);
    drop(&plain);
    drop(&pasted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grounds_are_empty_frames_of_the_part),
        cmocka_unit_test(both_labels_are_pasted_as_often),
        cmocka_unit_test(same_bytes_for_any_batch_and_threads),
        cmocka_unit_test(same_bytes_whatever_came_before),
        cmocka_unit_test(no_ground_no_paste),
    };
    return cmocka_run_group_tests(tests, make_set, finish);
}
