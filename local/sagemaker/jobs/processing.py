"""A processing job's folder: inputs and outputs at the paths which the request names, below /opt/ml."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from local.sagemaker.jobs.folder import JobFolder
from local.sagemaker.jobs.training import HOST
from local.sagemaker.jobs.transfer import Transfer
from local.sagemaker.records import JsonObject


@dataclass
class ProcessingLayout:
    """The `JobLayout` of a processing job."""

    record: JsonObject
    folder: JobFolder

    @property
    def work_folder(self) -> Path:
        """The folder that holds opt/."""
        return self.folder.root

    def fetch(self, transfer: Transfer) -> None:
        """Configuration, inputs, and empty folders for the outputs."""
        self.folder.make("config", "processing", "output")
        self.folder.write_json("config/processingjobconfig.json", self.record)
        cluster = {"current_host": HOST, "hosts": [HOST]}
        self.folder.write_json("config/resourceconfig.json", cluster)
        for item in self.record.get("ProcessingInputs", []):
            source = item["S3Input"]
            folder = self.folder.at(source["LocalPath"])
            transfer.download(source["S3Uri"], folder, f"input {item['InputName']}")
        for item in self._outputs:
            self.folder.at(item["S3Output"]["LocalPath"]).mkdir(parents=True, exist_ok=True)

    def command(self, python: str) -> list[str]:
        """Entry point and arguments as given, but for the place of /opt/ml."""
        del python  # the entry point says by itself what runs it
        application = self.record["AppSpecification"]
        words = (*application["ContainerEntrypoint"], *application.get("ContainerArguments", []))
        return [self.folder.translated(word) for word in words]

    def environment(self) -> dict[str, str]:
        """The job's own variables and its ARN."""
        own = {
            name: self.folder.translated(value) for name, value in self.record.get("Environment", {}).items()
        }
        return own | {"PROCESSING_JOB_ARN": self.record["ProcessingJobArn"]}

    def sync_checkpoints(self, transfer: Transfer) -> None:
        """Outputs go up at the end of the job only."""

    def deliver(self, transfer: Transfer, *, usable: bool) -> dict[str, object]:
        """Every output, when the job ended well or was stopped."""
        for item in self._outputs if usable else ():
            target = item["S3Output"]
            transfer.upload_folder(self.folder.at(target["LocalPath"]), target["S3Uri"])
        return {}

    @property
    def _outputs(self) -> list[JsonObject]:
        outputs: list[JsonObject] = self.record.get("ProcessingOutputConfig", {}).get("Outputs", [])
        return outputs
