"""The settings files as frozen models: `load(env)` gives `Settings` or one clear `SettingsError`."""

from infra.settings.environment_settings import Settings
from infra.settings.loader import SettingsError, load

__all__ = ["Settings", "SettingsError", "load"]
