"""Statistics for comparing systems and deciding releases: pure functions, no AWS, no files, no clock.

`rates`, `means`, `sequential`, `anytime`, `planning`, `decision` and `canary` need the standard library and
contracts alone, since release decisions run inside Lambda functions; `estimators` and `bootstrap` need numpy
and are imported by name where they are used, never from here.
"""
