"""Metrics by CloudWatch's embedded metric format: one log line carries the values and how to read them.

Knows the format, not what is measured. Hand-written because it is forty lines on the cold-start path.
Source: CloudWatch user guide, "Specification: Embedded metric format".
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from contracts.metrics import NAMESPACE

Unit = Literal["Count", "Milliseconds", "None"]


@dataclass
class MetricLine:
    """One line: values are added with the dimension sets they are published under, then `emit` writes it."""

    dimensions: Mapping[str, str]
    _values: dict[str, float] = field(default_factory=dict)
    _directives: list[dict[str, Any]] = field(default_factory=list)

    def add(self, values: Mapping[str, tuple[float, Unit]], dimension_sets: Iterable[Iterable[str]]) -> None:
        """Publish `{name: (value, unit)}` under each set of names of `dimensions`."""
        self._values.update({name: value for name, (value, _) in values.items()})
        self._directives.append(
            {
                "Namespace": NAMESPACE,
                "Dimensions": [list(names) for names in dimension_sets],
                "Metrics": [{"Name": name, "Unit": unit} for name, (_, unit) in values.items()],
            }
        )

    def emit(self, **properties: str | float | None) -> None:
        """Write the line; `properties` can be searched in the log but are no metrics."""
        line = {
            "_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": self._directives},
            **self.dimensions,
            **self._values,
            **{name: value for name, value in properties.items() if value is not None},
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
