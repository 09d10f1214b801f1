/* Products of matrices, fully connected layers, and convolutions as products. */

#define ELEMENT DATA_TYPE

#include "product.h"

#if PROCESSOR
#define COLUMNS_AT_A_TIME 64

/* The sums of COLUMNS_AT_A_TIME neighbouring columns, or as many as there are. */
static void multiply_row(global const DATA_TYPE *a, global const DATA_TYPE *b, int count, int depth,
                         int b_depth, int b_column, local float *sums) {
    if (b_depth == 1) {
        for (int j = 0; j < count; j++) sums[j] = dot_line(a, b + j * b_column, depth);
    } else if (b_column == 1 && count == COLUMNS_AT_A_TIME) {
        float8 sum0 = 0.0f, sum1 = 0.0f, sum2 = 0.0f, sum3 = 0.0f;
        float8 sum4 = 0.0f, sum5 = 0.0f, sum6 = 0.0f, sum7 = 0.0f;
        for (int k = 0; k < depth; k++) {
            const float value = LOAD(a, k);
            global const DATA_TYPE *line = b + k * b_depth;
            sum0 += value * ELEMENT_VLOAD(line);
            sum1 += value * ELEMENT_VLOAD(line + VECTOR);
            sum2 += value * ELEMENT_VLOAD(line + 2 * VECTOR);
            sum3 += value * ELEMENT_VLOAD(line + 3 * VECTOR);
            sum4 += value * ELEMENT_VLOAD(line + 4 * VECTOR);
            sum5 += value * ELEMENT_VLOAD(line + 5 * VECTOR);
            sum6 += value * ELEMENT_VLOAD(line + 6 * VECTOR);
            sum7 += value * ELEMENT_VLOAD(line + 7 * VECTOR);
        }
        STORE_VECTOR(sum0, sums);
        STORE_VECTOR(sum1, sums + VECTOR);
        STORE_VECTOR(sum2, sums + 2 * VECTOR);
        STORE_VECTOR(sum3, sums + 3 * VECTOR);
        STORE_VECTOR(sum4, sums + 4 * VECTOR);
        STORE_VECTOR(sum5, sums + 5 * VECTOR);
        STORE_VECTOR(sum6, sums + 6 * VECTOR);
        STORE_VECTOR(sum7, sums + 7 * VECTOR);
    } else {
        for (int j = 0; j < count; j++) sums[j] = 0.0f;
        for (int k = 0; k < depth; k++)
            for (int j = 0; j < count; j++)
                sums[j] += LOAD(a, k) * LOAD(b, k * b_depth + j * b_column);
    }
}
#else
#define SLICES 8 /* of the depth, each one work-item's */
#define COLUMNS_AT_A_TIME (ITEMS / SLICES)
#endif

/* The product of few rows with a matrix, which is read once for each: a group at a time makes some
   columns of one row. Rows lie one after the other; bias may be null. */
kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void row_product(
    global const DATA_TYPE *a, global const DATA_TYPE *b, global const DATA_TYPE *bias,
    global const DATA_TYPE *slopes, global DATA_TYPE *output, int rows, int columns, int depth,
    int b_depth, int b_column, int activation, float coefficient) {
    local float8 shared[ITEMS / 8];
    local float *sums = (local float *)shared;
    const int item = get_local_id(0);
#if PROCESSOR
    if (item) return;
#endif
    for (int row = get_group_id(1); row < rows; row += get_num_groups(1))
    for (int column = get_group_id(0) * COLUMNS_AT_A_TIME; column < columns;
         column += get_num_groups(0) * COLUMNS_AT_A_TIME) {
        const int count = min(COLUMNS_AT_A_TIME, columns - column);
        global const DATA_TYPE *left = a + row * depth;
        global const DATA_TYPE *right = b + column * b_column;
#if PROCESSOR
        multiply_row(left, right, count, depth, b_depth, b_column, sums);
        store_row(sums, column, count, bias, slopes, activation, coefficient,
                  output + row * columns);
#else
        /* Neighbours read along the axis whose elements lie side by side. */
        const int j = b_depth == 1 ? item / SLICES : item % COLUMNS_AT_A_TIME;
        const int slice = b_depth == 1 ? item % SLICES : item / COLUMNS_AT_A_TIME;
        float sum = 0.0f;
        if (j < count)
#ifndef __SPIR__ /* its compilers unroll no loop with a call, as a half's load is, and warn of it */
#pragma unroll 8
#endif
            for (int k = slice; k < depth; k += SLICES)
                sum += LOAD(left, k) * LOAD(right, k * b_depth + j * b_column);
        sums[slice * COLUMNS_AT_A_TIME + j] = sum;
        barrier(CLK_LOCAL_MEM_FENCE);
        if (item * BLOCK < count) {
            const int from = item * BLOCK;
            float4 value = 0.0f;
            for (int s = 0; s < SLICES; s++)
                value += vload4(0, sums + s * COLUMNS_AT_A_TIME + from);
            if (bias) value += load_block(bias, column + from, count - from);
            value = activate(value, activation, coefficient, slopes, column + from, count - from);
            store_block(value, output, row * columns + column + from, count - from);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
#endif
    }
}
