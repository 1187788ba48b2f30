/* A window of a resized RGB image, by the method of Pillow's documentation (Concepts, Filters):
 * every output pixel is a weighted sum of the input pixels under the filter, whose support grows with
 * the reduction; along rows and down columns apart, in 22-bit fixed point, rounded to 8 bits between.
 * The order of the floating-point operations is part of the result, so compile without contraction.
 *
 * Output rows are made one after another. Where rows are resized first, a ring holds those that the
 * next output row needs, so that memory does not grow with the input.
 */
#include <stdlib.h>

#include "weights.h"

#include "kernels.h"

/* Bytes that one strip may take, where a column alone does not take more. */
#define WORKSPACE (8 << 20)
/* What the loads of a row may read behind its last pixel. */
#define OVERREAD 16

enum { DONE = 0, NO_MEMORY = 1, BAD_ARGUMENTS = 2 };

/* A part of the window's columns, which the input columns from `from` to `to` decide. */
typedef struct {
    const uint8_t *pixels;
    int64_t height, width;
    Axis across, down;
    Kernel kernel;
    int64_t top, left, rows, columns, from, to;
    /* The rest is scratch. */
    double *exact;
    Span *spans;            /* under each column, counted from `from` */
    const uint8_t **needed; /* the rows under the filter */
    uint8_t *packed;        /* the columns' weights, as the kernel takes them */
    int32_t *weights;       /* of one output row or column */
    uint8_t *ring, *edge;
    int64_t ring_rows, ring_stride;
} Strip;

/* The part of an allocation that begins at `total`; while there is no allocation, only counts. */
static void *part(uint8_t *memory, size_t *total, size_t bytes) {
    uint8_t *begin = memory ? memory + *total : NULL;
    *total += (bytes + 63) / 64 * 64;
    return begin;
}

static size_t lay_out(Strip *strip, uint8_t *memory) {
    const int64_t across = strip->across.most + GROUP, down = strip->down.most + GROUP;
    const int64_t longest = across > down ? across : down;
    size_t total = 0;
    strip->exact = part(memory, &total, longest * sizeof *strip->exact);
    strip->spans = part(memory, &total, strip->columns * sizeof *strip->spans);
    strip->needed = part(memory, &total, down * sizeof *strip->needed);
    strip->packed = part(memory, &total, strip->columns * across * strip->kernel.weight);
    strip->weights = part(memory, &total, longest * sizeof *strip->weights);
    strip->ring = part(memory, &total, strip->ring_rows * strip->ring_stride);
    strip->edge = part(memory, &total, 3 * (strip->to - strip->from) + OVERREAD);
    return total;
}

static void weigh_columns(Strip *strip) {
    uint8_t *packed = strip->packed;
    for (int64_t x = 0; x < strip->columns; x++) {
        Span *under = &strip->spans[x];
        under->count = weigh(&strip->across, strip->left + x, &under->first, strip->weights);
        under->first -= strip->from;
        const int64_t groups = (under->count + GROUP - 1) / GROUP;
        strip->kernel.pack(strip->weights, groups, packed);
        packed += groups * GROUP * strip->kernel.weight;
    }
}

static const uint8_t *input_row(const Strip *strip, int64_t y) {
    return strip->pixels + 3 * (y * strip->width + strip->from);
}

/* As `input_row`, or a copy of it where the loads would run past the image's end. */
static const uint8_t *readable_row(const Strip *strip, int64_t y) {
    const uint8_t *row = input_row(strip, y);
    const int64_t behind = 3 * ((strip->height - y) * strip->width - strip->to);
    return behind >= OVERREAD ? row : memcpy(strip->edge, row, 3 * (strip->to - strip->from));
}

