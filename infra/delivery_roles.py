"""What a workflow needs to know of an environment: account, region and the roles of its delivery stack.

    python -m infra.delivery_roles staging >> "$GITHUB_OUTPUT"

Reads the settings and nothing else. Exits with 1 where the file has no `delivery` section.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from infra.settings import Settings, SettingsError, load

QUALIFIER = "hnb659fds"  # CDK's default; the CLI knows no other here


def lines(settings: Settings) -> list[str]:
    """`name=value`, as GitHub reads outputs."""
    account, region = settings.environment.account, settings.environment.region
    roles = f"arn:aws:iam::{account}:role"
    return [
        f"account={account}",
        f"region={region}",
        f"deploy_role={roles}/{settings.prefix}-deploy",
        f"diff_role={roles}/{settings.prefix}-diff",
        f"image_role={roles}/cdk-{QUALIFIER}-image-publishing-role-{account}-{region}",
        f"image_repository=cdk-{QUALIFIER}-container-assets-{account}-{region}",
    ]


def main(words: Sequence[str]) -> int:
    """Print the lines of one environment."""
    try:
        (name,) = words
        settings = load(name)
        if settings.delivery is None:
            raise SettingsError(f"settings/{name}.yaml has no section delivery: see docs/settings.md.")
    except ValueError:
        print("usage: python -m infra.delivery_roles <environment>", file=sys.stderr)
        return 2
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(lines(settings)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
