/* SPDX-License-Identifier: Apache-2.0 */
/* Clips: frame-exact decoding through FFmpeg's libraries, in process. */
#ifndef SISKIN_VIDEO_H
#define SISKIN_VIDEO_H

#include "siskin/image.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sk_video sk_video;

typedef struct sk_video_info {
    int width, height;
    double frames_per_second; /* average */
    int64_t frame_count;      /* as the container says, 0 if unknown */
} sk_video_info;

/* Opens the first video stream. Errors: IO, FORMAT (not a clip, no video stream), UNSUPPORTED (codec). */
sk_status sk_video_open(const char *path, sk_video **out, sk_video_info *info, sk_error *err);
/* The next frame in presentation order; *index is its 0-based number, *time_s its time in seconds. At the end
 * *index is -1 and SK_OK is returned. `frame` is (re)allocated as needed and stays owned by the caller;
 * NULL passes over a frame several times faster, since its colours are not converted. */
sk_status sk_video_next(sk_video *video, sk_image *frame, int64_t *index, double *time_s, sk_error *err);
void sk_video_close(sk_video *video);
/* Non-zero if the name ends in a usual clip extension (mp4, avi, mkv, mov, h264, ...). */
int sk_is_video_name(const char *path);

/* Writes RGB frames as MPEG-4 Part 2 in mp4, for demonstrations and tests. */
typedef struct sk_video_writer sk_video_writer;
sk_status sk_video_writer_open(const char *path, int width, int height, int frames_per_second, sk_video_writer **out,
                               sk_error *err);
sk_status sk_video_writer_add(sk_video_writer *writer, const sk_image *frame, sk_error *err);
/* Finishes the file, renames it into place and frees the writer, also on failure. */
sk_status sk_video_writer_close(sk_video_writer *writer, sk_error *err);

#ifdef __cplusplus
}
#endif
#endif
