"""What tokens cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Prices:
    """US dollars per million tokens."""

    input: float
    output: float

    def cost(self, input_tokens: int, output_tokens: int) -> int:
        """In billionths of a dollar."""
        return round((input_tokens * self.input + output_tokens * self.output) * 1_000)
