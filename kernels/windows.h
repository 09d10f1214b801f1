/* What slides windows over NHWC tensors shares: tiles of output pixels, and sums over channels. */

#include "common.h"

/* A tile is ROWS output pixels, one below the other: what each sees of a row is the same. Three rows
   of BLOCK sums of 8 lanes, and what is multiplied, fit into 16 registers. */
#define ROWS 3
#define LANES 8
#define UNROLLED _Pragma("unroll")
#define ROLLED _Pragma("unroll 1") /* once is fast enough, and compiled sooner */

struct tile {
    int image, row, x; /* row: of tiles */
};

static struct tile find_tile(int number, int rows, int width) {
    const int line = number / width, image = line / rows;
    const struct tile tile = {image, line - image * rows, number - line * width};
    return tile;
}

/* Of two numbers. min and max would be calls where a driver doesn't inline its library. */
static int smaller(int a, int b) { return a < b ? a : b; }

static int larger(int a, int b) { return a > b ? a : b; }

/* The first of a window's taps that lies inside an axis, and the one after the last. */
static int first_inside(int at, int dilation) {
    return at >= 0 ? 0 : (dilation - 1 - at) / dilation;
}

static int last_inside(int at, int length, int size, int dilation) {
    const bool all = at + (size - 1) * dilation < length;
    return all ? size : (length - at + dilation - 1) / dilation;
}

/* Add to sums[r][b] the products of run numbers of input[r] and filter[b], those where inside[r] is
   -1; where it is 0, none. Runs shorter than a vector add to rest[r].s[b]. "None" is 0 times the
   filter, so that infinity spoils the sum: sum_again mends it, and this loop has no branches. */
static void add_products(float8 sums[ROWS][BLOCK], float4 rest[ROWS],
                         global const DATA_TYPE *const input[ROWS], const int inside[ROWS],
                         global const DATA_TYPE *const filter[BLOCK], int run) {
    int c = 0;
    /* Whole vectors, then one that ends with the run: what it holds for a second time is zeroed. */
    for (int end = run / LANES * LANES; run >= LANES && c < run; end = run) {
        const int again = end - c < LANES ? LANES - (end - c) : 0;
        c -= again;
        int8 keep[ROWS];
        UNROLLED for (int r = 0; r < ROWS; r++)
            keep[r] = inside[r] & ((int8)(0, 1, 2, 3, 4, 5, 6, 7) >= again);
        ROLLED for (; c < end; c += LANES) {
            float8 value[ROWS];
            UNROLLED for (int r = 0; r < ROWS; r++)
                value[r] = as_float8(as_int8(LOAD8(input[r], c)) & keep[r]);
            UNROLLED for (int b = 0; b < BLOCK; b++) {
                const float8 weight = LOAD8(filter[b], c);
                UNROLLED for (int r = 0; r < ROWS; r++) sums[r][b] += value[r] * weight;
            }
        }
    }
    ROLLED for (; c < run; c++) {
        const float4 weight = (float4)(LOAD(filter[0], c), LOAD(filter[1], c), LOAD(filter[2], c),
                                       LOAD(filter[3], c));
        UNROLLED for (int r = 0; r < ROWS; r++)
            rest[r] += as_float(as_int(LOAD(input[r], c)) & inside[r]) * weight;
    }
}

/* The taps that an output pixel may see along an axis, and where in the input the first and each
   next one lies, or would. */
struct taps {
    int first, end, step, at, apart;
};

/* The sums of one pixel, product by product. run: channels of a tap. */
static float4 sum_products(global const DATA_TYPE *input, int image, int height, int width,
                           int channels, global const DATA_TYPE *filters, int filter_size, int count,
                           int kernel_width, int run, struct taps down, struct taps across) {
    float4 sum = 0.0f;
    for (int ky = down.first, y = down.at; ky < down.end; ky += down.step, y += down.apart)
        for (int kx = across.first, x = across.at; kx < across.end;
             kx += across.step, x += across.apart) {
            if (y < 0 || y >= height || x < 0 || x >= width) continue;
            const int from = ((image * height + y) * width + x) * channels;
            const int tap = (ky * kernel_width + kx) * run;
            for (int c = 0; c < run; c++)
                sum += LOAD(input, from + c) *
                       (float4)(LOAD(filters, tap + c),
                                LOAD(filters, tap + c + smaller(1, count - 1) * filter_size),
                                LOAD(filters, tap + c + smaller(2, count - 1) * filter_size),
                                LOAD(filters, tap + c + smaller(3, count - 1) * filter_size));
        }
    return sum;
}

/* Make a tile's sums again if one is not a number: infinity may have met a 0 that stands for nothing.
   row_step: between what the tile's rows see. */
static void sum_again(float4 sums[ROWS], int row_step, global const DATA_TYPE *input, int image,
                      int height, int width, int channels, global const DATA_TYPE *filters,
                      int filter_size, int count, int kernel_width, int run, struct taps down,
                      struct taps across) {
    const float4 rows = sums[0] + sums[1] + sums[2];
    const float all = rows.x + rows.y + rows.z + rows.w;
    if (all == all) return;
    ROLLED for (int r = 0; r < ROWS; r++, down.at += row_step)
        sums[r] = sum_products(input, image, height, width, channels, filters, filter_size, count,
                               kernel_width, run, down, across);
}

/* The totals of four sums. */
static float4 add_lanes(const float8 sums[BLOCK]) {
    const float4 a = sums[0].lo + sums[0].hi, b = sums[1].lo + sums[1].hi;
    const float4 c = sums[2].lo + sums[2].hi, d = sums[3].lo + sums[3].hi;
    return (float4)(a.x, b.x, c.x, d.x) + (float4)(a.y, b.y, c.y, d.y) +
           (float4)(a.z, b.z, c.z, d.z) + (float4)(a.w, b.w, c.w, d.w);
}

/* Add the bias, apply the activation and store: rows pixels of count channels, index apart. */
static void finish(const float4 sums[ROWS], global const DATA_TYPE *bias,
                   global const DATA_TYPE *slopes, global DATA_TYPE *output, int index, int step,
                   int rows, int channel, int count, int activation, float coefficient) {
    const float4 shift = bias ? load_block(bias, channel, count) : 0.0f;
    for (int r = 0; r < rows; r++) {
        const float4 sum = activate(sums[r] + shift, activation, coefficient, slopes, channel, count);
        store_block(sum, output, index + r * step + channel, count);
    }
}

/* What output channels see of a pixel where channel c sees input channel c / multiplier. */
static float4 load_channels(global const DATA_TYPE *input, int from, int channel, int count,
                            int multiplier) {
    if (multiplier == 1 && count >= BLOCK) return LOAD4(input, from + channel);
    const int last = channel + count - 1;
    return (float4)(LOAD(input, from + channel / multiplier),
                    LOAD(input, from + smaller(channel + 1, last) / multiplier),
                    LOAD(input, from + smaller(channel + 2, last) / multiplier),
                    LOAD(input, from + last / multiplier));
}
