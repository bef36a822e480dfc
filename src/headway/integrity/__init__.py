"""Audit whether a suite serves the checkpoints that it claims to serve, and remember known faults of public suites."""
