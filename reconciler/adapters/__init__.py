"""I/O: one module for each thing outside, each an implementation of a port."""
