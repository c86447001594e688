"""The emulator's names that these modules use, and which of them a version lacks."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

REQUIRED: dict[str, tuple[str, ...]] = {
    "ministack.app": (
        "SERVICE_HANDLERS",
        "_MAIN_LOOP",
        "_build_persistence_save_dict",
        "_get_module",
        "_request_account_scope",
        "_send_if_handled",
        "_state_map",
        "app",
        "detect_service",
        "pin_request_origin",
    ),
    "ministack.core.iam_evaluator": (
        "AuthError",
        "EvalContext",
        "_gather_role_policies",
        "_permissions_boundary",
        "enforce",
        "evaluate",
        "evaluate_resource_policy",
        "parse_policy_document",
        "pin_signed_body",
        "pin_signed_request",
        "request_caller_arn",
    ),
    "ministack.core.persistence": (
        "_json_default",
        "_json_object_hook",
    ),
    "ministack.core.responses": (
        "StreamingResponse",
        "get_account_id",
        "get_region",
        "request_scope",
        "set_request_account_id",
        "set_request_client_ip",
        "set_request_region",
    ),
    "ministack.core.router": (
        "SERVICE_PATTERNS",
        "extract_access_key_id",
        "extract_region",
    ),
    "ministack.services.apigateway_v1": (
        "_api_keys",
        "_authorizers_v1",
        "_create_deployment",
        "_gateway_responses",
        "_models",
        "_put_integration",
        "_request_validators",
        "_resources",
        "_rest_apis",
        "_stages_v1",
        "_usage_plan_keys",
        "_usage_plans",
        "find_api_scope",
    ),
    "ministack.services.cloudformation": ("_stacks",),
    "ministack.services.cloudformation.provisioners": (
        "_RESOURCE_HANDLERS",
        "_STACK_TAG_PROPERTY",
        "_cw_metric_alarm_record",
    ),
    "ministack.services.cloudformation.stacks": ("_runs_on_worker_thread",),
    "ministack.services.cloudwatch": (
        "TWO_WEEKS_SECONDS",
        "_alarms",
        "_cbor_metric_data_result",
        "_cbor_ok",
        "_dims_key",
        "_dispatch_alarm_actions",
        "_error",
        "_evaluate_alarm",
        "_evaluate_all_alarms",
        "_evaluate_parent_alarms",
        "_evict_old_metrics",
        "_get_metric_data",
        "_history_entries",
        "_json_ok",
        "_metrics",
        "_parse_ts",
        "_point_stats",
        "_put_metric_alarm",
        "_record_history",
        "_store_datum",
    ),
    "ministack.services.cloudwatch_logs": (
        "_create_log_group",
        "_create_log_stream",
        "_log_events_lock",
        "_log_groups",
        "_log_records",
        "_put_log_events",
    ),
    "ministack.services.eventbridge": ("_events_log_list", "_invoke_target", "_put_events"),
    "ministack.services.iam": (
        "_gen_secret",
        "_gen_session_access_key",
        "_gen_session_token",
        "_roles",
    ),
    "ministack.services.lambda_svc": (
        "_emit_lambda_metrics",
        "_es_encode_message",
        "_execute_function",
        "_functions",
        "_get_func_record_for_ref",
        "_invoke_with_response_stream",
        "_prune_orphan_code_blobs",
        "_reserved_concurrency",
        "_resolve_layer_zip",
        "_sqs_esm_concurrency",
        "function_policy_for_arn",
    ),
    "ministack.services.s3": ("_buckets",),
    "ministack.services.sns": ("_deliver_to_lambda",),
    "ministack.services.sqs": ("_queues",),
    "ministack.services.stepfunctions": (
        "_ExecutionError",
        "_SFN_WAIT_SCALE",
        "_add_event",
        "_apply_parameters",
        "_call_lambda",
        "_create_state_machine",
        "_emit_execution_status_event",
        "_executions",
        "_fail_execution",
        "_invoke_resource",
        "_invoke_resource_with_timeout",
        "_invoke_with_callback",
        "_run_execution",
        "_scaled_sleep",
        "_state_machines",
        "_task_tokens",
        "_update_state_machine",
        "error_response_json",
        "now_iso",
    ),
    "ministack.services.sts": ("register_session",),
}


def missing_names() -> list[str]:
    """What of `REQUIRED` this version of ministack no longer has, one sentence each."""
    return [
        f"{module} no longer has `{name}`: see its use in local/cloud/ministack_adapter/"
        for module, names in REQUIRED.items()
        for name in names
        if not hasattr(importlib.import_module(module), name)
    ]


def unlisted_names() -> list[str]:
    """The names that these modules use without `REQUIRED` saying so, from their source."""
    used = set()
    for path in Path(__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text())
        modules = _aliases(tree)
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id in modules
            ):
                used.add((modules[node.value.id], node.attr))
    listed = {(module, name) for module, names in REQUIRED.items() for name in names}
    return sorted(f"{module}.{name}" for module, name in used - listed if module)


def _aliases(tree: ast.Module) -> dict[str, str]:
    """What the emulator's modules are called in a file."""
    return {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ministack")
        for alias in node.names
    }
