/* The two sums of products: along a row, and down the columns; for AVX2 and for any processor. */
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define WITH_AVX2 1
#include <cpuid.h>
#include <immintrin.h>
#endif

#define HALF (1 << (FRACTION_BITS - 1))
/* A weight is also kept as high * 2^15 + low, for products of 16-bit numbers. */
#define LOW_BITS 15
#define BLOCK 32 /* bytes that one vector holds */

typedef struct {
    int64_t first, count;
} Span;

static uint8_t clipped(int32_t sum) {
    sum >>= FRACTION_BITS;
    return sum < 0 ? 0 : sum > 255 ? 255 : (uint8_t)sum;
}

static void row_plain(const uint8_t *row, const Span *spans, const void *packed, int64_t width, uint8_t *out) {
    const int32_t *weights = packed;
    for (int64_t x = 0; x < width; x++) {
        const uint8_t *pixel = row + 3 * spans[x].first;
        int32_t red = HALF, green = HALF, blue = HALF;
        for (int64_t i = 0; i < spans[x].count; i++, pixel += 3) {
            red += pixel[0] * weights[i];
            green += pixel[1] * weights[i];
            blue += pixel[2] * weights[i];
        }
        weights += (spans[x].count + GROUP - 1) / GROUP * GROUP;
        *out++ = clipped(red), *out++ = clipped(green), *out++ = clipped(blue);
    }
}

/* As many bytes of `out` as each of the rows has. */
static void column_plain(const uint8_t **rows, const int32_t *weights, int64_t count, int64_t bytes, uint8_t *out) {
    for (int64_t x = 0; x < bytes; x += BLOCK) {
        const int64_t end = bytes - x < BLOCK ? bytes - x : BLOCK;
        int32_t sums[BLOCK];
        for (int64_t j = 0; j < end; j++) sums[j] = HALF;
        for (int64_t i = 0; i < count; i++)
            for (int64_t j = 0; j < end; j++) sums[j] += rows[i][x + j] * weights[i];
        for (int64_t j = 0; j < end; j++) out[x + j] = clipped(sums[j]);
    }
}

static void pack_plain(const int32_t *weights, int64_t groups, void *packed) {
    memcpy(packed, weights, groups * GROUP * sizeof *weights);
}

#ifdef WITH_AVX2
#define AVX2 __attribute__((target("avx2")))

/* Two weights as one 32-bit word of their low or high halves: what _mm256_madd_epi16 multiplies by. */
static uint32_t low_pair(const int32_t *weights) {
    const uint32_t mask = (1u << LOW_BITS) - 1;
    return ((uint32_t)weights[0] & mask) | ((uint32_t)weights[1] & mask) << 16;
}

static uint32_t high_pair(const int32_t *weights) {
    return ((uint32_t)(weights[0] >> LOW_BITS) & 0xffff) | (uint32_t)(weights[1] >> LOW_BITS) << 16;
}

/* Per group two vectors, of low and of high halves: pixels 0 and 1 in the lower lane, 2 and 3 above. */
static void pack_avx2(const int32_t *weights, int64_t groups, void *packed) {
    uint32_t *words = packed;
    for (int64_t group = 0; group < groups; group++, weights += GROUP) {
        for (int j = 0; j < 4; j++) {
            *words = low_pair(weights), words[4] = low_pair(weights + 2);
            words[8] = high_pair(weights), words[12] = high_pair(weights + 2);
            words++;
        }
        words += 12;
    }
}

/* Sums wrap around where the low halves are many; the total fits, so it comes out right. */
AVX2 static inline __m256i whole(__m256i low, __m256i high) {
    return _mm256_add_epi32(low, _mm256_slli_epi32(high, LOW_BITS));
}

