/* Reductions as a processor makes them: the first work-item of each group goes through its elements
   in the order in which they lie in memory, with several totals at a time. */

#define ADD_FOUR(total, a, b, c, d) ((total) + (((a) + (b)) + ((c) + (d))))

#define LINE(case_, value, four)                                                           \
    case case_:                                                                            \
        for (; at + 4 * WIDE <= end; at += 4 * WIDE) {                                     \
            const float8 a = LOAD8(line, at) - centre, b = LOAD8(line, at + WIDE) - centre; \
            const float8 c = LOAD8(line, at + 2 * WIDE) - centre;                          \
            const float8 d = LOAD8(line, at + 3 * WIDE) - centre;                          \
            total = four(total, value(a), value(b), value(c), value(d));                   \
        }                                                                                  \
        break;

/* Neighbours from `at` to before `end`. What is rarely asked for is left to the last loop. */
static float8 reduce_line(global const DATA_TYPE *line, int at, int end, float8 centre,
                          int reduction) {
    float8 total = neutral(reduction);
    switch (reduction) {
        LINE(SUM, AS_IT_IS, ADD_FOUR)
        LINE(SUM_OF_SQUARES, squared, ADD_FOUR)
        LINE(SUM_OF_EXPONENTIALS, exponential, ADD_FOUR)
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

/* Runs of neighbours, each of `count` elements, in the rows from `row` to before `end`. */
static void reduce_last_rows(global const DATA_TYPE *first, int step, int runs, int count, int row,
                             int end, global const float *centre, local float8 *totals,
                             int reduction) {
    for (; row < end; row++)
        for (int run = 0; run < runs; run++) {
            const float8 middle = centre ? LOAD8_float(centre, run * WIDE) : 0.0f;
            const float8 x = load_wide(first, row * step + run * WIDE, count) - middle;
            totals[run] = reduce_two(totals[run], prepare(x, reduction), reduction);
        }
}

#define ROWS(case_, value, four)                                                           \
    case case_:                                                                            \
        for (; row + 4 <= end; row += 4)                                                   \
            for (int run = 0; run < runs; run++) {                                         \
                const float8 middle = centre ? LOAD8_float(centre, run * WIDE) : 0.0f;     \
                const int at = row * step + run * WIDE;                                    \
                const float8 a = LOAD8(first, at) - middle;                                \
                const float8 b = LOAD8(first, at + step) - middle;                         \
                const float8 c = LOAD8(first, at + 2 * step) - middle;                     \
                const float8 d = LOAD8(first, at + 3 * step) - middle;                     \
                totals[run] = four(totals[run], value(a), value(b), value(c), value(d));   \
            }                                                                              \
        break;

/* Runs of neighbours in the rows from `row` to before `end`, added to the totals. */
static void reduce_rows(global const DATA_TYPE *first, int step, int runs, int row, int end,
                        global const float *centre, local float8 *totals, int reduction) {
    switch (reduction) {
        ROWS(SUM, AS_IT_IS, ADD_FOUR)
        ROWS(SUM_OF_SQUARES, squared, ADD_FOUR)
        ROWS(SUM_OF_EXPONENTIALS, exponential, ADD_FOUR)
        ROWS(MINIMUM, AS_IT_IS, smallest)
        ROWS(MAXIMUM, AS_IT_IS, largest)
    }
    reduce_last_rows(first, step, runs, WIDE, row, end, centre, totals, reduction);
}

/* The totals of results `from` to before `end`, of the rows of one section. */
static void reduce_section(global const DATA_TYPE *input, global const float *given,
                           global const float *centre, local float8 *totals, int from, int end,
                           int runs, int length, int inner, int all_rows, int first_row,
                           int last_row, int side, int reduction) {
    for (int result = from; result < end;) {
        if (given) {
            float8 total = neutral(reduction);
            const int base = first_given(result, all_rows, side);
            for (int row = first_row; row < last_row; row++)
                total =
                    reduce_two(total, LOAD8_float(given, base + row * side * WIDE), reduction);
            totals[result++ - from] = total;
        } else if (inner == 1) {
            const float8 middle = centre ? LOAD8_float(centre, result * WIDE) : 0.0f;
            const int stop = last_row * WIDE < length ? last_row * WIDE : length;
            totals[result - from] =
                reduce_line(input + result * length, first_row * WIDE, stop, middle, reduction);
            result++;
        } else {
            const int outer = result / runs, run = result - outer * runs;
            const int together = end - result < runs - run ? end - result : runs - run;
            const int count = inner - run * WIDE, whole = together * WIDE <= count ? together : together - 1;
            global const DATA_TYPE *first = input + outer * length * inner + run * WIDE;
            global const float *centres = centre ? centre + result * WIDE : centre;
            local float8 *made = totals + result - from;
            for (int i = 0; i < together; i++) made[i] = neutral(reduction);
            reduce_rows(first, inner, whole, first_row, last_row, centres, made, reduction);
            if (whole < together)
                reduce_last_rows(first + whole * WIDE, inner, 1, count - whole * WIDE, first_row,
                                 last_row, centres ? centres + whole * WIDE : centres, made + whole,
                                 reduction);
            result += together;
        }
    }
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
    if (get_local_id(0)) return;
    const int abreast = LANES / across, groups = get_num_groups(0);
    const int share = (units + groups - 1) / groups, start = get_group_id(0) * share;
    const int stop = start + share < units ? start + share : units;
    for (int unit = start; unit < stop; unit++) {
        const int tile = unit / sections, section = unit - tile * sections;
        const int from = tile * abreast, end = from + abreast < results ? from + abreast : results;
        const int first_row = section * rows;
        const int last_row = first_row + rows < all_rows ? first_row + rows : all_rows;
        reduce_section(input, given, centre, totals, from, end, runs, length, inner, all_rows,
                       first_row, last_row, side, reduction);
        for (int made = from; made < end; made++) {
            float8 total = totals[made - from];
            if (parts) {
                STORE8_float(total, parts, (made * sections + section) * WIDE);
                continue;
            }
            if (inner == 1) total = reduce_run(total, reduction);
            total = finish_run(total, finish, divisor, epsilon);
            const int outer = made / runs, first = (made - outer * runs) * WIDE;
            if (statistics) STORE8_float(total, statistics, made * WIDE);
            else store_wide(total, output, outer * inner + first, inner - first);
        }
    }
}
