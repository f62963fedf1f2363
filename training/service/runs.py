"""The adapters that were trained here: list, rename, delete, export, import, publish."""

import io
import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch

from foresight.adapters.checkpoint import (
    CONFIG,
    WEIGHTS,
    describe_adapter,
    list_adapters,
    load_adapter,
    measured_share,
    no_better_than_blank,
    score_tables,
)
from foresight.adapters.modules import KINDS
from foresight.adapters.registry import AdapterRecord, AdapterRegistry, record_name
from foresight.errors import InputError
from foresight.metrics.intervals import Interval
from foresight.metrics.scores import SCORES
from training.service.presets import checked_name, new_name
from training.service.queue import delete_atomically

_HUB = re.compile(r"([\w.-]+/[\w.-]+)(@[\w./-]+)?")  # owner/name, or owner/name@revision
CARD = "README.md"  # what the hub shows of a repository


class TrainedAdapters:
    """The adapters under `folder`, which is one of the registry's roots."""

    def __init__(self, registry: AdapterRegistry, folder: str | Path) -> None:
        self.registry, self.folder = registry, Path(folder).absolute()

    def adapters(self) -> list[dict[str, Any]]:
        """Each adapter's name, point, kind, parameters and card; or, where it does not serve, the reason."""
        records = {record.folder.absolute(): record for record in self.registry.adapters()}
        problems = {folder.absolute(): reason for folder, reason in self.registry.rejected().items()}
        return [
            _summary(name, records[f]) if f in records else {"name": name, "problem": problems.get(f, "")}
            for name, f in self._folders().items()
        ]

    def rename(self, name: str, to: str) -> str:
        """Gives an adapter a new name, and returns it. Raises InputError where it is taken or cannot be one."""
        folder, to = self._find(name), checked_name(to.strip(), self._names())
        folder.rename(self.folder / to)
        return to

    def delete(self, name: str) -> None:
        delete_atomically(self._find(name))

    def as_zip(self, name: str) -> bytes:
        """A zip with the adapter's folder, to be unpacked and used elsewhere. Stored: weights do not compress."""
        folder, content = self._find(name), io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            for file in (WEIGHTS, CONFIG):
                archive.write(folder / file, f"{folder.name}/{file}")
            archive.writestr(f"{folder.name}/{CARD}", card_text(folder.name, describe_adapter(folder)))
        return content.getvalue()

    def import_adapter(self, source: str) -> str:
        """Copies an adapter from a folder or hub id, after all checks; returns the name it goes by here."""
        if not source.strip():
            raise InputError("name a folder on this machine, or an adapter on the hub (owner/name).")
        record = self.registry.find(Path(source.strip()).expanduser())
        load_adapter(record.folder)  # its weights too must be what its config builds
        name = new_name(Path(source.strip()).name, self._names())
        stage = self.folder / f".{name}"
        if stage.exists():  # left where a process was cut off
            shutil.rmtree(stage)
        stage.mkdir(parents=True)
        for file in (WEIGHTS, CONFIG):
            shutil.copyfile(record.folder / file, stage / file)
        stage.rename(self.folder / name)
        return name

    def publish(self, name: str, repository: str, private: bool) -> str:
        """Uploads an adapter with a model card to the user's own place on the hub; returns its address.

        Raises InputError where nobody is logged in, the hub refuses or cannot be reached, or what is to be private
        would be seen by all, since there is a repository of that name already.
        """
        from huggingface_hub import CommitOperationAdd, HfApi, get_token
        from huggingface_hub.errors import HFValidationError, HTTPError

        folder, repository = self._find(name), repository.strip()
        if get_token() is None:
            raise InputError("nobody is logged in to the Hugging Face hub here: run `hf auth login` first.")
        api = HfApi()
        try:
            created = api.create_repo(repository, private=private, exist_ok=True)
            if private and not api.model_info(created.repo_id).private:
                raise InputError(
                    f"{created.repo_id} is there already, and public: take another name, or push it publicly."
                )
            config = describe_adapter(folder)
            files = {
                WEIGHTS: (folder / WEIGHTS).read_bytes(),
                CONFIG: json.dumps(_without_paths(config), indent=2).encode(),
                CARD: card_text(created.repo_id, config).encode(),
            }
            operations = [CommitOperationAdd(path, content) for path, content in files.items()]
            api.create_commit(created.repo_id, operations, commit_message=f"Foresight adapter {name}")
        except HFValidationError as error:
            raise InputError(f"{repository!r} is no name for a repository: write owner/name.") from error
        except (OSError, HTTPError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"the hub did not take it, or could not be reached ({type(error).__name__}): {reason}"
            ) from error
        return str(created)

    def _names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()} if self.folder.is_dir() else set()

    def _folders(self) -> dict[str, Path]:
        """Every adapter's folder, by the name that it has on the registry."""
        return {record_name(folder, self.folder): folder for folder in list_adapters(self.folder)}

    def _find(self, name: str) -> Path:
        if (folder := self._folders().get(name)) is None:
            raise InputError(f"there is no trained adapter {name!r}.")
        return folder


