"""Drawing an evaluation report: one HTML page that needs nothing but itself.

Knows contracts and wording; computes no statistics.
"""
