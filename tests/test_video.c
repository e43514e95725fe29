/* SPDX-License-Identifier: Apache-2.0 */
/* Clips from outside: a generated clip carries its frame number as a bar code, so that a frame lost, doubled or out
 * of order shows; damaged clips; memory that runs out; the labelled clips beside the project. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/display.h>

#include "base/base.h"
#include "siskin/video.h"

#ifndef SK_SOURCE_DIR
#define SK_SOURCE_DIR "."
#endif

enum { WIDTH = 160, HEIGHT = 96, BITS = 10, FRAMES = 75, RATE = 12 };

static char work[64], clip[100];

static void draw_number(sk_image *frame, int number)
{
    for (int y = 0; y < frame->height; y++)
        for (int x = 0; x < frame->width; x++) {
            const int bit = x * BITS / frame->width;
            memset(frame->data + ((size_t)y * (size_t)frame->width + (size_t)x) * 3, number >> bit & 1 ? 220 : 30, 3);
        }
}

static int read_number(const sk_image *frame)
{
    int number = 0;
    for (int bit = 0; bit < BITS; bit++) {
        const int x = (2 * bit + 1) * frame->width / (2 * BITS), y = frame->height / 2;
        number |= (frame->data[((size_t)y * (size_t)frame->width + (size_t)x) * 3 + 1] > 128) << bit;
    }
    return number;
}

static sk_status write_clip(const char *path, int frames, sk_error *err)
{
    sk_image frame = {0};
    sk_video_writer *writer = NULL;
    sk_status status = sk_image_create(WIDTH, HEIGHT, &frame, err);
    if (status == SK_OK)
        status = sk_video_writer_open(path, WIDTH, HEIGHT, RATE, &writer, err);
    for (int i = 0; status == SK_OK && i < frames; i++) {
        draw_number(&frame, i);
        status = sk_video_writer_add(writer, &frame, err);
    }
    const sk_status closed = sk_video_writer_close(writer, status ? NULL : err);
    sk_image_free(&frame);
    return status ? status : closed;
}

/* Decodes to the end or the first error; every delivered frame must be the one its index says. */
static sk_status decode(const char *path, int64_t *count, sk_error *err)
{
    sk_video *video = NULL;
    sk_video_info info;
    sk_image frame = {0};
    *count = 0;
    sk_status status = sk_video_open(path, &video, &info, err);
    if (status != SK_OK) {
        assert_null(video);
        return status;
    }
    for (;;) {
        int64_t index = -2;
        double time_s = -2;
        status = sk_video_next(video, &frame, &index, &time_s, err);
        if (status != SK_OK || index < 0)
            break;
        assert_int_equal(index, *count);
        if (read_number(&frame) != index)
            fail_msg("%s: frame %d shows %d", path, (int)index, read_number(&frame));
        if (fabs(time_s - (double)index / RATE) > 0.0011)
            fail_msg("%s: frame %d at %.4f s", path, (int)index, time_s);
        (*count)++;
    }
    if (status == SK_OK) { /* the end stays the end */
        int64_t index = 0;
        assert_int_equal(sk_video_next(video, &frame, &index, NULL, err), SK_OK);
        assert_int_equal(index, -1);
    }
    sk_image_free(&frame);
    sk_video_close(video);
    return status;
}

static void test_round_trip(void **state)
{
    (void)state;
    sk_error err = {0};
    sk_video *video = NULL;
    sk_video_info info;
    int64_t count = 0;
    if (decode(clip, &count, &err) != SK_OK)
        fail_msg("%s", err.message);
    assert_int_equal(count, FRAMES);
    assert_int_equal(sk_video_open(clip, &video, &info, NULL), SK_OK);
    assert_int_equal(info.width, WIDTH);
    assert_int_equal(info.height, HEIGHT);
    assert_int_equal(info.frame_count, FRAMES);
    assert_true(fabs(info.frames_per_second - RATE) < 1e-6);
    /* Passing over frames counts them. */
    sk_image frame = {0};
    int64_t index = -1;
    for (int i = 0; i < 40; i++)
        assert_int_equal(sk_video_next(video, i == 39 ? &frame : NULL, &index, NULL, NULL), SK_OK);
    assert_int_equal(index, 39);
    assert_int_equal(read_number(&frame), 39);
    sk_image_free(&frame);
    sk_video_close(video);
}

