/* Copies that move elements and change none, and conversions between types.

   One work-item copies a run of elements along the output's last axis, or, where that is short, the
   rows of a chunk: many elements in all on a CPU, few where neighbouring work-items share a memory
   transaction. */

#include "bits.h"

/* The axes before the last one, the nearest to it first. */
#define OUTER_AXES 7

static int is_aligned(global const bits *pointer) {
    return ((size_t)pointer & (sizeof(bits4) - 1)) == 0;
}

static bits4 load_bits4(global const bits *from) {
    if (is_aligned(from)) return *(global const bits4 *)from;
    return *(global const unaligned_bits4 *)from;
}

static void store_bits4(bits4 value, global bits *to) {
    if (is_aligned(to)) *(global bits4 *)to = value;
    else *(global unaligned_bits4 *)to = value;
}

static void pick_run(global const bits *from, int step, global bits *to, int count) {
    int i = 0;
    if (step == -1)
        for (; i + 4 <= count; i += 4, from -= 4) store_bits4(load_bits4(from - 3).wzyx, to + i);
    for (; i + 4 <= count; i += 4, from += 4 * (long)step)
        store_bits4((bits4)(from[0], from[step], from[2 * step], from[3 * step]), to + i);
    for (; i < count; i++, from += step) to[i] = from[0];
}

static int hold(int index, int most) {
    const int held = index < most ? index : most;
    return held < 0 ? 0 : held;
}

static void look_up(global const bits *from, global const int *indices, int most, int stride,
                    global bits *to, int count) {
    int i = 0;
    for (; i + 4 <= count; i += 4) {
        const int a = hold(indices[i], most), b = hold(indices[i + 1], most);
        const int c = hold(indices[i + 2], most), d = hold(indices[i + 3], most);
        store_bits4((bits4)(from[a * stride], from[b * stride], from[c * stride], from[d * stride]),
                    to + i);
    }
    for (; i < count; i++) to[i] = from[hold(indices[i], most) * stride];
}

static void find_row(int row, int axes, const int *lengths, int *index) {
    for (int axis = 0; axis < axes; axis++) {
        index[axis] = row % lengths[axis];
        row /= lengths[axis];
    }
}

/* The output, of rows of that length, takes its elements from the input at base, plus each index
   times its stride. Of the axis before the last one the index is looked up, where there are
   indices: one that is out of range is moved to the first or last index (most). */
kernel void strided_copy(global const bits *input, global const int *indices, global bits *output,
                         int work_items, int run, int chunk, int rows, int length, int step,
                         int base, int most, int axes, int length0, int length1, int length2,
                         int length3, int length4, int length5, int length6, int stride0,
                         int stride1, int stride2, int stride3, int stride4, int stride5,
                         int stride6) {
    const int lengths[OUTER_AXES] = {length0, length1, length2, length3, length4, length5, length6};
    const int strides[OUTER_AXES] = {stride0, stride1, stride2, stride3, stride4, stride5, stride6};
    const int runs = (length + run - 1) / run;
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        const int start = item % runs * run;
        const int count = min(run, length - start);
        const int first = item / runs * chunk;
        const int end = min(first + chunk, rows);
        int index[OUTER_AXES];
        find_row(first, axes, lengths, index);
        int from = base + start * step;
        for (int axis = 1; axis < axes; axis++) from += index[axis] * strides[axis];
        for (int row = first; row < end;) {
            const int together = min(end - row, length0 - index[0]);
            global bits *to = output + row * length + start;
            if (indices && length == 1) {
                look_up(input + from, indices + index[0], most, stride0, to, together);
            } else {
                for (int i = index[0]; i < index[0] + together; i++, to += length) {
                    const int nearest = indices ? hold(indices[i], most) : i;
                    global const bits *source = input + from + nearest * stride0;
                    if (step == 1) copy_run(source, to, count);
                    else pick_run(source, step, to, count);
                }
            }
            row += together;
            index[0] = 0;
            for (int axis = 1; axis < axes; axis++) {
                from += strides[axis];
                if (++index[axis] < lengths[axis]) break;
                from -= index[axis] * strides[axis];
                index[axis] = 0;
            }
        }
    }
}

