"""Several outcomes in one model: how it is read and fitted, and what the user holds."""
