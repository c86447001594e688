"""The table of causes: what a failure says, what it means, and what to do next. Pure: no AWS.

Read it top to bottom: a row stands above those whose signs it also causes. `signs` are regular expressions
over what AWS or a program said, `facts` over what was looked up afterwards. A sign with `if_fact` tells only
together with that fact: AWS's words for a missing grant and for a bucket in another region are the same.
The wordings are those of the services and engines; tests/fixtures/operations/failures.yaml has them in full.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from operations.diagnosis.evidence import Evidence

_LINES_SHOWN = 4


@dataclass(frozen=True)
class Sign:
    """A pattern of a message; with `if_fact`, only where a fact with that pattern was found too."""

    pattern: str
    if_fact: str = ""


@dataclass(frozen=True)
class Cause:
    """One row. A `symptom` says that something failed and not why: any other row comes before it."""

    name: str
    title: str
    signs: tuple[str | Sign, ...]
    next_step: str
    facts: tuple[str, ...] = ()
    symptom: bool = False


@dataclass(frozen=True)
class Diagnosis:
    """A cause that the evidence names, with its lines."""

    cause: Cause
    lines: tuple[Evidence, ...]


_ELSEWHERE = r"is in region [a-z0-9-]+, and the environment is in"

CAUSES: tuple[Cause, ...] = (
    Cause(
        "expired-credentials",
        "The credentials have expired or are not known",
        (
            r"ExpiredToken|security token included in the request is (expired|invalid)|InvalidClientTokenId",
            r"Unable to locate credentials|UnrecognizedClientException|SSO session .* (expired|invalid)",
        ),
        "Sign in again (`aws sso login`, or new keys), then run the command again.",
    ),
    Cause(
        "wrong-account",
        "The credentials are another account's",
        (r"Need to perform AWS calls for account \d+, but the current credentials are for \d+",),
        "Switch AWS_PROFILE to the account of settings/{env}.yaml, or change `environment.account`.",
    ),
    Cause(
        "not-bootstrapped",
        "The account and region are not bootstrapped for CDK",
        (
            r"Has the environment been bootstrapped|/cdk-bootstrap/\w+/version",
            r"could not be used to assume '[^']*cdk-\w+-(deploy|file-publishing|lookup)-role",
            r"role/evergreen-[\w-]+-cfn-[\w-]+ is invalid or cannot be assumed",
            r"iam:PassRole on resource: \S*role/evergreen-[\w-]+-cfn-",
        ),
        "make bootstrap ENV={env}",
    ),
    Cause(
        "quota",
        "A quota of the account is too small",
        (
            r"ResourceLimitExceeded|account-level service limit '",
            r"ServiceQuotaExceeded|UnreservedConcurrentExecution below its minimum value",
            r"LimitExceededException",
        ),
        "Ask for more under Service Quotas, counting the second fleet of an update, then deploy again. "
        "`make preflight ENV={env}` lists what is needed.",
        facts=(r"^the quota .* is \d+, and .* needs? \d+",),
    ),
    Cause(
        "capacity",
        "AWS has no instance of the type free",
        (r"InsufficientInstanceCapacity|Unable to provision requested ML compute capacity",),
        "Try later, name further types in `endpoint.instances`, or reserve capacity.",
    ),
    Cause(
        "wrong-region",
        "Something that the endpoint needs is in another region",
        (
            r"PermanentRedirect|must be addressed using the specified endpoint",
            r"the region '[a-z0-9-]+' is wrong; expecting|location constraint is incompatible",
            r"(?i)should be scoped to (the )?correct region|bucket is in this region",
            r"(?i)not (supported|available|offered) in (the |this )?(\S+ )?region",
            Sign(r"Could not (access|find) model data|Failed to download model data", _ELSEWHERE),
            Sign(r"make sure all images included|Requested image|manifest", rf"image .*{_ELSEWHERE}"),
        ),
        "Put the artefact and the image into the environment's region, or change `environment.region` in "
        "settings/{env}.yaml; `make model ENV={env}` uploads to the right bucket.",
        facts=(_ELSEWHERE, r"is not offered in region"),
    ),
    Cause(
        "missing-hook",
        "The artefact lacks Evergreen's hook for the engine, or the hook does not load",
        (
            r"(not found|No such file|Failed to load|Failed to import)[^\n]*evergreen_hook",
            r"evergreen_hook\S*['\"]? (not found|could not be loaded)|No such file[^\n]*/code/evergreen_hook",
            r"Handler(File)?NotFoundError|HandlerNotCallableError|No module named 'model_code",
            r"the hook is not in place|evergreen_hook\S* is missing",
        ),
        "make model ENV={env} FROM=<folder> puts hook and manifest into the artefact; then deploy again.",
        facts=(r"code/evergreen_hook\.\w+ is missing under",),
    ),
    Cause(
        "missing-artefact",
        "The model's artefact, or a file of it, is not there",
        (
            r"Could not find model data at",
            r"^(?!.*evergreen_hook).*is missing from the model artefact",
            r"(?i)ensure that there is an object located at the URL",
            r"does not appear to have a file named \S+",
            r"Cannot find any model weights|no file named (model\.safetensors|pytorch_model\.bin)",
            r"No such file or directory: '/opt/ml/model/(?!code/)",
        ),
        "make model ENV={env} FROM=<folder>, then `make deploy ENV={env}`.",
        facts=(r"^there is no object under", r"(manifest\.json|\.safetensors) is missing under"),
    ),
    Cause(
        "missing-grant",
        "A role, or who deploys, lacks a grant",
        (
            r"is not authorized to perform:?",
            r"does not have (the )?\S*\s?(permission|required)",
            r"Could not access model data at",
            r"(?i)could not assume role|unable to assume the role|trust relationship",
            r"does not grant (permission|\w+:\w+)",
            r"AccessDenied(Exception)?\b|KMSAccessDenied",
        ),
        "The evidence names role and action: grant it in infra/constructs (the execution role is "
        "execution_role.py), or undo what was changed by hand, and deploy again.",
    ),
    Cause(
        "unreachable-image",
        "The container image cannot be pulled",
        (
            r"(?i)requested image\b.*\bnot found",
            r"(?i)manifest (unknown|for \S+ not found)|repository with name '\S+' does not exist",
            r"CannotPullContainer|ErrImagePull|ImagePullBackOff|RepositoryNotFound|ImageNotFound",
            r"make sure all images included in the model",
        ),
        "Push the image, or name one of infra/settings/images.yaml that its registry has in this region; in "
        "a network of its own the endpoint needs the ECR and S3 endpoints.",
        facts=(r"^image \S+ is not in the registry",),
    ),
    Cause(
        "bad-flag",
        "The engine does not know a flag that it was given",
        (
            r"unrecognized arguments?:|ambiguous option:",
            r"error: (argument|the following arguments) ",
            r"(?i)no such option|unknown option|unexpected argument",
        ),
        "Compare the flag with the engine's version in infra/settings/images.yaml: choose an image that has "
        "it, or take out the setting that leads to it.",
    ),
    Cause(
        "corrupt-artefact",
        "A file of the artefact is damaged",
        (
            r"SafetensorError|Error while deserializing header|PytorchStreamReader failed",
            r"differs from its manifest|the artefact's digest is \w+, expected",
            r"(?i)(sha-?256|digest|checksum)\b[^\n]*\b(mismatch|does not match|differs)",
        ),
        "Upload it again: make model ENV={env} FROM=<folder>. The manifest's digests tell whether the folder "
        "itself is whole.",
        facts=(r"bytes under .*, and \d+ in the manifest", r"and the stack asks for"),
    ),
    Cause(
        "out-of-memory",
        "The model does not fit into memory",
        (
            r"(?i)(CUDA|HIP|XLA|Neuron)\S* (error: )?out of memory|OutOfMemoryError|OOMKilled|oom[-_]kill",
            r"No available memory for the cache blocks|less than desired GPU memory utilization",
            r"KV cache is needed, which is larger than|Out of memory: Killed process",
            r"exit (status|code):? ?(137|-9)\b|signal:? 9\b|RESOURCE_EXHAUSTED",
            r"\bMemoryError\b|std::bad_alloc|Cannot allocate memory|can't allocate memory",
        ),
        "Lower `endpoint.engine.max_context_tokens` or `max_running_requests`, quantise the model, or choose "
        "a larger instance; `make plan` compares them.",
    ),
    Cause(
        "download-timeout",
        "The model was not fetched in time",
        (r"(?i)model data download timed out|download of model data .* timed out",),
        "Raise `endpoint.model_download_timeout_seconds`.",
    ),
    Cause(
        "name-taken",
        "A resource with the fixed name exists already",
        (r"already exists\b",),
        "It is left over from an earlier deployment: delete it, or take it over with `cdk import`.",
    ),
    Cause(
        "in-use",
        "Something still holds what was to be deleted",
        (
            r"bucket you tried to delete is not empty|BucketNotEmpty",
            r"ConflictException[^\n]*(package|Package)|cannot be (deleted|updated) as it is in use",
        ),
        "make destroy ENV={env} empties it first.",
    ),
    Cause(
        "alarm",
        "An alarm is, or was, in ALARM, and the update was rolled back for it",
        (r"(?i)auto[- ]?roll ?back|alarm\S*[^\n]*\bALARM\b|alarms? (was|were) (triggered|breached)",),
        "Read the alarm's reason and its section in docs/monitoring.md; deploy again when it is OK.",
        facts=(r"was in ALARM during the update", r"^is in ALARM"),
    ),
    Cause(
        "silent-rollback",
        "SageMaker rolled the update back without a reason",
        (),
        "Read the container's log of the new fleet, mend that, and deploy again.",
        facts=(r"^the endpoint serves configuration",),
    ),
    Cause(
        "busy",
        "Something else was changing the same resource",
        (r"is in \S+_IN_PROGRESS state|Cannot update in-progress endpoint|StackBusy|EndpointBusy",),
        "Wait until `make status ENV={env}` shows rest, then run the command again.",
    ),
    Cause(
        "not-ready",
        "The container did not become ready in time",
        (r"did not pass the ping health check",),
        "Its log tells why; if it only is slow, raise `endpoint.startup_timeout_seconds`.",
        symptom=True,
    ),
)


def diagnose(evidence: Sequence[Evidence], causes: Sequence[Cause] = CAUSES) -> list[Diagnosis]:
    """Causes that the evidence names, the most likely first.

    A row that a message names comes before one that only facts name, and both before a symptom; among equals
    the table's order decides.
    """
    messages = [line for line in evidence if line.is_message]
    facts = [line for line in evidence if not line.is_message]
    ranked: list[tuple[int, Diagnosis]] = []
    for cause in causes:
        said = [line for line in messages if any(_shows(sign, line, facts) for sign in cause.signs)]
        looked_up = [line for line in facts if any(re.search(fact, line.text) for fact in cause.facts)]
        if not said and not looked_up:
            continue
        rank = 2 if cause.symptom else 0 if said else 1
        lines = (*_spread(said), *looked_up[:_LINES_SHOWN])
        ranked.append((rank, Diagnosis(cause, lines)))
    return [diagnosis for _, diagnosis in sorted(ranked, key=lambda entry: entry[0])]


def _shows(sign: str | Sign, line: Evidence, facts: Sequence[Evidence]) -> bool:
    if isinstance(sign, str):
        return re.search(sign, line.text) is not None
    return re.search(sign.pattern, line.text) is not None and any(
        re.search(sign.if_fact, fact.text) for fact in facts
    )


def _spread(lines: Sequence[Evidence]) -> list[Evidence]:
    """The first lines of each source: one message is often repeated by a hundred of one log."""
    shown: list[Evidence] = []
    for line in lines:
        if sum(line.source == other.source for other in shown) < _LINES_SHOWN // 2:
            shown.append(line)
    return shown[:_LINES_SHOWN]
