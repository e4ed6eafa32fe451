"""What stops a command."""


class MarserveError(Exception):
    """Shown to the user as one line, without a traceback; the message says what to do."""

    exit_code = 1


class DataError(MarserveError):
    """The files that the user names are not laid out as they must be: wrong usage, as a wrong option is."""

    exit_code = 2
