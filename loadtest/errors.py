"""What stops a load test before it measures anything."""


class LoadTestError(Exception):
    """Shown to the user as one line, without a traceback; the message says what to do."""
