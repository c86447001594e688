"""A training job's folder and script mode, as the service and its training toolkit lay them out.

Script mode: hyperparameter `sagemaker_submit_directory` names an archive, `sagemaker_program` a script in it.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local.sagemaker.jobs.folder import JobFolder
from local.sagemaker.jobs.rules import OPT_ML
from local.sagemaker.jobs.transfer import Transfer, TransferError
from local.sagemaker.records import JsonObject

HOST = "algo-1"
_TOOLKIT_PREFIX = "sagemaker_"  # hyperparameters for the toolkit, which a script does not see
_PROGRAM = "sagemaker_program"
_ARCHIVE = "sagemaker_submit_directory"
_FOLDERS = (
    "input/config",
    "input/data",
    "model",
    "output/data",
    "output/intermediate",
    "checkpoints",
    "code",
)


@dataclass
class TrainingLayout:
    """The `JobLayout` of a training job."""

    record: JsonObject
    folder: JobFolder
    _uploaded: dict[Path, tuple[float, int]] = field(default_factory=dict)

    @property
    def work_folder(self) -> Path:
        """Scripts start in the folder of their code."""
        return self.folder.ml / "code"

    def fetch(self, transfer: Transfer) -> None:
        """Configuration, channels, code and the checkpoints of an earlier run."""
        self.folder.make(*_FOLDERS)
        self._write_configuration()
        for channel in self._channels:
            name, uri = channel["ChannelName"], channel["DataSource"]["S3DataSource"]["S3Uri"]
            transfer.download(uri, self.folder.ml / "input" / "data" / name, f"input data source of {name}")
        archive = self._hyperparameters.get(_ARCHIVE)
        if archive:
            transfer.download_archive(str(archive), self.work_folder)
        if self._checkpoints:
            transfer.restore(self._checkpoints["S3Uri"], self._checkpoint_folder)

    def command(self, python: str) -> list[str]:
        """The container's own entry point where one is given, else the script with its hyperparameters."""
        algorithm = self.record["AlgorithmSpecification"]
        entry = algorithm.get("ContainerEntrypoint")
        if entry:
            return [
                self.folder.translated(word) for word in (*entry, *algorithm.get("ContainerArguments", []))
            ]
        program = self._hyperparameters.get(_PROGRAM)
        if not program:
            raise TransferError(
                f"ClientError: the hyperparameter {_PROGRAM} is missing: the laptop cloud runs training in "
                "script mode, or what ContainerEntrypoint says."
            )
        if str(program).endswith(".sh"):
            return ["/bin/sh", str(program), *self._arguments()]
        return [python, str(program), *self._arguments()]

    def environment(self) -> dict[str, str]:
        """The toolkit's variables. A list or mapping is JSON, as there."""
        ml, record = self.folder.ml, self.record
        resources = self._resource_config()
        channels = {channel["ChannelName"]: channel for channel in self._channels}
        variables: dict[str, Any] = {
            "SM_CHANNELS": sorted(channels),
            "SM_CHECKPOINT_DIR": str(self._checkpoint_folder),
            "SM_CURRENT_HOST": HOST,
            "SM_CURRENT_INSTANCE_TYPE": resources["current_instance_type"],
            "SM_HOSTS": [HOST],
            "SM_HPS": self._own_hyperparameters(),
            "SM_INPUT_CONFIG_DIR": str(ml / "input" / "config"),
            "SM_INPUT_DATA_CONFIG": self._input_config(),
            "SM_INPUT_DIR": str(ml / "input"),
            "SM_LOG_LEVEL": "20",
            "SM_MODEL_DIR": str(ml / "model"),
            "SM_MODULE_DIR": str(self.work_folder),
            "SM_MODULE_NAME": Path(str(self._hyperparameters.get(_PROGRAM, ""))).stem,
            "SM_NETWORK_INTERFACE_NAME": resources["network_interface_name"],
            "SM_NUM_CPUS": str(os.cpu_count() or 1),
            "SM_NUM_GPUS": "0",
            "SM_OUTPUT_DATA_DIR": str(ml / "output" / "data"),
            "SM_OUTPUT_DIR": str(ml / "output"),
            "SM_OUTPUT_INTERMEDIATE_DIR": str(ml / "output" / "intermediate"),
            "SM_RESOURCE_CONFIG": resources,
            "SM_USER_ARGS": self._arguments(),
        }
        variables |= {f"SM_CHANNEL_{name.upper()}": str(ml / "input" / "data" / name) for name in channels}
        variables |= {f"SM_HP_{name.upper()}": value for name, value in self._own_hyperparameters().items()}
        own = {name: self.folder.translated(value) for name, value in record.get("Environment", {}).items()}
        service = {
            "PYTHONPATH": str(self.work_folder),
            "SAGEMAKER_JOB_NAME": record["TrainingJobName"],
            "TRAINING_JOB_ARN": record["TrainingJobArn"],
            "TRAINING_JOB_NAME": record["TrainingJobName"],
        }
        return own | service | {name: _text(value) for name, value in variables.items()}

    def sync_checkpoints(self, transfer: Transfer) -> None:
        """Copy new checkpoints to S3."""
        if self._checkpoints:
            transfer.upload_changes(self._checkpoint_folder, self._checkpoints["S3Uri"], self._uploaded)

    def deliver(self, transfer: Transfer, *, usable: bool) -> dict[str, object]:
        """The model, when it counts, and in any case what lies in the output folder."""
        self.sync_checkpoints(transfer)
        config, ml = self.record["OutputDataConfig"], self.folder.ml
        base = f"{config['S3OutputPath'].rstrip('/')}/{self.record['TrainingJobName']}/output"
        has_model = usable and any((ml / "model").iterdir())
        if config.get("CompressionType") == "NONE":
            transfer.upload_folder(ml / "output" / "data", f"{base}/data/")
            if not has_model:
                return {}
            transfer.upload_folder(ml / "model", f"{base}/model/")
            return {"ModelArtifacts": {"S3ModelArtifacts": f"{base}/model/"}}
        if any((ml / "output" / "data").iterdir()) or self.folder.failure.exists():
            transfer.upload_archive(ml / "output", f"{base}/output.tar.gz", self.folder.home)
        if not usable:
            return {}
        transfer.upload_archive(ml / "model", f"{base}/model.tar.gz", self.folder.home)
        return {"ModelArtifacts": {"S3ModelArtifacts": f"{base}/model.tar.gz"}}

    @property
    def _channels(self) -> list[JsonObject]:
        channels: list[JsonObject] = self.record.get("InputDataConfig", [])
        return channels

    @property
    def _checkpoints(self) -> JsonObject:
        config: JsonObject = self.record.get("CheckpointConfig", {})
        return config

    @property
    def _checkpoint_folder(self) -> Path:
        return self.folder.at(self._checkpoints.get("LocalPath", f"{OPT_ML}/checkpoints"))

    @property
    def _hyperparameters(self) -> dict[str, Any]:
        """Every hyperparameter, decoded as the toolkit does: JSON where it is, text where it is not."""
        return {name: _decoded(value) for name, value in self.record.get("HyperParameters", {}).items()}

    def _own_hyperparameters(self) -> dict[str, Any]:
        return {
            name: value
            for name, value in self._hyperparameters.items()
            if not name.startswith(_TOOLKIT_PREFIX)
        }

    def _arguments(self) -> list[str]:
        words: list[str] = []
        for name, value in sorted(self._own_hyperparameters().items()):
            words += [f"-{name}" if len(name) == 1 else f"--{name}", "" if value is None else str(value)]
        return words

    def _write_configuration(self) -> None:
        config = "input/config"
        self.folder.write_json(f"{config}/hyperparameters.json", self.record.get("HyperParameters", {}))
        self.folder.write_json(f"{config}/inputdataconfig.json", self._input_config())
        self.folder.write_json(f"{config}/resourceconfig.json", self._resource_config())

    def _input_config(self) -> JsonObject:
        return {
            channel["ChannelName"]: {
                "TrainingInputMode": "File",
                "S3DistributionType": channel["DataSource"]["S3DataSource"].get(
                    "S3DataDistributionType", "FullyReplicated"
                ),
                "RecordWrapperType": "None",
                **({"ContentType": channel["ContentType"]} if "ContentType" in channel else {}),
            }
            for channel in self._channels
        }

    def _resource_config(self) -> JsonObject:
        return {
            "current_host": HOST,
            "current_instance_type": self.record["ResourceConfig"]["InstanceType"],
            "current_group_name": "homogeneousCluster",
            "hosts": [HOST],
            "network_interface_name": "lo",
        }


def _decoded(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
