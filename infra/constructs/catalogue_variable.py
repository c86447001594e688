"""The catalogue of models as a variable of the functions, with versions as they are at each deployment."""

from __future__ import annotations

import aws_cdk as cdk

from contracts.catalogue import write_entries
from infra.constructs.release_parameters import logical_id
from infra.settings import Settings
from infra.settings.catalogue_entries import entries

_OWN = "ModelVersion"


class CatalogueVariable:
    """The value of `MODELS`, and the version of the environment's own model in it.

    CloudFormation reads each version from the parameter that a serving stack writes.
    """

    def __init__(self, stack: cdk.Stack, settings: Settings) -> None:
        self._stack = stack
        self._parameters: dict[str, cdk.CfnParameter] = {}
        self.own_version = self._version(settings.version_parameter, _OWN)
        self.value = write_entries(entries(settings, self._version))

    def _version(self, name: str, id: str | None = None) -> str:
        """The token of a version by the name of its SSM parameter."""
        if name not in self._parameters:
            self._parameters[name] = cdk.CfnParameter(
                self._stack,
                id or logical_id("VersionOf", name),
                type="AWS::SSM::Parameter::Value<String>",
                default=name,
                description="Where the champion's version is read at each deployment",
            )
        return self._parameters[name].value_as_string
