"""The error that a person can mend: bad input, not a bug."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something that was handed in is missing, damaged or does not fit.

    The message names the value and says what to do. The command line prints it without a
    traceback and exits with status 2.
    """


def suggestion(name: object, choices: Iterable[str]) -> str:
    """Return a question for the name that was meant, to end a message with, or nothing.

    Args:
        name: What was given.
        choices: The names there are.
    """
    near = difflib.get_close_matches(str(name), [str(choice) for choice in choices], 1)
    return f" Did you mean {near[0]!r}?" if near else ""


def no_such(what: str, name: object, choices: Iterable[str], more: str = "") -> InputError:
    """Make the error for a name that is not on a list.

    Args:
        what: What it is a name of, such as "preset".
        name: What was given.
        choices: The names there are.
        more: Put behind them, to say what else would do.
    """
    choices = list(choices)
    near = suggestion(name, choices)
    choose = f"{near[1:].replace('Did', 'did')} Choose" if near else "choose"
    return InputError(f"There is no {what} {name!r}; {choose} one of {', '.join(choices)}{more}.")
