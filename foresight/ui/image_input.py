"""The image that a tab begins with: an input with the project's own rules, and the row of examples under it."""

import base64
import io
from typing import Any

import gradio as gr
from PIL import Image

from foresight.errors import InputError
from foresight.ui import examples, generate
from foresight.ui.error_handling import error_place
from foresight.ui.inputs import RawImage
from foresight.ui.services import ImageSource, open_picture, plain_html

_CHOOSE = """element.addEventListener('click', event => {
  const button = event.target.closest('[data-example]');
  if (button) trigger('click', {example: button.dataset.example});
});"""


class ImagePicker:
    """An image input, the place of its errors, and the source of the image that stands in it.

    Attributes:
        image: The input.
        error: Where it is said why an upload is no image.
        source: A State, the `ImageSource` of what stands in the input.
        examples: The row of examples, after `build_examples`.
        outputs: What `values` gives values for.
    """

    def __init__(
        self,
        first: str | None,
        height: int,
        purpose: str,
        elem_id: str,
        error_id: str,
    ) -> None:
        """Adds the input to the current layout.

        Args:
            first: The name of the example that it begins with; None begins without a picture.
            height: Of the input, in pixels.
            purpose: What the image is for, as in "to inspect".
            elem_id: The input's.
            error_id: The elem_id of the place of its errors.
        """
        sources = examples.examples()
        self._sources = sources
        self._images = {name: generate.image_and_mask(source)[0] for name, source in sources.items()}
        self.image = RawImage(
            _preview(self._images[first]) if first else None,
            label="Picture: drop, click or paste one",
            type="filepath",
            image_mode=None,
            format="webp",
            sources=["upload", "clipboard"],
            height=height,
            buttons=[],
            elem_id=elem_id,
            elem_classes="fs-picked",
            alt_text=f"The picture {purpose}",
        )
        self.error = error_place(error_id)
        self.source = gr.State(sources[first] if first else None)
        self.outputs = [self.image, self.source, self.error]

    def build_examples(self, elem_id: str) -> None:
        """Adds the examples to the current layout: buttons with the pictures of scenes, then of photos."""
        buttons = "".join(
            f'<button type="button" data-example="{name}" title="{name}"><img src="{_thumbnail(image)}" alt="{name}">'
            "</button>"
            for name, image in self._images.items()
        )
        html = f'<div class="fs-examples">{buttons}</div>'
        self.examples = plain_html(html, elem_id, js_on_load=_CHOOSE)

    def values(self, source: ImageSource) -> list[Any]:
        """The image of a source, the source, and no error."""
        return [self.put_back(source), source, ""]

    def upload(self, path: str | None) -> list[Any]:
        """`values` of an uploaded file. Raises InputError where it is no image."""
        return [open_picture(path), path, ""]

    def example(self, event: gr.EventData) -> list[Any]:
        """`values` of the example that was chosen. Raises InputError where there is none of that name."""
        name = str(event.example)
        if name not in self._sources:
            raise InputError(f"there is no example {name!r}.")
        return self.values(self._sources[name])

    def put_back(self, source: ImageSource) -> Image.Image | None:
        """The image that stood in the input before an upload that is none."""
        return None if source is None else _preview(generate.image_and_mask(source)[0])


def _preview(image: Image.Image) -> Image.Image:
    """A copy that is large enough for the input, which shows it and gives it to nobody."""
    small = image.convert("RGB")
    small.thumbnail((640, 640))
    return small


def _thumbnail(image: Image.Image) -> str:
    """A small copy, inside the page: the `src` of an `<img>`."""
    small, file = image.convert("RGB"), io.BytesIO()
    small.thumbnail((96, 96))
    small.save(file, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def file_image(label: str) -> gr.Image:
    """A picture of an endpoint, which nobody sees on the page."""
    return RawImage(label=label, type="filepath", image_mode=None, format="png")
