"""One readable recipe per model family. Imports `handlers`, so that training and serving decode alike."""
