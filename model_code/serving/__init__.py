"""The inference handler: an ASGI server that answers SageMaker's container contract in the OpenAI protocol.

Layers, each importing from those below it only, and nothing of ours from outside but `contracts`; two on one
line do not know each other. An import rule in pyproject.toml holds them to it.

    __main__, server, quality                 the process, and the command that measures quantisation
    http                                      ASGI, headers, one request's outcomes
    generation | encoders                     text from a prompt | numbers from texts
    metrics                                   Prometheus series
    engines | protocol                        token ids in and out | OpenAI's bodies in and out
    settings, admission, model_tasks, errors, logs

Engines stand behind `engines.base.Engine` and `engines.encoder.Encoder`; nothing outside `engines/` knows
which one runs.
"""
