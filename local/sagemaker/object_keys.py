"""S3 asks the key: an S3 client of an execution role may use an object only where the role may use its key.

The emulator stores under which key an object or a bucket is, and asks no key. The rule is AWS's, from the S3
user guide, "Using server-side encryption with AWS KMS keys": GetObject decrypts, PutObject generates a data
key, an upload in parts does both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from local.sagemaker.execution_role import ExecutionRole, ExecutionRoleError

_WRITES = {
    "PutObject": ("kms:GenerateDataKey",),
    "CreateMultipartUpload": ("kms:GenerateDataKey", "kms:Decrypt"),
}


def ask_keys(client: Any, role: ExecutionRole, bucket_key: Callable[[str], str | None]) -> None:
    """Make a boto3 client of S3 refuse what the role may not do with the keys.

    Args:
        client: The client, which acts in the role's name.
        role: The role.
        bucket_key: The key of a bucket's default encryption by the bucket's name; None where it has none.
    """

    def check(operation: str, key: str | None, *actions: str) -> None:
        try:
            for action in actions if key else ():
                role.use_key(action, str(key), "s3")
        except ExecutionRoleError as error:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": str(error)}}, operation) from None

    def before_write(params: dict[str, Any], model: Any, **_: Any) -> None:
        key = params.get("SSEKMSKeyId") or bucket_key(params["Bucket"])
        check(model.name, key, *_WRITES[model.name])

    def after_read(parsed: dict[str, Any], model: Any, **_: Any) -> None:
        check(model.name, parsed.get("SSEKMSKeyId"), "kms:Decrypt")

    for operation in _WRITES:
        client.meta.events.register(f"before-parameter-build.s3.{operation}", before_write)
    client.meta.events.register("after-call.s3.GetObject", after_read)
