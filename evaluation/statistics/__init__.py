"""Statistics for comparing systems and deciding releases: pure functions, no AWS, no files, no clock.

Only `estimators` and `bootstrap` need numpy; import them by name, never from here. The other modules need the
standard library and contracts alone, because release decisions run inside Lambda functions.
"""
