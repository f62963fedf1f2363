"""What is said of clips: what moves where, what came first, and where the camera goes.

Shapes: N clips of FRAMES frames of SIDE × SIDE pixels, uint8 sRGB; two frames are one latent step of the VLM, so that
a clip here has as many tokens as an image of 224 × 224.
"""

import json
import random
from collections.abc import Sequence

import torch
from torch import Tensor

from foresight.data.camera import MOVES, CameraPaths, CameraSpec, film, sample_camera
from foresight.data.motion import MOTIONS, MotionSpec, MovingScenes, render_motion, take_motion
from foresight.data.scenes import BACKGROUNDS, SceneSpec
from training.bundle.conversation import ON, Turn, join

FRAMES, SIDE = 8, 112
DESCRIBE = ("Describe the clip.", "What happens in the clip?", "Describe the video.")
TRACK = ("Track every object: give its box in the first and in the last frame, in JSON format.", "Track all objects.")
MOVING = MotionSpec(SceneSpec(objects=(1, 3), radius=(20.0, 56.0), size=(SIDE, SIDE)), frames=FRAMES, speed=(4.0, 16.0))
CAMERA = CameraSpec(frames=FRAMES, size=(SIDE, SIDE), speed=(4.0, 12.0))
_CHUNK = 512
_STILL = ("still", "rotation", "growth", "appear", "vanish")  # motions that leave the centre where it is


def _action(clips: MovingScenes, i: int, j: int) -> str:
    """What object j of clip i does, in words that follow its name."""
    motion, heading = MOTIONS[int(clips.motion[i, j])], clips.heading(i, j)
    if motion in _STILL:
        size = clips.tracks[i, :, j, 2]
        growth = "grows" if size[-1] > size[0] else "shrinks"
        return {"still": "stays where it is", "rotation": "turns", "growth": growth}.get(motion, f"{motion}s")
    if motion == "bounce":
        return "bounces off a wall"
    return f"moves {heading}" if heading else "stays where it is"


def moving_scenes(count: int, seed: int, device: torch.device) -> tuple[Tensor, list[list[Turn]]]:
    """Clips (count, FRAMES, 3, SIDE, SIDE) uint8 of the train split, and each one's five turns."""
    clips = take_motion(count, seed, MOVING, "train", device)
    images, turns = [], list[list[Turn]]()
    for part in clips.chunks(_CHUNK):
        rendered = render_motion(part)
        images.append(rendered.images)
        boxes, local = rendered.boxes.cpu(), part.to("cpu")
        turns += [_scene_turns(local, i, boxes[i], random.Random(f"{seed}/{len(turns) + i}")) for i in range(len(part))]
    return torch.cat(images), turns


def _scene_turns(clips: MovingScenes, i: int, boxes: Tensor, draw: random.Random) -> list[Turn]:
    """boxes: (FRAMES, N, 4) of the visible parts."""
    count = int(clips.first.count[i])
    names = [clips.first.label(i, j) for j in range(count)]  # no colour twice, so that each name is one object's
    actions = [_action(clips, i, j) for j in range(count)]
    order = sorted(range(count), key=lambda j: boxes[:, j].amax(0).tolist())
    ground = ON[BACKGROUNDS[int(clips.first.background[i])]]
    story = join([f"the {names[j]} {actions[j]}" for j in order])
    tracks = [{"label": names[j], "first": boxes[0, j].tolist(), "last": boxes[-1, j].tolist()} for j in order]
    return [
        Turn("tracks", draw.choice(TRACK), json.dumps(tracks)),
        Turn("clip description", draw.choice(DESCRIBE), f"On {ground} background, {story}."),
        *[_motion_question(clips, i, names, actions, draw) for _ in range(3)],
    ]


def _motion_question(clips: MovingScenes, i: int, names: list[str], actions: list[str], draw: random.Random) -> Turn:
    j = draw.randrange(len(names))
    name, motion = names[j], MOTIONS[int(clips.motion[i, j])]
    kind = draw.choice(("what", "heading", "size", "beginning", "end", "count"))
    if kind == "heading" and motion not in (*_STILL, "bounce") and (heading := clips.heading(i, j)):
        return Turn("motion", f"Which way does the {name} move?", f"It moves {heading}.")
    if kind == "size":
        does = actions[j] if motion == "growth" else "keeps its size"
        return Turn("motion", f"Does the {name} grow, shrink or keep its size?", f"It {does}.")
    if kind == "beginning":
        return Turn("order", f"Is the {name} there from the beginning?", "No." if motion == "appear" else "Yes.")
    if kind == "end":
        return Turn("order", f"Is the {name} there at the end?", "No." if motion == "vanish" else "Yes.")
    if kind == "count":
        moving = sum(a != "stays where it is" for a in actions)
        return Turn("motion", "How many objects change or move?", f"{moving} of {len(names)}.")
    return Turn("motion", f"What does the {name} do?", f"It {actions[j]}.")


def camera_moves(photos: Sequence[Tensor], count: int, seed: int) -> tuple[Tensor, list[list[Turn]]]:
    """Clips (count, FRAMES, 3, SIDE, SIDE) uint8 of a camera over photos (3, H, W) uint8, and each one's turns."""
    images, turns, draw = list[Tensor](), list[list[Turn]](), random.Random(seed)
    for number in range(count):
        photo = draw.choice(photos)
        paths = sample_camera(range(number, number + 1), seed, CAMERA, (photo.shape[1], photo.shape[2]), photo.device)
        images.append((film(photo[None].float() / 255, paths) * 255).round().to(torch.uint8))
        turns.append(_camera_turns(paths, draw))
    return torch.cat(images), turns


def _camera_turns(paths: CameraPaths, draw: random.Random) -> list[Turn]:
    move = MOVES[int(paths.move[0])]
    (x0, y0, side0), (x1, y1, side1) = paths.windows[0, 0].tolist(), paths.windows[0, -1].tolist()
    zoom = "in" if side1 < side0 else "out"
    dx, dy = x1 - x0, y1 - y0
    way = ("right" if dx > 0 else "left") if abs(dx) > abs(dy) else ("down" if dy > 0 else "up")
    zooms, pans = f"zooms {zoom}", f"moves {way}"
    words = {"pan": pans, "zoom in": zooms, "zoom out": zooms}.get(move, f"{pans} and {zooms}")
    story = f"The camera {words}."
    questions = [
        Turn("camera", "What does the camera do?", story),
        Turn("camera", "Does the camera zoom?", "No." if move == "pan" else f"Yes, it {zooms}."),
        Turn("camera", "Which way does the camera move?", f"It {pans}." if "pan" in move else "It stays where it is."),
    ]
    return [Turn("camera", "Does any object move?", "No, the camera does."),
            Turn("clip description", draw.choice(DESCRIBE), story), *questions]  # fmt: skip
