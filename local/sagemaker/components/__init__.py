"""Inference components: `operations` answers the API, `host` runs the copies, `adapters` loads adapters."""