/* The side of the tiles that are turned at once, for the memory's sake, in blocks of 4x4. */
#define TILE 8

static void turn_block(global const bits *input, int input_stride, global bits *output,
                       int output_stride, int rows, int columns) {
    if (rows >= 4 && columns >= 4) {
        const bits4 a = load_bits4(input);
        const bits4 b = load_bits4(input + input_stride);
        const bits4 c = load_bits4(input + 2 * input_stride);
        const bits4 d = load_bits4(input + 3 * input_stride);
        store_bits4((bits4)(a.x, b.x, c.x, d.x), output);
        store_bits4((bits4)(a.y, b.y, c.y, d.y), output + output_stride);
        store_bits4((bits4)(a.z, b.z, c.z, d.z), output + 2 * output_stride);
        store_bits4((bits4)(a.w, b.w, c.w, d.w), output + 3 * output_stride);
        return;
    }
    for (int row = 0; row < min(rows, 4); row++)
        for (int column = 0; column < min(columns, 4); column++)
            output[row * output_stride + column] = input[column * input_stride + row];
}

/* For each index of up to 4 more axes: output[row * output_stride + column] is
   input[column * input_stride + row]. A work-item turns side x side blocks of 4x4, and as many as
   make up a tile follow each other. */
kernel void turn(global const bits *input, global bits *output, int work_items, int side, int rows,
                 int columns, int input_stride, int output_stride, int axes, int length0,
                 int length1, int length2, int length3, int from0, int from1, int from2, int from3,
                 int to0, int to1, int to2, int to3) {
    const int lengths[4] = {length0, length1, length2, length3};
    const int from_strides[4] = {from0, from1, from2, from3};
    const int to_strides[4] = {to0, to1, to2, to3};
    const int across = (columns + TILE * 4 - 1) / (TILE * 4);
    const int down = (rows + TILE * 4 - 1) / (TILE * 4);
    const int sides = TILE / side;
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        const int part = item % (sides * sides);
        const int tile = item / (sides * sides);
        const int first_column = (tile % across * TILE + part / sides * side) * 4;
        const int first_row = (tile / across % down * TILE + part % sides * side) * 4;
        int from = 0, to = 0, rest = tile / across / down;
        for (int axis = 0; axis < axes; axis++) {
            from += rest % lengths[axis] * from_strides[axis];
            to += rest % lengths[axis] * to_strides[axis];
            rest /= lengths[axis];
        }
        const int last_column = min(columns, first_column + side * 4);
        const int last_row = min(rows, first_row + side * 4);
        for (int row = first_row; row < last_row; row += 4)
            for (int column = first_column; column < last_column; column += 4)
                turn_block(input + from + column * input_stride + row, input_stride,
                           output + to + row * output_stride + column, output_stride,
                           last_row - row, last_column - column);
    }
}

enum padding { CONSTANT, REFLECT, SYMMETRIC };

/* Where an index that may lie beyond the axis takes its element from; -1: nowhere. */
static int find_source(int index, int length, int mode) {
    if (index >= 0 && index < length) return index;
    if (mode == CONSTANT) return -1;
    const int edge = mode == SYMMETRIC;
    return index < 0 ? -index - edge : 2 * length - 2 + edge - index;
}

/* Elements [start, end) of a padded row, all of them before the row's own or after them. */
static void pad_edge(global const bits *input, int from, global bits *output, int to, int start,
                     int end, int length, int before, int unit, int mode, bits constant_bits) {
    if (mode == CONSTANT) {
        for (int i = start; i < end; i++) output[to + i] = constant_bits;
    } else {
        for (int i = start; i < end; i++) {
            const int index = unit == 1 ? i - before : i / unit - before / unit;
            const int source = find_source(index, unit == 1 ? length : length / unit, mode);
            output[to + i] = input[from + source * unit + (unit == 1 ? 0 : i % unit)];
        }
    }
}

/* The output's rows are the input's, with `before` elements before them and others after them,
   which are reflected `unit` at a time. The axes before the last one are padded alike. */
