"""The adapter to the emulator: every name of ministack that Evergreen uses, most of them private, is used in
this package.

`required_names.REQUIRED` lists them; `missing_names` says which of them a new version lacks. Other modules of
`local` see `adapter_types` and the functions below and never import ministack themselves. Import this package
after the emulator's environment variables are set (`local.cloud.__main__` does).
"""

from __future__ import annotations

from local.cloud.adapter_types import (
    AccessDenied,
    Credentials,
    HttpHandler,
    HttpRequest,
    HttpResponse,
    LambdaFunction,
    MetricSample,
    Permission,
    RestApi,
    StateMachineTask,
    StreamingResponse,
    TaskError,
    UsagePlan,
)
from local.cloud.ministack_adapter import (
    api_gateway,
    cloudformation,
    http,
    iam,
    lambda_functions,
    retention,
    s3,
    sqs,
    step_functions_patches,
)
from local.cloud.ministack_adapter.api_gateway import on_api_deployment, rest_api, usage_plans
from local.cloud.ministack_adapter.cloudformation import (
    add_resource_type,
    after_provisioning,
    stack_operation_in_progress,
)
from local.cloud.ministack_adapter.cloudwatch import (
    alarms,
    bound_metrics,
    evaluate_alarms,
    metric_names,
    metric_samples,
    set_alarm_evaluator,
    set_alarm_state,
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
    deployed_function,
    function_policy_allows,
    set_function_executor,
    set_stream_invoker,
)
from local.cloud.ministack_adapter.required_names import missing_names, unlisted_names
from local.cloud.ministack_adapter.scope import account_region, on_shutdown, on_startup, run_on_event_loop
from local.cloud.ministack_adapter.sqs import visible_message_counts
from local.cloud.ministack_adapter.state import add_state, export_state, import_state
from local.cloud.ministack_adapter.step_functions import (
    check_state_machines,
    on_execution_change,
    on_execution_event,
    set_task_runner,
)
from local.cloud.ministack_adapter.telemetry import (
    emit_event,
    log_group_exists,
    put_log_events,
    put_metric_data,
)

__all__ = [
    "AccessDenied",
    "Credentials",
    "HttpHandler",
    "HttpRequest",
    "HttpResponse",
    "LambdaFunction",
    "MetricSample",
    "Permission",
    "RestApi",
    "StateMachineTask",
    "StreamingResponse",
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
    "bound_metrics",
    "check_state_machines",
    "deployed_function",
    "emit_event",
    "evaluate_alarms",
    "export_state",
    "function_policy_allows",
    "import_state",
    "install",
    "log_group_exists",
    "metric_names",
    "metric_samples",
    "missing_names",
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
    "run_on_event_loop",
    "set_alarm_evaluator",
    "set_alarm_state",
    "set_function_executor",
    "set_metric_data_reader",
    "set_stream_invoker",
    "set_task_runner",
    "stack_operation_in_progress",
    "trusts",
    "unlisted_names",
    "usage_plans",
    "visible_message_counts",
]


def install(account: str, region: str) -> None:
    """Put our hooks into the emulator. Call once, before the server starts.

    Raises RuntimeError naming every private name that this version of the emulator lacks.
    """
    missing = missing_names()
    if missing:
        raise RuntimeError("; ".join(missing))
    account_region.update(account=account, region=region)
    http.patch_service_detection()
    http.treat_loopback_as_secure()
    iam.remember_parsed_policies()
    s3.transfer_large_objects_on_threads()
    cloudformation.provision_on_worker_threads()
    api_gateway.patch_transfer_mode()
    lambda_functions.enforce_target_permissions()
    sqs.enforce_poller_permissions()
    step_functions_patches.patch_engine()
    retention.bound_event_log()
    retention.bound_logs()
    retention.bound_executions()
