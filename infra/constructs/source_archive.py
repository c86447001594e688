"""The code of the refresh loop's jobs as one reproducible `tar.gz`, a file asset of the stack.

Equal sources give equal bytes: the archive's hash names it, and is the code version in training cards.
Layout: `train.py` (script mode's entry), `requirements.txt`, and our packages as in the repository.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3_assets as s3_assets
from constructs import Construct

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = "requirements/jobs.txt"
# The hook travels on into the artefacts that training packs, with what it shares with our server.
_PACKAGES = ("contracts", "model_code/training", "model_code/vllm_hook", "evaluation")
# Without the folders below them: no engines.
_FOLDERS = ("model_code/serving", "model_code/serving/http", "model_code/serving/protocol")
_MARKERS = ("model_code/__init__.py",)
_NOT_SHIPPED = ("__pycache__", "tests")
_LAUNCHER = """\
\"\"\"Script mode's entry point: SageMaker runs a file, our training is a module.\"\"\"

import sys

from model_code.training.finetune import main

sys.exit(main())
"""


class SourceArchive(Construct):
    """The uploaded archive. `uri` is its place, `digest` the SHA-256 of its bytes in hex."""

    def __init__(self, scope: Construct, id: str) -> None:
        super().__init__(scope, id)
        content = archive(ROOT)
        self.digest = hashlib.sha256(content).hexdigest()
        stage = cdk.Stage.of(self)
        assert stage is not None
        path = Path(stage.outdir) / ".source" / "source.tar.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self._asset = s3_assets.Asset(
            self, "Asset", path=str(path), asset_hash=self.digest, asset_hash_type=cdk.AssetHashType.CUSTOM
        )
        self.uri = f"s3://{self._asset.s3_bucket_name}/{self._asset.s3_object_key}"

    def grant_read(self, role: iam.Role) -> None:
        """Allow reading this one object."""
        bucket = cdk.Stack.of(self).format_arn(
            service="s3", region="", account="", resource=self._asset.s3_bucket_name
        )
        key = self._asset.s3_object_key
        role.add_to_policy(iam.PolicyStatement(actions=["s3:GetObject"], resources=[f"{bucket}/{key}"]))
        role.add_to_policy(
            iam.PolicyStatement(
                actions=["s3:ListBucket"], resources=[bucket], conditions={"StringEquals": {"s3:prefix": key}}
            )
        )


def archive(root: Path) -> bytes:
    """The archive's bytes: sorted names, no owners, no times."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in sorted(_files(root)):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), mtime=0)


def _files(root: Path) -> Iterator[tuple[str, bytes]]:
    yield "train.py", _LAUNCHER.encode()
    yield "requirements.txt", (root / REQUIREMENTS).read_bytes()
    for marker in _MARKERS:
        yield marker, (root / marker).read_bytes()
    paths = [path for package in _PACKAGES for path in (root / package).rglob("*")]
    paths += [path for folder in _FOLDERS for path in (root / folder).glob("*.py")]
    for path in paths:
        relative = path.relative_to(root)
        if path.is_file() and not set(_NOT_SHIPPED) & set(relative.parts):
            yield relative.as_posix(), path.read_bytes()
