/* SPDX-License-Identifier: Apache-2.0 */
/* Writes clips as MPEG-4 Part 2 in mp4: the format of the feeder cameras this is made for, and one whose encoder every
 * build of FFmpeg carries. One thread and fixed quality, so that the same frames give the same file. */
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libswscale/swscale.h>
#include <string.h>

#include "base/base.h"
#include "siskin/video.h"

#define QUALITY 4 /* quantiser, 1 best to 31 */

struct sk_video_writer {
    sk_output *output;
    char *path;
    AVFormatContext *format;
    AVCodecContext *encoder;
    AVStream *stream;
    AVPacket *packet;
    AVFrame *frame, *rgb;
    struct SwsContext *scaler;
    int64_t count;
    sk_error failure; /* the first one; told again by close */
};

static sk_status writer_fail(int code, const char *path, sk_error *err)
{
    char text[AV_ERROR_MAX_STRING_SIZE] = "";
    av_strerror(code, text, sizeof text);
    if (code == AVERROR(ENOMEM))
        return sk_fail_memory(err, "writing a clip");
    return sk_fail(err, SK_ERR_IO, "cannot write %s: %s", path, text);
}

static sk_status frame_make(enum AVPixelFormat format, int width, int height, AVFrame **out, sk_error *err)
{
    AVFrame *frame = *out = av_frame_alloc();
    if (frame) {
        frame->format = format;
        frame->width = width;
        frame->height = height;
    }
    if (!frame || av_frame_get_buffer(frame, 0) < 0)
        return sk_fail_memory(err, "writing a clip");
    return SK_OK;
}

static sk_status open_encoder(sk_video_writer *w, int width, int height, int rate, sk_error *err)
{
    const AVCodec *codec = avcodec_find_encoder(AV_CODEC_ID_MPEG4);
    if (!codec)
        return sk_fail(err, SK_ERR_UNSUPPORTED, "cannot write %s: this FFmpeg has no MPEG-4 encoder", w->path);
    int code = avformat_alloc_output_context2(&w->format, NULL, "mp4", NULL);
    if (code < 0)
        return writer_fail(code, w->path, err);
    w->encoder = avcodec_alloc_context3(codec);
    w->stream = avformat_new_stream(w->format, NULL);
    w->packet = av_packet_alloc();
    if (!w->encoder || !w->stream || !w->packet)
        return sk_fail_memory(err, "writing a clip");
    AVCodecContext *e = w->encoder;
    e->width = width;
    e->height = height;
    e->pix_fmt = AV_PIX_FMT_YUV420P;
    e->time_base = (AVRational){1, rate};
    e->framerate = (AVRational){rate, 1};
    e->gop_size = 12;
    e->thread_count = 1;
    e->global_quality = FF_QP2LAMBDA * QUALITY;
    e->flags |= AV_CODEC_FLAG_QSCALE | AV_CODEC_FLAG_BITEXACT;
    if (w->format->oformat->flags & AVFMT_GLOBALHEADER)
        e->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
    w->format->flags |= AVFMT_FLAG_BITEXACT;
    if ((code = avcodec_open2(e, codec, NULL)) < 0 ||
        (code = avcodec_parameters_from_context(w->stream->codecpar, e)) < 0)
        return writer_fail(code, w->path, err);
    w->stream->time_base = e->time_base;
    w->stream->avg_frame_rate = e->framerate;
    return SK_OK;
}

static sk_status open_file(sk_video_writer *w, sk_error *err)
{
    sk_status status = sk_output_open(w->path, &w->output, err);
    if (status != SK_OK)
        return status;
    char *url = sk_format("file:%s", sk_output_part_path(w->output));
    if (!url)
        return sk_fail_memory(err, "writing a clip");
    int code = avio_open(&w->format->pb, url, AVIO_FLAG_WRITE);
    sk_free(url);
    if (code < 0 || (code = avformat_write_header(w->format, NULL)) < 0)
        return writer_fail(code, w->path, err);
    return SK_OK;
}

/* Releases everything but the output's name in the file system. */
static void writer_free(sk_video_writer *w)
{
    sws_freeContext(w->scaler);
    av_frame_free(&w->frame);
    av_frame_free(&w->rgb);
    av_packet_free(&w->packet);
    avcodec_free_context(&w->encoder);
    if (w->format) {
        if (w->format->pb)
            avio_closep(&w->format->pb);
        avformat_free_context(w->format);
    }
    if (w->output)
        sk_output_abort(w->output);
    sk_free(w->path);
    sk_free(w);
}

