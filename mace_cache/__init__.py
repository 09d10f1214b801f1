"""A cache for compiled OpenCL programs."""
