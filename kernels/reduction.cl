/* Reductions along one axis, and the softmax on top of them.

   A tensor is seen as (outer, length, inner), and reduced along its length. Results come in runs of 8
   neighbours: along inner, or, if inner is 1 (flat), one result a run, from runs along the length. */

#include "common.h"
#include "processor.h"
#include "wide.h"

#define LANES 64

/* What is put together of the elements, each less its centre. */
enum reduction { SUM, SUM_OF_SIZES, SUM_OF_SQUARES, SUM_OF_EXPONENTIALS, PRODUCT, MINIMUM, MAXIMUM };

/* What is done to a result. */
enum finish { QUOTIENT, INVERSE_DEVIATION, INVERSE_ROOT, INVERSE, LOGARITHM };

static float8 smaller(float8 a, float8 b) { return ((a < b) | (a != a)) ? a : b; }

static float8 larger(float8 a, float8 b) { return ((a > b) | (a != a)) ? a : b; }

static float8 squared(float8 x) { return x * x; }

static float8 size(float8 x) { return as_float8(as_int8(x) & 0x7fffffff); }

static float neutral(int reduction) {
    switch (reduction) {
    case PRODUCT: return 1.0f;
    case MINIMUM: return INFINITY;
    case MAXIMUM: return -INFINITY;
    default: return 0.0f;
    }
}

static float8 reduce_two(float8 a, float8 b, int reduction) {
    switch (reduction) {
    case PRODUCT: return a * b;
    case MINIMUM: return smaller(a, b);
    case MAXIMUM: return larger(a, b);
    default: return a + b;
    }
}

/* What an element adds to a sum. */
static float8 prepare(float8 x, int reduction) {
    switch (reduction) {
    case SUM_OF_SIZES: return size(x);
    case SUM_OF_SQUARES: return squared(x);
    case SUM_OF_EXPONENTIALS: return exponential(x);
    default: return x;
    }
}

#define AS_IT_IS(x) (x)

static float8 reduce_run(float8 x, int reduction) {
    x = reduce_two(x, x.s45670123, reduction);
    x = reduce_two(x, x.s23456701, reduction);
    return reduce_two(x, x.s12345670, reduction);
}

static float8 finish_run(float8 total, int finish, float divisor, float epsilon) {
    switch (finish) {
    case INVERSE_DEVIATION: return 1.0f / sqrt(total / divisor + epsilon);
    case INVERSE_ROOT: return 1.0f / fmax(sqrt(total), (float8)epsilon);
    case INVERSE: return 1.0f / fmax(total, (float8)epsilon);
    case LOGARITHM: return log(total);
    default: return total / divisor;
    }
}

#define ADD_FOUR(total, a, b, c, d) ((total) + (((a) + (b)) + ((c) + (d))))
#define MULTIPLY_FOUR(total, a, b, c, d) ((total) * (((a) * (b)) * ((c) * (d))))

/* As smaller and larger do it, but what is not a number is looked for in all four together. */
static float8 smallest(float8 total, float8 a, float8 b, float8 c, float8 d) {
    const int8 none = (a != a) | (b != b) | (c != c) | (d != d);
    a = a < b ? a : b;
    c = c < d ? c : d;
    a = a < c ? a : c;
    total = a < total ? a : total;
    return none ? NAN : total;
}

static float8 largest(float8 total, float8 a, float8 b, float8 c, float8 d) {
    const int8 none = (a != a) | (b != b) | (c != c) | (d != d);
    a = a > b ? a : b;
    c = c > d ? c : d;
    a = a > c ? a : c;
    total = a > total ? a : total;
    return none ? NAN : total;
}

#define LINE(case_, value, four)                                                           \
    case case_:                                                                            \
        for (; at + 4 * WIDE <= end; at += 4 * WIDE) {                                     \
            const float8 a = LOAD8(line, at) - centre, b = LOAD8(line, at + WIDE) - centre; \
            const float8 c = LOAD8(line, at + 2 * WIDE) - centre;                          \
            const float8 d = LOAD8(line, at + 3 * WIDE) - centre;                          \
            total = four(total, value(a), value(b), value(c), value(d));                   \
        }                                                                                  \
        break;

