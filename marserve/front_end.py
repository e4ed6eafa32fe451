"""TorchServe's Java front end with two things changed: no batch waits for nobody, and no worker takes requests with it.

`Model.pollBatch` of TorchServe 0.12.0 holds a batch that is not full open for `maxBatchDelay` milliseconds, at least
one, and keeps the model's other workers from the queue meanwhile. Changed, it waits for one millisecond less, and
then still takes all that is waiting: with the least delay a batch is what came while the worker was busy.

What a worker had in hand when its process ended is answered by 507 or 500 there. Changed, it goes back to the head of
its model's queue, for the next worker. What was there before, or finds that queue full, is answered by 502 (gRPC:
UNKNOWN): a request that kills workers does not go round for ever. What hangs a worker is answered by 504 (gRPC:
DEADLINE_EXCEEDED) once the model's responseTimeout has passed, and not given to another worker.

The changes are in the classes' byte code; where one class is of another version all are left as they are.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

JAR = "model-server.jar"
NO_ANSWER = "The worker did not answer within the model's responseTimeout."
# A class, its SHA-256, and what stands in it -> what is to stand there. But for one method that is of the same length,
# so that jumps and stack maps stay true.
CLASSES = {
    # In `pollBatch`. Of its variables 6 is maxDelay (a long), 8 the job, 11 the loop's counter.
    "org/pytorch/serve/wlm/Model.class": (
        "7c5523f1fe77fe79aa32665469e17725e70518692abcf4987989ef72f10d4cff",
        {
            # logger.trace("get first job: {}", Objects.requireNonNull(job).getJobId()) -> maxDelay -= 1
            "b20090 130201 1908 b80203 c001b0 b601c7 b902080300": "1606 0a 65 3706" + 16 * "00",
            # if (maxDelay <= 0) break -> nothing: with no time left the loop ends where the queue is empty
            "1606 09 94 9d0006 a70009 840b01": "1606 09 94 9d0006 000000 840b01",
        },
    ),
    # In `run`, where it catches the interruption that a process' end is; the jump at the end is in this place alone.
    "org/pytorch/serve/wlm/WorkerThread.class": (
        "5292f5b79ac1ec509876cd997e2605848fd79f0b15b24ebd1a96c9c6b035ffd6",
        {
            # if (exitValue != null && exitValue == 137) status = 413;
            # if (req != null) aggregator.sendError(req, "Worker died.", status) -> the second alone, with 502, and for
            # no `req` too: what it had just taken from the queue then goes back, where it would have no answer at all
            "2d c60011 2d b601ec 110089 a00007 11019d 3d 2ab40020 c60012 2ab4003e 2ab40020 1301ef 1c b601cc"
            "2ab4003e b601f1 2a b201f4 1c b601c0 2ab40058 b601f7 2ab601fa 990007 2ab601fd a70328": (
                "0000000000000000000000 2ab40020 570000 2ab4003e 2ab40020 1301ef 1101f6 b601cc 0000000000"
                "2ab4003e b601f1 2a b201f4 1c b601c0 2ab40058 b601f7 2ab601fa 990007 2ab601fd a70328"
            ),
            # Where it catches that there was no answer in time; before is what closes the worker's channels.
            # if (exitValue != null && exitValue == 137) status = 413 -> status = 504
            "130219 2d b901d80300 033e 1d2ab4000ab60164a2001a 2ab4000a1db601dbc001dfb901e1010057 840301a7ffe1"
            "2ab4000ab601e5 2ab4001c01b60131 2ab40058b601e8 4e 2d c60011 2d b601ec 110089 a00007 11019d 3d": (
                "130219 2d b901d80300 033e 1d2ab4000ab60164a2001a 2ab4000a1db601dbc001dfb901e1010057 840301a7ffe1"
                "2ab4000ab601e5 2ab4001c01b60131 2ab40058b601e8 4e 1101f8 3d 0000000000000000000000000000"
            ),
            # "Worker died." -> a text for the 504; that of the 502 is in the next class
            "01 000c 576f726b657220646965642e": f"01 {len(NO_ANSWER):04x} {NO_ANSWER.encode().hex()}",
        },
    ),
    "org/pytorch/serve/wlm/BatchAggregator.class": (
        "a2518f61d90c11c73d18fab1da637bc03ab32a050e52be4bbd236e263c30c973",
        {
            # In `sendError`, for each job: if (job == null) log it; else job.sendError(status, error)
            # -> if (job != null) { if (status == 502) handleErrorJob(job); else job.sendError(status, error); }
            "1908 c70023 b2007e bb009e 59 b700a0 130100 b600a3 1907 b600a3 b600a7 b901020200 a7000a1908 1d 2c b600ec": (
                "1908 c6002a 000000000000000000000000000000 1d 1101f6 9f000d 1908 1d 2c b600ec a7000a 2a 1908 b6010a 00"
            ),
            # `handleErrorJob`, without what debuggers want: model.addFirst(job)
            # -> if (job.getPayload().getClientExpireTS() == Long.MAX_VALUE) {  // as nothing else sets it
            #        job.getPayload().setClientExpireTS(1L << 35);  // ms: a year, and the mark that it was here
            #        try { model.addFirst(job); return; } catch (IllegalStateException full) {}
            #    }
            #    job.sendError(502, "Worker died.")
            "00000041 0002 0002 00000009 2a b40007 2b b60111 b1 0000 0002"
            "012a0000000a0002000000b8000800b9"
            "012b00000016000200000009012c012d000000000009014601370001": (
                "0000004f 0004 0002 0000002e"
                "2b b60053 b600b8 14011c 94 9a0018 2b b60053 0a 1023 79 b60160 2a b40007 2b b60111 b1"
                "57 2b 1101f6 130162 b600ec b1"
                "0001 0019 0021 0022 004e"  # the exception it catches
                "0001 013c 00000007 0002 62 07004e 00"  # the stack map of both places that are jumped to
            ),
            # The constants for that: RequestInput.setClientExpireTS(J)V and the text.
            "cafebabe 00000034 015d": "cafebabe 00000034 0163",
            "010005 456e747279 0021 0008 0002": (
                "010005 456e747279"
                "010011 736574436c69656e744578706972655453 010004 284a2956 0c015d015e 0a005a015f"
                "01000c 576f726b657220646965642e 080161"
                "0021 0008 0002"
            ),
        },
    ),
}


def patch(frontend: Path, folder: Path) -> list[Path]:
    """Write the changed classes below `folder`; what to put before `frontend`'s jars on Java's class path.

    Nothing where a class in there is not the one that is known.
    """
    with zipfile.ZipFile(frontend / JAR) as jar:
        classes = {name: jar.read(name) for name in CLASSES}
    if any(hashlib.sha256(classes[name]).hexdigest() != digest for name, (digest, _) in CLASSES.items()):
        return []
    for name, (_, edits) in CLASSES.items():
        data = classes[name]
        for before, after in edits.items():
            data = data.replace(bytes.fromhex(before), bytes.fromhex(after))
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return [folder]
