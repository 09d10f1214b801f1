/* Powers of 8 numbers at a time, with C's edges and about the accuracy of one rounding.

   Comes after functions.h. An error in the exponent of 2 counts up to 128 times in the result, so the
   logarithm and its product are sums of two floats. Products of numbers of 12 bits are exact in 24,
   whether or not a compiler makes fused operations of them. log2(m) = 2 / log(2) * atanh(q) for
   q = (m - 1) / (m + 1); coefficients as in functions.h, of (atanh(q) - q - q^3 / 3) * 3 / q^5 in q^2,
   and of (exp(t) - 1 - t) / t^2. */

#define INVERSE_HIGH 0.9609375f /* 2 / (3 * log(2)), and the rest of it */
#define INVERSE_LOW 8.59193926e-4f
#define LOG_2_BITS 0.693115234375f /* log(2), and the rest of it */
#define LOG_2_REST 3.19461849e-5f

/* The highest 12 bits of each number. */
static float8 upper(float8 x) {
    return as_float8(as_int8(x) & (int)0xfffff000);
}

/* log2(x) = what is returned + low, for finite x above 0. */
static float8 split_logarithm(float8 x, float8 *low) {
    const float8 least = 1.17549435e-38f;
    const float8 normal = x < least ? x * 8388608.0f : x;
    const float8 bias = x < least ? (float8)(WHOLE + 23) : (float8)WHOLE;
    const int8 bits = as_int8(normal) - 0x3f3504f3; /* sqrt(1/2) */
    const float8 whole = as_float8((bits >> 23) + as_int8((float8)WHOLE)) - bias;
    const float8 f = as_float8((bits & 0x7fffff) + 0x3f3504f3) - 1.0f, inverse = 1.0f / (f + 2.0f);
    const float8 high_f = upper(f), high = upper(f * inverse);
    const float8 rest = (((f - 2.0f * high) - high * high_f) - high * (f - high_f)) * inverse;
    const float8 q = high + rest, square = q * q;
    float8 more = ((0.35128062f * square + 0.42820692f) * square + 0.60000228f) * square;
    more = (more + 1.0f) * square * q + 3.0f * rest;
    const float8 part = 3.0f * high * INVERSE_HIGH, sum = whole + part;
    more = more * (INVERSE_HIGH + INVERSE_LOW) + 3.0f * high * INVERSE_LOW;
    more += part - (sum - whole);
    const float8 result = sum + more;
    *low = more - (result - sum);
    return result;
}

/* 2 to the power of high + low, where low is small. From 180 on it is infinite, from -180 down 0. */
static float8 power_of_sum(float8 high, float8 low) {
    const float8 least = -180.0f, most = 180.0f, one = 1.0f;
    high = high < least ? least : high;
    high = high > most ? most : high;
    low = low < -one ? -one : low;
    low = low > one ? one : low;
    const float8 shifted = high + low + WHOLE, whole = shifted - WHOLE;
    const int8 n = as_int8(shifted) - as_int8((float8)WHOLE), half_n = n >> 1;
    const float8 upper_r = upper(high - whole), rest = ((high - whole) - upper_r) + low;
    const float8 t = (upper_r + rest) * (LOG_2_BITS + LOG_2_REST);
    float8 more = (1.39505996e-3f * t + 8.36895378e-3f) * t + 4.16662042e-2f;
    more = ((more * t + 0.16666518f) * t + 0.50000001f) * t * t;
    more += upper_r * LOG_2_REST + rest * (LOG_2_BITS + LOG_2_REST);
    const float8 part = upper_r * LOG_2_BITS, sum = one + part;
    const float8 value = sum + ((part - (sum - one)) + more);
    return value * power_of_two(half_n) * power_of_two(n - half_n);
}

static int8 is_whole(float8 x) {
    const float8 large = 8388608.0f, size = absolute(x);
    return (size >= large) | (size + large - large == size);
}

static int any_has_sign(float8 x) {
    const int8 bits = as_int8(x);
    const int4 four = bits.lo | bits.hi;
    const int2 two = four.lo | four.hi;
    return (two.x | two.y) < 0;
}

/* a to the power of b. An exponent beyond 2^33 is that: every number but 1 has overflown by then. */
static float8 raise(float8 a, float8 b) {
    const float8 zero = 0.0f, one = 1.0f, most = INFINITY, none = NAN, farthest = 0x1p33f;
    const float8 size = absolute(a);
    float8 factor = b < -farthest ? -farthest : b;
    factor = factor > farthest ? farthest : factor;
    float8 low, high = split_logarithm(size, &low);
    const float8 upper_b = upper(factor), upper_log = upper(high);
    low = factor * low + (upper_b * (high - upper_log) + (factor - upper_b) * high);
    const int8 edge = (size == zero) | (size == most);
    high = edge ? (size > one ? most : -most) * b : upper_b * upper_log;
    low = edge ? zero : low;
    float8 value = a == a ? power_of_sum(high, low) : none;
    if (any_has_sign(a)) {
        const int8 whole = is_whole(b), sign = as_int8(a) & whole & (int)0x80000000;
        value = is_whole(b * 0.5f) ? value : as_float8(as_int8(value) ^ sign);
        const float8 signed_value = (whole | (a == -most)) ? value : none;
        value = a < zero ? signed_value : value;
    }
    return ((b == zero) | (a == one)) ? one : value;
}
