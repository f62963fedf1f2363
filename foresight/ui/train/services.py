"""What the Train tab and its endpoint ask of training, which this package may not import."""

from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from foresight.models.points import ExtractionPoint

Run = dict[str, Any]
Values = dict[str, Any]  # of training's settings, by their names, as JSON


class TrainingService(Protocol):
    """Runs and trained adapters, as JSON values. Every method raises InputError where it cannot do what is asked.

    That of `training.service.service` is one.
    """

    @property
    def settings(self) -> type:
        """The schema of a run's settings: their limits, choices and help."""

    @property
    def presets(self) -> Mapping[str, Values]:
        """Settings by their recipe's name."""

    @property
    def points(self) -> Sequence[ExtractionPoint]:
        """Where adapters can read."""

    @property
    def devices(self) -> Sequence[str]:
        """What a run can train on."""

    def cost(self, values: Values, device: str) -> dict[str, Any]:
        """{"parameters": numbers by adapter, "bytes": about as much memory, "free": bytes on the device}."""

    def seconds(self, values: Values) -> Generator[dict[str, float] | None, None, None]:
        """About how long a run will take: {"extract", "learn", "score", "total"}, after a None for each step of
        measuring it; nothing where that is not known."""

    def held_out_picture(self, name: str) -> dict[str, Any] | Path:
        """A picture that a run is judged by, as a scene's description or a photo's file."""

    def start(
        self, name: str, values: Values, archive: str | None = None, device: str | None = None, seeds: int = 1
    ) -> dict[str, Any]:
        """Starts a run by a new name or a recipe's, with a zip of photos or none, on a device or a free one.

        seeds: how many runs, each with the next seed.

        Returns:
            {"name": the first run's name, "names": all, "broken": [[file of the zip, reason], …]}.
        """

    def startable(self) -> list[str]:
        """Adapters that a run may begin from, as its settings name them."""

    def stop(self, name: str) -> None:
        """Asks a run to end."""

    def resume(self, name: str) -> None:
        """Lets a run that ended early go on."""

    def remove(self, name: str) -> None:
        """Deletes a run; its adapters stay."""

    def write_note(self, name: str, text: str) -> None:
        """Keeps a line about a run."""

    def runs(self) -> list[Run]:
        """Every run in short, the latest first."""

    def run_details(self, name: str) -> Run:
        """A run in full."""

    def adapters(self) -> list[dict[str, Any]]:
        """Every adapter trained here."""

    def rename_adapter(self, name: str, to: str) -> None:
        """Gives an adapter a new name."""

    def delete_adapter(self, name: str) -> None:
        """Deletes an adapter."""

    def adapter_as_zip(self, name: str) -> bytes:
        """An adapter with its model card."""

    def import_adapter(self, source: str) -> str:
        """Copies an adapter from a folder of this machine or the hub; returns its name here."""

    def publish_adapter(self, name: str, repository: str, private: bool) -> str:
        """Uploads an adapter to the hub by the login of this machine's owner; returns its address."""
