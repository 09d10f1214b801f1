/* The product as work-groups make it together: blocks of both matrices in local memory, and
   EACH_ROWS x EACH_COLUMNS elements of the result in the registers of each work-item. */

#ifndef TILE_ROWS
#define TILE_ROWS 32
#endif
#ifndef TILE_COLUMNS
#define TILE_COLUMNS 64
#endif
#ifndef TILE_DEPTH
#define TILE_DEPTH 16
#endif
#ifndef EACH_ROWS
#define EACH_ROWS 8
#endif
#ifndef EACH_COLUMNS
#define EACH_COLUMNS 4
#endif

#ifndef WIDE
#define WIDE 1 /* whether four elements are loaded at once where they can be */
#endif

#define ALIGNED_LOAD4_float(pointer, index) (*(global const float4 *)((pointer) + (index)))
#define ALIGNED_LOAD4_half(pointer, index) vload_half4(0, (pointer) + (index))
#define ELEMENT_LOAD4(pointer, index) JOIN(ALIGNED_LOAD4_, ELEMENT)(pointer, index)

#define ITEM_COLUMNS (TILE_COLUMNS / EACH_COLUMNS)
#define ITEM_ROWS (TILE_ROWS / EACH_ROWS)
#if ITEM_COLUMNS * ITEM_ROWS != ITEMS || TILE_ROWS * TILE_DEPTH % (4 * ITEMS) || \
    TILE_COLUMNS * TILE_DEPTH % (4 * ITEMS)
#error "the work-items of a group don't cover a tile, or can't load blocks by four"
#endif
#define ITEM_ROW(i) (((i) / 4 * ITEM_ROWS + item_row) * 4 + (i) % 4) /* a work-item's i-th row */
#define A_PITCH (TILE_ROWS + 4) /* in floats; not a multiple of the number of banks */
#define B_PITCH (TILE_COLUMNS + 4)
#define A_LOADS (TILE_ROWS * TILE_DEPTH / ITEMS)
#define B_LOADS (TILE_COLUMNS * TILE_DEPTH / ITEMS)

/* For functions that have loops to unroll, or are called in them: how often is known once they are
   part of the kernel, and a compiler that inlines late warns of loops that it can't unroll. */
#define INLINED static __attribute__((always_inline))

/* Where a work-item's i-th element (or four, of the blocks' quarters) of a block lies in it, so that
   neighbours load neighbouring addresses: a line, and how deep. */
#define ALONG_DEPTH(width)                                                                          \
    const int index = item + i * ITEMS;                                                             \
    const int line = index / (TILE_DEPTH / width), k = index % (TILE_DEPTH / width) * width;
#define ACROSS_LINES(width)                                                                         \
    const int index = item + i * ITEMS;                                                             \
    const int line = index % (lines / width) * width, k = index / (lines / width);

/* Loads a work-item's share of a block of lines (rows of a, columns of b). What lies outside the
   matrix is 0. If wide, four neighbours never lie on both sides of an edge, and are aligned. */
INLINED void fetch(float *values, int loads, int lines, global const ELEMENT *source,
                   local const int *places, int stride, bool wide, int from, int depth) {
    const int item = get_local_id(0);
    if (stride == 1 && wide) {
#pragma unroll
        for (int i = 0; i < loads / 4; i++) {
            ALONG_DEPTH(4)
            const int place = places[line];
            float4 four = 0.0f;
            if (place >= 0 && from + k < depth) four = ELEMENT_LOAD4(source, place + from + k);
            values[4 * i] = four.x, values[4 * i + 1] = four.y;
            values[4 * i + 2] = four.z, values[4 * i + 3] = four.w;
        }
    } else if (stride == 1) {
#pragma unroll
        for (int i = 0; i < loads; i++) {
            ALONG_DEPTH(1)
            const int place = places[line];
            values[i] = 0.0f;
            if (place >= 0 && from + k < depth) values[i] = ELEMENT_LOAD(source, place + from + k);
        }
    } else if (wide) {
#pragma unroll
        for (int i = 0; i < loads / 4; i++) {
            ACROSS_LINES(4)
            const int place = places[line];
            float4 four = 0.0f;
            if (place >= 0 && from + k < depth)
                four = ELEMENT_LOAD4(source, place + (from + k) * stride);
            values[4 * i] = four.x, values[4 * i + 1] = four.y;
            values[4 * i + 2] = four.z, values[4 * i + 3] = four.w;
        }
    } else {
#pragma unroll
        for (int i = 0; i < loads; i++) {
            ACROSS_LINES(1)
            const int place = places[line];
            values[i] = 0.0f;
            if (place >= 0 && from + k < depth)
                values[i] = ELEMENT_LOAD(source, place + (from + k) * stride);
        }
    }
}