static void test_same_bytes(void **state)
{
    (void)state;
    char *again = sk_path_join(work, "again.mp4");
    uint8_t *a = NULL, *b = NULL;
    size_t a_size = 0, b_size = 0;
    assert_int_equal(write_clip(again, FRAMES, NULL), SK_OK);
    assert_int_equal(sk_file_read(clip, &a, &a_size, NULL), SK_OK);
    assert_int_equal(sk_file_read(again, &b, &b_size, NULL), SK_OK);
    assert_int_equal(a_size, b_size);
    assert_memory_equal(a, b, a_size);
    sk_free(a);
    sk_free(b);
    sk_free(again);
}

/* A clip of another kind than our writer's, straight through FFmpeg: H.264, frames out of order, other containers.
 * The grey value carries the number's bits as in draw_number. Returns 0 if this FFmpeg lacks the encoder. */
typedef struct foreign {
    AVFormatContext *format;
    AVCodecContext *encoder;
    AVFrame *frame;
    AVPacket *packet;
} foreign;

static void foreign_packets(foreign *f, const AVFrame *frame)
{
    assert_true(avcodec_send_frame(f->encoder, frame) >= 0);
    while (avcodec_receive_packet(f->encoder, f->packet) >= 0) {
        av_packet_rescale_ts(f->packet, f->encoder->time_base, f->format->streams[0]->time_base);
        assert_true(av_interleaved_write_frame(f->format, f->packet) >= 0);
    }
}

static int write_foreign(const char *path, const char *encoder, const char *container, int clockwise)
{
    const AVCodec *codec = avcodec_find_encoder_by_name(encoder);
    if (!codec)
        return 0;
    foreign f = {.frame = av_frame_alloc(), .packet = av_packet_alloc(), .encoder = avcodec_alloc_context3(codec)};
    assert_true(avformat_alloc_output_context2(&f.format, NULL, container, path) >= 0);
    f.encoder->width = WIDTH;
    f.encoder->height = HEIGHT;
    f.encoder->pix_fmt = AV_PIX_FMT_YUV420P;
    f.encoder->time_base = (AVRational){1, RATE};
    f.encoder->framerate = (AVRational){RATE, 1};
    f.encoder->gop_size = 20;
    f.encoder->max_b_frames = 2;
    f.encoder->bit_rate = 800000;
    f.encoder->thread_count = 1;
    if (f.format->oformat->flags & AVFMT_GLOBALHEADER)
        f.encoder->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
    assert_true(avcodec_open2(f.encoder, codec, NULL) >= 0);
    AVStream *stream = avformat_new_stream(f.format, NULL);
    avcodec_parameters_from_context(stream->codecpar, f.encoder);
    stream->time_base = f.encoder->time_base;
    if (clockwise) {
        uint8_t *matrix = av_stream_new_side_data(stream, AV_PKT_DATA_DISPLAYMATRIX, 9 * sizeof(int32_t));
        assert_non_null(matrix);
        av_display_rotation_set((int32_t *)(void *)matrix, clockwise);
    }
    stream->avg_frame_rate = f.encoder->framerate;
    assert_true(avio_open(&f.format->pb, path, AVIO_FLAG_WRITE) >= 0);
    assert_true(avformat_write_header(f.format, NULL) >= 0);
    f.frame->format = AV_PIX_FMT_YUV420P;
    f.frame->width = WIDTH;
    f.frame->height = HEIGHT;
    assert_true(av_frame_get_buffer(f.frame, 0) >= 0);
    for (int i = 0; i < FRAMES; i++) {
        assert_true(av_frame_make_writable(f.frame) >= 0);
        for (int plane = 0; plane < 3; plane++)
            for (int y = 0; y < (plane ? HEIGHT / 2 : HEIGHT); y++)
                for (int x = 0; x < (plane ? WIDTH / 2 : WIDTH); x++)
                    f.frame->data[plane][y * f.frame->linesize[plane] + x] =
                        (uint8_t)(plane ? 128 : i >> x * BITS / WIDTH & 1 ? 200 : 40);
        f.frame->pts = i;
        foreign_packets(&f, f.frame);
    }
    foreign_packets(&f, NULL);
    assert_true(av_write_trailer(f.format) >= 0);
    avio_closep(&f.format->pb);
    avformat_free_context(f.format);
    avcodec_free_context(&f.encoder);
    av_frame_free(&f.frame);
    av_packet_free(&f.packet);
    return 1;
}

