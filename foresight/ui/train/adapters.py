"""What can be done with a trained adapter: rename, delete, download, import, push to the hub."""

from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import Any

import gradio as gr

from foresight.ui.error_handling import error_place, show_errors_in
from foresight.ui.inputs import FreeDropdown
from foresight.ui.services import QUIET
from foresight.ui.train.services import TrainingService
from foresight.ui.uploads import keep

ONE_BY_ONE = QUIET | {"concurrency_id": "delete"}


class AdapterActions:
    """The adapter that is chosen, and what can be done with it."""

    def __init__(self, service: TrainingService, local: bool) -> None:
        """Adds the controls to the current layout, and connects their events.

        Args:
            service: Has the adapters.
            local: Whoever comes sits at this machine: its folders may be named, and its owner's login be used.
        """
        self.service = service
        with gr.Row(equal_height=False):
            with gr.Column(min_width=260):
                self.chosen = FreeDropdown([], label="Adapter", elem_id="trained-chosen")
                self.download = gr.DownloadButton(
                    "Download (zip)", size="sm", interactive=False, elem_id="trained-download"
                )
            with gr.Column(min_width=260):
                self.new_name = gr.Textbox(label="New name", max_lines=1, elem_id="trained-name")
                with gr.Row():
                    self.rename_button = _button("Rename", "trained-rename")
                    self.delete_button = _button("Delete", "trained-delete")
                    self.confirm_button = gr.Button(
                        size="sm", variant="stop", min_width=80, visible=False, elem_id="trained-really"
                    )
                self.error = error_place("trained-error")
                self.to_delete = gr.State()  # the adapter that the page asks about; it alone can be deleted
            if local:
                with gr.Column(min_width=260):
                    self._add_import()
                with gr.Column(min_width=260):
                    self._add_publish()
        self._connect()

    def _add_import(self) -> None:
        source = gr.Textbox(
            label="Add from a folder or the hub",
            placeholder="/path/to/adapter or owner/name",
            max_lines=1,
            elem_id="trained-source",
        )
        button = _button("Add", "trained-add")
        status = gr.HTML(elem_id="trained-added", apply_default_css=False)
        outputs = [self.chosen, source, status]
        button.click(show_errors_in(status)(self.import_adapter), source, outputs, **QUIET)
        _enable_when_filled(button, source)

    def _add_publish(self) -> None:
        repository = gr.Textbox(
            label="Push to the hub as", placeholder="owner/name", max_lines=1, elem_id="trained-repository"
        )
        private = gr.Checkbox(True, label="private")
        button = _button("Push, with a model card", "trained-push")
        status = gr.HTML(elem_id="trained-pushed", apply_default_css=False)
        button.click(show_errors_in(status)(self.publish), [self.chosen, repository, private], status, **QUIET)
        _enable_when_filled(button, self.chosen, repository)

    def _connect(self) -> None:
        renamed = [self.chosen, self.new_name, self.error]
        self.rename_button.click(
            show_errors_in(self.error)(self.rename), [self.chosen, self.new_name], renamed, **QUIET
        )
        question = [self.to_delete, self.confirm_button, self.delete_button, self.error]
        self.delete_button.click(self.ask_to_delete, self.chosen, question, **ONE_BY_ONE)
        self.confirm_button.click(
            show_errors_in(self.error)(self.delete), self.to_delete, [self.chosen, *question], **ONE_BY_ONE
        )
        self.chosen.change(self.keep_question, [self.chosen, self.to_delete], question, **ONE_BY_ONE)
        _enable_when_filled(self.rename_button, self.chosen, self.new_name)
        _enable_when_filled(self.delete_button, self.chosen)
        # Without triggers it runs when the page loads, and whenever another adapter is chosen.
        gr.on(fn=self.offer_download, inputs=self.chosen, outputs=self.download, **QUIET)

    def listed(self, preferred: Sequence[str | None] = ()) -> gr.Dropdown:
        """All names, and of `preferred` ones the first that is there."""
        names = [adapter["name"] for adapter in self.service.adapters()]
        return gr.Dropdown(names, value=next((name for name in (*preferred, *names) if name in names), None))

    def rename(self, name: str, to: str) -> Any:
        self.service.rename_adapter(name, to)
        return self.listed([to.strip()]), "", ""

    def ask_to_delete(self, name: str | None) -> Any:
        asking = name is not None
        return name, gr.Button(f"Really delete {name}", visible=asking), gr.Button(visible=not asking), ""

    def delete(self, name: str | None) -> Any:
        if name is not None:
            self.service.delete_adapter(name)
        return self.listed(), *self.ask_to_delete(None)

    def keep_question(self, name: str | None, to_delete: str | None) -> Any:
        """Asks no more once another adapter is chosen; a list that came anew chooses the same one again."""
        return self.ask_to_delete(name if name == to_delete else None)

    def offer_download(self, name: str | None) -> gr.DownloadButton:
        if name is None or name not in [adapter["name"] for adapter in self.service.adapters()]:
            return gr.DownloadButton(value=None, interactive=False)
        content = self.service.adapter_as_zip(name)
        return gr.DownloadButton(value=keep(content, f"{name.rpartition('/')[2]}.zip", self.download), interactive=True)

    def import_adapter(self, source: str) -> Any:
        name = self.service.import_adapter(source)
        return self.listed([name]), "", f'<p class="fs-train-made">✓ Added as {escape(name)}</p>'

    def publish(self, name: str, repository: str, private: bool) -> Iterator[str]:
        yield '<p class="fs-train-empty">Pushing …</p>'
        address = self.service.publish_adapter(name, repository, private)
        yield f'<p class="fs-train-made">✓ Pushed to {escape(address)}</p>'


def _button(label: str, elem_id: str) -> gr.Button:
    return gr.Button(label, size="sm", min_width=80, interactive=False, elem_id=elem_id)


def _enable_when_filled(button: gr.Button, *fields: gr.Dropdown | gr.Textbox) -> None:
    """The button can be pressed only while all of these hold something."""
    changes: list[Callable[..., Any]] = [field.change for field in fields]
    gr.on(changes, _filled, [*fields], button, trigger_mode="always_last", **QUIET)


def _filled(*values: str | None) -> gr.Button:
    return gr.Button(interactive=all(value and value.strip() for value in values))
