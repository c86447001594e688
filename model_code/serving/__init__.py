"""The inference handler: an ASGI server that answers SageMaker's container contract in the OpenAI protocol.

Imports nothing of ours but `contracts`. Engines stand behind `engines.base.Engine`; nothing outside
`engines/` knows which one runs.
"""
