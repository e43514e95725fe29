/* SPDX-License-Identifier: Apache-2.0 */
/* Clips through FFmpeg's libraries. A frame's number is its place among the decoded frames in presentation order,
 * which is what labels refer to; one decoding thread and exact colour conversion make the bytes repeatable. */
#include <errno.h>
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/display.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "image/codec.h"
#include "siskin/video.h"

/* Containers of cameras. Play lists and stills stay out: they would open other files. */
#define CONTAINERS                                                                                                     \
    "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,h264,hevc,m4v,mpeg,mpegts,mpegvideo,flv,asf,ogg,mjpeg,nut,ivf,dv"

struct sk_video {
    AVFormatContext *format;
    AVCodecContext *decoder;
    AVPacket *packet;
    AVFrame *frame, *rgb;
    struct SwsContext *scaler;
    char *path;
    int stream, orientation; /* as in EXIF */
    int64_t packets, index; /* read and decoded so far */
    int64_t first_stamp;
    int draining, ended, exact_count;
    double frame_rate;
};

static sk_status video_fail(int code, const char *path, const char *what, sk_error *err)
{
    char text[AV_ERROR_MAX_STRING_SIZE] = "";
    av_strerror(code, text, sizeof text);
    if (code == AVERROR(EIO))
        return sk_fail(err, SK_ERR_IO, "cannot read %s: %s", path, text);
    /* All else is the clip's fault, ENOMEM too: a damaged one asks for absurd amounts, and must not end an import. */
    return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: %s (%s)", path, what, text);
}

/* FFmpeg's codes do not tell a file that cannot be read from one that makes no sense. */
static sk_status check_readable(const char *path, sk_error *err)
{
    errno = 0;
    FILE *file = fopen(path, "rb");
    const int failed = !file || (fgetc(file) == EOF && ferror(file));
    const int code = errno;
    if (file)
        fclose(file);
    return failed ? sk_fail(err, SK_ERR_IO, "cannot read %s: %s", path, strerror(code)) : SK_OK;
}

static sk_status open_container(sk_video *video, const char *path, sk_error *err)
{
    AVDictionary *options = NULL;
    char *url = sk_format("file:%s", path);
    if (!url)
        return sk_fail_memory(err, "a clip");
    av_dict_set(&options, "format_whitelist", CONTAINERS, 0);
    av_dict_set(&options, "protocol_whitelist", "file", 0);
    const int code = avformat_open_input(&video->format, url, NULL, &options);
    av_dict_free(&options);
    sk_free(url);
    if (code < 0)
        return video_fail(code, path, "not a clip, or its index is missing", err);
    const int found = avformat_find_stream_info(video->format, NULL);
    if (found < 0)
        return video_fail(found, path, "broken clip", err);
    return SK_OK;
}

static sk_status open_decoder(sk_video *video, const char *path, sk_error *err)
{
    const AVCodec *codec = NULL;
    video->stream = av_find_best_stream(video->format, AVMEDIA_TYPE_VIDEO, -1, -1, NULL, 0);
    if (video->stream < 0)
        return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: there is no video in it", path);
    const AVCodecParameters *parameters = video->format->streams[video->stream]->codecpar;
    if (parameters->codec_id == AV_CODEC_ID_NONE)
        return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: cut off or broken, it does not tell its codec", path);
    codec = avcodec_find_decoder(parameters->codec_id);
    if (!codec)
        return sk_fail(err, SK_ERR_UNSUPPORTED, "cannot read %s: no decoder for its codec %s", path,
                       avcodec_get_name(parameters->codec_id));
    video->decoder = avcodec_alloc_context3(codec);
    if (!video->decoder || avcodec_parameters_to_context(video->decoder, parameters) < 0)
        return sk_fail_memory(err, "a clip's decoder");
    video->decoder->thread_count = 1;
    video->decoder->flags |= AV_CODEC_FLAG_BITEXACT;
    video->decoder->max_pixels = 100000000;
    video->decoder->pkt_timebase = video->format->streams[video->stream]->time_base;
    const int code = avcodec_open2(video->decoder, codec, NULL);
    return code < 0 ? video_fail(code, path, "its decoder does not start", err) : SK_OK;
}

/* A telephone held upright records lying frames and a note how to turn them. */
static int stream_orientation(const AVStream *stream)
{
    const uint8_t *matrix = av_stream_get_side_data(stream, AV_PKT_DATA_DISPLAYMATRIX, NULL);
    if (!matrix)
        return 1;
    const double clockwise = -av_display_rotation_get((const int32_t *)(const void *)matrix);
    if (isnan(clockwise))
        return 1;
    switch (((int)lround(clockwise / 90) % 4 + 4) % 4) {
    case 1: return 6;
    case 2: return 3;
    case 3: return 8;
    default: return 1;
    }
}

