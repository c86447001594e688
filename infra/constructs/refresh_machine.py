"""The refresh loop as a Step Functions definition: one execution is one release.

Read `_happy_path` for the order of things and `_ways_out` for how a release ends. Every task that fails
leads to `Broken`, and from there over `Restore` and `ReleaseLock` to `Failed`: the endpoint is put back and
the lock freed whatever happened. What the two functions do stands in contracts/refresh.py, the jobs in
refresh_jobs.py.

Pure: from names and settings to plain JSON in the Amazon States Language. Knows nothing of CDK.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contracts.refresh import release_prefix
from infra.constructs.refresh_jobs import Jobs
from infra.constructs.states import BUSY, COPYING, TRANSIENT, State, catch, choice, invoke, wait
from infra.settings.refresh import RefreshSettings

JUDGE_SECONDS, RELEASE_SECONDS = 120, 300  # the functions' own limits
TOPOLOGY_SECONDS = 4 * 3600  # an update of the serving stack; a guarded one bakes within it
_RELEASE_ID = "$$.Execution.Name"


@dataclass(frozen=True)
class Loop:
    """What the definition names: ARNs of the functions, the artefacts bucket, the jobs.

    `followed` says that there is a second region, which is brought each champion.
    """

    judge_arn: str
    release_arn: str
    bucket: str
    jobs: Jobs
    settings: RefreshSettings
    followed: bool = False


def definition(loop: Loop) -> dict[str, Any]:
    """The whole state machine."""
    return {
        "Comment": "Train a challenger, judge it, and let it replace the champion, or say why not",
        "StartAt": "AcquireLock",
        "TimeoutSeconds": longest_seconds(loop.settings),
        "States": {**_happy_path(loop), **_ways_out(loop)},
    }


def longest_seconds(settings: RefreshSettings) -> int:
    """An upper bound of all the states' own limits: it only ends what they failed to end."""
    stages = len(settings.canary.shares) * int(settings.canary.deadline_minutes * 60)
    jobs = 60 * (settings.training.max_minutes + 4 * settings.processing.max_minutes)
    approval = settings.approval_hours * 3600 if settings.approval == "manual" else 0
    return 2 * jobs + approval + stages + 4 * TOPOLOGY_SECONDS + 6 * 3600


def _happy_path(loop: Loop) -> dict[str, State]:
    jobs = loop.jobs
    report, data = _uri(loop, "report/report.json"), _uri(loop, "data/")
    both = {"champion.$": "$.snapshot.champion", "challenger.$": "$.challenger"}
    states: dict[str, State] = {
        "AcquireLock": _release(
            loop,
            "acquire_lock",
            {"execution_arn.$": "$$.Execution.Id", "trigger.$": "$"},
            answer={"snapshot.$": "$.Payload"},
            into="$",
            then="Snapshot",
        ),
        "Snapshot": _job(jobs.prepare(), then="EvaluateChampion"),
        "EvaluateChampion": _job(
            jobs.predict("champion", model="$.snapshot.champion.uri"),
            then="Train",
        ),
        "Train": _job(
            jobs.train(base="$.snapshot.champion.uri"),
            answer={"model_uri.$": "$.ModelArtifacts.S3ModelArtifacts"},
            into="$.training",
            then="DescribeChallenger",
        ),
        "DescribeChallenger": _release(
            loop,
            "describe_challenger",
            {"model_uri.$": "$.training.model_uri"},
            answer={name: f"$.Payload.{name[:-2]}" for name in ("uri.$", "digest.$", "version.$")},
            into="$.challenger",
            then="EvaluateChallenger",
        ),
        "EvaluateChallenger": _job(
            jobs.predict("challenger", model="$.challenger.uri"),
            then="Compare",
        ),
        "Compare": _job(jobs.compare(loop.settings), then="Gate"),
        "Gate": _judge(
            loop,
            "gate",
            {"report_uri.$": report, **both},
            answer={"decision.$": "$.Payload.decision", "reason.$": "$.Payload.reason"},
            into="$.gate",
            then="GatePassed",
        ),
        "GatePassed": choice(
            {"Variable": "$.gate.decision", "StringEquals": "promote", "Next": "Register"},
            otherwise="KeptByGate",
        ),
        "KeptByGate": _end("kept", "$.gate.reason", then="ReleaseLock"),
        "Register": _release(
            loop,
            "register",
            {**both, "report_uri.$": report, "data_uri.$": data},
            answer={"arn.$": "$.Payload.package_arn"},
            into="$.package",
            then="Approve",
        ),
        "Approve": _approve(loop, then="StartExperiment"),
        "StartExperiment": _change(loop, "start_experiment", both, then="AwaitTopology"),
        **_await(loop, "Topology", phase="ab", then=_share_name(loop.settings.canary.shares[0])),
    }
    for stage, share in enumerate(loop.settings.canary.shares):
        states |= _stage(loop, stage, share, both)
    return {
        **states,
        "Promote": _change(loop, "promote", both, then="AwaitPromoted"),
        **_await(loop, "Promoted", phase="ab", then="Retire"),
        "Retire": _change(loop, "retire", {"challenger.$": "$.challenger"}, then="AwaitSteady"),
        **_await(loop, "Steady", phase="steady", then="Follow" if loop.followed else "PromotedByCallers"),
        **(_follow(loop, then="PromotedByCallers") if loop.followed else {}),
        "PromotedByCallers": _end("promoted", "$.verdict.reason", then="ReleaseLock"),
    }


