"""What the model says of an image: one answer at a time for each visitor, who may end it by moving on."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import gradio as gr
from PIL import Image

from foresight import zero_gpu
from foresight.data.resolution import DEFAULT, Resolution
from foresight.models.vlm import VLM

QUESTIONS = ("Describe the image.", "How many objects are there?", "What color is each part of the image?")
BUNDLED_SAYS = "The bundled model is tiny: it knows colors, drawn shapes, places and light, and no things by name."


@dataclass(frozen=True)
class Conversations:
    """Answers under way, by visitor; words take seconds, and the models work for everybody."""

    vlm: VLM
    _ends: dict[str | None, threading.Event] = field(default_factory=dict)

    def say(self, image: Image.Image, question: str, request: gr.Request, pixels: Resolution = DEFAULT) -> str:
        """The answer, or as much of it as was said when the visitor moved on."""
        end = self._ends[request.session_hash] = threading.Event()
        try:
            question = question.strip()[:500] or QUESTIONS[0]
            # A fork hears of nothing outside: there an answer goes on to its end.
            stop = None if zero_gpu.ACTIVE else end.is_set
            answer = str(self.vlm.describe(image, question, stop=stop, pixels=pixels))
        finally:
            self._ends.pop(request.session_hash, None)
        return f"{answer} … (ended here: ask again)" if end.is_set() else answer

    def hush(self, request: gr.Request) -> None:
        """Ends the visitor's answer after its next word."""
        if end := self._ends.get(request.session_hash):
            end.set()
