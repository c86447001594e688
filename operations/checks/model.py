"""The model: whether the artefact that would be served is whole, with its manifest and hook."""

from __future__ import annotations

from collections.abc import Iterator

from botocore.exceptions import ClientError

from operations.artefacts import last_uploaded, regions_of
from operations.aws_errors import DENIED, code_of
from operations.checks.results import Result, failed, passed, unsettled
from operations.diagnosis.evidence import Findings
from operations.diagnosis.facts import look_at_artefact
from operations.model_places import ModelPlace, places
from operations.stacks import describe_stack
from operations.target import Target

SUBJECT = "model"
_NO_BUCKET = ("NoSuchBucket", "404")


def check_artefact(target: Target) -> Iterator[Result]:
    """Each model's artefact in every region that serves it: the champion's, else the one uploaded last, else
    the settings'."""
    for place in places(target):
        for region in regions_of(target, place):
            yield _artefact(target, region, place)


def _artefact(target: Target, region: str, place: ModelPlace) -> Result:
    subject = f"{SUBJECT}, {region}" if place.is_own else f"{SUBJECT} {place.name}, {region}"
    uri, digest, origin = _chosen(target, region, place)
    named = "" if place.is_own else f" NAME={place.name}"
    bring = f"make model ENV={target.name}{named} FROM=<folder or S3 URI>"
    if uri is None:
        return unsettled(subject, "none was uploaded yet", bring)
    shown = f"{uri} ({origin})"
    if place.packed:
        return unsettled(subject, f"{shown}: an archive is not looked into")
    findings = Findings()
    hook = bool(getattr(place.settings.endpoint.engine, "hook", False))
    try:
        look_at_artefact(findings, target.client("s3", region), uri, region, hook=hook, digest=digest)
    except ClientError as error:
        if code_of(error) not in (*_NO_BUCKET, *DENIED):
            raise
        words = "there is no such bucket" if code_of(error) in _NO_BUCKET else "no right to read it"
        return failed(subject, f"{shown}: {words}", bring)
    problems = [line.text for line in findings.evidence]
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        return failed(subject, f"{problems[0]}{more} ({origin})", bring)
    parts = [*(["manifest"] if digest else []), *(["hook"] if hook else [])]
    return passed(subject, f"{shown} is whole{', with ' if parts else ''}{' and '.join(parts)}")


def _chosen(target: Target, region: str, place: ModelPlace) -> tuple[str | None, str, str]:
    """URI, digest (may be empty) and origin of the artefact that a deploy would serve in a region."""
    part = place.stack if region == target.region else "failover"
    stack = describe_stack(target.client("cloudformation", region), target.stack(part))
    values = {entry["ParameterKey"]: entry["ParameterValue"] for entry in (stack or {}).get("Parameters", [])}
    key = next(iter(place.parameters("", "", "")))
    if values.get(key):
        return values[key], values.get("ChampionModelDigest", ""), "champion"
    uploaded = last_uploaded(target, place)
    if uploaded is not None and region in uploaded.uris:
        return uploaded.uris[region], uploaded.digest, "uploaded last"
    second = target.settings.failover
    source = place.source if part == place.stack else second.source if second else None
    return source, "", "settings"
