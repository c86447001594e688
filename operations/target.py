"""The account and region that a command works on, as the settings file names them.

    target = open_target("prod")            # settings read, credentials checked: nothing written yet
    target.client("cloudformation").describe_stacks(StackName=target.stack("data"))

The same for AWS and the laptop cloud: an environment whose functions run on this machine is the laptop's.
A command's `main` wraps its work in `run`, so that whatever an operator can correct is one sentence.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from contracts.artefact import ArtefactError
from infra.settings import Settings, SettingsError, load
from infra.settings.loader import FOLDER
from operations import laptop
from operations.aws_errors import explain
from operations.progress import CommandError, fail
from operations.stacks import StackError

_CLIENT = Config(connect_timeout=10, read_timeout=120, retries={"mode": "standard", "total_max_attempts": 4})
_REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")


@dataclass(frozen=True)
class Target:
    """One environment: its settings, and clients for its account and region.

    `caller` is the ARN of who runs the command, as STS names it.
    """

    settings: Settings
    session: boto3.Session
    caller: str
    environment: Mapping[str, str]
    """For child processes such as `cdk`: this process's environment with the target's account and region."""

    @property
    def name(self) -> str:
        """The environment: the settings file's stem."""
        return self.settings.name

    @property
    def account(self) -> str:
        """The account's id."""
        return self.settings.environment.account

    @property
    def region(self) -> str:
        """The first region."""
        return self.settings.environment.region

    @property
    def regions(self) -> list[str]:
        """All regions with stacks: the first, and the one that answers while the first cannot."""
        second = self.settings.failover
        return [self.region, *([second.region] if second else [])]

    @property
    def is_laptop(self) -> bool:
        """Whether this is the laptop cloud."""
        return self.settings.laptop

    def stack(self, part: str) -> str:
        """The name of one stack: `evergreen-<env>-<part>`."""
        return f"{self.settings.prefix}-{part}"

    def client(self, service: str, region: str | None = None) -> Any:
        """A boto3 client of a service, in the first region unless another is named."""
        return self.session.client(
            service,
            region_name=region or self.region,
            endpoint_url=self.environment.get("AWS_ENDPOINT_URL"),
            config=_CLIENT,
        )


def open_target(env: str, *, folder: Path = FOLDER, environment: Mapping[str, str] = os.environ) -> Target:
    """The target of an environment, its account and region checked against the credentials.

    Raises SettingsError, CommandError, or what the SDK raises where STS does not answer.
    """
    target = connect(load(env, folder), environment)
    return replace(target, caller=check_identity(target))


def connect(settings: Settings, environment: Mapping[str, str] = os.environ) -> Target:
    """The target of some settings before the credentials are checked, which `preflight` reports.

    Raises CommandError where the laptop cloud does not run, or the environment names another region.
    """
    variables = _variables(settings, environment)
    region = settings.environment.region
    keys = (
        {"aws_access_key_id": laptop.ACCOUNT, "aws_secret_access_key": laptop.SECRET}
        if settings.laptop
        else {}
    )
    return Target(settings, boto3.Session(region_name=region, **keys), "", variables)


def check_identity(target: Target) -> str:
    """The ARN of who calls. Raises CommandError where that is in another account than the settings'."""
    found = target.client("sts").get_caller_identity()
    if found["Account"] != target.account:
        raise CommandError(
            f"These credentials are of account {found['Account']} ({found['Arn']}), and "
            f"settings/{target.name}.yaml names {target.account}: switch AWS_PROFILE, or change "
            "`environment.account`. Nothing was written."
        )
    return str(found["Arn"])


def run(work: Callable[[], int]) -> int:
    """Runs a command's work; returns its exit status. A failure is one sentence on standard error."""
    try:
        return work()
    except (BotoCoreError, ClientError) as error:
        return fail(CommandError(explain(error)))
    except (CommandError, SettingsError, StackError, ArtefactError) as error:
        return fail(error)
    except KeyboardInterrupt:
        return fail(CommandError("interrupted; run the same command again to go on."))
    except BrokenPipeError:  # the reader, `head` for example, has what it wanted
        sys.stderr.close()
        return 1


def _variables(settings: Settings, environment: Mapping[str, str]) -> dict[str, str]:
    region = settings.environment.region
    if settings.laptop:
        found = laptop.connection(environment)
        variables = {name: value for name, value in environment.items() if not name.startswith("AWS_")}
        variables |= found
    else:
        for name in _REGION_VARIABLES:
            if environment.get(name, region) not in ("", region, *_second(settings)):
                raise CommandError(
                    f"{name} is {environment[name]} and settings/{settings.name}.yaml names {region}: unset "
                    f"{name}, or change `environment.region`."
                )
        variables = dict(environment)
    return variables | dict.fromkeys(_REGION_VARIABLES, region)


def _second(settings: Settings) -> list[str]:
    return [settings.failover.region] if settings.failover else []
