"""The registry says where models come from: it stays where models stay, and blocks no second create."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(("env", "policy"), [("prod", "RetainExceptOnCreate"), ("local", "Delete")])
def test_the_model_package_group_is_kept_as_long_as_the_models(template_json, env, policy):
    resources = template_json(env, "refresh")["Resources"].values()
    [group] = [one for one in resources if one["Type"] == "AWS::SageMaker::ModelPackageGroup"]

    assert group["DeletionPolicy"] == policy
