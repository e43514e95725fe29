/* SPDX-License-Identifier: Apache-2.0 */
/* The text that cameras and recorders draw over their pictures, in a 5 x 7 dot font of our own drawing. */
#include <math.h>
#include <string.h>

#include "image/effects.h"

enum { WIDE = 5, HIGH = 7, STEP = 6, FINE = 3 };

/* Seven rows from the top, five dots each, the left one in bit 4. */
static const struct {
    char sign;
    uint8_t row[HIGH];
} font[] = {
    {'0', {0x0E, 0x11, 0x11, 0x11, 0x11, 0x11, 0x0E}}, {'1', {0x04, 0x0C, 0x04, 0x04, 0x04, 0x04, 0x0E}},
    {'2', {0x0E, 0x11, 0x01, 0x02, 0x04, 0x08, 0x1F}}, {'3', {0x0E, 0x11, 0x01, 0x06, 0x01, 0x11, 0x0E}},
    {'4', {0x02, 0x06, 0x0A, 0x12, 0x1F, 0x02, 0x02}}, {'5', {0x1F, 0x10, 0x1E, 0x01, 0x01, 0x11, 0x0E}},
    {'6', {0x06, 0x08, 0x10, 0x1E, 0x11, 0x11, 0x0E}}, {'7', {0x1F, 0x01, 0x02, 0x02, 0x04, 0x04, 0x04}},
    {'8', {0x0E, 0x11, 0x11, 0x0E, 0x11, 0x11, 0x0E}}, {'9', {0x0E, 0x11, 0x11, 0x0F, 0x01, 0x02, 0x0C}},
    {'A', {0x04, 0x0A, 0x11, 0x11, 0x1F, 0x11, 0x11}}, {'B', {0x1E, 0x11, 0x11, 0x1E, 0x11, 0x11, 0x1E}},
    {'C', {0x0E, 0x11, 0x10, 0x10, 0x10, 0x11, 0x0E}}, {'D', {0x1E, 0x11, 0x11, 0x11, 0x11, 0x11, 0x1E}},
    {'E', {0x1F, 0x10, 0x10, 0x1E, 0x10, 0x10, 0x1F}}, {'F', {0x1F, 0x10, 0x10, 0x1E, 0x10, 0x10, 0x10}},
    {'G', {0x0E, 0x11, 0x10, 0x17, 0x11, 0x11, 0x0F}}, {'H', {0x11, 0x11, 0x11, 0x1F, 0x11, 0x11, 0x11}},
    {'I', {0x0E, 0x04, 0x04, 0x04, 0x04, 0x04, 0x0E}}, {'J', {0x07, 0x02, 0x02, 0x02, 0x02, 0x12, 0x0C}},
    {'K', {0x11, 0x12, 0x14, 0x18, 0x14, 0x12, 0x11}}, {'L', {0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x1F}},
    {'M', {0x11, 0x1B, 0x15, 0x15, 0x11, 0x11, 0x11}}, {'N', {0x11, 0x19, 0x19, 0x15, 0x13, 0x13, 0x11}},
    {'O', {0x0E, 0x11, 0x11, 0x11, 0x11, 0x11, 0x0E}}, {'P', {0x1E, 0x11, 0x11, 0x1E, 0x10, 0x10, 0x10}},
    {'Q', {0x0E, 0x11, 0x11, 0x11, 0x15, 0x12, 0x0D}}, {'R', {0x1E, 0x11, 0x11, 0x1E, 0x14, 0x12, 0x11}},
    {'S', {0x0F, 0x10, 0x10, 0x0E, 0x01, 0x01, 0x1E}}, {'T', {0x1F, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04}},
    {'U', {0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x0E}}, {'V', {0x11, 0x11, 0x11, 0x11, 0x0A, 0x0A, 0x04}},
    {'W', {0x11, 0x11, 0x11, 0x15, 0x15, 0x1B, 0x11}}, {'X', {0x11, 0x11, 0x0A, 0x04, 0x0A, 0x11, 0x11}},
    {'Y', {0x11, 0x11, 0x0A, 0x04, 0x04, 0x04, 0x04}}, {'Z', {0x1F, 0x01, 0x02, 0x04, 0x08, 0x10, 0x1F}},
    {':', {0x00, 0x0C, 0x0C, 0x00, 0x0C, 0x0C, 0x00}}, {'-', {0x00, 0x00, 0x00, 0x0E, 0x00, 0x00, 0x00}},
    {'/', {0x01, 0x01, 0x02, 0x04, 0x08, 0x10, 0x10}}, {'.', {0x00, 0x00, 0x00, 0x00, 0x00, 0x0C, 0x0C}},
    {'%', {0x18, 0x19, 0x02, 0x04, 0x08, 0x13, 0x03}}, {'*', {0x06, 0x09, 0x09, 0x06, 0x00, 0x00, 0x00}},
};

