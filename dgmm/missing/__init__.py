"""Imputations, dropout and the pooling of completed data."""
