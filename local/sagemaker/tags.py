"""Tags of models, endpoint configurations and endpoints."""

from __future__ import annotations

from local.sagemaker.errors import AwsApiError, invalid
from local.sagemaker.records import JsonObject
from local.sagemaker.store import SageMakerStore

MAX_TAGS = 50


def store_tags(store: SageMakerStore, arn: str, request: JsonObject) -> None:
    """Keep the tags of a create request."""
    if request.get("Tags"):
        store.tags[arn] = _merged({}, request["Tags"])


def add_tags(store: SageMakerStore, request: JsonObject) -> JsonObject:
    """AddTags: answers all tags of the resource."""
    arn = _known(store, request)
    store.tags[arn] = _merged(store.tags.get(arn, {}), request["Tags"])
    return {"Tags": _listed(store, arn)}


def list_tags(store: SageMakerStore, request: JsonObject) -> JsonObject:
    """ListTags: at most 50 tags exist, so there is never a second page."""
    return {"Tags": _listed(store, _known(store, request))}


def delete_tags(store: SageMakerStore, request: JsonObject) -> JsonObject:
    """DeleteTags: keys that are not there are no error."""
    arn = _known(store, request)
    kept = store.tags.get(arn, {})
    store.tags[arn] = {key: value for key, value in kept.items() if key not in request["TagKeys"]}
    return {}


def _known(store: SageMakerStore, request: JsonObject) -> str:
    arn: str = request["ResourceArn"]
    if not store.exists(arn):
        raise AwsApiError("ResourceNotFound", f'Could not find resource "{arn}".')
    return arn


def _merged(tags: dict[str, str], added: list[JsonObject]) -> dict[str, str]:
    for tag in added:
        if tag["Key"].lower().startswith("aws:"):
            raise invalid("Tag keys that start with 'aws:' are reserved for use by AWS.")
    merged = tags | {tag["Key"]: tag["Value"] for tag in added}
    if len(merged) > MAX_TAGS:
        raise invalid(f"A resource can have at most {MAX_TAGS} tags.")
    return merged


def _listed(store: SageMakerStore, arn: str) -> list[JsonObject]:
    return [{"Key": key, "Value": value} for key, value in store.tags.get(arn, {}).items()]
