"""The most that one map may ask of the machine that draws it."""

from __future__ import annotations

from dataclasses import dataclass

from foresight.errors import InputError
from foresight.maps.data import MapSpec
from foresight.settings import Settings


@dataclass(frozen=True)
class MapLimits:
    """Limits of one map."""

    points: int = 20_000
    """Points on it."""
    layers: int = 64
    scored: int = 20_000
    """Scenes of it that are scored by an adapter."""
    images: int = 2_000
    """Images in an exported zip."""
    files: int = 20_000
    """A person's own pictures on it."""
    links: bool = True
    """Whether a link alone may have a map drawn."""

    @classmethod
    def of(cls, settings: Settings) -> MapLimits:
        """Those for strangers where the app is public."""
        return cls(points=5_000, layers=6, scored=100, images=200, files=200, links=False) if settings.public else cls()

    def check_files(self, count: int) -> None:
        """Raises InputError for more of a person's own pictures than a map may have."""
        if count > self.files:
            raise InputError(f"a map here has at most {self.files:,} pictures of your own: take fewer.")

    def check(self, spec: MapSpec) -> MapSpec:
        """The spec itself. Raises InputError beyond the limits."""
        if spec.size > self.points:
            raise InputError(f"a map here has at most {self.points:,} points, not {spec.size:,}: take fewer scenes.")
        if len(spec.points) > self.layers:
            raise InputError(f"a map here has at most {self.layers} layers, not {len(spec.points)}.")
        return spec
