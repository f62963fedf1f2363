"""The adapters on this machine that fit a VLM and a VAE."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from foresight import paths
from foresight.adapters.checkpoint import (
    CONFIG,
    WEIGHTS,
    build_empty,
    check_weights,
    describe_adapter,
    list_adapters,
    load_adapter,
    misfits,
)
from foresight.adapters.identity import compare, read_identity
from foresight.adapters.modules import KINDS, Adapter, PooledMLP, points_of
from foresight.data.resolution import DEFAULT, Resolution
from foresight.errors import InputError
from foresight.models.hub import folder_of
from foresight.models.points import ExtractionPoint
from foresight.models.vae import VAE
from foresight.models.vlm import VLM
from foresight.recent import Recent

BUNDLED = paths.ASSETS / "adapters"
RUNS = paths.RUNS / "adapters"  # where training puts adapters
ORDER = ("tokens", "linear", "pooled", "mix", "routing")  # of adapters at one point
KEPT = 1 << 30  # bytes of adapters that stay loaded; those of 60 points of the 7B would take 5 GB
NEAR = 1.5  # times an area: images are rounded to whole tokens, and narrow ones are larger


@dataclass(frozen=True)
class AdapterRecord:
    """An adapter's folder that fits the models, not yet loaded.

    bundled: under the first root. config: as from `describe_adapter`. parameters: how many it learned.
    root: under which it lies, None where it lies under none. notices: what differs from what it was fitted with, and
    changes latents by rounding alone.
    """

    folder: Path
    bundled: bool
    config: dict[str, Any]
    parameters: int
    root: Path | None = None
    notices: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its kind where it is bundled, else its path under its root, which for a folder called tokens is ./tokens."""
        if self.bundled:
            return self.kind
        if self.root is None:
            return self.folder.name
        return record_name(self.folder, self.root)

    @property
    def kind(self) -> str:
        return self.config["kind"]

    @property
    def card(self) -> dict[str, Any]:
        return self.config["card"]

    @property
    def point(self) -> ExtractionPoint:
        return ExtractionPoint.parse(self.card["point"])

    @cached_property
    def points(self) -> list[ExtractionPoint]:
        """Whose latents it takes: its point's, or those of several layers up to it."""
        return points_of(self.card)

    @cached_property
    def resolutions(self) -> list[Resolution]:
        """At which it was fitted; the first is how large it reads a picture where nobody says otherwise.

        Raises InputError where its card tells none that could be.
        """
        return [Resolution.parse(pixels) for pixels in read_identity(self.card).pixels] or [DEFAULT]

    def size_notice(self, size: tuple[int, int]) -> str | None:
        """That an image of (H, W) is of another size than those it was fitted at, whatever their shape; else None."""
        height, width = size
        if any(1 / NEAR < height * width / fitted.most < NEAR for fitted in self.resolutions):
            return None
        return f"fitted at {' and '.join(map(str, self.resolutions))}, here {width} × {height} pixels"

    def reads(self, size: tuple[int, int]) -> bool:
        """Whether it can read an image of (H, W): the pooled one paints images of one size, the others any."""
        return self.kind != PooledMLP.kind or self.size_notice(size) is None

    def check_size(self, size: tuple[int, int]) -> None:
        """Raises InputError where it cannot read an image of (H, W)."""
        if not self.reads(size):
            raise InputError(
                f"the pooled adapter {self.name!r} paints pictures of one size alone ({self.size_notice(size)})."
            )


def record_name(folder: Path, root: Path) -> str:
    """What an adapter of one's own goes by: its path under its root, which for a folder called tokens is ./tokens."""
    name = folder.relative_to(root).as_posix()
    return f"./{name}" if name in KINDS else name


