"""What stands before TorchServe: HAProxy, set up from one small file, and the keys of those who may ask."""
