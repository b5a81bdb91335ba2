"""One formula fitted to many outcomes, or to many parts of a frame: `fit_many()`."""