def pick_adapter(
    records: Sequence[AdapterRecord], point: str | ExtractionPoint, name: str | None = None
) -> AdapterRecord:
    """The adapter of that name, else the first of that kind, at a point. No folder is looked for.

    Args:
        records: all that fit, as from `AdapterRegistry.adapters`.
        point: where it reads.
        name: None is the first there.

    Raises:
        InputError: there is none; the sentence tells what there is.
    """
    at_point = [record for record in records if str(record.point) == str(point)]
    for record in [*(r for r in at_point if name in (None, r.name)), *(r for r in at_point if name == r.kind)]:
        return record

    def points(kind: str | None = None) -> str:
        return ", ".join(dict.fromkeys(str(r.point) for r in records if kind in (None, r.name, r.kind)))

    if not at_point:
        raise InputError(
            f"no adapter reads {point}: there are some for {points()}."
            if records
            else "no adapter fits any point of this model and VAE: train one first."
        )
    elsewhere = f", or {name!r} at {points(name)}" if points(name) else ""
    names = ", ".join(record.name for record in at_point)
    raise InputError(f"no adapter {name!r} reads {point}: choose from {names}{elsewhere}.")


def _bytes(loaded: tuple[int, Adapter]) -> int:
    return sum(x.nbytes for x in loaded[1].state_dict().values())


