"""Pictures that are looked at closely: two beside each other or one over the other, and any of them enlarged.

`pictures.css` is their look.
"""

from html import escape

from PIL import Image

from foresight.ui.image_maps import Place

# A button that carries data-enlarge fills the window with the pictures that it stands among; again, or Escape, and
# they are back in their place.
ENLARGE = """
const close = () => element.querySelectorAll('.fs-large').forEach(figure => {
  figure.classList.remove('fs-large');
  figure.querySelector('[data-enlarge]').setAttribute('aria-expanded', 'false');
});
element.addEventListener('click', event => {
  const button = event.target.closest('[data-enlarge]');
  if (!button) return;
  const figure = button.closest('.fs-pictures, figure'), opened = !figure.classList.contains('fs-large');
  close();
  figure.classList.toggle('fs-large', opened);
  button.setAttribute('aria-expanded', opened);
});
document.addEventListener('keydown', event => { if (event.key === 'Escape') close(); });
"""

# Pictures beside each other lie one over the other after a press on data-wipe, and beside each other after the next.
OVERLAY = """
const show = () => element.querySelector('[data-wipe]')?.setAttribute('aria-pressed', element.matches('.fs-over'));
element.addEventListener('click', event => {
  if (!event.target.closest('[data-wipe]')) return;
  element.classList.toggle('fs-over');
  show();
});
watch('value', show);
"""

# One line stands in every picture of a `.fs-wipe`, where its slider is: dragged there, in a picture, or moved by the
# keyboard. What is left of the line is the picture below, what is right of it the one over it.
WIPE = """
const place = value => {
  element.style.setProperty('--at', value + '%');
  const slider = element.querySelector('.fs-wiper');
  if (slider) slider.value = value;
};
const drag = event => {
  const frame = event.target.closest('.fs-wipe');
  if (!frame || !(event.buttons & 1)) return;
  const box = frame.getBoundingClientRect();
  place(Math.round(100 * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width))));
};
element.addEventListener('input', event => { if (event.target.matches('.fs-wiper')) place(event.target.value); });
element.addEventListener('pointerdown', drag);
element.addEventListener('pointermove', drag);
watch('value', () => place(parseInt(element.style.getPropertyValue('--at')) || 50));
place(50);
"""


def wiper(label: str) -> str:
    """The slider of a `.fs-wipe`, between the names of its two sides."""
    return (
        '<label class="fs-wiping"><span>◀ original</span>'
        f'<input class="fs-wiper" type="range" min="0" max="100" value="50" aria-label="{label}">'
        "<span>reconstruction ▶</span></label>"
    )


def beside(original: Image.Image, reconstruction: Image.Image, made_by: str, place: Place) -> str:
    """Original and reconstruction as HTML, beside each other until they are laid one over the other."""
    two = "".join(
        f'<div><img src="{place(picture)}" alt="{alt}" draggable="false"></div>'
        for picture, alt in ((original, "The original"), (reconstruction, f"The reconstruction by {escape(made_by)}"))
    )
    return (
        f'<div class="fs-pictures" style="--ratio: {original.width / original.height:.4f}">'
        '<button type="button" data-enlarge aria-expanded="false" aria-label="Both pictures in the whole window" '
        f'title="Both pictures in the whole window">⤢</button><div class="two fs-wipe">{two}<i></i></div>'
        '<div class="names"><span>original</span><button type="button" data-wipe aria-pressed="false">◫ wipe</button>'
        "<span>reconstruction</span></div>"
        f"{wiper('Between original and reconstruction')}</div>"
    )
