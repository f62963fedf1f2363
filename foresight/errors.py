"""The one error that speaks to a user."""


class InputError(ValueError):
    """Bad input, described in one sentence: what is wrong with which thing, and what is allowed.

    The command line prints it and exits with 2; the app shows it beside the control.
    """
