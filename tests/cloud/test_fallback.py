"""The deployed door degrades: while its endpoint is down another answers, and afterwards its own again."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator

import httpx
import pytest

from contracts.fallback import FALLBACK_VARIANT, FallbackTarget
from tests.cloud.test_callers import chat, option
from tests.support.laptop import Laptop
from tests.support.waiting import until


@pytest.fixture(scope="module")
def standby(laptop: Laptop) -> Iterator[str]:
    """A second endpoint, as another team may run it: the champion's model in a fleet of its own."""
    sagemaker, name = laptop.aws("sagemaker"), f"standby-{secrets.token_hex(4)}"
    ours = sagemaker.describe_endpoint(EndpointName=laptop.outputs["endpoint_name"])
    config = sagemaker.describe_endpoint_config(EndpointConfigName=ours["EndpointConfigName"])
    (model,) = [v["ModelName"] for v in config["ProductionVariants"] if v["VariantName"] == "champion"]
    one = {"VariantName": "only", "ModelName": model, "InstanceType": "ml.m5.large"}
    sagemaker.create_endpoint_config(
        EndpointConfigName=name, ProductionVariants=[one | {"InitialInstanceCount": 1}]
    )
    try:
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)

        def status() -> str:
            return str(sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"])

        assert until(lambda: status() != "Creating" and status(), "the standby is there") == "InService"
        yield name
    finally:
        with contextlib.suppress(sagemaker.exceptions.ClientError):
            sagemaker.delete_endpoint(EndpointName=name)
        sagemaker.delete_endpoint_config(EndpointConfigName=name)


@contextlib.contextmanager
def down(laptop: Laptop, endpoint: str) -> Iterator[None]:
    """An endpoint that answers every call with 503."""
    faults = f"{laptop.outputs['aws_endpoint_url']}/_evergreen/faults"
    fault = {"kind": "errors", "endpoint": endpoint, "status": 503}
    made = httpx.post(faults, json=fault, timeout=30).raise_for_status().json()
    try:
        yield
    finally:
        httpx.delete(f"{faults}/{made['id']}", timeout=30).raise_for_status()


@contextlib.contextmanager
def allowed(laptop: Laptop, endpoint: str) -> Iterator[None]:
    """The inference function's role with the right that settings bring along with a fallback."""
    (function,) = [
        f
        for f in laptop.aws("lambda").list_functions()["Functions"]
        if f.get("Handler") == "lambdas.inference.handler.handler"
    ]
    role = function["Role"].rpartition("/")[2]
    place = f"arn:aws:sagemaker:{laptop.outputs['region']}:{laptop.outputs['account']}:endpoint/{endpoint}"
    statement = {
        "Effect": "Allow",
        "Action": "sagemaker:InvokeEndpointWithResponseStream",
        "Resource": place,
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam = laptop.aws("iam")
    iam.put_role_policy(RoleName=role, PolicyName="fallback", PolicyDocument=policy)
    try:
        yield
    finally:
        iam.delete_role_policy(RoleName=role, PolicyName="fallback")


def test_while_the_endpoint_is_down_the_next_one_answers(laptop: Laptop, standby: str) -> None:
    target = FallbackTarget(endpoint_name=standby, model_version="standby-1")
    with option(laptop, "inference", "FALLBACKS", [target.model_dump(exclude_none=True)]):
        assert chat(laptop, "Hi").headers["x-evergreen-variant"] == "champion"
        with down(laptop, laptop.outputs["endpoint_name"]):
            refused = chat(laptop, "Hi")  # the role may not call the standby yet
            assert (refused.status_code, refused.json()["error"]["type"]) == (503, "overloaded_error")
            assert int(refused.headers["retry-after"]) > 0
            with allowed(laptop, standby):
                whole, streamed = chat(laptop, "Hi"), chat(laptop, "Hi", stream=True)
                with down(laptop, standby):
                    nobody = chat(laptop, "Hi")
        for reply in (whole, streamed):
            assert (reply.status_code, reply.headers["x-evergreen-variant"]) == (200, FALLBACK_VARIANT)
        assert whole.json()["choices"][0]["message"]["content"]
        assert streamed.text.rstrip().endswith("data: [DONE]")
        assert (nobody.status_code, nobody.json()["error"]["type"]) == (503, "overloaded_error")

        rows = laptop.aws("dynamodb").query(
            TableName=laptop.stack_outputs("data")["RecordsTableName"],
            KeyConditionExpression="pk = :pk AND sk = :sk",
            ExpressionAttributeValues={
                ":pk": {"S": laptop.settled(whole.json()["id"]).removeprefix("chatcmpl-")},
                ":sk": {"S": "RECORD"},
            },
        )["Items"]
        assert [(row["variant"]["S"], row["model_version"]["S"]) for row in rows] == [
            (FALLBACK_VARIANT, "standby-1")
        ]

        def own() -> bool:
            reply = chat(laptop, "Hi")
            return reply.status_code == 200 and reply.headers["x-evergreen-variant"] == "champion"

        until(own, "the door's own endpoint answers again")
