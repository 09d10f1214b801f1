"""A fleet on one machine: many hosts that start together, and remotes that fail in every way."""
