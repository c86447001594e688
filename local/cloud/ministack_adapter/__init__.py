"""The one door to the emulator: every name of ministack that Evergreen uses, most of them private, is used in
this package.

`names.REQUIRED` lists them; `missing_names` says in plain words which of them a new version lacks. Other
modules of `local` see `adapter_types` and the functions below and never import ministack themselves. Import this
package after the emulator's environment variables are set (`local.cloud.__main__` does).
"""

from __future__ import annotations

from local.cloud.adapter_types import (
    Credentials,
    Function,
    Handler,
    HttpRequest,
    MetricSample,
    Permission,
    Refusal,
    Reply,
    RestApi,
    StreamingResponse,
    Task,
    TaskError,
    UsagePlan,
)
from local.cloud.ministack_adapter import api_gateway as apis
from local.cloud.ministack_adapter import cloudformation
from local.cloud.ministack_adapter import http as requests
from local.cloud.ministack_adapter import lambda_functions as functions
from local.cloud.ministack_adapter import s3 as objects
from local.cloud.ministack_adapter import sqs as queues
from local.cloud.ministack_adapter import step_functions as workflows
from local.cloud.ministack_adapter.api_gateway import on_api_deployment, rest_api, usage_plans
from local.cloud.ministack_adapter.cloudformation import (
    add_resource_type,
    after_provisioning,
    stacks_in_motion,
)
from local.cloud.ministack_adapter.cloudwatch import (
    alarms,
    evaluate_alarms,
    guard_metrics,
    metric_names,
    metric_samples,
    move_alarm,
    set_alarm_evaluator,
    set_metric_data_reader,
)
from local.cloud.ministack_adapter.http import (
    add_http_route,
    add_service,
    application,
    authorize,
    on_operator_change,
)
from local.cloud.ministack_adapter.iam import role_allows, role_credentials, trusts
from local.cloud.ministack_adapter.lambda_functions import (
    function,
    function_permits,
    set_function_executor,
    set_stream_invoker,
)
from local.cloud.ministack_adapter.required_names import missing_names, unlisted_names
from local.cloud.ministack_adapter.scope import call, home, on_shutdown, on_startup
from local.cloud.ministack_adapter.sqs import waiting_messages
from local.cloud.ministack_adapter.state import add_state, export_state, import_state
from local.cloud.ministack_adapter.step_functions import (
    check_state_machines,
    on_execution_change,
    on_execution_event,
    set_task_runner,
)
from local.cloud.ministack_adapter.telemetry import emit_event, put_log_events, put_metric_data

__all__ = [
    "Credentials",
    "Function",
    "Handler",
    "HttpRequest",
    "MetricSample",
    "Permission",
    "Refusal",
    "Reply",
    "RestApi",
    "StreamingResponse",
    "Task",
    "TaskError",
    "UsagePlan",
    "add_http_route",
    "add_resource_type",
    "add_service",
    "add_state",
    "after_provisioning",
    "alarms",
    "application",
    "authorize",
    "call",
    "check_state_machines",
    "emit_event",
    "evaluate_alarms",
    "export_state",
    "function",
    "function_permits",
    "guard_metrics",
    "import_state",
    "install",
    "metric_names",
    "metric_samples",
    "missing_names",
    "move_alarm",
    "on_api_deployment",
    "on_execution_change",
    "on_execution_event",
    "on_operator_change",
    "on_shutdown",
    "on_startup",
    "put_log_events",
    "put_metric_data",
    "rest_api",
    "role_allows",
    "role_credentials",
    "set_alarm_evaluator",
    "set_function_executor",
    "set_metric_data_reader",
    "set_stream_invoker",
    "set_task_runner",
    "stacks_in_motion",
    "trusts",
    "unlisted_names",
    "usage_plans",
    "waiting_messages",
]


def install(account: str, region: str) -> None:
    """Put our hooks into the emulator. Call once, before the server starts.

    Raises RuntimeError naming every private name that this version of the emulator lacks.
    """
    missing = missing_names()
    if missing:
        raise RuntimeError("; ".join(missing))
    home.update(account=account, region=region)
    requests.recognise_our_services()
    requests.treat_loopback_as_secure()
    objects.keep_large_objects_off_the_loop()
    cloudformation.provision_on_worker_threads()
    apis.keep_transfer_mode()
    functions.ask_before_notifying()
    queues.ask_before_delivering()
    workflows.mend_the_engine()
