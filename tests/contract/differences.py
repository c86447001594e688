"""Where other servers are known to differ from the contract, as data: one that ends, or a new one, shows.

Tests are named as pytest prints them without the server, or by a prefix of that. They are expected to fail
there, strictly; those that a server would not outlive, or fails by chance, are not run.
"""

from __future__ import annotations

from tests.support.peers import LLAMA, PLAIN

NUMBERED_ERRORS = {*PLAIN, LLAMA}
"""Their errors say the status where OpenAI's say a code, and name no field or by another way of writing it:
of these servers a refusal's status and message are asked, not our words."""

_OUTSIDE = "no SageMaker container: no request ids, sessions, adapters, metrics or words of ours"
_OURS = (
    "test_adapters_are_off_unless_asked_for",
    "test_chunks_arrive_over_time",
    "test_the_request_id_travels_through",
    "test_metrics_follow_the_open_telemetry_names",
    "test_ping_says_ready",
    "test_a_chat_model_refuses_embeddings_by_name",
    "test_an_unknown_route_is_refused_by_name",
    "test_sessions_are_off_unless_asked_for",
)

_BLANKS = "between the parts of an answer vLLM allows blanks without end, and a weak model makes use of it"
_VLLM = {
    "vLLM reads calls with a parser that is named at its start, and infra names none": [
        "test_a_required_call_comes_however_weak_the_model",
        "test_a_named_function_is_the_one_called",
        "test_a_conversation_with_calls_goes_on",
    ],
    _BLANKS: [
        "test_an_answer_keeps_to_its_schema[{'seed': 1,",
        "test_a_streamed_answer_keeps_to_it_too",
        "test_free_and_held_answers_share_a_batch",
    ],
}

_HOOKED = {
    **_VLLM,
    "vLLM counts tokens at the end: a cut stream has none": ["test_a_client_that_leaves_frees_its_slot"],
    "adapters and sessions are the image's own: turned off, they are unknown": [
        "test_adapters_are_off_unless_asked_for",
        "test_sessions_are_off_unless_asked_for",
    ],
}
_PLAIN = {
    **_VLLM,
    _OUTSIDE: [*_OURS],
    "a body may be larger than SageMaker's 6 MB": ["test_a_malformed_body_is_refused[larger"],
    "what is no path and what is no text is refused in the form of its framework": [
        "test_unknown_routes_have_the_same_error_shape",
        "test_a_malformed_body_is_refused[invalid UTF-8",
        "test_a_malformed_body_is_refused[nested without end",
        "test_any_bytes",
    ],
    "fields that mean nothing to it are left out, numbers and booleans may be texts": [
        *(
            f"test_a_wrong_field_is_refused_by_name[{case}-"
            for case in (
                "unknown role",
                "no content",
                "unknown field",
                "max_tokens a string",
                "penalty of another type",
                "too many answers",
                "stream a string",
            )
        ),
    ],
    "a schema is taken as far as it goes, or refused with a type of its own, or a 500": [
        "test_a_schema_that_is_not_supported_is_one_clear_error"
    ],
    "a completion leaves out what it does not know": [
        "test_what_a_completion_cannot_do_is_refused_by_name[{'best_of'",
        "test_what_a_completion_cannot_do_is_refused_by_name[{'messages'",
    ],
}


def _older(known: dict[str, list[str]]) -> dict[str, list[str]]:
    """The same of vLLM 0.27.1, whose grammar lets the weak model run on for another seed."""
    return known | {_BLANKS: [*known[_BLANKS], "test_an_answer_keeps_to_its_schema[{'seed': 2, 'top_p'"]}


DIFFERENCES: dict[str, dict[str, list[str]]] = {
    "vllm-0.27.1": _older(_HOOKED),
    "vllm-0.32.0": _HOOKED,
    "vllm-0.27.1-plain": _older(_PLAIN),
    "vllm-0.32.0-plain": _PLAIN,
    LLAMA: {
        "fields and values that mean nothing to it are left out or put right in silence": [
            *(
                f"test_a_wrong_field_is_refused_by_name[{case}-"
                for case in (
                    "model of another type",
                    "unknown model",
                    "empty messages",
                    "unknown role",
                    "unknown field",
                    "max_tokens 0",
                    "max_tokens negative",
                    "max_tokens beyond the context",
                    "temperature too high",
                    "top_p zero",
                    "penalty too strong",
                    "too many stops",
                )
            ),
            "test_what_a_completion_cannot_do_is_refused_by_name[{'best_of'",
            "test_what_a_completion_cannot_do_is_refused_by_name[{'suffix'",
            "test_what_a_completion_cannot_do_is_refused_by_name[{'messages'",
        ],
        "several prompts in one completion are answered": [],
        "a body may be larger than SageMaker's 6 MB": ["test_a_malformed_body_is_refused[larger"],
        "a method that a path does not have is an unknown path": [
            "test_unknown_routes_have_the_same_error_shape[GET-/invocations",
            "test_unknown_routes_have_the_same_error_shape[POST-/ping",
        ],
        "a stream opens with content null in place of an empty text": [
            "test_a_stream_opens_with_the_role_and_ends_with_reason_and_usage",
            "test_several_streamed_answers_are_told_apart",
        ],
        "the tokens of several answers are counted as those of one": [
            "test_several_answers_differ_and_a_seed_repeats_them",
            "test_a_text_completion",
        ],
        "a call is asked for in a form of its own, which a weak model does not end": [
            "test_a_required_call_comes_however_weak_the_model",
            "test_a_named_function_is_the_one_called",
        ],
        _OUTSIDE: [*_OURS],
    },
}
"""By server: a reason, and the tests that fail for it."""

_RANDOM = {
    "a schema that refers to itself is a 500, which random ones do or do not": [
        "test_any_schema",
        "test_any_json_in_any_field",
    ],
}

NOT_ASKED: dict[str, dict[str, list[str]]] = {
    "vllm-0.27.1-plain": _RANDOM,
    "vllm-0.32.0-plain": _RANDOM,
    LLAMA: {
        "a schema is unrolled into a grammar without a bound, until memory or the process ends": [
            "test_any_schema",
            "test_any_json_in_any_field",
            "test_a_schema_that_is_not_supported_is_one_clear_error",
            "test_a_heavy_schema_costs_little_and_the_server_lives",
        ],
    },
}
"""By server: a reason, and the tests that are not run for it."""


def named(test: str, server: str) -> str:
    """A test's name without the server that it is asked of."""
    return test.replace(f"[{server}-", "[").replace(f"[{server}]", "")


def reason(known: dict[str, dict[str, list[str]]], server: str, test: str) -> str | None:
    """Why a test fails against a server, or is not run; None where it must pass."""
    name = named(test, server)
    for why, tests in known.get(server, {}).items():
        if any(name.startswith(prefix) for prefix in tests):
            return why
    return None