sk_status sk_video_writer_open(const char *path, int width, int height, int frames_per_second, sk_video_writer **out,
                               sk_error *err)
{
    *out = NULL;
    if (width < 16 || height < 16 || width > 4096 || height > 4096 || width % 2 || height % 2)
        return sk_fail(err, SK_ERR_ARGUMENT, "cannot write %s: %d x %d pixels; sides must be even, 16 to 4096", path,
                       width, height);
    if (frames_per_second < 1 || frames_per_second > 240)
        return sk_fail(err, SK_ERR_ARGUMENT, "cannot write %s: %d frames per second are outside 1 to 240", path,
                       frames_per_second);
    if (av_log_get_level() == AV_LOG_INFO)
        av_log_set_level(AV_LOG_QUIET);
    sk_video_writer *w = sk_calloc(1, sizeof *w);
    if (!w)
        return sk_fail_memory(err, "writing a clip");
    sk_status status = SK_OK;
    w->path = sk_strdup(path);
    if (!w->path) {
        status = sk_fail_memory(err, "writing a clip");
        goto fail;
    }
    if ((status = open_encoder(w, width, height, frames_per_second, err)) != SK_OK ||
        (status = frame_make(AV_PIX_FMT_YUV420P, width, height, &w->frame, err)) != SK_OK ||
        (status = frame_make(AV_PIX_FMT_RGB24, width, height, &w->rgb, err)) != SK_OK ||
        (status = open_file(w, err)) != SK_OK)
        goto fail;
    w->scaler = sws_getContext(width, height, AV_PIX_FMT_RGB24, width, height, AV_PIX_FMT_YUV420P,
                               SWS_BICUBIC | SWS_ACCURATE_RND | SWS_BITEXACT | SWS_FULL_CHR_H_INP, NULL, NULL, NULL);
    if (!w->scaler) {
        status = sk_fail_memory(err, "writing a clip");
        goto fail;
    }
    *out = w;
    return SK_OK;
fail:
    writer_free(w);
    return status;
}

static sk_status write_packets(sk_video_writer *w, const AVFrame *frame, sk_error *err)
{
    int code = avcodec_send_frame(w->encoder, frame);
    while (code >= 0) {
        code = avcodec_receive_packet(w->encoder, w->packet);
        if (code == AVERROR(EAGAIN) || code == AVERROR_EOF)
            return SK_OK;
        if (code < 0)
            break;
        w->packet->duration = 1;
        w->packet->stream_index = w->stream->index;
        av_packet_rescale_ts(w->packet, w->encoder->time_base, w->stream->time_base);
        code = av_interleaved_write_frame(w->format, w->packet);
    }
    return writer_fail(code, w->path, err);
}

sk_status sk_video_writer_add(sk_video_writer *w, const sk_image *image, sk_error *err)
{
    if (w->failure.code != SK_OK) {
        if (err)
            *err = w->failure;
        return w->failure.code;
    }
    if (image->width != w->encoder->width || image->height != w->encoder->height || !image->data) {
        sk_fail(&w->failure, SK_ERR_ARGUMENT, "cannot write %s: a frame has %d x %d pixels, the clip %d x %d", w->path,
                image->width, image->height, w->encoder->width, w->encoder->height);
        if (err)
            *err = w->failure;
        return SK_ERR_ARGUMENT;
    }
    const size_t row = (size_t)image->width * 3;
    for (int y = 0; y < image->height; y++)
        memcpy(w->rgb->data[0] + (ptrdiff_t)y * w->rgb->linesize[0], image->data + (size_t)y * row, row);
    sk_status status = SK_OK;
    if (av_frame_make_writable(w->frame) < 0) {
        status = sk_fail_memory(&w->failure, "writing a clip");
    } else {
        sws_scale(w->scaler, (const uint8_t *const *)w->rgb->data, w->rgb->linesize, 0, image->height, w->frame->data,
                  w->frame->linesize);
        w->frame->pts = w->count++;
        w->frame->quality = w->encoder->global_quality;
        status = write_packets(w, w->frame, &w->failure);
    }
    if (status != SK_OK && err)
        *err = w->failure;
    return status;
}

sk_status sk_video_writer_close(sk_video_writer *w, sk_error *err)
{
    if (!w)
        return SK_OK;
    sk_status status = w->failure.code;
    if (status == SK_OK)
        status = write_packets(w, NULL, &w->failure);
    if (status == SK_OK) {
        int code = av_write_trailer(w->format);
        const int closed = avio_closep(&w->format->pb);
        code = code < 0 ? code : closed;
        if (code < 0)
            status = writer_fail(code, w->path, &w->failure);
    }
    if (status == SK_OK) {
        status = sk_output_commit(w->output, &w->failure);
        w->output = NULL;
    }
    if (status != SK_OK && err)
        *err = w->failure;
    writer_free(w);
    return status;
}
