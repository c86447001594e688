"""What it costs to import an AWS client: ours, and the parts of the SDK that would replace it.

    python -m bench.gateway.imports [--runs 7]

Processor time of `python -c "import …"` over that of an interpreter that imports nothing, medians: the part
of a cold start that the SDK would add. `lambdas/aws/client.py` is hand-written for it.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys

_CLIENTS = "import boto3; [boto3.client(name) for name in ({names})]"
SUBJECTS = {
    "lambdas.aws.client": "import lambdas.aws.client",
    "lambdas.aws.client, .dynamodb, .s3, .sqs, .sagemaker": (
        "import lambdas.aws.client, lambdas.aws.dynamodb, lambdas.aws.s3"
        ", lambdas.aws.sqs, lambdas.aws.sagemaker"
    ),
    "botocore.eventstream": "import botocore.eventstream",
    "botocore.auth, .awsrequest, .credentials": (
        "import botocore.auth, botocore.awsrequest, botocore.credentials"
    ),
    "boto3 with two clients": _CLIENTS.format(names="'dynamodb', 'sagemaker-runtime'"),
    "boto3 with four clients": _CLIENTS.format(names="'dynamodb', 'sagemaker-runtime', 's3', 'sqs'"),
}


def seconds(code: str) -> float:
    """Processor time, user and system, of an interpreter that runs the code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(prog="python -m bench.gateway.imports", description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    bare = statistics.median(seconds("pass") for _ in range(runs))
    print("| import | processor time, ms |\n|---|---|")
    for name, code in SUBJECTS.items():
        print(f"| {name} | {(statistics.median(seconds(code) for _ in range(runs)) - bare) * 1000:.0f} |")


if __name__ == "__main__":
    main()
