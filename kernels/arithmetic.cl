/* Arithmetic, element by element: of two operands with broadcasting, and of one. */

#include "common.h"
#include "wide.h"
#include "functions.h"
#include "power.h"

enum operation {
    ADD,
    SUBTRACT,
    MULTIPLY,
    DIVIDE,
    MINIMUM,
    MAXIMUM,
    SQUARED_DIFFERENCE,
    POWER,
    EQUAL,
    FLOOR_DIVIDE
};

/* As numpy has it. The whole part of a rounded quotient may be off by one either way, which the
   remainder tells: it is exact, as the whole part is rounded towards 0. Quotients from 2^24 on are whole. */
static float8 floor_divide(float8 a, float8 b) {
    const float8 zero = 0.0f, one = 1.0f, most = INFINITY, none = NAN, whole_from = 16777216.0f;
    const float8 quotient = a / b, whole = trunc(quotient), size = absolute(b);
    const float8 rest = whole == zero ? a : fma(-whole, b, a), rest_size = absolute(rest);
    const int8 differs = ((rest < zero) != (b < zero)) & (rest != zero);
    const float8 lower = rest_size > size ? whole - 2.0f : whole - one;
    const float8 other = rest_size >= size ? whole + one : whole;
    const float8 value = absolute(quotient) <= whole_from ? (differs ? lower : other) : quotient;
    return ((absolute(a) == most) & (b != zero)) ? none : value;
}

/* A loop for each operation: a choice in a loop takes longer than an addition. */
#define PAIRS(name, value)                                                    \
    case name:                                                                \
        for (int step = 0; step < steps; step++) {                            \
            const int i = PLACE(step, count), wide = IS_WIDE(step, count);    \
            const float8 a = left_step ? load_some(left, i, wide) : first;    \
            const float8 b = right_step ? load_some(right, i, wide) : second; \
            store_some(value, output, i, wide);                               \
        }                                                                     \
        break;

/* An operand goes on by its step, 1 or 0; if it is 0, it is the number that is given. */
static void combine_run(global const DATA_TYPE *left, int left_step, float8 first,
                        global const DATA_TYPE *right, int right_step, float8 second,
                        global DATA_TYPE *output, int count, int operation) {
    const float8 zero = 0.0f, one = 1.0f;
    const int steps = STEPS(count);
    switch (operation) {
        PAIRS(ADD, a + b)
        PAIRS(SUBTRACT, a - b)
        PAIRS(MULTIPLY, a * b)
        PAIRS(DIVIDE, a / b)
        PAIRS(MINIMUM, ((a < b) | (a != a)) ? a : b)
        PAIRS(MAXIMUM, ((a > b) | (a != a)) ? a : b)
        PAIRS(SQUARED_DIFFERENCE, (a - b) * (a - b))
        PAIRS(POWER, raise(a, b))
        PAIRS(EQUAL, a == b ? one : zero)
        PAIRS(FLOOR_DIVIDE, floor_divide(a, b))
    }
}

/* Along the last axis, of `length` elements, an operand goes on by its step: 1, or 0 if it is the
   same all along; one that is null is the scalar. There are up to 5 axes before it: those from the
   last one outwards have lengths and strides, and the outermost one has strides only. A work-item
   makes a run of each row of a chunk: few elements where neighbouring work-items share a memory
   transaction, else many. */
#define AXIS(number)                                    \
    if (axes > number) {                                \
        const int rest = row / length_##number;         \
        const int place = row - rest * length_##number; \
        left_index += place * left_##number;            \
        right_index += place * right_##number;          \
        row = rest;                                     \
    }

kernel void combine(global const DATA_TYPE *left, global const DATA_TYPE *right,
                    global DATA_TYPE *output, int work_items, int run, int chunk, int rows,
                    int operation, int axes, int length, int left_step, int right_step,
                    int length_1, int left_1, int right_1, int length_2, int left_2, int right_2,
                    int length_3, int left_3, int right_3, int length_4, int left_4, int right_4,
                    int left_outer, int right_outer, float scalar) {
    const int runs = (length + run - 1) / run;
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        const int start = item % runs * run, first = item / runs * chunk;
        const int count = start + run < length ? run : length - start;
        const int last = first + chunk < rows ? first + chunk : rows;
        for (int index = first; index < last; index++) {
            int row = index, left_index = start * left_step, right_index = start * right_step;
            AXIS(1)
            AXIS(2)
            AXIS(3)
            AXIS(4)
            left_index += row * left_outer;
            right_index += row * right_outer;
            float8 a = scalar, b = scalar;
            if (left && !left_step) a = LOAD(left, left_index);
            if (right && !right_step) b = LOAD(right, right_index);
            combine_run(left + left_index, left_step, a, right + right_index, right_step, b,
                        output + index * length + start, count, operation);
        }
    }
}

enum function {
    NEGATE,
    ABSOLUTE,
    SIGN,
    CLIP,
    SQUARE,
    SQRT,
    RSQRT,
    RECIPROCAL,
    EXP,
    LOG,
    ERF
};

#define EACH(name, value)                                                  \
    case name:                                                             \
        for (int step = 0; step < steps; step++) {                         \
            const int i = PLACE(step, count), wide = IS_WIDE(step, count); \
            const float8 x = load_some(input, start + i, wide);            \
            store_some(value, output, start + i, wide);                    \
        }                                                                  \
        break;

/* low and high are the bounds of CLIP. */
kernel void transform(global const DATA_TYPE *input, global DATA_TYPE *output, int work_items,
                      int run, int size, int function, float low, float high) {
    const float8 zero = 0.0f, one = 1.0f;
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        const int start = item * run, count = start + run < size ? run : size - start;
        const int steps = STEPS(count);
        switch (function) {
            EACH(NEGATE, -x)
            EACH(ABSOLUTE, absolute(x))
            EACH(SIGN, x > zero ? one : (x < zero ? -one : x))
            EACH(CLIP, clip_wide(x, low, high))
            EACH(SQUARE, x * x)
            EACH(SQRT, sqrt(x))
            EACH(RSQRT, one / sqrt(x))
            EACH(RECIPROCAL, one / x)
            EACH(EXP, exponential(x))
            EACH(LOG, logarithm(x))
            EACH(ERF, erf(x))
        }
    }
}
