"""The data plane of API Gateway's REST APIs, over the configuration that was deployed.

Read `gateway` first: it holds the order of things. Everything but `plugin` is free of the emulator and is
tested without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from local.cloud.config import CloudConfig


def register(config: CloudConfig) -> None:
    """Serve REST APIs from this cloud. Call once, after `ministack_adapter.install`."""
    from local.cloud.rest_api import plugin  # the emulator must be configured before it is imported

    plugin.register(config)
