/* Reductions as work-groups make them: work-items share rows and put their totals together. */

static float8 load_row(global const DATA_TYPE *input, global const float *given, int index,
                       int count) {
    if (given) return LOAD8_float(given, index);
    return load_wide(input, index, count);
}

#define ADD(x, y) ((x) + (y))
#define MULTIPLY(x, y) ((x) * (y))

#define ROWS(case_, value, both)                                                         \
    case case_:                                                                          \
        for (; row < end; row += across) {                                               \
            const float8 x = load_row(input, given, base + row * step, count) - centre;  \
            total = both(total, value(x));                                               \
        }                                                                                \
        break;

/* The rows from `row` to before `end`, every one of `across`. */
static float8 reduce_rows(global const DATA_TYPE *input, global const float *given, int base,
                          int step, int count, int row, int end, int across, float8 centre,
                          int reduction) {
    float8 total = neutral(reduction);
    switch (reduction) {
        ROWS(SUM, AS_IT_IS, ADD)
        ROWS(SUM_OF_SIZES, size, ADD)
        ROWS(SUM_OF_SQUARES, squared, ADD)
        ROWS(SUM_OF_EXPONENTIALS, exponential, ADD)
        ROWS(PRODUCT, AS_IT_IS, MULTIPLY)
        ROWS(MINIMUM, AS_IT_IS, smaller)
        ROWS(MAXIMUM, AS_IT_IS, larger)
    }
    return total;
}

/* The last row of a flat length, if it is a short one. */
static float8 reduce_short(global const DATA_TYPE *input, int index, int count, float8 centre,
                           int reduction) {
    const int8 places = (int8)(0, 1, 2, 3, 4, 5, 6, 7);
    const float8 x = load_wide(input, index, count) - centre;
    return places < count ? prepare(x, reduction) : neutral(reduction);
}

/* A work-group reduces `rows` of the length, of which there are `all_rows` (runs of 8 if flat), for
   LANES / across results; as many work-items as `across` share the rows of each. Then one of them puts
   their totals together. If there is more than one section of rows for a result, its totals go to
   `parts`, and are reduced by another launch with those as `given` and no input: there a result's runs
   are `side` apart. Results go to the output, or as they are, in whole runs of float, to `statistics`, as `centre` has them too. */
kernel __attribute__((reqd_work_group_size(LANES, 1, 1))) void reduce(
    global const DATA_TYPE *input, global const float *given, global const float *centre,
    global DATA_TYPE *output, global float *statistics, global float *parts, int units, int results,
    int runs, int length, int inner, int all_rows, int rows, int sections, int across,
    int side, int reduction, int finish, float divisor, float epsilon) {
    local float8 totals[LANES];
    const int flat = inner == 1, abreast = LANES / across, lane = get_local_id(0);
    for (int unit = get_group_id(0); unit < units; unit += get_num_groups(0)) {
        const int tile = unit / sections, section = unit - tile * sections;
        const int place = flat ? lane / across : lane % abreast;
        const int part = flat ? lane % across : lane / abreast;
        const int result = tile * abreast + place;
        float8 total = 0.0f;
        if (result < results) {
            const int outer = result / runs, first = (result - outer * runs) * WIDE;
            const int row = section * rows + part, whole = flat && !given ? length / WIDE : all_rows;
            const int end = section * rows + rows < whole ? section * rows + rows : whole;
            const int start = outer * length * inner + first;
            const int base = given ? first_given(result, all_rows, side) : start;
            const int step = given ? side * WIDE : (flat ? WIDE : inner);
            const int count = flat ? WIDE : inner - first;
            const float8 middle = centre ? LOAD8_float(centre, result * WIDE) : 0.0f;
            total = reduce_rows(input, given, base, step, count, row, end, across, middle, reduction);
            if (whole < all_rows && section == sections - 1 && part == whole % across) {
                const int index = start + whole * WIDE;
                const float8 last =
                    reduce_short(input, index, length - whole * WIDE, middle, reduction);
                total = reduce_two(total, last, reduction);
            }
        }
        totals[part * abreast + place] = total;
        barrier(CLK_LOCAL_MEM_FENCE);
        const int made = tile * abreast + lane;
        if (lane < abreast && made < results) {
            total = totals[lane];
            for (int other = 1; other < across; other++)
                total = reduce_two(total, totals[other * abreast + lane], reduction);
            if (parts) {
                STORE8_float(total, parts, (made * sections + section) * WIDE);
            } else {
                if (flat) total = reduce_run(total, reduction);
                total = finish_run(total, finish, divisor, epsilon);
                const int outer = made / runs, first = (made - outer * runs) * WIDE;
                if (statistics) STORE8_float(total, statistics, made * WIDE);
                else store_wide(total, output, outer * inner + first, inner - first);
            }
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
}
