"""Chat requests of OpenAI's older form, and choices that are a shorthand, in today's form.

`functions` and `function_call` become `tools` and `tool_choice`, messages of the role `function` become
those of a tool, and `allowed_tools` leaves only the tools that are allowed. What is not well formed is left
as it is, for the request's own checks to name.
Source: the OpenAI API reference, "Chat completions", deprecated fields.
"""

from __future__ import annotations

from typing import Any

Body = dict[str, Any]


def current_form(body: Body) -> Body:
    """The request in today's form; `functions` stays beside `tools`: it tells which form the answer has."""
    changed = dict(body)
    if isinstance(body.get("functions"), list) and "tools" not in body:
        changed["tools"] = [{"type": "function", "function": function} for function in body["functions"]]
        if "tool_choice" not in body and (choice := _choice(body.get("function_call"))) is not None:
            changed["tool_choice"] = choice
    if isinstance(messages := body.get("messages"), list) and any(map(_is_legacy, messages)):
        changed["messages"] = _messages(messages)
    return _allowed_only(changed)


def _choice(call: Any) -> Any:
    if isinstance(call, dict) and isinstance(call.get("name"), str):
        return {"type": "function", "function": {"name": call["name"]}}
    return call if isinstance(call, str) else None


def _is_legacy(message: Any) -> bool:
    return isinstance(message, dict) and (
        message.get("role") == "function" or isinstance(message.get("function_call"), dict)
    )


def _messages(messages: list[Any]) -> list[Any]:
    """Calls get ids by their place; a result belongs to the latest call of its function."""
    turned: list[Any] = []
    latest: dict[str, str] = {}
    for number, message in enumerate(messages):
        if not _is_legacy(message):
            turned.append(message)
        elif message.get("role") == "function":
            name = str(message.get("name", ""))
            rest = {key: value for key, value in message.items() if key != "name"}
            turned.append({**rest, "role": "tool", "tool_call_id": latest.get(name, f"call_{number}")})
        else:
            call = message["function_call"]
            latest[str(call.get("name", ""))] = f"call_{number}"
            own = {"id": f"call_{number}", "type": "function", "function": call}
            rest = {key: value for key, value in message.items() if key != "function_call"}
            turned.append({**rest, "tool_calls": message.get("tool_calls") or [own]})
    return turned


def _allowed_only(body: Body) -> Body:
    """`allowed_tools` as fewer tools and its mode."""
    choice = body.get("tool_choice")
    if not isinstance(choice, dict) or choice.get("type") != "allowed_tools":
        return body
    try:
        wanted = {tool["function"]["name"] for tool in choice["allowed_tools"]["tools"]}
        allowed = [tool for tool in body["tools"] if tool["function"]["name"] in wanted]
        mode = choice["allowed_tools"]["mode"]
    except (TypeError, KeyError):
        return body
    if mode not in ("auto", "required") or len(wanted) != len({tool["function"]["name"] for tool in allowed}):
        return body
    return {**body, "tools": allowed, "tool_choice": mode}
