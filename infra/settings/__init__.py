"""The settings files as frozen models: `load(env)` gives `Settings` or one clear `SettingsError`."""

from infra.settings.loader import SettingsError, load
from infra.settings.model import Settings

__all__ = ["Settings", "SettingsError", "load"]
