"""`make bench`, part "gateway": what the inference function adds. Run as `python -m bench.gateway`."""
