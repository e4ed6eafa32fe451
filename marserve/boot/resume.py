"""The main program of a worker that was replaced (worker.py): the first one's loop, on the connection that it left.

Started as `python resume.py .../ts/model_service_worker.py --sock-type ...`, with the arguments of the first.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from socket import socket
from typing import Any

import worker  # of this folder, which is on PYTHONPATH


class Connection:
    """The socket, but for the answer to the first message: nobody waits for it, since nobody sent that message."""

    def __init__(self, connection: socket) -> None:
        self._connection = connection
        self._answered = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def sendall(self, data: bytes) -> None:
        if self._answered:
            self._connection.sendall(data)
        self._answered = True


def main() -> None:
    """Serve until the front end is gone; ends as TorchServe's own main program does."""
    del sys.argv[0]
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO)
    try:
        from ts.arg_parser import ArgParser
        from ts.model_service_worker import TorchModelServiceWorker

        arguments = ArgParser.model_service_worker_args().parse_args()
        own = TorchModelServiceWorker(
            arguments.sock_type, arguments.sock_name, arguments.host, arguments.port, arguments.metrics_config
        )
        inherited = socket(fileno=json.loads(os.environ[worker.RESUME])["connection"])
        own.handle_connection(Connection(inherited))
    except Exception:
        logging.exception("Backend worker process died.")
    sys.exit(1)


if __name__ == "__main__":
    main()
