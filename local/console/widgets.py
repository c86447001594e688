"""CloudWatch dashboard bodies turned into `GetMetricData` queries and chart data. Pure; knows no AWS client.

The input is the very JSON that the synthesized dashboards deploy, so what the console draws is what an
on-call engineer will see. Source: CloudWatch's "Dashboard body structure and syntax".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

DEFAULT_PERIOD_SECONDS = 60


def queries(properties: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The `MetricDataQueries` of one metric widget's `properties`, in the order they are drawn."""
    found: list[dict[str, Any]] = []
    previous: list[str] = []
    for index, line in enumerate(properties.get("metrics", [])):
        names, options = _split(line)
        common = {"Id": options.get("id", f"m{index}"), "ReturnData": options.get("visible", True)}
        period = options.get("period") or properties.get("period") or DEFAULT_PERIOD_SECONDS
        if options.get("label"):
            common["Label"] = options["label"]
        if "expression" in options:
            found.append(common | {"Expression": options["expression"], "Period": period})
            continue
        previous = _expanded(names, previous)
        metric = {
            "Namespace": previous[0],
            "MetricName": previous[1],
            "Dimensions": [
                {"Name": name, "Value": value}
                for name, value in zip(previous[2::2], previous[3::2], strict=True)
            ],
        }
        statistic = options.get("stat") or properties.get("stat") or "Average"
        found.append(common | {"MetricStat": {"Metric": metric, "Period": period, "Stat": statistic}})
    return found


def _split(line: Sequence[Any]) -> tuple[list[str], Mapping[str, Any]]:
    """A metric line's names and its trailing options."""
    if line and isinstance(line[-1], Mapping):
        return list(line[:-1]), line[-1]
    return list(line), {}


def _expanded(names: list[str], previous: list[str]) -> list[str]:
    """Resolves `"..."` (all but the last given names as before) and `"."` (this name as before)."""
    if names and names[0] == "...":
        return previous[: len(previous) - len(names) + 1] + names[1:]
    return [previous[i] if name == "." else name for i, name in enumerate(names)]


def chart(widget: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One widget as the page draws it: title, and lines of `[epoch seconds, value]` points in time order."""
    properties = widget.get("properties", {})
    return {
        "title": properties.get("title", ""),
        "width": widget.get("width", 6),
        "stacked": bool(properties.get("stacked")),
        "unit": properties.get("yAxis", {}).get("left", {}).get("label", ""),
        "marks": [
            {"value": mark["value"], "label": mark.get("label", "")}
            for mark in properties.get("annotations", {}).get("horizontal", [])
            if not isinstance(mark, list)
        ],
        "lines": [
            {
                "label": result.get("Label") or result["Id"],
                "points": sorted(
                    [moment.timestamp(), value]
                    for moment, value in zip(result["Timestamps"], result["Values"], strict=True)
                ),
            }
            for result in results
        ],
    }
