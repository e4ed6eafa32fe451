"""TorchServe's Java front end, with one method changed: a batch does not wait for requests that nobody has sent.

`Model.pollBatch` of TorchServe 0.12.0 holds a batch that is not full open for `maxBatchDelay` milliseconds, at least
one, and keeps the model's other workers from the queue meanwhile. Changed, it waits for one millisecond less, and
then still takes all that is waiting: with the least delay a batch is what came while the worker was busy. Both changes
are in the class' byte code, in place; a class of any other version is left as it is.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

JAR = "model-server.jar"
CLASS = "org/pytorch/serve/wlm/Model.class"
SHA256 = "7c5523f1fe77fe79aa32665469e17725e70518692abcf4987989ef72f10d4cff"
# What stands in `pollBatch` -> what is to stand there, of the same length, so that jumps and stack maps stay true. Of
# its variables 6 is maxDelay (a long), 8 the job, 11 the loop's counter.
EDITS = {
    # logger.trace("get first job: {}", Objects.requireNonNull(job).getJobId()) -> maxDelay -= 1
    "b20090 130201 1908 b80203 c001b0 b601c7 b902080300": "1606 0a 65 3706" + 16 * "00",
    # if (maxDelay <= 0) break -> nothing: with no time left the loop ends where the queue is empty
    "1606 09 94 9d0006 a70009 840b01": "1606 09 94 9d0006 000000 840b01",
}


def patch(frontend: Path, folder: Path) -> list[Path]:
    """Write the changed class below `folder`; what to put before `frontend`'s jars on Java's class path.

    Nothing where the class in there is not the one that is known.
    """
    with zipfile.ZipFile(frontend / JAR) as jar:
        data = jar.read(CLASS)
    if hashlib.sha256(data).hexdigest() != SHA256:
        return []
    for before, after in EDITS.items():
        data = data.replace(bytes.fromhex(before), bytes.fromhex(after))
    path = folder / CLASS
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return [folder]
