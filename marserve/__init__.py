"""The `marserve` command: starts and stops a TorchServe, asks it for predictions, looks into archives, builds pools."""
