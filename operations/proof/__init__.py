"""The parts of `prove`: load, a guarded change, a forced rollback, the report."""
