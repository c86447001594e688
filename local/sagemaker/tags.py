"""Tags of models, endpoint configurations and endpoints."""

from __future__ import annotations

from local.sagemaker.errors import ApiError, invalid
from local.sagemaker.store import Record, Store

MAX_TAGS = 50


def keep_tags(store: Store, arn: str, request: Record) -> None:
    """Keep the tags of a create request."""
    if request.get("Tags"):
        store.tags[arn] = _merged({}, request["Tags"])


def add_tags(store: Store, request: Record) -> Record:
    """AddTags: answers all tags of the resource."""
    arn = _known(store, request)
    store.tags[arn] = _merged(store.tags.get(arn, {}), request["Tags"])
    return {"Tags": _listed(store, arn)}


def list_tags(store: Store, request: Record) -> Record:
    """ListTags: at most 50 tags exist, so there is never a second page."""
    return {"Tags": _listed(store, _known(store, request))}


def delete_tags(store: Store, request: Record) -> Record:
    """DeleteTags: keys that are not there are no error."""
    arn = _known(store, request)
    kept = store.tags.get(arn, {})
    store.tags[arn] = {key: value for key, value in kept.items() if key not in request["TagKeys"]}
    return {}


def _known(store: Store, request: Record) -> str:
    arn = request["ResourceArn"]
    if not store.exists(arn):
        raise ApiError("ResourceNotFound", f'Could not find resource "{arn}".')
    return arn


def _merged(tags: dict[str, str], added: list[Record]) -> dict[str, str]:
    for tag in added:
        if tag["Key"].lower().startswith("aws:"):
            raise invalid("Tag keys that start with 'aws:' are reserved for use by AWS.")
    merged = tags | {tag["Key"]: tag["Value"] for tag in added}
    if len(merged) > MAX_TAGS:
        raise invalid(f"A resource can have at most {MAX_TAGS} tags.")
    return merged


def _listed(store: Store, arn: str) -> list[Record]:
    return [{"Key": key, "Value": value} for key, value in store.tags.get(arn, {}).items()]
