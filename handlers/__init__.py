"""What travels inside every archive: payloads, decoding, the network, replies. Imports nothing else of marserve.

bytes -> `payload` -> a task's `decode` -> `network` -> the task's `encode` -> reply; `pipeline` strings them together
for a whole batch, and `entry` is the one class that TorchServe loads.
"""
