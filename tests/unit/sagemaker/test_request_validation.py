"""Requests are held against the service's model, in the service's words."""

from __future__ import annotations

import pytest

from local.sagemaker.errors import AwsApiError
from local.sagemaker.request_validation import validate_request

VARIANT = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}


def complaint(operation: str, request: object) -> AwsApiError:
    with pytest.raises(AwsApiError) as caught:
        validate_request("sagemaker", operation, request)
    return caught.value


def test_a_good_request_passes() -> None:
    validate_request(
        "sagemaker", "CreateEndpointConfig", {"EndpointConfigName": "c", "ProductionVariants": [VARIANT]}
    )


@pytest.mark.parametrize(
    ("operation", "request_", "words"),
    [
        (
            "DescribeModel",
            {},
            "Value null at 'modelName' failed to satisfy constraint: Member must not be null",
        ),
        (
            "DescribeModel",
            {"ModelName": "-x"},
            "Value '-x' at 'modelName' failed to satisfy constraint: Member must satisfy regular expression",
        ),
        ("DescribeModel", {"ModelName": "a" * 64}, "Member must have length less than or equal to 63"),
        ("ListModels", {"MaxResults": 0}, "Value '0' at 'maxResults'"),
        ("ListModels", {"MaxResults": 101}, "Member must have value less than or equal to 100"),
        ("ListModels", {"SortBy": "Size"}, "Member must satisfy enum value set: [CreationTime, Name]"),
        ("DescribeModel", {"ModelName": "m", "Colour": "red"}, "Unknown field 'Colour'"),
        (
            "CreateEndpointConfig",
            {"EndpointConfigName": "c", "ProductionVariants": [VARIANT | {"InitialInstanceCount": 0}]},
            "at 'productionVariants.1.member.initialInstanceCount' failed",
        ),
        (
            "CreateEndpointConfig",
            {"EndpointConfigName": "c", "ProductionVariants": [VARIANT | {"InstanceType": "ml.z9.large"}]},
            "at 'productionVariants.1.member.instanceType' failed to satisfy constraint: Member must satisfy",
        ),
        ("AddTags", {"ResourceArn": "arn:x", "Tags": [{"Key": "k", "Value": "v"}]}, "at 'resourceArn'"),
        (
            "AddTags",
            {"ResourceArn": "arn:aws:sagemaker:us-east-1:123456789012:model/m", "Tags": [{"Key": "k"}]},
            "Value null at 'tags.1.member.value'",
        ),
    ],
)
def test_each_violation_is_named(operation: str, request_: dict, words: str) -> None:
    error = complaint(operation, request_)
    assert error.code == "ValidationException"
    assert error.message.startswith("1 validation error detected: ")
    assert words in error.message


def test_several_violations_are_reported_together() -> None:
    error = complaint("CreateEndpoint", {})
    assert error.message.startswith("2 validation errors detected: ")
    assert "'endpointName'" in error.message
    assert "'endpointConfigName'" in error.message


@pytest.mark.parametrize(
    "request_", [[], "text", {"ModelName": 7}, {"ModelName": True}, {"ModelName": {"a": 1}}]
)
def test_a_wrong_type_is_a_serialization_error(request_: object) -> None:
    assert complaint("DescribeModel", request_).code == "SerializationException"


def test_tag_keys_may_hold_letters_of_any_script() -> None:
    arn = "arn:aws:sagemaker:us-east-1:123456789012:model/m"
    validate_request(
        "sagemaker", "AddTags", {"ResourceArn": arn, "Tags": [{"Key": "größe 1", "Value": "a/b:c@d"}]}
    )
    assert (
        "'tags.1.member.key'"
        in complaint("AddTags", {"ResourceArn": arn, "Tags": [{"Key": "a#b", "Value": ""}]}).message
    )