static void fill_info(sk_video *video, sk_video_info *info)
{
    const AVStream *stream = video->format->streams[video->stream];
    AVRational rate = stream->avg_frame_rate;
    if (rate.num <= 0 || rate.den <= 0)
        rate = stream->r_frame_rate;
    video->frame_rate = rate.num > 0 && rate.den > 0 ? av_q2d(rate) : 0;
    /* MP4 and MOV list every frame, so that a missing one is a cut off file; others only guess. */
    video->exact_count = strstr(video->format->iformat->name, "mp4") != NULL;
    video->orientation = stream_orientation(stream);
    const int lying = video->orientation >= 5;
    const int width = stream->codecpar->width, height = stream->codecpar->height;
    if (info)
        *info = (sk_video_info){lying ? height : width, lying ? width : height, video->frame_rate,
                                stream->nb_frames > 0 ? stream->nb_frames : 0};
}

sk_status sk_video_open(const char *path, sk_video **out, sk_video_info *info, sk_error *err)
{
    *out = NULL;
    if (info)
        *info = (sk_video_info){0};
    /* FFmpeg prints by default; a program that has chosen another level keeps it. */
    if (av_log_get_level() == AV_LOG_INFO)
        av_log_set_level(AV_LOG_QUIET);
    sk_video *video = sk_calloc(1, sizeof *video);
    if (!video)
        return sk_fail_memory(err, "a clip");
    sk_status status = SK_OK;
    video->path = sk_strdup(path);
    video->packet = av_packet_alloc();
    video->frame = av_frame_alloc();
    video->rgb = av_frame_alloc();
    if (!video->path || !video->packet || !video->frame || !video->rgb) {
        status = sk_fail_memory(err, "a clip");
        goto fail;
    }
    if ((status = check_readable(path, err)) != SK_OK || (status = open_container(video, path, err)) != SK_OK ||
        (status = open_decoder(video, path, err)) != SK_OK)
        goto fail;
    fill_info(video, info);
    *out = video;
    return SK_OK;
fail:
    sk_video_close(video);
    return status;
}

void sk_video_close(sk_video *video)
{
    if (!video)
        return;
    sws_freeContext(video->scaler);
    av_frame_free(&video->rgb);
    av_frame_free(&video->frame);
    av_packet_free(&video->packet);
    avcodec_free_context(&video->decoder);
    avformat_close_input(&video->format);
    sk_free(video->path);
    sk_free(video);
}

/* Gives the decoder one more packet, or the end. */
static sk_status feed_decoder(sk_video *video, sk_error *err)
{
    int code;
    while ((code = av_read_frame(video->format, video->packet)) >= 0 && video->packet->stream_index != video->stream)
        av_packet_unref(video->packet);
    if (code == AVERROR_EOF) {
        video->draining = 1;
        code = avcodec_send_packet(video->decoder, NULL);
        return code < 0 && code != AVERROR_EOF ? video_fail(code, video->path, "broken clip", err) : SK_OK;
    }
    if (code < 0)
        return video_fail(code, video->path, "the clip is cut off or broken", err);
    const int damaged = video->packet->flags & AV_PKT_FLAG_CORRUPT;
    video->packets++;
    code = damaged ? AVERROR_INVALIDDATA : avcodec_send_packet(video->decoder, video->packet);
    av_packet_unref(video->packet);
    /* A recording may begin in the middle of a group of pictures: what comes before its first frame is skipped. */
    if (code == AVERROR_INVALIDDATA && video->index == 0 && !damaged)
        return SK_OK;
    return code < 0 ? video_fail(code, video->path, "the clip is cut off or broken", err) : SK_OK;
}