def _stage(loop: Loop, stage: int, share: float, both: Mapping[str, str]) -> dict[str, State]:
    """One share of the traffic: set it, then ask the judge until it knows. The judge keeps the deadline."""
    shares = loop.settings.canary.shares
    onward = _share_name(shares[stage + 1]) if stage + 1 < len(shares) else "Promote"
    percent = f"{100 * share:g}"
    return {
        f"Share{percent}": _release(
            loop,
            "set_share",
            {**both, "share": share, "stage": stage},
            answer={"started_at.$": "$.Payload.started_at"},
            into="$.stage",
            then=f"Watch{percent}",
        ),
        f"Watch{percent}": wait(loop.settings.poll_seconds, then=f"Verdict{percent}"),
        f"Verdict{percent}": _judge(
            loop,
            "verdict",
            {"stage": stage, "started_at.$": "$.stage.started_at", "share": share},
            answer={"verdict.$": "$.Payload.verdict", "reason.$": "$.Payload.reason"},
            into="$.verdict",
            then=f"Decide{percent}",
        ),
        f"Decide{percent}": choice(
            {"Variable": "$.verdict.verdict", "StringEquals": "continue", "Next": f"Watch{percent}"},
            {"Variable": "$.verdict.verdict", "StringEquals": "promote", "Next": onward},
            otherwise="KeptByCallers",
        ),
    }


def _follow(loop: Loop, *, then: str) -> dict[str, State]:
    """Let the second region serve the new champion. Where that fails the first one keeps it all the same."""
    champion = {"champion.$": "$.challenger"}
    start = _change(loop, "follow", champion, then="AwaitFollowed", on_error="NotFollowed")
    return {
        "Follow": start | {"Retry": [*start["Retry"], COPYING]},
        **_until(
            loop,
            "Followed",
            "await_followed",
            champion,
            late="The second region did not serve the champion",
            then=then,
            on_error="NotFollowed",
        ),
        "NotFollowed": {
            "Type": "Pass",
            "Result": {
                "outcome": "failed",
                "error": "NotFollowed",
                "reason": "The champion is promoted; the second region still serves the one before it.",
            },
            "ResultPath": "$.end",
            "Next": "ReleaseLock",
        },
    }


def _ways_out(loop: Loop) -> dict[str, State]:
    release_lock = invoke(
        loop.release_arn,
        RELEASE_SECONDS,
        {
            "task": "release_lock",
            "release_id.$": _RELEASE_ID,
            "outcome.$": "$.end.outcome",
            "reason.$": "$.end.reason",
        },
    )
    return {
        "KeptByCallers": _end("kept", "$.verdict.reason", then="Restore"),
        "Broken": {
            "Comment": "An error need not have a cause; the next state needs one",
            "Type": "Pass",
            "Result": {"Error": "Unknown", "Cause": "No cause was given."},
            "ResultPath": "$.unknown",
            "Next": "Blame",
        },
        "Blame": {
            "Type": "Pass",
            "Parameters": {"error.$": "States.JsonMerge($.unknown, $.error, false)"},
            "ResultPath": "$.blame",
            "Next": "FailedByError",
        },
        "FailedByError": _end(
            "failed", "$.blame.error.Cause", then="Restore", extra={"error.$": "$.blame.error.Error"}
        ),
        "Restore": _change(loop, "restore", {}, then="AwaitRestored", on_error="NotRestored"),
        **_await(loop, "Restored", phase="steady", then="ReleaseLock", on_error="NotRestored"),
        "NotRestored": {
            "Type": "Pass",
            "Result": {
                "outcome": "failed",
                "error": "NotRestored",
                "reason": "The endpoint could not be put back; the next release tries again as it starts.",
            },
            "ResultPath": "$.end",
            "Next": "ReleaseLock",
        },
        "ReleaseLock": {
            **release_lock,
            "ResultPath": None,
            "Retry": [
                {"ErrorEquals": ["States.ALL"], "IntervalSeconds": 5, "MaxAttempts": 6, "BackoffRate": 2}
            ],
            "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "LockHeld"}],
            "Next": "Ended",
        },
        "LockHeld": {
            "Type": "Fail",
            "Error": "LockHeld",
            "Cause": "The lock could not be freed; the next release takes it over from this ended execution.",
        },
        "Ended": {
            **choice(
                {"Variable": "$.end.outcome", "StringEquals": "promoted", "Next": "Promoted"},
                {"Variable": "$.end.outcome", "StringEquals": "kept", "Next": "Kept"},
                otherwise="Failed",
            ),
            "OutputPath": "$.end",
        },
        "Promoted": {"Type": "Succeed"},
        "Kept": {"Type": "Succeed"},
        "Failed": {"Type": "Fail", "ErrorPath": "$.error", "CausePath": "$.reason"},
    }


