"""The command line: `dgmm fit`, `predict`, `summary`, `check`, `report`, `datasets`, `demo`."""

from dgmm.command.main import main

__all__ = ["main"]
