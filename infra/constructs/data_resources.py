"""What constructs use of the data stack: they need not import the stack, which is built of constructs."""

from __future__ import annotations

from typing import Protocol

from infra.constructs.encryption import EncryptionKey
from infra.constructs.storage import EncryptedBucket, EncryptedTable


class DataResources(Protocol):
    """The buckets, tables and encryption keys that outlive every deployment; `DataStack` has them."""

    models_key: EncryptionKey
    records_key: EncryptionKey
    logs_key: EncryptionKey
    artefacts: EncryptedBucket
    work_bucket: EncryptedBucket
    access: EncryptedTable
    records: EncryptedTable
    ledger: EncryptedTable
    work: EncryptedTable
