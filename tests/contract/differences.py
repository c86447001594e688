"""Where other servers are known to differ from the contract, as data: one that ends, or a new one, shows.

Keys are test names as pytest prints them from the function's name on, or a prefix; values are the reasons.
The tests are expected to fail there, strictly.
"""

from __future__ import annotations

DIFFERENCES: dict[str, dict[str, str]] = {
    "vllm": {
        "test_a_client_that_leaves_frees_its_slot": "vLLM counts tokens at the end: a cut stream has none",
    },
}


def reason(server: str, test: str) -> str | None:
    """Why a test fails against a server; None where it must pass."""
    known = DIFFERENCES.get(server, {})
    return next((why for prefix, why in known.items() if test.startswith(prefix)), None)
