/* Filters, and the weights that they give the input pixels of one output pixel. */
#include <math.h>
#include <stdint.h>

#define FRACTION_BITS 22
#define GROUP 4 /* input pixels that one step of the vectors takes */

static double box_filter(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

static double bilinear_filter(double x) {
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

static double hamming_filter(double x) {
    x = fabs(x);
    if (x == 0.0) return 1.0;
    if (x >= 1.0) return 0.0;
    x *= 3.14159265358979323846;
    return sin(x) / x * (0.54f + 0.46f * cos(x)); /* single precision, as Pillow has them */
}

static double bicubic_filter(double x) {
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * a : 0.0;
}

static double sinc(double x) {
    if (x == 0.0) return 1.0;
    x *= 3.14159265358979323846;
    return sin(x) / x;
}

static double lanczos_filter(double x) { return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0; }

static const struct {
    double (*weight)(double);
    double support;
} FILTERS[] = {
    {box_filter, 0.5}, {bilinear_filter, 1.0}, {hamming_filter, 1.0}, {bicubic_filter, 2.0}, {lanczos_filter, 3.0},
};
#define FILTER_COUNT ((int)(sizeof FILTERS / sizeof *FILTERS))

/* One direction: a part of the input, from `begin`, becomes an output of some length. */
typedef struct {
    int64_t length; /* of the input */
    double begin, scale, stretch, support;
    double (*weight)(double);
    int64_t most; /* pixels under the filter at most */
    double *exact; /* scratch, [most] */
} Axis;

static Axis axis_of(int64_t length, float begin, float end, int64_t output, int filter) {
    Axis axis = {.length = length, .begin = begin, .weight = FILTERS[filter].weight};
    axis.scale = (double)(end - begin) / output;
    axis.stretch = axis.scale < 1.0 ? 1.0 : axis.scale;
    axis.support = FILTERS[filter].support * axis.stretch;
    axis.most = (int64_t)ceil(axis.support) * 2 + 1;
    if (axis.most > length) axis.most = length;
    return axis;
}

/* Where the pixels under output `at` begin, and how many they are. */
static int64_t span(const Axis *axis, int64_t at, int64_t *first) {
    const double centre = axis->begin + (at + 0.5) * axis->scale;
    int64_t from = (int64_t)(centre - axis->support + 0.5), to = (int64_t)(centre + axis->support + 0.5);
    if (from < 0) from = 0;
    if (to > axis->length) to = axis->length;
    *first = from;
    return to > from ? to - from : 0;
}

/* As `span`, with their weights in fixed point, padded with zeros to whole groups. */
static int64_t weigh(const Axis *axis, int64_t at, int64_t *first, int32_t *weights) {
    const double centre = axis->begin + (at + 0.5) * axis->scale, shrink = 1.0 / axis->stretch;
    const int64_t count = span(axis, at, first);
    double sum = 0.0;
    int64_t i;
    for (i = 0; i < count; i++) {
        axis->exact[i] = axis->weight((i + *first - centre + 0.5) * shrink);
        sum += axis->exact[i];
    }
    for (i = 0; i < count; i++) {
        const double part = sum != 0.0 ? axis->exact[i] / sum : axis->exact[i];
        weights[i] = (int32_t)(part * (1 << FRACTION_BITS) + (part < 0 ? -0.5 : 0.5));
    }
    for (; i % GROUP; i++) weights[i] = 0;
    return count;
}
