/* Functions of 8 numbers at a time, and activations made of them.

   Comes after common.h. Inlined polynomials, as PoCL calls a function for each exp, log and fabs of a
   vector, which takes longer than what they compute. Relative errors are below 5e-7 (tested).
   Coefficients: the least greatest relative error by iterated weighted least squares, of
   (exp(r) - 1 - r) / r^2 for |r| <= log(2) / 2, and of (log(1 + f) - f + f^2 / 2) / f^3 for 1 + f from
   sqrt(1/2) to sqrt(2). Rounding to whole numbers by adding 1.5 * 2^23, and log(2) in two parts, are
   as in Cody and Waite, Software Manual for the Elementary Functions, 1980. */

#define WHOLE 12582912.0f
#define LOG_2_HIGH 0.693359375f
#define LOG_2_LOW -2.12194440e-4f

static float8 absolute(float8 x) {
    return as_float8(as_int8(x) & 0x7fffffff);
}

/* 2 to the power of n, from -126 to 127. */
static float8 power_of_two(int8 n) {
    return as_float8((n + 127) << 23);
}

/* exp(x) = (1 + what is returned) * 2^n. */
static float8 split_exponential(float8 x, int8 *n) {
    const float8 shifted = x * 1.44269504f + WHOLE, whole = shifted - WHOLE;
    const float8 r = (x - whole * LOG_2_HIGH) - whole * LOG_2_LOW;
    *n = as_int8(shifted) - as_int8((float8)WHOLE);
    const float8 high = (1.39465544e-3f * r + 8.36664438e-3f) * r + 4.16662805e-2f;
    return ((high * r + 0.16666542f) * r + 0.5f) * r * r + r;
}

/* From -104 on it is 0, from 89 on infinite; what is not a number stays so. */
static float8 exponential(float8 x) {
    const float8 low = -104.0f, high = 89.0f;
    x = x < low ? low : x;
    x = x > high ? high : x;
    int8 n;
    const float8 rest = split_exponential(x, &n);
    const int8 half_n = n >> 1;
    return (rest + 1.0f) * power_of_two(half_n) * power_of_two(n - half_n);
}

/* exp(x) - 1 for x up to 0. */
static float8 exponential_less_one(float8 x) {
    const float8 low = -20.0f;
    x = x < low ? low : x;
    int8 n;
    const float8 rest = split_exponential(x, &n), scale = power_of_two(n);
    return rest * scale + (scale - 1.0f);
}

/* Of 0 it is minus infinity, below that not a number. */
static float8 logarithm(float8 x) {
    const float8 least = 1.17549435e-38f, zero = 0.0f, none = NAN, most = INFINITY;
    const float8 normal = x < least ? x * 8388608.0f : x;
    const float8 bias = x < least ? (float8)(WHOLE + 23) : (float8)WHOLE;
    const int8 bits = as_int8(normal) - 0x3f3504f3; /* sqrt(1/2) */
    const float8 whole = as_float8((bits >> 23) + as_int8((float8)WHOLE)) - bias;
    const float8 f = as_float8((bits & 0x7fffff) + 0x3f3504f3) - 1.0f, square = f * f;
    float8 high = (8.7004356e-2f * f - 0.14267486f) * f + 0.14914767f;
    high = ((high * f - 0.16577585f) * f + 0.19963063f) * f - 0.25001338f;
    high = (high * f + 0.3333391f) * f - 0.5f;
    const float8 value = high * square + whole * LOG_2_LOW + f + whole * LOG_2_HIGH;
    const float8 edge = x == zero ? -most : none;
    return x > zero ? (x < most ? value : x) : edge;
}

/* Made of exponential_less_one(-2 |x|). */
static float8 hyperbolic_tangent(float8 x, float8 rest) {
    const int8 sign = as_int8(x) & (int)0x80000000;
    return as_float8(as_int8(absolute(rest / (rest + 2.0f))) | sign);
}

static float8 clip_wide(float8 value, float8 low, float8 high) {
    const float8 raised = value < low ? low : value;
    return raised > high ? high : raised;
}

/* As activate in common.h; PRELU takes slopes. */
static float8 activate_wide(float8 x, int activation, float coefficient, float8 slopes) {
    const float8 zero = 0.0f;
    if (activation == TANH || activation == ELU) {
        const float8 rest = exponential_less_one(activation == TANH ? absolute(x) * -2.0f : x);
        if (activation == TANH) return hyperbolic_tangent(x, rest);
        return x < zero ? rest * coefficient : x;
    }
    switch (activation) {
    case NONE: return x;
    case RELU: return x < zero ? zero : x;
    case RELU6: return clip_wide(x, 0.0f, 6.0f);
    case PRELU: return x < zero ? x * slopes : x;
    case SIGMOID: return 1.0f / (1.0f + exponential(-x));
    case LEAKY_RELU: return x < zero ? x * coefficient : x;
    case HARD_SIGMOID: return clip_wide(x * (1.0f / 6) + 0.5f, 0.0f, 1.0f);
    case HARD_SWISH: return x * clip_wide(x * (1.0f / 6) + 0.5f, 0.0f, 1.0f);
    default: return x;
    }
}