def _summary(name: str, record: AdapterRecord) -> dict[str, Any]:
    return {
        "name": name,
        "point": str(record.point),
        "kind": record.kind,
        "parameters": record.parameters,
        "card": record.card,
    }


def _known_to_all(name: str) -> bool:
    """Whether a model's name means the same anywhere; a folder's path is also nobody else's business."""
    return name == "bundled" or (_HUB.fullmatch(name) is not None and not Path(name).is_dir())


def _without_paths(config: dict[str, Any]) -> dict[str, Any]:
    """A config whose card names the VLM and the VAE only where others know them by that name."""
    public = {k: v for k, v in config["card"].items() if k not in ("model", "vae") or _known_to_all(str(v))}
    return config | {"card": public}


def card_text(name: str, config: dict[str, Any]) -> str:
    """A model card, from `describe_adapter`: what it is, how it was made, what it scores, and how to use it.

    name: a folder's, or a repository's on the hub (owner/name).
    """
    from huggingface_hub import ModelCardData

    card, kind, point = config["card"], config["kind"], config["card"].get("point", "unknown")
    with torch.device("meta"):  # shapes alone
        count = KINDS[kind](**{key: value for key, value in config.items() if key != "kind"}).parameter_count
    model, vae = (v if _known_to_all(v) else Path(v).name for v in (str(card.get("model")), str(card.get("vae"))))
    facts = ModelCardData(
        library_name="foresight",
        tags=["foresight", "interpretability", "vision-language-model"],
        base_model=base[1] if (base := _HUB.fullmatch(model)) else None,  # none where it is a folder or the bundled one
    )
    scores = card.get("scores")
    rows = [
        f"| {title} | " + " | ".join(_interval(table.get(s), measured_share(scores, title, s)) for s in SCORES) + " |"
        for title, table in score_tables(scores).items()
    ]
    lines = ["| held out | LPIPS ↓ | HaarPSI ↑ | SSIM ↑ | PSNR ↑ | mask IoU ↑ | edge F1 ↑ |", "|---" * 7 + "|", *rows]
    blank = [
        f"\nOn {title} its LPIPS is no better than that of a blank page." for title in no_better_than_blank(scores)
    ]
    fitted = card.get("config")
    recipe = fitted.get("recipe") if isinstance(fitted, dict) else None
    values = recipe if isinstance(recipe, dict) else {}
    training = ", ".join(f"{key} {values[key]}" for key in ("steps", "batch", "lr", "seed") if key in values)
    return f"""---
{facts.to_yaml()}
---
# {name}

A Foresight adapter: it turns the latents of the VLM `{model}` at the extraction point `{point}` into latents of
the VAE `{vae}`, so that one can see what the VLM still knows of a picture there.

- kind: {kind}, {count:,} parameters
- learned from: {card.get("data", "unknown")}; {training or "recipe unknown"}

{chr(10).join([*lines, *blank]) if rows else "It has no held-out scores."}

Means with 95 % intervals, on pictures it never learned from.

```python
import foresight

adapter = foresight.load_adapter("{name}")
z = adapter(latents)  # (B, T, H, W, D) at {point} → latents of the VAE
```
"""


def _interval(interval: Interval | None, share: str) -> str:
    text = "–"
    if interval is not None:
        mean, low, high = interval
        text = f"{mean:.3f} (n = 1)" if low is None else f"{mean:.3f} [{low:.3f}, {high:.3f}]"
    return f"{text}, {share} pictures" if share else text
