/* Arithmetic, element by element: of two operands with broadcasting, and of one. */

#include "common.h"
#include "wide.h"

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

/* Rounding of the quotient may reach the next whole number: the remainder, which is exact, tells. */
static float8 floor_divide(float8 a, float8 b) {
    const float8 quotient = floor(a / b);
    const float8 rest = fma(-quotient, b, a);
    const float8 raised = fabs(rest) >= fabs(b) ? quotient + 1.0f : quotient;
    return (((rest < 0.0f) == (b < 0.0f)) | (rest == 0.0f)) ? raised : quotient - 1.0f;
}

/* pow is a hundred times slower in PoCL. The error is about that of a product, |b * log(a)| times. */
static float8 raise(float8 a, float8 b) {
    const float8 zero = 0.0f, one = 1.0f, none = NAN;
    const float8 size = exp(b * log(a < zero ? -a : a)), half_b = b * 0.5f;
    float8 signed_size = size;
    if (any(a < zero)) {
        const float8 odd = floor(half_b) == half_b ? size : -size;
        signed_size = a < zero ? (floor(b) == b ? odd : none) : size;
    }
    return b == zero ? one : signed_size;
}

static float8 combine_values(float8 a, float8 b, int operation) {
    const float8 zero = 0.0f, one = 1.0f;
    switch (operation) {
    case ADD: return a + b;
    case SUBTRACT: return a - b;
    case MULTIPLY: return a * b;
    case DIVIDE: return a / b;
    case MINIMUM: return ((a < b) | (a != a)) ? a : b;
    case MAXIMUM: return ((a > b) | (a != a)) ? a : b;
    case SQUARED_DIFFERENCE: return (a - b) * (a - b);
    case POWER: return raise(a, b);
    case EQUAL: return a == b ? one : zero;
    default: return floor_divide(a, b);
    }
}

/* Without broadcasting; an operand that is null is the scalar. */
kernel void combine(global const DATA_TYPE *left, global const DATA_TYPE *right,
                    global DATA_TYPE *output, int work_items, int size, int operation,
                    float scalar) {
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        const int index = item * WIDE;
        float8 a = scalar, b = scalar;
        if (left) a = load_wide(left, index, size - index);
        if (right) b = load_wide(right, index, size - index);
        store_wide(combine_values(a, b, operation), output, index, size - index);
    }
}

static float8 load_operand(global const DATA_TYPE *pointer, int index, int step, int count) {
    if (!step) return LOAD(pointer, index);
    return load_wide(pointer, index, count);
}

/* Along the last axis, of `length` elements, an operand goes on by its step: 1, or 0 if it is the
   same all along. There are up to 5 axes before it: those from the last one outwards have lengths and
   strides, and the outermost one has strides only. */
#define AXIS(number)                                      \
    if (axes > number) {                                  \
        const int rest = row / length_##number;           \
        const int place = row - rest * length_##number;   \
        left_index += place * left_##number;              \
        right_index += place * right_##number;            \
        row = rest;                                       \
    }

kernel void broadcast(global const DATA_TYPE *left, global const DATA_TYPE *right,
                      global DATA_TYPE *output, int work_items, int operation, int axes, int length,
                      int left_step, int right_step, int length_1, int left_1, int right_1,
                      int length_2, int left_2, int right_2, int length_3, int left_3, int right_3,
                      int length_4, int left_4, int right_4, int left_outer, int right_outer) {
    const int spans = (length + SPAN - 1) / SPAN;
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        int row = item / spans;
        const int start = (item - row * spans) * SPAN, index = row * length;
        const int end = start + SPAN < length ? start + SPAN : length;
        int left_index = 0, right_index = 0;
        AXIS(1)
        AXIS(2)
        AXIS(3)
        AXIS(4)
        left_index += row * left_outer;
        right_index += row * right_outer;
        for (int place = start; place < end; place += WIDE) {
            const int count = length - place;
            const float8 a = load_operand(left, left_index + place * left_step, left_step, count);
            const float8 b =
                load_operand(right, right_index + place * right_step, right_step, count);
            store_wide(combine_values(a, b, operation), output, index + place, count);
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

static float8 transform_value(float8 x, int function, float low, float high) {
    const float8 zero = 0.0f, one = 1.0f, least = low, most = high;
    switch (function) {
    case NEGATE: return -x;
    case ABSOLUTE: return fabs(x);
    case SIGN: return x > zero ? one : (x < zero ? -one : x);
    case CLIP: x = x < least ? least : x; return x > most ? most : x;
    case SQUARE: return x * x;
    case SQRT: return sqrt(x);
    case RSQRT: return one / sqrt(x);
    case RECIPROCAL: return one / x;
    case EXP: return exp(x);
    case LOG: return log(x);
    default: return erf(x);
    }
}

/* low and high are the bounds of CLIP. */
kernel void transform(global const DATA_TYPE *input, global DATA_TYPE *output, int work_items,
                      int size, int function, float low, float high) {
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        const int index = item * WIDE;
        const float8 x = load_wide(input, index, size - index);
        store_wide(transform_value(x, function, low, high), output, index, size - index);
    }
}