def _approve(loop: Loop, *, then: str) -> State:
    """By setting: at once, or by a person, whose answer comes back with the task's token."""
    task = {"package_arn.$": "$.package.arn"}
    if loop.settings.approval == "automatic":
        return _release(loop, "approve", {**task, "status": "Approved"}, then=then)
    asked = {**task, "status": "PendingManualApproval", "token.$": "$$.Task.Token"}
    return _release(loop, "approve", asked, then=then) | {
        "Resource": "arn:aws:states:::lambda:invoke.waitForTaskToken",
        "TimeoutSeconds": loop.settings.approval_hours * 3600,
    }


def _await(loop: Loop, name: str, *, phase: str, then: str, on_error: str = "Broken") -> dict[str, State]:
    """Ask until stack and endpoint rest in `phase`."""
    late = f"No rest in phase {phase}"
    return _until(loop, name, "await_topology", {"phase": phase}, late=late, then=then, on_error=on_error)


def _until(
    loop: Loop,
    name: str,
    task: str,
    payload: Mapping[str, Any],
    *,
    late: str,
    then: str,
    on_error: str,
) -> dict[str, State]:
    """Ask until it is settled, at most so often; `$.wait.looks` counts."""
    limit = -(-TOPOLOGY_SECONDS // loop.settings.poll_seconds)
    too_late = {"Error": "TopologyLate", "Cause": f"{late} within {TOPOLOGY_SECONDS} s."}
    return {
        f"Await{name}": _release(
            loop,
            task,
            payload,
            answer={"settled.$": "$.Payload.settled"},
            into="$.topology",
            then=f"Is{name}",
            on_error=on_error,
        ),
        f"Is{name}": choice(
            {"Variable": "$.topology.settled", "BooleanEquals": True, "Next": then},
            {"Variable": "$.wait.looks", "NumericGreaterThanEquals": limit, "Next": f"Late{name}"},
            otherwise=f"Count{name}",
        ),
        f"Count{name}": {
            "Type": "Pass",
            "Parameters": {"looks.$": "States.MathAdd($.wait.looks, 1)"},
            "ResultPath": "$.wait",
            "Next": f"WaitFor{name}",
        },
        f"WaitFor{name}": wait(loop.settings.poll_seconds, then=f"Await{name}"),
        f"Late{name}": {"Type": "Pass", "Result": too_late, "ResultPath": "$.error", "Next": on_error},
    }


def _change(
    loop: Loop, task: str, payload: Mapping[str, Any], *, then: str, on_error: str = "Broken"
) -> State:
    """A task that starts an update; what waits for it counts its looks from here."""
    return _release(loop, task, payload, answer={"looks": 0}, into="$.wait", then=then, on_error=on_error)


def _release(loop: Loop, task: str, payload: Mapping[str, Any], **rest: Any) -> State:
    return _task(loop.release_arn, RELEASE_SECONDS, task, payload, [BUSY, TRANSIENT], **rest)


def _judge(loop: Loop, task: str, payload: Mapping[str, Any], **rest: Any) -> State:
    return _task(loop.judge_arn, JUDGE_SECONDS, task, payload, [TRANSIENT], **rest)


def _task(
    arn: str,
    seconds: int,
    task: str,
    payload: Mapping[str, Any],
    retry: list[dict[str, Any]],
    *,
    then: str,
    answer: Mapping[str, Any] | None = None,
    into: str | None = None,
    on_error: str = "Broken",
) -> State:
    state = invoke(arn, seconds, {"task": task, "release_id.$": _RELEASE_ID, **payload})
    if answer is not None:
        state["ResultSelector"] = dict(answer)
    return state | {"ResultPath": into, "Retry": retry, "Catch": [catch(on_error)], "Next": then}


def _job(job: State, *, then: str, answer: Mapping[str, Any] | None = None, into: str | None = None) -> State:
    state = dict(job)
    if answer is not None:
        state["ResultSelector"] = dict(answer)
    return state | {"ResultPath": into, "Catch": [catch("Broken")], "Next": then}


def _end(outcome: str, reason: str, *, then: str, extra: Mapping[str, Any] | None = None) -> State:
    parameters = {"outcome": outcome, "reason.$": reason, **(extra or {})}
    return {"Type": "Pass", "Parameters": parameters, "ResultPath": "$.end", "Next": then}


def _share_name(share: float) -> str:
    return f"Share{100 * share:g}"


def _uri(loop: Loop, path: str) -> str:
    """An intrinsic that gives an object's URI under the release's prefix."""
    return f"States.Format('s3://{loop.bucket}/{release_prefix('{}')}{path}', {_RELEASE_ID})"