static void test_presentation_order(void **state)
{
    (void)state;
    static const char *const kinds[][3] = {
        {"b-frames.mp4", "mpeg4", "mp4"}, {"b-frames.avi", "mpeg4", "avi"},      {"h264.mp4", "libx264", "mp4"},
        {"h264.mkv", "libx264", "matroska"}, {"h264.mpg.ts", "libx264", "mpegts"}, {"h264.h264", "libx264", "h264"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char *path = sk_path_join(work, kinds[i][0]);
        int64_t count = 0;
        sk_error err = {0};
        if (!write_foreign(path, kinds[i][1], kinds[i][2], 0)) {
            print_message("left out: this FFmpeg has no encoder %s\n", kinds[i][1]);
        } else {
            if (decode(path, &count, &err) != SK_OK)
                fail_msg("%s: %s", kinds[i][0], err.message);
            if (count != FRAMES)
                fail_msg("%s: %d frames of %d", kinds[i][0], (int)count, (int)FRAMES);
        }
        sk_free(path);
    }
}

/* The lowest bit is the leftmost bar: after turning it must be on the top, right or bottom. */
static void test_rotation(void **state)
{
    (void)state;
    for (int clockwise = 90; clockwise < 360; clockwise += 90) {
        char *path = sk_path_join(work, "turned.mp4");
        sk_video *video = NULL;
        sk_video_info info;
        sk_image frame = {0};
        int64_t index = -1;
        assert_true(write_foreign(path, "mpeg4", "mp4", clockwise));
        assert_int_equal(sk_video_open(path, &video, &info, NULL), SK_OK);
        while (index < 1)
            assert_int_equal(sk_video_next(video, &frame, &index, NULL, NULL), SK_OK);
        assert_int_equal(info.width, clockwise == 180 ? WIDTH : HEIGHT);
        assert_int_equal(frame.width, info.width);
        assert_int_equal(frame.height, info.height);
        const int x = clockwise == 180 ? WIDTH - 8 : HEIGHT / 2;
        const int y = clockwise == 90 ? 8 : clockwise == 270 ? WIDTH - 8 : HEIGHT / 2;
        int bright = 0;
        for (int i = 0; i < frame.width * frame.height; i++)
            bright += frame.data[i * 3] > 128;
        assert_true(frame.data[(y * frame.width + x) * 3] > 128);
        assert_true(bright > frame.width * frame.height / 12 && bright < frame.width * frame.height / 8);
        sk_image_free(&frame);
        sk_video_close(video);
        sk_free(path);
    }
}

static void write_part(const char *path, const uint8_t *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
}

/* mp4 as written keeps its index at the end: moves it to the front, as cameras and the web do, by the box sizes. */
static size_t box_size(const uint8_t *p)
{
    return (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
}

static void index_to_front(uint8_t *bytes, size_t size)
{
    size_t at = 0, moov = 0, data = 0;
    while (at + 8 <= size) {
        if (memcmp(bytes + at + 4, "moov", 4) == 0)
            moov = at;
        if (!data && (memcmp(bytes + at + 4, "free", 4) == 0 || memcmp(bytes + at + 4, "mdat", 4) == 0))
            data = at;
        at += box_size(bytes + at);
    }
    assert_true(moov > data && data > 0);
    const size_t length = box_size(bytes + moov);
    uint8_t *copy = malloc(length);
    memcpy(copy, bytes + moov, length);
    for (size_t i = 4; i + 16 <= length; i++) {
        if (memcmp(copy + i, "stco", 4) != 0)
            continue;
        const size_t entries = box_size(copy + i + 8);
        for (size_t e = 0; e < entries; e++) {
            uint8_t *p = copy + i + 12 + e * 4;
            const size_t offset = box_size(p) + length;
            p[0] = (uint8_t)(offset >> 24), p[1] = (uint8_t)(offset >> 16), p[2] = (uint8_t)(offset >> 8);
            p[3] = (uint8_t)offset;
        }
    }
    memmove(bytes + data + length, bytes + data, moov - data);
    memcpy(bytes + data, copy, length);
    free(copy);
}

static void test_truncated(void **state)
{
    (void)state;
    char *path = sk_path_join(work, "cut.mp4");
    uint8_t *bytes = NULL;
    size_t size = 0;
    int64_t count = 0;
    sk_error err = {0};
    assert_int_equal(sk_file_read(clip, &bytes, &size, NULL), SK_OK);
    /* Without its index nothing can be read. */
    for (size_t cut = 0; cut < size; cut += size / 13 + 1) {
        write_part(path, bytes, cut);
        if (decode(path, &count, &err) != SK_ERR_FORMAT)
            fail_msg("cut at %zu of %zu: status %d", cut, size, err.code);
        assert_non_null(strstr(err.message, "cut.mp4"));
    }
    /* With the index in front, the frames before the cut come, numbered rightly, and then the cut is told. */
    index_to_front(bytes, size);
    write_part(path, bytes, size);
    assert_int_equal(decode(path, &count, NULL), SK_OK);
    assert_int_equal(count, FRAMES);
    int64_t before = 0;
    for (int tenth = 3; tenth < 10; tenth++) {
        write_part(path, bytes, size * (size_t)tenth / 10);
        const sk_status status = decode(path, &count, &err);
        if (status != SK_ERR_FORMAT)
            fail_msg("index in front, %d/10: status %d after %d frames", tenth, (int)status, (int)count);
        assert_true(count >= before && count < FRAMES);
        before = count;
    }
    assert_true(before > FRAMES / 2);
    sk_free(bytes);
    sk_free(path);
}

/* Bytes changed anywhere: an error or frames in order, never a crash, a stall or frames without end. */
static void test_damaged(void **state)
{
    (void)state;
    char *path = sk_path_join(work, "damaged.mp4");
    uint8_t *bytes = NULL;
    size_t size = 0;
    int told = 0;
    assert_int_equal(sk_file_read(clip, &bytes, &size, NULL), SK_OK);
    const long live = sk_memory_live();
    sk_rng rng = sk_rng_make(4, 2, 1);
    for (int i = 0; i < 150; i++) {
        uint8_t *copy = malloc(size);
        memcpy(copy, bytes, size);
        for (int k = 0; k < 1 + i / 15; k++)
            copy[sk_rng_below(&rng, (uint32_t)size)] = (uint8_t)sk_rng_next(&rng);
        write_part(path, copy, size);
        free(copy);
        sk_video *video = NULL;
        sk_image frame = {0};
        sk_error err = {0};
        int64_t index = -1, last = -1;
        sk_status status = sk_video_open(path, &video, NULL, &err);
        while (status == SK_OK && (status = sk_video_next(video, &frame, &index, NULL, &err)) == SK_OK && index >= 0)
            assert_int_equal(index, ++last);
        assert_true(last < 10 * FRAMES);
        if (status != SK_OK && status != SK_ERR_FORMAT && status != SK_ERR_UNSUPPORTED)
            fail_msg("damage %d: status %d after frame %d: %s", i, (int)status, (int)last, err.message);
        told += status != SK_OK;
        sk_image_free(&frame);
        sk_video_close(video);
        assert_int_equal(sk_memory_live(), live);
    }
    assert_true(told > 20);
    sk_free(bytes);
    sk_free(path);
}

static void test_not_a_clip(void **state)
{
    (void)state;
    sk_video *video = NULL;
    char *path = sk_path_join(work, "not.mp4"), *still = sk_path_join(work, "still.jpg");
    static const char *const texts[] = {"", "hello",
                                        "#EXTM3U\n#EXTINF:1,\nother.ts\n", "ffconcat version 1.0\nfile a.mp4\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        write_part(path, (const uint8_t *)texts[i], strlen(texts[i]));
        assert_int_equal(sk_video_open(path, &video, NULL, NULL), SK_ERR_FORMAT);
        assert_null(video);
    }
    sk_image image;
    assert_int_equal(sk_image_create(32, 32, &image, NULL), SK_OK);
    memset(image.data, 9, 32 * 32 * 3);
    assert_int_equal(sk_image_write(still, &image, 90, NULL), SK_OK);
    assert_int_equal(sk_video_open(still, &video, NULL, NULL), SK_ERR_FORMAT);
    sk_image_free(&image);
    assert_int_equal(sk_video_open("/no/such/clip.mp4", &video, NULL, NULL), SK_ERR_IO);
    assert_int_equal(sk_video_open(work, &video, NULL, NULL), SK_ERR_IO);
    sk_free(path);
    sk_free(still);
    assert_true(sk_is_video_name("a/b.MP4"));
    assert_true(sk_is_video_name("x.h264"));
    assert_false(sk_is_video_name("a.jpg"));
    assert_false(sk_is_video_name("mp4"));
}

static void test_writer_errors(void **state)
{
    (void)state;
    sk_video_writer *writer = NULL;
    sk_image wrong;
    char *path = sk_path_join(work, "bad.mp4"), *part = sk_path_join(work, "bad.mp4.part");
    assert_int_equal(sk_video_writer_open(path, 33, 32, 12, &writer, NULL), SK_ERR_ARGUMENT);
    assert_int_equal(sk_video_writer_open(path, 32, 32, 0, &writer, NULL), SK_ERR_ARGUMENT);
    assert_int_equal(sk_video_writer_open("/no/such/dir/a.mp4", 32, 32, 12, &writer, NULL), SK_ERR_IO);
    assert_null(writer);
    assert_int_equal(sk_video_writer_open(path, 32, 32, 12, &writer, NULL), SK_OK);
    assert_int_equal(sk_image_create(30, 32, &wrong, NULL), SK_OK);
    assert_int_equal(sk_video_writer_add(writer, &wrong, NULL), SK_ERR_ARGUMENT);
    assert_false(sk_path_exists(path)); /* only a finished clip gets its name */
    assert_int_equal(sk_video_writer_close(writer, NULL), SK_ERR_ARGUMENT);
    assert_false(sk_path_exists(path) || sk_path_exists(part));
    sk_image_free(&wrong);
    sk_file_fail_at(0); /* the disk is full when the clip is finished */
    assert_int_equal(write_clip(path, 3, NULL), SK_ERR_IO);
    sk_file_fail_at(-1);
    assert_false(sk_path_exists(path));
    assert_false(sk_path_exists(part));
    sk_free(path);
    sk_free(part);
}

static void test_memory(void **state)
{
    (void)state;
    char *path = sk_path_join(work, "memory.mp4");
    const long live = sk_memory_live();
    int failures = 0;
    sk_status status = SK_ERR_MEMORY;
    for (long n = 0; status != SK_OK && n < 200; n++) {
        int64_t count = 0;
        sk_memory_fail_at(n, 0);
        status = write_clip(path, 5, NULL);
        status = status ? status : decode(path, &count, NULL);
        sk_memory_fail_at(-1, 0);
        if (status != SK_OK)
            assert_int_equal(status, SK_ERR_MEMORY);
        assert_int_equal(sk_memory_live(), live);
        failures += status != SK_OK;
    }
    assert_int_equal(status, SK_OK);
    assert_true(failures >= 8);
    sk_free(path);
}

/* frames.tsv beside the project names frames by number and time: both must be what comes out of the decoder. */
static void test_labelled_clips(void **state)
{
    (void)state;
    const char *shared = getenv("SISKIN_SHARED");
    char *dir = sk_path_join(shared ? shared : SK_SOURCE_DIR "/../shared", "data/feeder");
    char *table = sk_path_join(dir, "frames.tsv");
    FILE *rows = fopen(table, "r");
    if (!rows) {
        print_message("left out: %s is not there\n", table);
        sk_free(table);
        sk_free(dir);
        skip();
    }
    char line[1000], open_name[500] = "";
    sk_video *video = NULL;
    sk_image frame = {0};
    int clips = 0, agreed = 0;
    int64_t index = -1;
    double time_s = -1;
    assert_non_null(fgets(line, sizeof line, rows));
    while (fgets(line, sizeof line, rows)) {
        char name[500];
        long wanted = 0;
        double wanted_time = 0;
        assert_int_equal(sscanf(line, "%499[^\t]\t%ld\t%lf", name, &wanted, &wanted_time), 3);
        if (strcmp(name, open_name) != 0) {
            sk_video_close(video);
            char *path = sk_format("%s/videos/%s", dir, name);
            sk_error err = {0};
            if (sk_video_open(path, &video, NULL, &err) != SK_OK)
                fail_msg("%s", err.message);
            snprintf(open_name, sizeof open_name, "%s", name);
            sk_free(path);
            index = -1;
            clips++;
        }
        while (index < wanted) {
            assert_int_equal(sk_video_next(video, &frame, &index, &time_s, NULL), SK_OK);
            assert_true(index >= 0);
        }
        if (index == wanted) {
            if (fabs(time_s - wanted_time) > 0.0006)
                fail_msg("%s frame %ld: %.4f s, the table says %.4f s", name, wanted, time_s, wanted_time);
            agreed++;
        }
    }
    fclose(rows);
    sk_video_close(video);
    sk_image_free(&frame);
    print_message("%d clips, %d labelled frames agree in number and time\n", clips, agreed);
    assert_true(clips >= 19 && agreed >= 400);
    sk_free(table);
    sk_free(dir);
}

static int set_up(void **state)
{
    (void)state;
    snprintf(work, sizeof work, "/tmp/siskin-video-%d", (int)getpid());
    if (sk_make_dirs(work, NULL) != SK_OK)
        return -1;
    snprintf(clip, sizeof clip, "%s/clip.mp4", work);
    return write_clip(clip, FRAMES, NULL) == SK_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    char command[200];
    snprintf(command, sizeof command, "rm -rf '%s'", work);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_same_bytes),
        cmocka_unit_test(test_presentation_order),
        cmocka_unit_test(test_rotation),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_not_a_clip),    cmocka_unit_test(test_writer_errors), cmocka_unit_test(test_memory),
        cmocka_unit_test(test_labelled_clips),
    };
    return cmocka_run_group_tests_name("video", tests, set_up, tear_down);
}
