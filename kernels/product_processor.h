/* The product as a processor makes it: the first work-item of each group packs blocks of both
   matrices, which stay in the processor's caches, and keeps EACH_ROWS x PANEL sums in registers. */

#define VECTOR 8
#define PANEL (2 * VECTOR) /* columns that are multiplied at a time */
#define EACH_ROWS 6 /* 12 vectors of sums: AVX2 has 16 registers */
#define ALL_ROWS(F) F(0) F(1) F(2) F(3) F(4) F(5)
#define TILE_ROWS 192
#define TILE_COLUMNS 128
#define TILE_DEPTH 128

/* PoCL calls vload8 as a function, for which all vectors leave their registers. */
#define VECTOR_TYPE float8
#define LOAD_VECTOR(pointer) (*(local const float8 *)(pointer))
#define STORE_VECTOR(value, pointer) (*(local float8 *)(pointer) = (value))
#define VLOAD_float(pointer) (*(global const unaligned_float8 *)(pointer))
#define VLOAD_half(pointer) load_halves((global const unaligned_ushort8 *)(pointer))
#define ELEMENT_VLOAD(pointer) JOIN(VLOAD_, ELEMENT)(pointer)
#define BIAS_VLOAD(pointer) JOIN(VLOAD_, DATA_TYPE)(pointer)
#define VSTORE_float(value, pointer) (*(global unaligned_float8 *)(pointer) = (value))
#define VSTORE_half(value, pointer) vstore_half8(value, 0, pointer)
#define ELEMENT_VSTORE(value, pointer) JOIN(VSTORE_, ELEMENT)(value, pointer)

/* Copies a line of elements that lie stride apart. */
static void copy_line(global const ELEMENT *source, int stride, int count, local float *target) {
    int k = 0;
    if (stride == 1)
        for (; k + VECTOR <= count; k += VECTOR)
            STORE_VECTOR(ELEMENT_VLOAD(source + k), target + k);
    for (; k < count; k++) target[k] = ELEMENT_LOAD(source, k * stride);
}

#define BEGIN_ROW(i)                                                                                \
    VECTOR_TYPE low##i = LOAD_VECTOR(sums + i * TILE_COLUMNS);                                      \
    VECTOR_TYPE high##i = LOAD_VECTOR(sums + i * TILE_COLUMNS + VECTOR);
#define ADD_ROW(i)                                                                                  \
    low##i += a[i * TILE_DEPTH + k] * b_low;                                                        \
    high##i += a[i * TILE_DEPTH + k] * b_high;
