"""The named endpoints: /generate, /reconstruct and /info, for gradio_client and plain HTTP."""

from typing import Any

import gradio as gr
from PIL import Image

from foresight.data.factors import ANY, POSITIONS, RADII
from foresight.data.images import load_mask, to_pil
from foresight.data.scenes import BACKGROUNDS, COLOR_NAMES, MAX_OBJECTS, SHAPES
from foresight.inspection.inspector import Inspector
from foresight.ui import generate as scenes
from foresight.ui import limits
from foresight.ui.error_handling import show_errors
from foresight.ui.image_input import file_image
from foresight.ui.inputs import FreeDropdown, FreeNumber
from foresight.ui.pixels import API_LABEL, chosen_pixels
from foresight.ui.services import MODEL_QUEUE, open_picture, public_facts


def add_endpoints(inspector: Inspector) -> None:
    """Adds the endpoints to the current Blocks; nothing of them is seen on the page."""

    @show_errors
    def generate(
        shape: str = ANY,
        color: str = ANY,
        objects: int = 1,
        size: str = ANY,
        position: str = ANY,
        background: str = "white",
        overlap: bool = True,
        seed: int = 0,
    ) -> tuple[Image.Image, Image.Image, dict[str, Any]]:
        """Draws a scene. Returns its picture, the mask of its objects, and a description that makes it again."""
        scene = scenes.make_scene(shape, color, objects, size, position, background, overlap, seed)
        picture, mask = scenes.draw(scene)
        return picture, to_pil(mask[None].expand(3, -1, -1).float()), scene

    @show_errors
    def reconstruct(
        image: str,
        point: str = str(inspector.default_point),
        adapter: str = "tokens",
        mask: str | None = None,
        pixels: str | None = None,
    ) -> tuple[Image.Image, dict[str, Any]]:
        """Reads a picture back from its latents at an extraction point, and scores it.

        mask: white where the picture shows an object; without it, the objects found there. pixels: how large the model
        sees it, such as 448² or native; without it, as the adapter was fitted. Returns the reconstruction and the
        scores, with the oracle's and a blank page's beside them.
        """
        record = inspector.registry.find_listed(adapter, point)
        objects = None if mask is None else load_mask(mask)
        size = chosen_pixels(pixels)
        report = inspector.inspect(open_picture(image), record.point, record.folder, objects, (), size)
        return to_pil(report.chosen.image), report.as_json()

    def info() -> dict[str, Any]:
        """Tells the models, their extraction points and widths, the adapters that fit, device, versions and limits."""
        return public_facts(inspector) | {"limits": limits.facts(inspector.most_pixels)}

    with gr.Row(visible=False):
        trigger = gr.Button()
        factors: list[Any] = [
            FreeDropdown([ANY, *SHAPES], value=ANY, label="shape"),
            FreeDropdown([ANY, *COLOR_NAMES], value=ANY, label="color"),
            FreeNumber(1, precision=0, label=f"objects, 1 to {MAX_OBJECTS}"),
            FreeDropdown(list(RADII), value=ANY, label="size"),
            FreeDropdown(list(POSITIONS), value=ANY, label="position"),
            FreeDropdown([ANY, *BACKGROUNDS], value="white", label="background"),
            gr.Checkbox(True, label="overlap: objects may cover each other"),
            FreeNumber(0, precision=0, label="seed"),
        ]
        picture, mask = file_image("image"), file_image("mask: white where there is an object (optional)")
        point = gr.Textbox(str(inspector.default_point), label="point, such as post-merge/6")
        adapter = gr.Textbox("tokens", label="adapter: linear, pooled, tokens or a trained one's name")
        drawn, drawn_mask = file_image("picture"), file_image("mask")
        pixels = gr.Textbox(label=API_LABEL)
        reconstruction = file_image("reconstruction")
        scene, scores, facts = gr.JSON(label="scene"), gr.JSON(label="scores"), gr.JSON(label="info")

    trigger.click(generate, factors, [drawn, drawn_mask, scene], api_name="generate")
    trigger.click(
        reconstruct,
        [picture, point, adapter, mask, pixels],
        [reconstruction, scores],
        api_name="reconstruct",
        **MODEL_QUEUE,
    )
    trigger.click(info, None, facts, api_name="info")