class AdapterRegistry:
    """The adapters under `roots` that fit a VLM and a VAE; each is loaded when it is first used.

    The first root is the bundled one: its adapters go by their kind, those of others by their path under their root.
    """

    def __init__(self, vlm: VLM, vae: VAE, roots: Sequence[str | Path]) -> None:
        self.vlm, self.vae = vlm, vae
        self.roots = [Path(root) for root in roots]
        # By folder, with the time at which the config or the weights were written.
        self._entries: dict[Path, tuple[int, AdapterRecord | str]] = {}
        self._loaded = Recent[Path, tuple[int, Adapter]](KEPT, _bytes)
        self._loading = threading.Lock()

    @property
    def default_point(self) -> ExtractionPoint:
        """post-merge at half of the language model's depth."""
        return ExtractionPoint("post-merge", self.vlm.points[-1].layer // 2)

    def adapters(self, point: str | ExtractionPoint | None = None) -> list[AdapterRecord]:
        """The adapters that fit, in order of depth; at one point the bundled ones first, in `ORDER`.

        point: only those for it. Folders are looked through again at every call, as training adds to them.
        """
        at = None if point is None else self.vlm.point(point)
        fit = [e for e in self._survey().values() if isinstance(e, AdapterRecord) and at in (None, e.point)]
        return sorted(fit, key=lambda e: (e.point.depth, not e.bundled, ORDER.index(e.kind)))

    def rejected(self) -> dict[Path, str]:
        """The folders under the roots that do not fit or cannot be read, each with the reason."""
        return {folder: reason for folder, reason in self._survey().items() if isinstance(reason, str)}

    def find(self, adapter: str | Path | None = None, point: str | ExtractionPoint | None = None) -> AdapterRecord:
        """The one adapter meant by a name, a kind, a folder or a hub id, at a point.

        Args:
            adapter: None is the first at the point.
            point: None is a folder's own point, else the default one.

        Raises:
            InputError: there is none, or it does not fit.
        """
        if adapter is not None and str(adapter) not in KINDS:
            return self._foreign(adapter, point)
        at = self.default_point if point is None else self.vlm.point(point)
        return pick_adapter(self.adapters(), at, None if adapter is None else str(adapter))

    def find_listed(self, name: str | None, point: str | ExtractionPoint) -> AdapterRecord:
        """As `find`, of the adapters under the roots alone: for strangers, who may name no folder and no hub id.

        Args:
            name: None is the first at the point.
            point: Where it reads.

        Raises:
            InputError: There is none, or the model lacks the point.
        """
        return pick_adapter(self.adapters(), self.vlm.point(point), name)

    def written(self, record: AdapterRecord) -> int:
        """When its weights were written, in nanoseconds: others may lie in its folder later.

        Raises InputError where it was deleted or renamed since it was listed.
        """
        try:
            return (record.folder / WEIGHTS).stat().st_mtime_ns
        except FileNotFoundError as error:
            raise InputError(f"the adapter {record.name!r} was deleted or renamed: choose another.") from error

    def load(self, record: AdapterRecord) -> Adapter:
        """The adapter on the VAE's device, loaded once as long as its file stays the same. Raises as `written`.

        Of all that are loaded, those used last are kept: up to KEPT bytes, but always the newest.
        """
        written = self.written(record)
        with self._loading:
            if record.folder not in self._loaded or self._loaded[record.folder][0] != written:
                for gone in [folder for folder in self._loaded if not folder.is_dir()]:
                    del self._loaded[gone]
                with torch.inference_mode(False):
                    self._loaded[record.folder] = written, load_adapter(record.folder).to(self.vae.device)
            return self._loaded[record.folder][1]

    def _survey(self) -> dict[Path, AdapterRecord | str]:
        """Every adapter's folder under the roots: its record, or the reason why it does not serve."""
        surveyed = {folder: self._entry(folder, root) for root in self.roots for folder in list_adapters(root)}
        return {folder: entry for folder, entry in surveyed.items() if entry is not None}

    def _entry(self, folder: Path, root: Path) -> AdapterRecord | str | None:
        """None where the folder was deleted or renamed since it was listed."""
        try:
            written = (folder / CONFIG).stat().st_mtime_ns
        except FileNotFoundError:
            return None
        except OSError as error:
            return f"it cannot be read ({error.strerror})."
        if self._entries.get(folder, (None,))[0] != written:
            try:
                entry = self._record(folder, root)
            except InputError as error:
                entry = str(error)
            self._entries[folder] = written, entry
        return self._entries[folder][1]

    def _foreign(self, name: str | Path, point: str | ExtractionPoint | None) -> AdapterRecord:
        """The record of a folder or hub id, which need not lie under a root."""
        folder = folder_of(name, [WEIGHTS, CONFIG], "adapter")
        for record in self.adapters():
            if record.folder.resolve() == folder.resolve():
                break
        else:
            surveyed = self._record(folder)
            if isinstance(surveyed, str):
                raise InputError(f"this adapter does not fit: {surveyed}.")
            record = surveyed
        if point is not None and record.point != self.vlm.point(point):
            raise InputError(f"adapter {str(name)!r} is for {record.point}, not for {point}.")
        return record

    def _record(self, folder: Path, root: Path | None = None) -> AdapterRecord | str:
        """The record of an adapter's folder, or why it does not fit. Raises InputError where it cannot be read."""
        config = describe_adapter(folder)
        card, vlm, vae = config["card"], self.vlm, self.vae
        facts = {"channels": vae.channels, "downscale": vae.downscale, "frames_per_latent": vae.frames_per_latent}
        points = points_of(card)
        faults, notices = misfits(config, width=sum(map(vlm.width, points)), **facts), list[str]()
        if config.get("layers", 1) != len(points):
            faults.append(f"its card names {len(points)} layers, not {config.get('layers', 1)}")
        if not faults:  # digests are computed for what may fit alone
            differing, notices = compare(read_identity(card), vlm, vae, ExtractionPoint.parse(card["point"]))
            faults = [f"it was fitted with {', '.join(differing)}"] if differing else []
        if faults:
            names = [(card.get("model"), vlm.name), (card.get("vae"), vae.name)]
            others = [f"it is for {its!r}, not for {here!r}" for its, here in names if its not in (None, here)]
            return "; ".join(others + faults)
        label = f"adapter {str(folder)!r}"
        adapter = build_empty(config, label)
        check_weights(folder, adapter, label)
        bundled = root is not None and root == self.roots[0]
        return AdapterRecord(folder, bundled, config, adapter.parameter_count, root, tuple(notices))
