"""SageMaker for the laptop cloud: an instance is a process, the rest is as on AWS.

Imports go downwards only (import-linter's layers in pyproject.toml hold them to it):

    plugin                      registers the service with the emulator; the only module that knows it
    cloudformation              resource types, through the API's own control plane
    service                     puts the parts together, starts and stops them
    control_plane | data_plane  the two APIs; neither imports the other
    components | jobs           inference components; training and processing jobs
    instances                   containers as processes, variants, fleets and deployments of them
    listing | tags | request_validation
    ports | store
    errors | records
"""