/* Puts what was fetched into local memory, as TILE_DEPTH rows of all lines. */
INLINED void keep(const float *values, int loads, int lines, int pitch, local float4 *tile4,
                  int stride, bool wide) {
    const int item = get_local_id(0);
    local float *tile = (local float *)tile4;
    if (stride == 1 && wide) {
#pragma unroll
        for (int i = 0; i < loads / 4; i++) {
            ALONG_DEPTH(4)
#pragma unroll
            for (int j = 0; j < 4; j++) tile[(k + j) * pitch + line] = values[4 * i + j];
        }
    } else if (stride == 1) {
#pragma unroll
        for (int i = 0; i < loads; i++) {
            ALONG_DEPTH(1)
            tile[k * pitch + line] = values[i];
        }
    } else if (wide) {
#pragma unroll
        for (int i = 0; i < loads / 4; i++) {
            ACROSS_LINES(4)
            tile4[(k * pitch + line) / 4] = (float4)(values[4 * i], values[4 * i + 1],
                                                     values[4 * i + 2], values[4 * i + 3]);
        }
    } else {
#pragma unroll
        for (int i = 0; i < loads; i++) {
            ACROSS_LINES(1)
            tile[k * pitch + line] = values[i];
        }
    }
}

/* Adds the product of two blocks to a work-item's sums. */
static void multiply(local const float4 *a_tile, local const float4 *b_tile,
                     float4 sums[EACH_ROWS][EACH_COLUMNS / 4]) {
#pragma unroll
    for (int k = 0; k < TILE_DEPTH; k++) {
        float4 right[EACH_COLUMNS / 4];
#pragma unroll
        for (int j = 0; j < EACH_COLUMNS / 4; j++)
            right[j] = b_tile[k * B_PITCH / 4 + j * ITEM_COLUMNS];
#pragma unroll
        for (int i = 0; i < EACH_ROWS / 4; i++) {
            const float4 four = a_tile[k * A_PITCH / 4 + i * ITEM_ROWS];
#pragma unroll
            for (int j = 0; j < EACH_COLUMNS / 4; j++) {
                sums[4 * i][j] += four.x * right[j];
                sums[4 * i + 1][j] += four.y * right[j];
                sums[4 * i + 2][j] += four.z * right[j];
                sums[4 * i + 3][j] += four.w * right[j];
            }
        }
    }
}

/* Adds the bias, applies the activation and stores count sums side by side. */
INLINED void finish(float4 value, int column, int count, global const DATA_TYPE *bias,
                    global const DATA_TYPE *slopes, int activation, float coefficient,
                    global ELEMENT *output, int index) {
    if (bias) value += load_block(bias, column, count);
    value = activate(value, activation, coefficient, slopes, column, count);
    store_elements(value, output, index + column, count);
}

kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void product(PRODUCT_ARGUMENTS) {
    local float4 a_tile[TILE_DEPTH * A_PITCH / 4], b_tile[TILE_DEPTH * B_PITCH / 4];
    local int a_places[TILE_ROWS], b_places[TILE_COLUMNS];
    const int item = get_local_id(0);
    const int item_row = item / ITEM_COLUMNS;
    const int item_column = item % ITEM_COLUMNS;
    const bool a_wide = WIDE && (a_depth == 1 ? (depth | a_row) % 4 == 0
                                              : a_row == 1 && (rows | a_depth) % 4 == 0);
    const bool b_wide = WIDE && (b_depth == 1 ? (depth | b_column) % 4 == 0
                                              : b_column == 1 && (columns | b_depth) % 4 == 0);
    for (int batch = get_group_id(2); batch < batches; batch += get_num_groups(2))
    for (int row0 = get_group_id(1) * TILE_ROWS; row0 < rows; row0 += get_num_groups(1) * TILE_ROWS)
    for (int column0 = get_group_id(0) * TILE_COLUMNS; column0 < columns;
         column0 += get_num_groups(0) * TILE_COLUMNS) {
        global const ELEMENT *left_matrix = a + (places ? places[2 * batch] : batch * a_batch);
        global const ELEMENT *right_matrix =
            b + (places ? places[2 * batch + 1] : batch * b_batch);
        float4 sums[EACH_ROWS][EACH_COLUMNS / 4];
#pragma unroll
        for (int i = 0; i < EACH_ROWS; i++)
#pragma unroll
            for (int j = 0; j < EACH_COLUMNS / 4; j++) sums[i][j] = 0.0f;
        for (int tap = 0; tap < taps; tap++) {
            barrier(CLK_LOCAL_MEM_FENCE);
            for (int line = item; line < TILE_ROWS; line += ITEMS)
                a_places[line] = place_row(row0 + line, tap, WINDOW);
            for (int line = item; line < TILE_COLUMNS; line += ITEMS)
                b_places[line] = column0 + line < columns
                                     ? (column0 + line) * b_column + tap * depth * b_depth
                                     : -1;
            barrier(CLK_LOCAL_MEM_FENCE);
            /* While a block is multiplied, the next one is on its way. */
            float a_next[A_LOADS], b_next[B_LOADS];
            for (int from = 0;; from += TILE_DEPTH) {
                if (from < depth) {
                    fetch(a_next, A_LOADS, TILE_ROWS, left_matrix, a_places, a_depth, a_wide, from,
                          depth);
                    fetch(b_next, B_LOADS, TILE_COLUMNS, right_matrix, b_places, b_depth, b_wide,
                          from, depth);
                }
                if (from > 0) {
                    multiply(a_tile + item_row, b_tile + item_column, sums);
                    barrier(CLK_LOCAL_MEM_FENCE);
                }
                if (from >= depth) break;
                keep(a_next, A_LOADS, TILE_ROWS, A_PITCH, a_tile, a_depth, a_wide);
                keep(b_next, B_LOADS, TILE_COLUMNS, B_PITCH, b_tile, b_depth, b_wide);
                barrier(CLK_LOCAL_MEM_FENCE);
            }
        }
        uint spoilt = 0; /* of four sums each: whether one is not a number */
#pragma unroll
        for (int i = 0; i < EACH_ROWS; i++) {
            const int row = row0 + ITEM_ROW(i);
#pragma unroll
            for (int j = 0; j < EACH_COLUMNS / 4; j++) {
                const int column = column0 + (j * ITEM_COLUMNS + item_column) * 4;
                const int count = min(BLOCK, columns - column);
                if (row < rows && count > 0) {
                    const float4 four = sums[i][j];
                    const float all = four.x + four.y + four.z + four.w;
                    spoilt |= (uint)(all != all) << (i * (EACH_COLUMNS / 4) + j);
                    finish(four, column, count, bias, slopes, activation, coefficient, output,
                           (batch * rows + row) * columns);
                }
            }
        }
        if (IS_PLAIN) spoilt = 0;
        for (int i = 0; spoilt; i++, spoilt >>= 1) {
            const int row = row0 + ITEM_ROW(i / (EACH_COLUMNS / 4));
            const int column = column0 + (i % (EACH_COLUMNS / 4) * ITEM_COLUMNS + item_column) * 4;
            if (!(spoilt & 1) || !reaches_over(row, WINDOW)) continue;
            for (int j = column; j < min(column + BLOCK, columns); j++) {
                const float sum = sum_inside(left_matrix, a_depth, right_matrix + j * b_column,
                                             b_depth, depth, row, WINDOW);
                finish(sum, j, 1, bias, slopes, activation, coefficient, output,
                       (batch * rows + row) * columns);
            }
        }
    }
}
