"""SageMaker training and processing jobs for the laptop cloud: a job is a process in a folder of its own.

`operations` answers the API and keeps the records; `runner` makes them true; `training` and `processing` say
how each kind is laid out in the folder. Knows nothing of endpoints.
"""
