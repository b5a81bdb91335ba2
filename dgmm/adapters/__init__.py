"""A fit as other packages want it; each file needs the package that it is named after."""
