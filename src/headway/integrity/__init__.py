"""Is a suite what it says it is? The audit, and what is known to be wrong with public suites."""
