"""Names of files as people read them: whole as long as they can be, else without their middle."""

MAX_NAME = 200  # of an archive's entry, whose name may have 65,535 characters


def printable(name: str) -> str:
    """A name that can be shown and kept: what cannot be printed replaced, and no longer than MAX_NAME."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in shortened(name, MAX_NAME))


def shortened(name: str, most: int = 80) -> str:
    """A name of at most so many characters: what it begins with, and its end, which has the file's own name."""
    end = most * 2 // 3
    return name if len(name) <= most else f"{name[: most - end - 1]}…{name[-end:]}"