/* Neighbours from `at` to before `end`. */
static float8 reduce_line(global const DATA_TYPE *line, int at, int end, float8 centre,
                          int reduction) {
    float8 total = neutral(reduction);
    switch (reduction) {
        LINE(SUM, AS_IT_IS, ADD_FOUR)
        LINE(SUM_OF_SIZES, size, ADD_FOUR)
        LINE(SUM_OF_SQUARES, squared, ADD_FOUR)
        LINE(SUM_OF_EXPONENTIALS, exponential, ADD_FOUR)
        LINE(PRODUCT, AS_IT_IS, MULTIPLY_FOUR)
        LINE(MINIMUM, AS_IT_IS, smallest)
        LINE(MAXIMUM, AS_IT_IS, largest)
    }
    for (; at < end; at += WIDE) {
        const int8 places = (int8)(0, 1, 2, 3, 4, 5, 6, 7);
        const float8 x = prepare(load_wide(line, at, end - at) - centre, reduction);
        const float8 none = neutral(reduction);
        total = reduce_two(total, places < end - at ? x : none, reduction);
    }
    return total;
}

#if PROCESSOR
#include "reduction_processor.h"
#else
#include "reduction_groups.h"
#endif

/* Softmax of a line, whose exponentials are kept in the output until their sum is known. */
static void make_softmax(global const DATA_TYPE *line, global DATA_TYPE *made, int width,
                         float8 maximum) {
    const int whole = width / WIDE * WIDE, count = width - whole;
    float8 total = 0.0f, last = 0.0f;
    if (count) {
        const int8 places = (int8)(0, 1, 2, 3, 4, 5, 6, 7);
        last = exponential(load_wide(line, whole, count) - maximum);
        total = places < count ? last : total;
    }
    for (int first = 0; first < whole; first += WIDE) {
        const float8 value = exponential(LOAD8(line, first) - maximum);
        total += value;
        STORE8(value, made, first);
    }
    const float8 factor = 1.0f / reduce_run(total, SUM);
    for (int first = 0; first < whole; first += WIDE)
        STORE8(LOAD8(made, first) * factor, made, first);
    if (count) store_wide(last * factor, made, whole, count);
}

/* output = exp(input - maxima) * factors, or input - maxima - factors if `logarithm`. A row is one of
   (outer, length), or, if flat, one of outer; statistics are the same for `shared` rows. A work-item
   makes `span` of each of some rows. If rows are flat there may be no maxima and factors: then it
   finds those of its rows, and makes them in one. */
kernel void softmax(global const DATA_TYPE *input, global const float *maxima,
                    global const float *factors, global DATA_TYPE *output, int work_items, int rows,
                    int chunk, int width, int span, int shared, int flat, int logarithm) {
    const int spans = (width + span - 1) / span, runs = (width + WIDE - 1) / WIDE;
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        const int first_row = item / spans * chunk, start = item % spans * span;
        const int end = start + span < width ? start + span : width;
        const int last_row = first_row + chunk < rows ? first_row + chunk : rows;
        for (int row = first_row; row < last_row; row++) {
            const int places = flat ? row * WIDE : row / shared * runs * WIDE;
            global const DATA_TYPE *line = input + row * width;
            global DATA_TYPE *made = output + row * width;
            float8 maximum = 0.0f, factor = 0.0f;
            if (!maxima) {
                maximum = reduce_run(reduce_line(line, 0, width, 0.0f, MAXIMUM), MAXIMUM);
                if (sizeof(DATA_TYPE) == sizeof(float) && !logarithm) {
                    make_softmax(line, made, width, maximum);
                    continue;
                }
                factor = reduce_line(line, 0, width, maximum, SUM_OF_EXPONENTIALS);
                factor = reduce_run(factor, SUM);
                factor = logarithm ? log(factor) : 1.0f / factor;
            }
            for (int first = start; first < end; first += WIDE) {
                if (maxima) {
                    maximum = LOAD8_float(maxima, flat ? places : places + first);
                    factor = LOAD8_float(factors, flat ? places : places + first);
                }
                const float8 x = load_wide(line, first, end - first) - maximum;
                store_wide(logarithm ? x - factor : exponential(x) * factor, made, first,
                           end - first);
            }
        }
    }
}
