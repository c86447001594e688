"""SageMaker inference for the laptop cloud: an instance is a process, the rest is as on AWS.

The control plane (`api`) checks a request against the service's own model and keeps records; `deployment`
makes the records true with processes; `invoke` routes requests to them. Only `plugin` knows the emulator.
"""
