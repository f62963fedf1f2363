"""What one client, and all together, may ask of the app: declared here, kept by the guard and the queue, told by /info.

What a picture, a clip, an archive or an adapter may be is declared where each is read.
"""

from typing import Any

from foresight.data import archive, clips, images
from foresight.data.factors import MAX_SCENES

WAITING = 64  # calls in one queue, and calls of one client: clicks stand in one, batches in one, light ones in others
SHARE = 16  # calls of one client in one queue; whoever sits at this machine may have all
ABSENT = 15.0  # seconds after which a call whose answers nobody fetches is ended
FORGOTTEN = 600.0  # seconds after which answers that nobody fetched are dropped

UPLOAD_FILE = 40 << 20  # bytes of a file
UPLOAD = 512 << 20  # bytes of all files of one upload
UPLOADED = 2 << 30  # bytes that a client of a public app uploads in KEPT seconds
UPLOAD_FIELD = 16 << 10  # bytes of what else a form holds, which lies in memory
KEPT = 86_400  # seconds for which the app keeps an upload's file
FREE = 2 << 30  # bytes of the disk that uploads leave free
BODY = 4 << 20  # bytes of any other request
ADDRESS = 8 << 10  # bytes of an address
NAME = 255  # bytes of one part of it, as of a file's name
PUBLIC_PIXELS = 448**2  # of a picture on a public app, for which all others wait


def facts(seen: int | None) -> dict[str, Any]:
    """The limits for people and clients: JSON values, sizes in bytes; seen: pixels at which a model looks at most."""
    return {
        "upload": {"file": UPLOAD_FILE, "together": UPLOAD, "in_a_day": UPLOADED},
        "picture": {"pixels": images.MAX_PIXELS, "seen": seen},
        "clip": {"frames": clips.MAX_FRAMES},
        "archive": {"files": archive.MAX_FILES, "bytes": archive.MAX_BYTES},
        "scenes": MAX_SCENES,
        "queue": {"waiting": WAITING, "by_client": SHARE},
    }
