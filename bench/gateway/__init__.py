"""`make bench`, part "gateway": what the front door adds. Run as `python -m bench.gateway`."""
