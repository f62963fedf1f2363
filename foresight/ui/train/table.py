"""The list of trained adapters below the Train tab: rename, delete, download, add a folder, push to the hub."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import Any

import gradio as gr
from gradio.components import Component

from foresight.ui.error_handling import error_place, show_errors_in
from foresight.ui.inputs import FreeDropdown
from foresight.ui.train import views
from foresight.ui.train.services import TrainCalls
from foresight.ui.uploads import keep

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


def build_table(calls: TrainCalls) -> tuple[gr.HTML, gr.Dropdown]:
    """The list inside the current layout; returns what shows `listed`."""
    gr.HTML('<h3 class="fs-train-head">Trained adapters</h3>', apply_default_css=False)
    table = gr.HTML(views.adapter_table([]), elem_id="trained", apply_default_css=False)
    with gr.Row(equal_height=False):
        with gr.Column(min_width=260):
            chosen = FreeDropdown([], label="Adapter", elem_id="trained-chosen")
            pack = gr.DownloadButton("Download (zip)", size="sm", interactive=False, elem_id="trained-download")
        with gr.Column(min_width=260):
            new = gr.Textbox(label="New name", max_lines=1, elem_id="trained-name")
            with gr.Row():
                rename = _button("Rename", "trained-rename")
                delete = _button("Delete", "trained-delete")
                really = gr.Button(size="sm", variant="stop", min_width=80, visible=False, elem_id="trained-really")
            refused = error_place("trained-refused")
            asked = gr.State()  # the adapter that the page asks about; it alone can be deleted
        if calls.take_in:
            with gr.Column(min_width=260):
                _build_add(calls, calls.take_in, [table, chosen])
        if calls.publish:
            with gr.Column(min_width=260):
                _build_push(calls.publish, chosen)

    @show_errors_in(refused)
    def change_name(name: str, to: str) -> Any:
        calls.rename(name, to)
        return *listed(calls, [to.strip()]), "", ""

    def ask(name: str | None) -> Any:
        asking = name is not None
        return name, gr.Button(f"Really delete {name}", visible=asking), gr.Button(visible=not asking), ""

    @show_errors_in(refused)
    def remove(name: str | None) -> Any:
        if name is not None:
            calls.delete(name)
        return *listed(calls), *ask(None)

    def follow(name: str | None, before: str | None) -> Any:
        """Asks no more once another adapter is chosen; a list that came anew chooses the same one again."""
        return ask(name if name == before else None)

    def packed(name: str | None) -> gr.DownloadButton:
        if name is None or name not in [adapter["name"] for adapter in calls.adapters()]:
            return gr.DownloadButton(value=None, interactive=False)
        return gr.DownloadButton(value=keep(calls.pack(name), f"{name.rpartition('/')[2]}.zip", pack), interactive=True)

    rename.click(change_name, [chosen, new], [table, chosen, new, refused], **QUIET)
    question, one_by_one = [asked, really, delete, refused], QUIET | {"concurrency_id": "delete"}
    delete.click(ask, chosen, question, **one_by_one)
    really.click(remove, asked, [table, chosen, *question], **one_by_one)
    chosen.change(follow, [chosen, asked], question, **one_by_one)
    _needs(rename, chosen, new)
    _needs(delete, chosen)
    # Without triggers it runs when the page loads, and whenever another adapter is chosen.
    gr.on(fn=packed, inputs=chosen, outputs=pack, **QUIET)
    return table, chosen


def listed(calls: TrainCalls, wished: Sequence[str | None] = ()) -> tuple[str, gr.Dropdown]:
    """The list, and a choice among its names: the first that is wished for, else the first."""
    adapters = calls.adapters()
    names = [adapter["name"] for adapter in adapters]
    chosen = next((name for name in (*wished, *names) if name in names), None)
    return views.adapter_table(adapters), gr.Dropdown(names, value=chosen)


def _build_add(calls: TrainCalls, take_in: Callable[[str], str], shown: list[Component]) -> None:
    source = gr.Textbox(
        label="Add from a folder or the hub",
        placeholder="/path/to/adapter or owner/name",
        max_lines=1,
        elem_id="trained-source",
    )
    add = _button("Add", "trained-add")
    told = gr.HTML(elem_id="trained-added", apply_default_css=False)

    @show_errors_in(told)
    def bring(where: str) -> Any:
        name = take_in(where)
        return *listed(calls, [name]), "", f'<p class="fs-train-made">✓ Added as {escape(name)}</p>'

    add.click(bring, source, [*shown, source, told], **QUIET)
    _needs(add, source)


def _build_push(publish: Callable[[str, str, bool], str], chosen: gr.Dropdown) -> None:
    repository = gr.Textbox(
        label="Push to the hub as", placeholder="owner/name", max_lines=1, elem_id="trained-repository"
    )
    private = gr.Checkbox(True, label="private")
    push = _button("Push, with a model card", "trained-push")
    told = gr.HTML(elem_id="trained-told", apply_default_css=False)

    @show_errors_in(told)
    def send(name: str, to: str, hidden: bool) -> Iterator[str]:
        yield '<p class="fs-train-empty">Pushing …</p>'
        yield f'<p class="fs-train-made">✓ Pushed to {escape(publish(name, to, hidden))}</p>'

    push.click(send, [chosen, repository, private], told, **QUIET)
    _needs(push, chosen, repository)


def _button(label: str, name: str) -> gr.Button:
    return gr.Button(label, size="sm", min_width=80, interactive=False, elem_id=name)


def _needs(button: gr.Button, *filled: gr.Dropdown | gr.Textbox) -> None:
    """The button can be pressed only while all of these hold something."""

    def able(*values: str | None) -> gr.Button:
        return gr.Button(interactive=all(value and value.strip() for value in values))

    gr.on([field.change for field in filled], able, [*filled], button, trigger_mode="always_last", **QUIET)