kernel void pad(global const bits *input, global bits *output, int work_items, int run, int chunk,
                int rows, int output_length, int length, int before, int unit, int mode,
                int constant_bits, int axes, int output0, int output1, int output2, int output3,
                int output4, int output5, int output6, int length0, int length1, int length2,
                int length3, int length4, int length5, int length6, int before0, int before1,
                int before2, int before3, int before4, int before5, int before6) {
    const int outputs[OUTER_AXES] = {output0, output1, output2, output3, output4, output5, output6};
    const int lengths[OUTER_AXES] = {length0, length1, length2, length3, length4, length5, length6};
    const int befores[OUTER_AXES] = {before0, before1, before2, before3, before4, before5, before6};
    const int runs = (output_length + run - 1) / run;
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        const int start = item % runs * run;
        const int end = min(start + run, output_length);
        const int left = clamp(before, start, end);
        const int right = clamp(before + length, start, end);
        const int first = item / runs * chunk;
        const int last = min(first + chunk, rows);
        int index[OUTER_AXES];
        find_row(first, axes, outputs, index);
        for (int row = first; row < last; row++) {
            const int to = row * output_length;
            int from = 0, stride = length, outside = 0;
            for (int axis = 0; axis < axes; axis++) {
                const int source = find_source(index[axis] - befores[axis], lengths[axis], mode);
                outside |= source < 0;
                from += source * stride;
                stride *= lengths[axis];
            }
            if (outside) {
                pad_edge(input, 0, output, to, start, end, length, before, unit, mode,
                         constant_bits);
            } else {
                pad_edge(input, from, output, to, start, left, length, before, unit, mode,
                         constant_bits);
                copy_run(input + from + left - before, output + to + left, right - left);
                pad_edge(input, from, output, to, right, end, length, before, unit, mode,
                         constant_bits);
            }
            for (int axis = 0; axis < axes; axis++) {
                if (++index[axis] < outputs[axis]) break;
                index[axis] = 0;
            }
        }
    }
}

enum element { FLOAT, HALF, INT, UCHAR };

#define READ_FLOAT(i) ((global const float *)input)[i]
#define READ_HALF(i) LOAD_half((global const half *)input, i)
#define READ_INT(i) (float)((global const int *)input)[i]
#define READ_UCHAR(i) (float)((global const uchar *)input)[i]
#define WRITE_FLOAT(value, i) ((global float *)output)[i] = value
#define WRITE_HALF(value, i) STORE_half(value, (global half *)output, i)
#define WRITE_INT(value, i) ((global int *)output)[i] = to_int(value)
#define WRITE_UCHAR(value, i) ((global uchar *)output)[i] = to_uchar(value)
#define CONVERT(FROM, TO)                                                                          \
    case FROM * 4 + TO:                                                                            \
        for (int i = start; i < end; i++) WRITE_##TO(READ_##FROM(i), i);                           \
        break;

/* Towards zero; what no int holds becomes the nearest one, and NaN 0. PoCL calls a function for
   each clamp, and none for comparisons. */
static int to_int(float value) {
    const float held = value > -2147483648.0f ? value : -2147483648.0f;
    const int low = (int)(held < 2147483520.0f ? held : 2147483520.0f);
    return value >= 2147483648.0f ? INT_MAX : value == value ? low : 0;
}

static uchar to_uchar(float value) {
    const float held = value > 0.0f ? value : 0.0f;
    return (uchar)(int)(held < 255.0f ? held : 255.0f);
}

/* Each element converted from one type to another one. */
kernel void cast(global const uchar *input, global uchar *output, int work_items, int run, int size,
                 int from, int to) {
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        const int start = item * run;
        const int end = min(start + run, size);
        switch (from * 4 + to) {
            CONVERT(FLOAT, HALF)
            CONVERT(FLOAT, INT)
            CONVERT(FLOAT, UCHAR)
            CONVERT(HALF, FLOAT)
            CONVERT(HALF, INT)
            CONVERT(HALF, UCHAR)
            CONVERT(INT, FLOAT)
            CONVERT(INT, HALF)
            CONVERT(INT, UCHAR)
            CONVERT(UCHAR, FLOAT)
            CONVERT(UCHAR, HALF)
            CONVERT(UCHAR, INT)
        }
    }
}
