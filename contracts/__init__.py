"""What crosses a boundary between two packages or processes, as pydantic models.

Everyone may import this package; it imports nothing of ours and no AWS library.
"""
