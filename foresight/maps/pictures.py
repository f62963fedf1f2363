"""What a map is of: drawn scenes, or a person's own pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image, ImageOps
from torch import Tensor

from foresight.data.archive import Broken, File
from foresight.data.images import FORMATS, load_image, to_pil
from foresight.data.names import shortened
from foresight.data.render import render
from foresight.data.resolution import DEFAULT, Resolution
from foresight.data.scenes import Scenes
from foresight.data.sources import folder_files
from foresight.errors import InputError
from foresight.inspection.evaluation import Sample, file_samples, samples_of
from foresight.inspection.readout import prepare

LEAST = 20  # pictures of a map


class Pictures(Protocol):
    """The pictures of a map, by their numbers from 0."""

    def __len__(self) -> int: ...

    def name(self, number: int) -> str:
        """What tables call a picture."""

    def source(self, number: int) -> dict[str, Any] | str:
        """What makes a picture again: a scene's description, or a file's path."""

    def pixels(self, number: int) -> tuple[Tensor, Tensor | None]:
        """A picture (3, H, W) in [0, 1] as the VLM sees it, and its mask (H, W), where that is known."""

    def images(self, numbers: Sequence[int], side: int | None) -> list[Image.Image]:
        """Pictures of so many pixels on the shorter side; None: as the VLM sees them."""

    def samples(self, numbers: Sequence[int], resolution: Resolution = DEFAULT) -> Iterator[Sample | Broken]:
        """Pictures to be evaluated, as large as the VLM is to see them."""


@dataclass(frozen=True)
class ScenePictures:
    """Drawn scenes. resolution: how large the VLM sees them."""

    scenes: Scenes
    resolution: Resolution = DEFAULT

    def __len__(self) -> int:
        return len(self.scenes)

    def name(self, number: int) -> str:
        return self.scenes.digest(number)

    def source(self, number: int) -> dict[str, Any]:
        return self.scenes.describe(number)

    def pixels(self, number: int) -> tuple[Tensor, Tensor]:
        rendered = render(self.scenes[number].resized(self._seen))
        return rendered.images[0].float() / 255, rendered.mask[0]

    def images(self, numbers: Sequence[int], side: int | None) -> list[Image.Image]:
        scenes = self._scenes_at(numbers)
        factor = 1.0 if side is None else side / min(self._seen)
        height, width = (round(v * factor) for v in self._seen)
        return [to_pil(x / 255) for x in render(scenes.resized((height, width))).images]

    def samples(self, numbers: Sequence[int], resolution: Resolution = DEFAULT) -> Iterator[Sample]:
        for number, sample in zip(numbers, samples_of(self._scenes_at(numbers), resolution), strict=True):
            yield replace(sample, name=f"scene {number} ({sample.name})")

    @property
    def _seen(self) -> tuple[int, int]:
        return self.resolution.size(*self.scenes.size)

    def _scenes_at(self, numbers: Sequence[int]) -> Scenes:
        return self.scenes[torch.tensor([*numbers], dtype=torch.long)]


@dataclass(frozen=True, eq=False)
class FilePictures:
    """A person's own pictures.

    Attributes:
        files: Those that are pictures, by their first bytes.
        broken: The others, and why.
        resolution: How large the VLM sees them.
    """

    files: tuple[File, ...]
    broken: tuple[Broken, ...] = ()
    resolution: Resolution = DEFAULT

    @classmethod
    def of(cls, files: Sequence[File | Broken]) -> FilePictures:
        """The pictures among some files. Raises InputError where they are too few for a map."""
        good: list[File] = []
        broken: list[Broken] = []
        for file in files:
            if isinstance(file, Broken):
                broken.append(file)
                continue
            try:
                with Image.open(file.path, formats=FORMATS):
                    good.append(file)
            except (OSError, ValueError):
                broken.append(Broken(file.name, f"it is none of {', '.join(FORMATS)}."))
        if len(good) < LEAST:
            raise InputError(f"a map needs at least {LEAST} pictures, not {len(good)}.")
        return cls(tuple(good), tuple(broken))

    @property
    def id(self) -> str:
        """The same for the same files."""
        facts = [(file.name, str(file.path), file.path.stat().st_mtime_ns) for file in self.files]
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]

    @property
    def there(self) -> bool:
        """Whether no file was deleted since."""
        return all(file.path.exists() for file in self.files)

    def __len__(self) -> int:
        return len(self.files)

    def name(self, number: int) -> str:
        return self.files[number].name

    def folder(self, number: int) -> str:
        """The folder that a picture's name says it lies in, which is often its class."""
        return Path(self.files[number].name).parent.name

    def source(self, number: int) -> str:
        return str(self.files[number].path)

    def pixels(self, number: int) -> tuple[Tensor, None]:
        """As of the protocol. Raises InputError where the file is gone, or is no whole picture."""
        name, path = self.files[number]
        try:
            return prepare(load_image(path.read_bytes()), None, self.resolution)[0], None
        except OSError as error:
            raise InputError(f"“{shortened(name)}” can no longer be read: choose the pictures again.") from error
        except InputError as error:
            raise InputError(f"“{shortened(name)}”: {error}") from error

    def images(self, numbers: Sequence[int], side: int | None) -> list[Image.Image]:
        drawn = [to_pil(self.pixels(number)[0]) for number in numbers]
        return drawn if side is None else [ImageOps.scale(image, side / min(image.size)) for image in drawn]

    def samples(self, numbers: Sequence[int], resolution: Resolution = DEFAULT) -> Iterator[Sample | Broken]:
        return file_samples([self.files[number] for number in numbers], resolution)


def in_folder(folder: str) -> list[File]:
    """The pictures in a folder of this machine and in the folders inside it, which are often classes.

    Raises:
        InputError: There is no such folder, or no picture.
    """
    root = Path(folder).expanduser()
    files = []
    for part in [root, *sorted(path for path in root.glob("*/") if not path.name.startswith("."))]:
        with suppress(InputError):  # without pictures
            files += [File(str(path.relative_to(root)), path) for path in folder_files(part)]
    return files or [File(path.name, path) for path in folder_files(root)]
