"""The laptop cloud: everything that stands in for AWS on one machine, and the commands that drive it.

It starts runtime code only as processes and imports nothing of ours but `contracts`.
"""
