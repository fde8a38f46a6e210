"""The error that a person can mend: bad input, not a bug."""


class InputError(ValueError):
    """Something that was handed in is missing, damaged or does not fit.

    The message names the value and says what to do. The command line prints it without a
    traceback and exits with status 2.
    """
