"""What crosses a boundary between two rooms of the house, as pydantic models.

Everyone may import this package; it imports nothing of ours and no AWS library.
"""