/* Exact colour conversion: accurate rounding, full chroma, and the same result on every machine. */
static sk_status convert_frame(sk_video *video, sk_image *image, sk_error *err)
{
    AVFrame *from = video->frame, *rgb = video->rgb;
    const int flags = SWS_BICUBIC | SWS_ACCURATE_RND | SWS_BITEXACT | SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP;
    video->scaler = sws_getCachedContext(video->scaler, from->width, from->height, from->format, from->width,
                                         from->height, AV_PIX_FMT_RGB24, flags, NULL, NULL, NULL);
    if (!video->scaler)
        return sk_fail(err, SK_ERR_UNSUPPORTED, "cannot read %s: no conversion from its pixel format to RGB",
                       video->path);
    const int *matrix = sws_getCoefficients(from->colorspace == AVCOL_SPC_UNSPECIFIED ? SWS_CS_DEFAULT
                                                                                      : (int)from->colorspace);
    const AVPixFmtDescriptor *layout = av_pix_fmt_desc_get(from->format);
    const int full = from->color_range == AVCOL_RANGE_JPEG || (layout && strncmp(layout->name, "yuvj", 4) == 0);
    sws_setColorspaceDetails(video->scaler, matrix, full, sws_getCoefficients(SWS_CS_DEFAULT), 1, 0, 1 << 16, 1 << 16);
    if (rgb->width != from->width || rgb->height != from->height) {
        av_frame_unref(rgb);
        rgb->format = AV_PIX_FMT_RGB24;
        rgb->width = from->width;
        rgb->height = from->height;
        if (av_frame_get_buffer(rgb, 0) < 0) {
            rgb->width = 0;
            return sk_fail_memory(err, "a clip's frame");
        }
    }
    if (image->width != from->width || image->height != from->height || !image->data) {
        sk_image_free(image);
        const sk_status status = sk_image_create(from->width, from->height, image, err);
        if (status != SK_OK)
            return status;
    }
    const int done = sws_scale(video->scaler, (const uint8_t *const *)from->data, from->linesize, 0, from->height,
                               rgb->data, rgb->linesize);
    if (done != from->height)
        return sk_fail(err, SK_ERR_UNSUPPORTED, "cannot read %s: no conversion from its pixel format to RGB",
                       video->path);
    const size_t row = (size_t)image->width * 3;
    for (int y = 0; y < image->height; y++)
        memcpy(image->data + (size_t)y * row, rgb->data[0] + (ptrdiff_t)y * rgb->linesize[0], row);
    return sk_image_orient(image, video->orientation, err);
}

/* Counted from the first frame: containers disagree on what their own zero is. */
static double frame_time(sk_video *video)
{
    const AVStream *stream = video->format->streams[video->stream];
    const int64_t stamp = video->frame->best_effort_timestamp;
    if (stamp == AV_NOPTS_VALUE)
        return video->frame_rate > 0 ? (double)video->index / video->frame_rate : 0;
    if (video->index == 0)
        video->first_stamp = stamp;
    return (double)(stamp - video->first_stamp) * av_q2d(stream->time_base);
}

static sk_status end_of_clip(sk_video *video, sk_error *err)
{
    /* Not the header's count: an edit list leaves out frames of the file. */
    const int64_t promised = avformat_index_get_entries_count(video->format->streams[video->stream]);
    video->ended = 1;
    if (video->index == 0)
        return sk_fail(err, SK_ERR_FORMAT, "cannot read %s: the clip has no frame", video->path);
    if (video->exact_count && video->packets < promised)
        return sk_fail(err, SK_ERR_FORMAT, "cannot read %s to the end: the clip is cut off after %lld of %lld frames",
                       video->path, (long long)video->packets, (long long)promised);
    return SK_OK;
}

sk_status sk_video_next(sk_video *video, sk_image *frame, int64_t *index, double *time_s, sk_error *err)
{
    *index = -1;
    if (time_s)
        *time_s = -1;
    while (!video->ended) {
        const int code = avcodec_receive_frame(video->decoder, video->frame);
        if (code == AVERROR_EOF)
            return end_of_clip(video, err);
        if (code == AVERROR(EAGAIN)) {
            const sk_status status = feed_decoder(video, err);
            if (status == SK_OK)
                continue;
            video->ended = 1;
            return status;
        }
        if (code == AVERROR_INVALIDDATA && video->index == 0 && !video->draining)
            continue;
        if (code < 0) {
            video->ended = 1;
            return video_fail(code, video->path, "the clip is cut off or broken", err);
        }
        const sk_status status = frame ? convert_frame(video, frame, err) : SK_OK;
        if (status == SK_OK) {
            const double time = frame_time(video);
            if (time_s)
                *time_s = time;
            *index = video->index++;
        } else {
            video->ended = 1;
        }
        av_frame_unref(video->frame);
        return status;
    }
    return SK_OK;
}

int sk_is_video_name(const char *path)
{
    static const char *const endings[] = {".mp4", ".m4v", ".mov", ".avi", ".mkv",  ".webm", ".mpg",   ".mpeg", ".ts",
                                          ".mts", ".3gp", ".flv", ".wmv", ".h264", ".264",  ".mjpeg", ".h265", ".asf"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (sk_has_suffix(path, endings[i]))
            return 1;
    return 0;
}
