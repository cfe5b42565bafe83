"""The one error that a user can act on."""


class InputError(ValueError):
    """Bad input: its message is one sentence that says what is wrong and what to do.

    The command line prints the sentence and ends with exit code 2; a script can catch it by this class.
    """
