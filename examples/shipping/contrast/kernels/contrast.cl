kernel void stretch(global REAL *values, int count, float low, float scale)
{
    int i = get_global_id(0);
    if (i < count)
        values[i] = (values[i] - low) * scale;
}
