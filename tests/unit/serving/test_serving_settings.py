"""The environment becomes settings, or the variable at fault is named."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from contracts import container
from model_code.serving.settings import read_settings, usable_cores, variable_of


def test_an_empty_environment_gives_sagemakers_own_defaults() -> None:
    settings = read_settings({})
    assert (str(settings.model_folder), settings.port) == ("/opt/ml/model", 8080)
    assert settings.threads == usable_cores() >= 1


def test_variables_are_read_and_empty_ones_are_unset() -> None:
    settings = read_settings({container.ENV_MAX_RUNNING: "3", container.ENV_MAX_CONTEXT: ""})
    assert (settings.max_running, settings.max_context) == (3, None)


def test_a_wrong_value_leads_to_its_variable() -> None:
    with pytest.raises(ValidationError) as caught:
        read_settings({container.ENV_MAX_QUEUED: "-1"})
    assert variable_of(str(caught.value.errors()[0]["loc"][0])) == container.ENV_MAX_QUEUED
