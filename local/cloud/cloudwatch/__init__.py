"""CloudWatch as dashboards and alarms need it: metric math, percentiles, searches, evaluation of alarms.

Everything but `plugin` is pure: it knows neither the emulator nor the clock. Semantics follow the CloudWatch
user guide, "Using metric math", "Search expression syntax" and "How alarm state is evaluated when data is
missing".
"""
