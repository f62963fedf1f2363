"""The one error that speaks to a user."""


class InputError(ValueError):
    """Bad input, described in one sentence: what is wrong with which thing, and what is allowed.

    The command line prints it and exits with 2; the app shows it beside the control.
    """

    def __str__(self) -> str:
        """The sentence; what it quotes may be of any length, so its middle is left out where it is no sentence."""
        text = super().__str__()
        return text if len(text) <= 1000 else f"{text[:600]} … {text[-300:]}"
