"""The data stack: what outlives every deployment. Artefacts, records, callers' keys, the release ledger."""

from __future__ import annotations

import aws_cdk as cdk
from constructs import Construct

from contracts.records import CALLS_INDEX, RATINGS_INDEX
from infra.constructs.encryption import EncryptionKey
from infra.constructs.log_group import removal_policy
from infra.constructs.replication import Replication
from infra.constructs.storage import AccessLogBucket, EncryptedBucket, EncryptedTable
from infra.settings import Settings


class DataStack(cdk.Stack):
    """Buckets, tables and their encryption keys."""

    def __init__(self, scope: Construct, settings: Settings, env: cdk.Environment) -> None:
        super().__init__(scope, f"{settings.prefix}-data", env=env)
        removal = settings.environment.removal
        models, records = removal_policy(removal.models), removal_policy(removal.records)
        access, logs = removal_policy(removal.access), removal_policy(removal.logs)

        self.models_key = EncryptionKey(self, "ModelsKey", purpose="model artefacts", removal=models)
        self.records_key = EncryptionKey(self, "RecordsKey", purpose="records and ledger", removal=records)
        self.access_key = EncryptionKey(
            self, "AccessKey", purpose="callers' keys and routing", removal=access
        )
        self.logs_key = EncryptionKey(self, "LogsKey", purpose="log groups", removal=logs)
        self.logs_key.open_to_logs()

        access_logs = AccessLogBucket(
            self, "AccessLogs", keep_days=settings.environment.log_retention_days, removal=logs
        )
        self.artefacts = EncryptedBucket(
            self, "Artefacts", key=self.models_key, access_logs=access_logs, removal=models
        )
        if settings.failover:
            Replication(self, "Replication", settings=settings, bucket=self.artefacts, key=self.models_key)
        self.records_bucket = EncryptedBucket(
            self,
            "RecordsBucket",
            key=self.records_key,
            access_logs=access_logs,
            removal=records,
            forget_days=settings.records.ttl_days,
        )
        # Callers' own jobs, files and kept answers: in clear, so for days at most, and gone once deleted.
        self.work_bucket = EncryptedBucket(
            self,
            "WorkBucket",
            key=self.records_key,
            access_logs=access_logs,
            removal=records,
            forget_days=settings.jobs.retention_days,
            versioned=False,
        )
        self.work = EncryptedTable(
            self,
            "WorkTable",
            key=self.records_key,
            removal=records,
            sort_key=True,
            expires=True,
            recoverable=False,
        )
        self.access = EncryptedTable(self, "AccessTable", key=self.access_key, removal=access, expires=True)
        self.records = EncryptedTable(
            self, "RecordsTable", key=self.records_key, removal=records, sort_key=True, expires=True
        )
        # What callers got from, and said of, one model version since a moment: the canary's evidence.
        self.records.add_index(
            CALLS_INDEX,
            partition="model_version",
            sort="received_at",
            include=["variant", "status", "time_to_first_token_ms"],
        )
        self.records.add_index(
            RATINGS_INDEX,
            partition="model_version",
            sort="given_at",
            include=["request_id", "variant", "thumbs", "score"],
        )
        # Releases stay on record: the ledger has no expiry, and writers only put items that do not exist yet.
        self.ledger = EncryptedTable(
            self, "LedgerTable", key=self.records_key, removal=records, sort_key=True
        )

        for name, value in {
            "ArtefactsBucketName": self.artefacts.bucket_name,
            "RecordsBucketName": self.records_bucket.bucket_name,
            "AccessTableName": self.access.table_name,
            "RecordsTableName": self.records.table_name,
            "LedgerTableName": self.ledger.table_name,
            "WorkBucketName": self.work_bucket.bucket_name,
            "WorkTableName": self.work.table_name,
        }.items():
            cdk.CfnOutput(self, name, value=value)