/* Reads 16 bytes a group, of which 12 are pixels; writes one byte more than the row has. */
AVX2 static void row_avx2(const uint8_t *row, const Span *spans, const void *packed, int64_t width, uint8_t *out) {
    const __m256i *weights = packed;
    const __m256i pairs = _mm256_setr_epi8(
        0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1,
        6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
    for (int64_t x = 0; x < width; x++, out += 3) {
        const uint8_t *pixel = row + 3 * spans[x].first;
        __m256i low = _mm256_setzero_si256(), high = low;
        for (int64_t i = 0; i < spans[x].count; i += GROUP, pixel += 3 * GROUP, weights += 2) {
            __m256i four = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)pixel));
            four = _mm256_shuffle_epi8(four, pairs);
            low = _mm256_add_epi32(low, _mm256_madd_epi16(four, _mm256_loadu_si256(weights)));
            high = _mm256_add_epi32(high, _mm256_madd_epi16(four, _mm256_loadu_si256(weights + 1)));
        }
        const __m256i lanes = whole(low, high);
        __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
        sum = _mm_srai_epi32(_mm_add_epi32(sum, _mm_set1_epi32(HALF)), FRACTION_BITS);
        sum = _mm_packs_epi32(sum, sum);
        const int32_t rgb = _mm_cvtsi128_si32(_mm_packus_epi16(sum, sum));
        memcpy(out, &rgb, 4);
    }
}

AVX2 static void column_avx2(const uint8_t **rows, const int32_t *weights, int64_t count, int64_t bytes, uint8_t *out) {
    const __m256i zero = _mm256_setzero_si256(), half = _mm256_set1_epi32(HALF);
    if (bytes < BLOCK) {
        column_plain(rows, weights, count, bytes, out);
        return;
    }
    for (int64_t at = 0; at < bytes; at += BLOCK) {
        /* The last block overlaps the one before, and so stays within the rows. */
        const int64_t x = at + BLOCK <= bytes ? at : bytes - BLOCK;
        __m256i low[4] = {half, half, half, half}, high[4] = {zero, zero, zero, zero};
        for (int64_t i = 0; i < count; i += 2) {
            /* The weight beside an odd last row is zero. */
            const uint8_t *next = rows[i + 1 < count ? i + 1 : i];
            const __m256i a = _mm256_loadu_si256((const __m256i *)(rows[i] + x));
            const __m256i b = _mm256_loadu_si256((const __m256i *)(next + x));
            const __m256i front = _mm256_unpacklo_epi8(a, b), back = _mm256_unpackhi_epi8(a, b);
            const __m256i pairs[4] = {
                _mm256_unpacklo_epi8(front, zero), _mm256_unpackhi_epi8(front, zero),
                _mm256_unpacklo_epi8(back, zero), _mm256_unpackhi_epi8(back, zero)};
            const __m256i lows = _mm256_set1_epi32((int32_t)low_pair(weights + i));
            const __m256i highs = _mm256_set1_epi32((int32_t)high_pair(weights + i));
            for (int j = 0; j < 4; j++) {
                low[j] = _mm256_add_epi32(low[j], _mm256_madd_epi16(pairs[j], lows));
                high[j] = _mm256_add_epi32(high[j], _mm256_madd_epi16(pairs[j], highs));
            }
        }
        for (int j = 0; j < 4; j++) low[j] = _mm256_srai_epi32(whole(low[j], high[j]), FRACTION_BITS);
        const __m256i done =
            _mm256_packus_epi16(_mm256_packs_epi32(low[0], low[1]), _mm256_packs_epi32(low[2], low[3]));
        _mm256_storeu_si256((__m256i *)(out + x), done);
    }
}

/* By hand: not every compiler's own library has what __builtin_cpu_supports refers to. */
static int has_avx2(void) {
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return 0;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & 6) != 6) return 0; /* the system keeps the wide registers */
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_AVX2);
}
#endif

typedef struct {
    void (*pack)(const int32_t *, int64_t, void *);
    void (*row)(const uint8_t *, const Span *, const void *, int64_t, uint8_t *);
    void (*column)(const uint8_t **, const int32_t *, int64_t, int64_t, uint8_t *);
    size_t weight; /* bytes that a packed weight takes */
} Kernel;

static Kernel kernel_of(int plain) {
#ifdef WITH_AVX2
    if (!plain && has_avx2()) return (Kernel){pack_avx2, row_avx2, column_avx2, 16};
#endif
    (void)plain;
    return (Kernel){pack_plain, row_plain, column_plain, sizeof(int32_t)};
}
