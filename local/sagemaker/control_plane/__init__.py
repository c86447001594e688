"""The control plane: each operation checks its request, writes a record and starts the work.

Operations on inference components and jobs are in their own packages; here are models, endpoint
configurations, endpoints and model packages, with the rules by which they are refused.
"""
