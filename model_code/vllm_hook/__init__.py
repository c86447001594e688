"""What makes vLLM's server keep our container's promises: readiness, deadlines, admission, errors, drain.

An ASGI middleware that AWS's vLLM image loads through model-hosting-container-standards, and pure: it knows
vLLM only as the ASGI application it wraps, so it imports and runs without it.
"""
