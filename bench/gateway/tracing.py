"""What tracing costs: our spans in a request, and the OpenTelemetry SDK that would replace them.

    python -m bench.gateway.tracing [--requests 2000] [--runs 7]

Processor time (user and system, this process), so that a loaded machine tells the same. A request is what the
pipeline does for one: context read, four spans with their attributes, encoded, sent to a collector in another
process over a kept-alive connection. The SDK does the same with its batch processor flushed by hand, as a
function must before it is frozen. Imports are fresh interpreters, over one that imports nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.common import command_line, machine
from bench.gateway.imports import seconds

_COLLECTOR = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200); self.send_header("Content-Length", "2"); self.end_headers()
        self.wfile.write(b"{}")
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True); server.serve_forever()
"""
_TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}"
_ASKED: dict[str, str | int] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "aws.sagemaker",
    "gen_ai.request.model": "m",
}
_ANSWERED: dict[str, str | int] = {
    "gen_ai.usage.input_tokens": 5,
    "gen_ai.usage.output_tokens": 3,
    "gen_ai.response.id": "chatcmpl-1",
}
_SERVED: dict[str, str | int] = {
    "http.request.method": "POST",
    "http.route": "/v1/chat/completions",
    "http.response.status_code": 200,
}
_SDK = "opentelemetry.sdk.trace.export, opentelemetry.exporter.otlp.proto.http.trace_exporter"
IMPORTS = {
    "ours, beyond what the function imports anyway": (
        "import lambdas.aws.otlp",
        "import lambdas.aws.client, contracts.fallback",
    ),
    "opentelemetry-api": ("import opentelemetry.trace", "pass"),
    "opentelemetry-sdk with the OTLP exporter over HTTP": (f"import {_SDK}", "pass"),
}
_PACKAGES = ("opentelemetry", "google", "requests", "urllib3", "charset_normalizer", "certifi", "idna")


def ours(url: str, flags: str) -> Callable[[], None]:
    """One request's tracing as the pipeline does it."""
    from contracts.trace_context import read_headers
    from contracts.tracing import OtlpTracing
    from lambdas.aws.otlp import span_exporter
    from lambdas.runtime.tracing import Kind, Sampling, Trace

    exporter = span_exporter(OtlpTracing(kind="otlp", url=url), {"service.name": "bench"})
    sampling = Sampling(1.0)

    def request() -> None:
        trace = Trace(sampling.decide(read_headers(_TRACEPARENT.format(flags=flags)), None))
        trace.root.attributes |= _SERVED
        for name in ("guard prompt", "guard answer"):
            trace.end(trace.begin(name))
        call = trace.begin("chat m", Kind.CLIENT)
        call.attributes |= _ASKED
        assert call.context.traceparent
        call.attributes |= _ANSWERED
        if trace.is_sampled:
            exporter.export(trace)

    return request


def the_sdk(url: str, flags: str) -> Callable[[], None]:
    """The same by OpenTelemetry's SDK."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    provider = TracerProvider(resource=Resource.create({"service.name": "bench"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
    tracer, propagator = provider.get_tracer("bench"), TraceContextTextMapPropagator()

    def request() -> None:
        parent = propagator.extract({"traceparent": _TRACEPARENT.format(flags=flags)})
        root = tracer.start_span("POST", parent, trace.SpanKind.SERVER, _SERVED)
        within = trace.set_span_in_context(root)
        for name in ("guard prompt", "guard answer"):
            tracer.start_span(name, within).end()
        call = tracer.start_span("chat m", within, trace.SpanKind.CLIENT, _ASKED)
        carrier: dict[str, str] = {}
        propagator.inject(carrier, trace.set_span_in_context(call))
        call.set_attributes(_ANSWERED)
        call.end()
        root.end()
        if flags == "01":
            provider.force_flush()

    return request


def milliseconds(request: Callable[[], None], count: int, runs: int) -> float:
    """Processor time of one request: the median run's."""
    taken = []
    for _ in range(runs):
        began = time.process_time()
        for _ in range(count // runs):
            request()
        taken.append((time.process_time() - began) * 1000 / (count // runs))
    return statistics.median(taken)


def megabytes(packages: tuple[str, ...]) -> float:
    """What the packages weigh where they are installed, without compiled files."""
    import opentelemetry.sdk

    site = Path(opentelemetry.sdk.__path__[0]).parents[1]
    files = (file for name in packages for file in (site / name).rglob("*") if file.suffix != ".pyc")
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def main() -> None:
    """Prints a Markdown page."""
    parser = argparse.ArgumentParser(prog="python -m bench.gateway.tracing", description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    collector = subprocess.Popen([sys.executable, "-c", _COLLECTOR], stdout=subprocess.PIPE, text=True)
    try:
        assert collector.stdout is not None
        url = f"http://127.0.0.1:{collector.stdout.readline().strip()}/v1/traces"
        rows: list[tuple[str, float, float]] = []
        for name, flags in (("sampled, sent", "01"), ("not sampled", "00")):
            mine, theirs = (
                milliseconds(make(url, flags), options.requests, options.runs) for make in (ours, the_sdk)
            )
            rows.append((f"a request, {name}: processor time, ms", mine, theirs))
    finally:
        collector.terminate()
        collector.wait(10)
    print(f"# What tracing costs\n\n`{command_line()}`, {machine()}.\n")
    print("| | ours | OpenTelemetry SDK |\n|---|---|---|")
    for name, mine, theirs in rows:
        print(f"| {name} | {mine:.3f} | {theirs:.3f} |")
    imports = {
        name: statistics.median(seconds(code) - seconds(base) for _ in range(options.runs)) * 1000
        for name, (code, base) in IMPORTS.items()
    }
    mine, _, theirs = imports.values()
    print(f"| import: processor time, ms | {mine:.0f} | {theirs:.0f} |")
    own = sum(
        os.path.getsize(file)
        for file in ("lambdas/aws/otlp.py", "lambdas/runtime/tracing.py", "contracts/trace_context.py")
    )
    print(f"| in the bundle, MB | {own / 1e6:.2f} | {megabytes(_PACKAGES):.1f} |")


if __name__ == "__main__":
    main()
