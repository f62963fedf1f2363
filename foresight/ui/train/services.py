"""What the Train tab and its endpoint may ask of training, which this package knows nothing of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from foresight.models.points import ExtractionPoint

Run = dict[str, Any]
Settings = dict[str, Any]


@dataclass(frozen=True)
class TrainCalls:
    """Training as callables that speak JSON values, since this package knows nothing of how it is done.

    presets: settings by their recipe's name. cost: settings, device → parameters and bytes. start: a new name or
    a recipe's, settings, a zip of pictures, a device → the run's name and the archive's broken files. runs: every
    run in short; look: one in full. adapters: those trained here. pack: an adapter as a zip. take_in: a folder or
    hub id → its name here. publish: name, repository, private → its address. All raise InputError; the last two
    are None where whoever comes must neither see this machine's folders nor act by its owner's login.
    """

    points: Sequence[ExtractionPoint]
    devices: Sequence[str]
    losses: Sequence[str]
    presets: dict[str, Settings]
    cost: Callable[[Settings, str], dict[str, Any]]
    start: Callable[[str, Settings, str | None, str | None], dict[str, Any]]
    stop: Callable[[str], None]
    resume: Callable[[str], None]
    remove: Callable[[str], None]
    runs: Callable[[], list[Run]]
    look: Callable[[str], Run]
    adapters: Callable[[], list[dict[str, Any]]]
    rename: Callable[[str, str], None]
    delete: Callable[[str], None]
    pack: Callable[[str], bytes]
    take_in: Callable[[str], str] | None
    publish: Callable[[str, str, bool], str] | None

    @classmethod
    def of(cls, service: Any, local: bool = False) -> TrainCalls:
        """The calls of training's `TrainingService`, whose attributes go by the same names. local: as in `Settings`."""
        calls = {field.name: getattr(service, field.name) for field in fields(cls)}
        return cls(**calls if local else calls | {"take_in": None, "publish": None})
