"""The list of trained adapters below the Train tab: rename, delete, download, add a folder, push to the hub."""

from __future__ import annotations

from typing import Any

import gradio as gr

from foresight.errors import InputError
from foresight.ui import train_views as views
from foresight.ui.calls import telling
from foresight.ui.train_calls import TrainCalls
from foresight.ui.uploads import keep


def build(calls: TrainCalls) -> tuple[gr.HTML, gr.Dropdown]:
    """The list inside the current layout; returns what is to be refreshed when a run ends."""
    gr.HTML('<h3 class="fs-train-head">Trained adapters</h3>', apply_default_css=False)
    names = _names(calls)
    table = gr.HTML(views.adapter_table(calls.adapters()), elem_id="trained", apply_default_css=False)
    with gr.Row(equal_height=False):
        with gr.Column(min_width=260):
            chosen = gr.Dropdown(names, value=names[0] if names else None, label="Adapter", elem_id="trained-chosen")
            pack = gr.DownloadButton("Download (zip)", size="sm", elem_id="trained-download")
        with gr.Column(min_width=260):
            new = gr.Textbox(label="New name", max_lines=1, elem_id="trained-name")
            with gr.Row():
                rename = gr.Button("Rename", size="sm", min_width=80, elem_id="trained-rename")
                delete = gr.Button("Delete", size="sm", min_width=80, elem_id="trained-delete")
                really = gr.Button(
                    "Really delete", size="sm", variant="stop", min_width=80, visible=False, elem_id="trained-really"
                )
        with gr.Column(min_width=260):
            source = gr.Textbox(
                label="Add a folder of this machine, or an adapter of the hub",
                placeholder="/path/to/adapter or owner/name",
                max_lines=1,
                elem_id="trained-source",
            )
            add = gr.Button("Add", size="sm", elem_id="trained-add")
        with gr.Column(min_width=260):
            repository = gr.Textbox(
                label="Push to the hub as", placeholder="owner/name", max_lines=1, elem_id="trained-repository"
            )
            private = gr.Checkbox(True, label="private")
            push = gr.Button("Push, with a model card", size="sm", elem_id="trained-push")
    told = gr.HTML(elem_id="trained-told", apply_default_css=False)

    def fresh(name: str | None) -> tuple[str, gr.Dropdown]:
        found = _names(calls)
        value = name if name in found else found[0] if found else None
        return views.adapter_table(calls.adapters()), gr.Dropdown(found, value=value)

    def some(name: str | None) -> str:
        if name is None:
            raise InputError("there is no trained adapter yet: start a run, or add a folder.")
        return name

    @telling
    def change_name(name: str | None, to: str) -> Any:
        calls.rename(some(name), to)
        return *fresh(to.strip()), ""

    @telling
    def ask(name: str | None) -> Any:
        return gr.Button(f"Really delete {some(name)}", visible=True), gr.Button(visible=False)

    @telling
    def remove(name: str | None) -> Any:
        calls.delete(some(name))
        return *fresh(None), gr.Button(visible=False), gr.Button(visible=True)

    @telling
    def take_in(where: str) -> Any:
        return *fresh(calls.take_in(where)), ""

    @telling
    def publish(name: str | None, to: str, hidden: bool) -> str:
        return f'<p class="fs-train-made">✓ Pushed to {calls.publish(some(name), to, hidden)}</p>'

    def packed(name: str | None) -> gr.DownloadButton:
        if name is None:
            return gr.DownloadButton(value=None, interactive=False)
        return gr.DownloadButton(value=keep(calls.pack(name), f"{name}.zip", pack), interactive=True)

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    here = [table, chosen]
    rename.click(change_name, [chosen, new], [*here, new], **quiet)
    delete.click(ask, chosen, [really, delete], **quiet)
    really.click(remove, chosen, [*here, really, delete], **quiet)
    chosen.change(lambda: (gr.Button(visible=False), gr.Button(visible=True)), None, [really, delete], **quiet)
    add.click(take_in, source, [*here, source], api_visibility="private")
    push.click(publish, [chosen, repository, private], told, api_visibility="private")
    # Without triggers it runs when the page loads, and whenever another adapter is chosen.
    gr.on(fn=packed, inputs=chosen, outputs=pack, **quiet)
    return table, chosen


def _names(calls: TrainCalls) -> list[str]:
    return [adapter["name"] for adapter in calls.adapters()]
