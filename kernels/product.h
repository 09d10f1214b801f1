/* The kernel `product`: the product of two matrices, in tiles, with bias and activation.

   ELEMENT is float or half: what both matrices and the result are stored as. Rows of the left matrix
   may be windows of an image, which makes the product a convolution: a row is a pixel of the output,
   and for one tap of the filter after the other it is the pixel of the input under that tap, or zeros.

   A work-group makes one tile of the result after the other. On a processor its first work-item does,
   with blocks of both matrices in the processor's caches; elsewhere its work-items do, together. */

#include "common.h"
#include "processor.h"

#define ELEMENT_LOAD(pointer, index) JOIN(LOAD_, ELEMENT)(pointer, index)
#define ELEMENT_STORE(value, pointer, index) JOIN(STORE_, ELEMENT)(value, pointer, index)
#define ELEMENT_STORE4(value, pointer, index) JOIN(STORE4_, ELEMENT)(value, pointer, index)

#ifndef ITEMS
#define ITEMS 64 /* work-items of a group */
#endif

/* places: where each product of the batch begins in a and in b, or null: then one after the other.
   *_row, *_depth, *_column, *_batch: how many elements lie between neighbours along that axis. */
#define PRODUCT_ARGUMENTS                                                                           \
    global const ELEMENT *a, global const ELEMENT *b, global const DATA_TYPE *bias,                 \
        global const DATA_TYPE *slopes, global const int *places, global ELEMENT *output,           \
        const int batches, const int rows, const int columns, const int depth, const int a_row,     \
        const int a_depth, const int a_batch, const int b_depth, const int b_column,                \
        const int b_batch, const int height, const int width, const int output_height,              \
        const int output_width, const int kernel_width, const int taps, const int stride_y,         \
        const int stride_x, const int dilation_y, const int dilation_x, const int top,              \
        const int left, const int activation, const float coefficient

#define WINDOW_PARAMETERS                                                                           \
    int rows, int a_row, int height, int width, int output_height, int output_width,                \
        int kernel_width, int taps, int stride_y, int stride_x, int dilation_y, int dilation_x,     \
        int top, int left
#define WINDOW                                                                                      \
    rows, a_row, height, width, output_height, output_width, kernel_width, taps, stride_y, stride_x, \
        dilation_y, dilation_x, top, left

/* Whether rows of a are just that, and not windows: places are found without slow divisions. */
#define IS_PLAIN (taps == 1 && width == rows && output_width == rows && top == 0 && left == 0)

/* Where a row of a begins for a tap, or -1: zeros. */
static int place_row(int row, int tap, WINDOW_PARAMETERS) {
    if (IS_PLAIN) return row < rows ? row * a_row : -1;
    const int line = row / output_width;
    const int x = (row - line * output_width) * stride_x - left + tap % kernel_width * dilation_x;
    const int y = line % output_height * stride_y - top + tap / kernel_width * dilation_y;
    const bool inside = row < rows && x >= 0 && x < width && y >= 0 && y < height;
    return inside ? ((line / output_height * height + y) * width + x) * a_row : -1;
}

/* Whether a row's window reaches over the edge of its image: there it was multiplied as zeros, and 0
   times infinity is not a number. */
static bool reaches_over(int row, WINDOW_PARAMETERS) {
    for (int tap = 0; tap < taps; tap++)
        if (place_row(row, tap, WINDOW) < 0) return true;
    return false;
}

/* The sum for a row of a and a column, which begins at b, of what lies inside the image. */
static float sum_inside(global const ELEMENT *a, int a_depth, global const ELEMENT *b, int b_depth,
                        int depth, int row, WINDOW_PARAMETERS) {
    float sum = 0.0f;
    for (int tap = 0; tap < taps; tap++) {
        const int place = place_row(row, tap, WINDOW);
        for (int k = 0; k < (place < 0 ? 0 : depth); k++)
            sum += ELEMENT_LOAD(a, place + k * a_depth) *
                   ELEMENT_LOAD(b, (tap * depth + k) * b_depth);
    }
    return sum;
}

static void store_elements(float4 value, global ELEMENT *pointer, int index, int count) {
    if (count >= BLOCK) {
        ELEMENT_STORE4(value, pointer, index);
        return;
    }
    ELEMENT_STORE(value.x, pointer, index);
    if (count > 1) ELEMENT_STORE(value.y, pointer, index + 1);
    if (count > 2) ELEMENT_STORE(value.z, pointer, index + 2);
}

#if PROCESSOR
#include "product_processor.h"
#else
#include "product_groups.h"
#endif