static void rows_then_columns(Strip *strip, uint8_t *out, int64_t stride) {
    int64_t first, made = 0; /* rows before `made` are in the ring, or were */
    for (int64_t y = 0; y < strip->rows; y++, out += stride) {
        const int64_t count = weigh(&strip->down, strip->top + y, &first, strip->weights);
        for (made = made < first ? first : made; made < first + count; made++) {
            uint8_t *slot = strip->ring + made % strip->ring_rows * strip->ring_stride;
            strip->kernel.row(readable_row(strip, made), strip->spans, strip->packed, strip->columns, slot);
        }
        for (int64_t i = 0; i < count; i++)
            strip->needed[i] = strip->ring + (first + i) % strip->ring_rows * strip->ring_stride;
        strip->kernel.column(strip->needed, strip->weights, count, 3 * strip->columns, out);
    }
}

static void columns_then_rows(Strip *strip, uint8_t *out, int64_t stride) {
    int64_t first;
    for (int64_t y = 0; y < strip->rows; y++, out += stride) {
        const int64_t count = weigh(&strip->down, strip->top + y, &first, strip->weights);
        for (int64_t i = 0; i < count; i++) strip->needed[i] = input_row(strip, first + i);
        strip->kernel.column(strip->needed, strip->weights, count, 3 * (strip->to - strip->from), strip->edge);
        strip->kernel.row(strip->edge, strip->spans, strip->packed, strip->columns, strip->ring);
        memcpy(out, strip->ring, 3 * strip->columns);
    }
}

static int resample(Strip strip, int columns_first, uint8_t *out, int64_t stride) {
    int64_t last;
    const int64_t reach = span(&strip.across, strip.left + strip.columns - 1, &last);
    span(&strip.across, strip.left, &strip.from);
    strip.to = last + reach;
    strip.ring_rows = columns_first ? 1 : strip.down.most;
    strip.ring_stride = 3 * strip.columns + 1; /* kernels of rows write one byte more */
    uint8_t *memory = malloc(lay_out(&strip, NULL));
    if (!memory) return NO_MEMORY;
    lay_out(&strip, memory);
    strip.across.exact = strip.down.exact = strip.exact;
    weigh_columns(&strip);
    (columns_first ? columns_then_rows : rows_then_columns)(&strip, out, stride);
    free(memory);
    return DONE;
}

/* Resizes a box of an RGB image to a size, of which a window is written.
 *
 * pixels: [height][width][3]. box: left, top, right, bottom in pixels of the image. filter: an index
 * into FILTERS. size: height, width of the whole result. window: top, left, height, width within it.
 * columns_first: not 0 to resize down columns first. plain: not 0 to do without vector instructions.
 * out: the window's rows, `stride` bytes apart; nothing else is written.
 * Returns DONE, NO_MEMORY or BAD_ARGUMENTS.
 */
int trunkline_resample_1(
    const uint8_t *pixels, int64_t height, int64_t width, const float box[4], int filter, const int64_t size[2],
    const int64_t window[4], int columns_first, int plain, uint8_t *out, int64_t stride) {
    const int boxed = box[0] >= 0 && box[0] < box[2] && box[2] <= (double)width && box[1] >= 0 && box[1] < box[3] &&
                      box[3] <= (double)height;
    const int windowed = window[0] >= 0 && window[2] > 0 && window[2] <= size[0] - window[0] && window[1] >= 0 &&
                         window[3] > 0 && window[3] <= size[1] - window[1];
    if (!boxed || !windowed || filter < 0 || filter >= FILTER_COUNT) return BAD_ARGUMENTS;
    Strip strip = {.pixels = pixels, .height = height, .width = width, .top = window[0], .rows = window[2]};
    strip.across = axis_of(width, box[0], box[2], size[1], filter);
    strip.down = axis_of(height, box[1], box[3], size[0], filter);
    strip.kernel = kernel_of(plain);
    /* Very long lines have very wide filters: their output is made in strips, by what a column takes. */
    const int64_t taken = (strip.across.most + GROUP) * (int64_t)strip.kernel.weight + 3 * strip.down.most;
    const int64_t most = WORKSPACE / taken < 1 ? 1 : WORKSPACE / taken;
    for (int64_t x = 0; x < window[3]; x += most) {
        strip.left = window[1] + x;
        strip.columns = most < window[3] - x ? most : window[3] - x;
        const int state = resample(strip, columns_first, out + 3 * x, stride);
        if (state != DONE) return state;
    }
    return DONE;
}
