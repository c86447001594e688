"""Where requests go while the endpoint cannot answer: settings write it, the inference function reads it
(variable `FALLBACKS`, and each entry of the catalogue)."""

from __future__ import annotations

from contracts.targets import BedrockTarget, EndpointTarget, OpenAITarget, Target

__all__ = ["FALLBACK_VARIANT", "BedrockTarget", "FallbackTarget", "OpenAITarget", "Target"]

FALLBACK_VARIANT = "fallback"
"""What records, metrics and `x-evergreen-variant` call an answer that another target gave."""

FallbackTarget = EndpointTarget
