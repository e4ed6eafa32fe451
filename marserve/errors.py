"""What stops a command."""


class MarserveError(Exception):
    """Shown to the user as one line, without a traceback; the message says what to do."""