static const uint8_t *glyph(char sign)
{
    for (size_t i = 0; i < sizeof font / sizeof *font; i++)
        if (font[i].sign == sign)
            return font[i].row;
    return NULL;
}

/* Where the text lies: `dot` is the side of a dot of the font, left and top the place of the first one. */
typedef struct layout {
    double dot, left, top;
    int columns;            /* dots across the text */
    int x0, y0, x1, y1;     /* pixels that text, outline or box may touch */
} layout;

static layout lay_out(const sk_stamp *stamp, int size)
{
    layout l = {.columns = (int)strlen(stamp->text) * STEP - 1};
    l.dot = fmin(stamp->height / HIGH, size / (l.columns + 4.0));
    const double rim = 1.5 * l.dot;
    l.left = rim + stamp->x * (size - 2 * rim - l.columns * l.dot);
    l.top = rim + stamp->y * (size - 2 * rim - HIGH * l.dot);
    l.x0 = (int)fmax(floor(l.left - rim), 0);
    l.y0 = (int)fmax(floor(l.top - rim), 0);
    l.x1 = (int)fmin(ceil(l.left + l.columns * l.dot + rim), size);
    l.y1 = (int)fmin(ceil(l.top + HIGH * l.dot + rim), size);
    return l;
}

/* Number of the dot, from `start`, in which sub-point `part` of pixel `at` lies. */
static int dot_of(int at, int part, double start, double dot)
{
    return (int)floor((at + (part + 0.5) / FINE - start) / dot);
}

/* Sub-points of pixel x, y that are inked, `row` and `column` being its dots. */
static int inked(const char *text, int columns, const int row[FINE], const int column[FINE])
{
    int count = 0;
    for (int u = 0; u < FINE; u++) {
        if (column[u] < 0 || column[u] >= columns || column[u] % STEP == WIDE)
            continue;
        const uint8_t *rows = glyph(text[column[u] / STEP]);
        for (int v = 0; rows && v < FINE; v++)
            if (row[v] >= 0 && row[v] < HIGH)
                count += rows[row[v]] >> (WIDE - 1 - column[u] % STEP) & 1;
    }
    return count;
}

/* Ink of the text per pixel of the layout, 0 to 255. */
static void cover(const char *text, const layout *l, uint8_t *out)
{
    const int wide = l->x1 - l->x0, high = l->y1 - l->y0;
    for (int x = 0; x < wide; x++) {
        int column[FINE];
        for (int u = 0; u < FINE; u++)
            column[u] = dot_of(l->x0 + x, u, l->left, l->dot);
        for (int y = 0; y < high; y++) {
            int row[FINE];
            for (int v = 0; v < FINE; v++)
                row[v] = dot_of(l->y0 + y, v, l->top, l->dot);
            out[y * wide + x] = (uint8_t)(255 / (FINE * FINE) * inked(text, l->columns, row, column));
        }
    }
}

static int spread(const uint8_t *ink, int wide, int high, int x, int y, int by)
{
    int most = 0;
    for (int v = y - by; v <= y + by; v++)
        for (int u = x - by; u <= x + by; u++)
            if (u >= 0 && u < wide && v >= 0 && v < high && ink[v * wide + u] > most)
                most = ink[v * wide + u];
    return most;
}

static void blend(uint8_t *p, const uint8_t colour[3], int share)
{
    for (int c = 0; c < 3; c++)
        p[c] = (uint8_t)(p[c] + ((colour[c] - p[c]) * share + (colour[c] > p[c] ? 127 : -127)) / 255);
}

sk_status sk_stamp_draw(uint8_t *pixels, int size, const sk_stamp *stamp, sk_error *err)
{
    if (!stamp->text[0])
        return SK_OK;
    const layout l = lay_out(stamp, size);
    const int wide = l.x1 - l.x0, high = l.y1 - l.y0, by = l.dot < 1.5 ? 1 : (int)lrint(l.dot * 0.75);
    uint8_t *ink = sk_alloc((size_t)wide * (size_t)high, 1);
    if (!ink)
        return sk_fail_memory(err, "the text on a picture");
    cover(stamp->text, &l, ink);
    const int from = stamp->ground == SK_TEXT_STRIP ? 0 : l.x0, to = stamp->ground == SK_TEXT_STRIP ? size : l.x1;
    for (int y = 0; y < high; y++) {
        for (int x = from; x < to; x++) {
            uint8_t *p = pixels + ((size_t)(y + l.y0) * (size_t)size + (size_t)x) * 3;
            const int inside = x >= l.x0 && x < l.x1, u = x - l.x0;
            blend(p, stamp->back, stamp->ground == SK_TEXT_OUTLINE ? spread(ink, wide, high, u, y, by) : 255);
            if (inside)
                blend(p, stamp->ink, ink[y * wide + u]);
        }
    }
    sk_free(ink);
    return SK_OK;
}
