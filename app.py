"""`cdk synth -c env=<environment>`: composes the stacks of settings/<environment>.yaml."""

import sys

import aws_cdk as cdk

import infra
from infra.settings import SettingsError


def main() -> None:
    app = cdk.App()
    env_name = app.node.try_get_context("env")
    try:
        if not env_name:
            raise SettingsError("name an environment, for example: cdk synth -c env=dev")
        infra.build(app, str(env_name))
    except SettingsError as error:
        sys.exit(str(error))
    app.synth()


if __name__ == "__main__":
    main()