#define END_ROW(i)                                                                                  \
    STORE_VECTOR(low##i, sums + i * TILE_COLUMNS);                                                  \
    STORE_VECTOR(high##i, sums + i * TILE_COLUMNS + VECTOR);

/* sums += a * b, for EACH_ROWS rows of a and PANEL columns of b. Variables, not arrays: compilers keep
   an array in memory here. */
static void multiply(local const float *a, local const float *b, local float *sums, int depth) {
    ALL_ROWS(BEGIN_ROW)
    for (int k = 0; k < depth; k++) {
        const VECTOR_TYPE b_low = LOAD_VECTOR(b + k * PANEL);
        const VECTOR_TYPE b_high = LOAD_VECTOR(b + k * PANEL + VECTOR);
        ALL_ROWS(ADD_ROW)
    }
    ALL_ROWS(END_ROW)
}

#define PAIRS_LOW(x, y) (float8)(x.s0, y.s0, x.s1, y.s1, x.s4, y.s4, x.s5, y.s5)
#define PAIRS_HIGH(x, y) (float8)(x.s2, y.s2, x.s3, y.s3, x.s6, y.s6, x.s7, y.s7)
#define QUADS_LOW(x, y) (float8)(x.s01, y.s01, x.s45, y.s45)
#define QUADS_HIGH(x, y) (float8)(x.s23, y.s23, x.s67, y.s67)

/* Loads VECTOR elements of as many lines, and stores them as lines across. */
static void transpose(global const ELEMENT *from, int line, local float *to, int pitch) {
    const float8 a = ELEMENT_VLOAD(from), b = ELEMENT_VLOAD(from + line);
    const float8 c = ELEMENT_VLOAD(from + 2 * line), d = ELEMENT_VLOAD(from + 3 * line);
    const float8 e = ELEMENT_VLOAD(from + 4 * line), f = ELEMENT_VLOAD(from + 5 * line);
    const float8 g = ELEMENT_VLOAD(from + 6 * line), h = ELEMENT_VLOAD(from + 7 * line);
    const float8 ab0 = PAIRS_LOW(a, b), ab2 = PAIRS_HIGH(a, b);
    const float8 cd0 = PAIRS_LOW(c, d), cd2 = PAIRS_HIGH(c, d);
    const float8 ef0 = PAIRS_LOW(e, f), ef2 = PAIRS_HIGH(e, f);
    const float8 gh0 = PAIRS_LOW(g, h), gh2 = PAIRS_HIGH(g, h);
    const float8 low0 = QUADS_LOW(ab0, cd0), low1 = QUADS_HIGH(ab0, cd0);
    const float8 low2 = QUADS_LOW(ab2, cd2), low3 = QUADS_HIGH(ab2, cd2);
    const float8 high0 = QUADS_LOW(ef0, gh0), high1 = QUADS_HIGH(ef0, gh0);
    const float8 high2 = QUADS_LOW(ef2, gh2), high3 = QUADS_HIGH(ef2, gh2);
    STORE_VECTOR((float8)(low0.lo, high0.lo), to);
    STORE_VECTOR((float8)(low1.lo, high1.lo), to + pitch);
    STORE_VECTOR((float8)(low2.lo, high2.lo), to + 2 * pitch);
    STORE_VECTOR((float8)(low3.lo, high3.lo), to + 3 * pitch);
    STORE_VECTOR((float8)(low0.hi, high0.hi), to + 4 * pitch);
    STORE_VECTOR((float8)(low1.hi, high1.hi), to + 5 * pitch);
    STORE_VECTOR((float8)(low2.hi, high2.hi), to + 6 * pitch);
    STORE_VECTOR((float8)(low3.hi, high3.hi), to + 7 * pitch);
}

/* Packs a block of lines, whose elements lie side by side, as lines across. */
static void pack_across(global const ELEMENT *from, int line, int lines, int depth,
                        local float *to, int pitch) {
    int j = 0;
    for (; j + VECTOR <= lines; j += VECTOR) {
        int k = 0;
        for (; k + VECTOR <= depth; k += VECTOR)
            transpose(from + j * line + k, line, to + k * pitch + j, pitch);
        for (; k < depth; k++)
            for (int i = j; i < j + VECTOR; i++)
                to[k * pitch + i] = ELEMENT_LOAD(from, i * line + k);
    }
    for (; j < lines; j++)
        for (int k = 0; k < depth; k++) to[k * pitch + j] = ELEMENT_LOAD(from, j * line + k);
}

/* Packs columns of b as panels: PANEL neighbours of one row after those of the row before. */
static void pack_columns(global const ELEMENT *b, int b_depth, int b_column, int count, int depth,
                         local float *panels) {
    for (int column = 0; column < count; column += PANEL, panels += TILE_DEPTH * PANEL) {
        const int last = min(PANEL, count - column);
        if (b_column == 1)
            for (int k = 0; k < depth; k++)
                copy_line(b + column + k * b_depth, 1, last, panels + k * PANEL);
        else
            pack_across(b + column * b_column, b_column, last, depth, panels, PANEL);
    }
}

/* Adds the bias to a row of sums, applies the activation and stores the row. Those activations that
   only limit the values are applied to whole vectors. */
static void store_row(local const float *sums, int column0, int count,
                      global const DATA_TYPE *bias, global const DATA_TYPE *slopes, int activation,
                      float coefficient, global ELEMENT *output) {
    int j = 0;
    if (activation <= RELU6) {
        const float lowest = activation == NONE ? -INFINITY : 0.0f;
        const float highest = activation == RELU6 ? 6.0f : INFINITY;
        for (; j + VECTOR <= count; j += VECTOR) {
            float8 value = LOAD_VECTOR(sums + j);
            if (bias) value += BIAS_VLOAD(bias + column0 + j);
            value = value < lowest ? lowest : value;
            value = value > highest ? highest : value;
            ELEMENT_VSTORE(value, output + column0 + j);
        }
    }
    for (; j < count; j += BLOCK) {
        const int left = count - j;
        float4 value = *(local const float4 *)(sums + j);
        if (bias) value += load_block(bias, column0 + j, left);
        value = activate(value, activation, coefficient, slopes, column0 + j, left);
        store_elements(value, output, column0 + j, left);
    }
}

/* Whether one of count sums is not a number (or infinities of both signs are among them). */
static bool is_spoilt(local const float *sums, int count) {
    float8 all = 0.0f;
    for (int j = 0; j < count; j += VECTOR) all += LOAD_VECTOR(sums + j);
    const float4 half_sums = all.lo + all.hi;
    const float sum = half_sums.x + half_sums.y + half_sums.z + half_sums.w;
    return sum != sum;
}

kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void product(PRODUCT_ARGUMENTS) {
    local float8 sum_vectors[TILE_ROWS * TILE_COLUMNS / VECTOR];
    local float8 a_vectors[TILE_DEPTH * EACH_ROWS / VECTOR];
    local float8 b_vectors[TILE_DEPTH * TILE_COLUMNS / VECTOR];
    local float *sums = (local float *)sum_vectors;
    local float *a_tile = (local float *)a_vectors, *b_tile = (local float *)b_vectors;
    if (get_local_id(0)) return;
    for (int batch = get_group_id(2); batch < batches; batch += get_num_groups(2))
    for (int row0 = get_group_id(1) * TILE_ROWS; row0 < rows; row0 += get_num_groups(1) * TILE_ROWS)
    for (int column0 = get_group_id(0) * TILE_COLUMNS; column0 < columns;
         column0 += get_num_groups(0) * TILE_COLUMNS) {
        global const ELEMENT *left_matrix = a + (places ? places[2 * batch] : batch * a_batch);
        global const ELEMENT *right_matrix =
            b + (places ? places[2 * batch + 1] : batch * b_batch) + column0 * b_column;
        const int tile_rows = min(TILE_ROWS, rows - row0);
        const int tile_columns = min(TILE_COLUMNS, columns - column0);
        for (int i = 0; i < tile_rows; i++)
            for (int j = 0; j < tile_columns; j += VECTOR)
                STORE_VECTOR(0.0f, sums + i * TILE_COLUMNS + j);
        for (int tap = 0; tap < taps; tap++)
        for (int from = 0; from < depth; from += TILE_DEPTH) {
            const int count = min(TILE_DEPTH, depth - from);
            pack_columns(right_matrix + (tap * depth + from) * b_depth, b_depth, b_column,
                         tile_columns, count, b_tile);
            for (int row = 0; row < tile_rows; row += EACH_ROWS) {
                for (int i = 0; i < EACH_ROWS; i++) {
                    const int place = place_row(row0 + row + i, tap, WINDOW);
                    if (place >= 0)
                        copy_line(left_matrix + place + from * a_depth, a_depth, count,
                                  a_tile + i * TILE_DEPTH);
                    else
                        for (int k = 0; k < count; k++) a_tile[i * TILE_DEPTH + k] = 0.0f;
                }
                for (int column = 0; column < tile_columns; column += PANEL)
                    multiply(a_tile, b_tile + column * TILE_DEPTH,
                             sums + row * TILE_COLUMNS + column, count);
            }
        }
        for (int row = 0; row < tile_rows; row++) {
            local float *line = sums + row * TILE_COLUMNS;
            if (!IS_PLAIN && is_spoilt(line, tile_columns) && reaches_over(row0 + row, WINDOW))
                for (int j = 0; j < tile_columns; j++)
                    line[j] = sum_inside(left_matrix, a_depth, right_matrix + j * b_column, b_depth,
                                         depth, row0 + row, WINDOW);
            store_row(line, column0, tile_columns, bias, slopes, activation, coefficient,
                      output + (batch * rows + row0 + row) * columns);
        }
    }
}
