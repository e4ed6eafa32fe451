"""What stops an export; the message says what to do."""


class ExportError(Exception):
    """The inputs are wrong, or a gate failed: no archive is written."""
