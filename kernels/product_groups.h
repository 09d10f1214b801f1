/* The product as work-groups make it together: blocks of both matrices in local memory, and
   EACH_ROWS x EACH_COLUMNS elements of the result in the registers of each work-item. */

#ifndef TILE_ROWS
#define TILE_ROWS 64
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
#define EACH_COLUMNS 8
#endif

#define ITEM_COLUMNS (TILE_COLUMNS / EACH_COLUMNS)
#define ITEM_ROWS (TILE_ROWS / EACH_ROWS)
#if ITEM_COLUMNS * ITEM_ROWS != ITEMS
#error "the work-items of a group don't cover a tile"
#endif
#define A_PITCH (TILE_ROWS + 4) /* in floats; not a multiple of the number of banks */
#define B_PITCH (TILE_COLUMNS + 4)
#define A_LOADS (TILE_ROWS * TILE_DEPTH / ITEMS)
#define B_LOADS (TILE_COLUMNS * TILE_DEPTH / ITEMS)

/* Loads a work-item's share of a block of lines (rows of a, columns of b), neighbours from
   neighbouring addresses. What lies outside the matrix is 0. */
static void fetch(float *values, int loads, int lines, global const ELEMENT *source,
                  local const int *line_places, int stride, int from, int depth) {
    const int item = get_local_id(0);
    if (stride == 1) {
#pragma unroll
        for (int i = 0; i < loads; i++) {
            const int index = item + i * ITEMS;
            const int k = from + index % TILE_DEPTH;
            const int place = line_places[index / TILE_DEPTH];
            values[i] = place >= 0 && k < depth ? ELEMENT_LOAD(source, place + k) : 0.0f;
        }
    } else {
#pragma unroll
        for (int i = 0; i < loads; i++) {
            const int index = item + i * ITEMS;
            const int k = from + index / lines;
            const int place = line_places[index % lines];
            values[i] = place >= 0 && k < depth ? ELEMENT_LOAD(source, place + k * stride) : 0.0f;
        }
    }
}

/* Puts what was fetched into local memory, as TILE_DEPTH rows of all lines. */
static void keep(const float *values, int loads, int lines, int pitch, local float *tile,
                 int stride) {
    const int item = get_local_id(0);
    if (stride == 1) {
#pragma unroll
        for (int i = 0; i < loads; i++) {
            const int index = item + i * ITEMS;
            tile[index % TILE_DEPTH * pitch + index / TILE_DEPTH] = values[i];
        }
    } else {
#pragma unroll
        for (int i = 0; i < loads; i++) {
            const int index = item + i * ITEMS;
            tile[index / lines * pitch + index % lines] = values[i];
        }
    }
}

kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void product(PRODUCT_ARGUMENTS) {
    local float4 a_tile[TILE_DEPTH * A_PITCH / 4], b_tile[TILE_DEPTH * B_PITCH / 4];
    local int a_places[TILE_ROWS], b_places[TILE_COLUMNS];
    const int item = get_local_id(0);
    const int item_row = item / ITEM_COLUMNS;
    const int item_column = item % ITEM_COLUMNS;
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
                a_places[line] = ROW_PLACE(row0 + line, tap);
            for (int line = item; line < TILE_COLUMNS; line += ITEMS)
                b_places[line] = column0 + line < columns
                                     ? (column0 + line) * b_column + tap * depth * b_depth
                                     : -1;
            barrier(CLK_LOCAL_MEM_FENCE);
            float a_next[A_LOADS], b_next[B_LOADS];
            fetch(a_next, A_LOADS, TILE_ROWS, left_matrix, a_places, a_depth, 0, depth);
            fetch(b_next, B_LOADS, TILE_COLUMNS, right_matrix, b_places, b_depth, 0, depth);
            for (int from = 0; from < depth; from += TILE_DEPTH) {
                keep(a_next, A_LOADS, TILE_ROWS, A_PITCH, (local float *)a_tile, a_depth);
                keep(b_next, B_LOADS, TILE_COLUMNS, B_PITCH, (local float *)b_tile, b_depth);
                barrier(CLK_LOCAL_MEM_FENCE);
                const int next = from + TILE_DEPTH;
                if (next < depth) {
                    fetch(a_next, A_LOADS, TILE_ROWS, left_matrix, a_places, a_depth, next, depth);
                    fetch(b_next, B_LOADS, TILE_COLUMNS, right_matrix, b_places, b_depth, next,
                          depth);
                }
#pragma unroll
                for (int k = 0; k < TILE_DEPTH; k++) {
                    float4 right[EACH_COLUMNS / 4];
#pragma unroll
                    for (int j = 0; j < EACH_COLUMNS / 4; j++)
                        right[j] = b_tile[k * B_PITCH / 4 + j * ITEM_COLUMNS + item_column];
#pragma unroll
                    for (int i = 0; i < EACH_ROWS / 4; i++) {
                        const float4 left4 = a_tile[k * A_PITCH / 4 + i * ITEM_ROWS + item_row];
#pragma unroll
                        for (int j = 0; j < EACH_COLUMNS / 4; j++) {
                            sums[4 * i][j] += left4.x * right[j];
                            sums[4 * i + 1][j] += left4.y * right[j];
                            sums[4 * i + 2][j] += left4.z * right[j];
                            sums[4 * i + 3][j] += left4.w * right[j];
                        }
                    }
                }
                barrier(CLK_LOCAL_MEM_FENCE);
            }
        }
#pragma unroll
        for (int i = 0; i < EACH_ROWS; i++) {
            const int row = row0 + (i / 4 * ITEM_ROWS + item_row) * 4 + i % 4;
#pragma unroll
            for (int j = 0; j < EACH_COLUMNS / 4; j++) {
                const int column = column0 + (j * ITEM_COLUMNS + item_column) * 4;
                const int count = min(BLOCK, columns - column);
                if (row < rows && count > 0) {
                    float4 value = sums[i][j];
                    if (bias) value += load_block(bias, column, count);
                    value = activate(value, activation, coefficient, slopes, column, count);
                    store_elements(value, output, (batch * rows + row) * columns + column, count);
                }
            }
        }
    }
}
