"""Which files exist, asked of whole folders: far faster than file by file, on network drives above all."""

import os
from pathlib import Path


class FolderListing:
    """Lists each folder once, when first asked about it."""

    def __init__(self) -> None:
        self._files: dict[Path, frozenset[str]] = {}

    def files(self, folder: Path) -> frozenset[str]:
        """Names in a folder; none where it does not exist."""
        if folder not in self._files:
            try:
                with os.scandir(folder) as entries:
                    self._files[folder] = frozenset(entry.name for entry in entries)
            except OSError:
                self._files[folder] = frozenset()
        return self._files[folder]

    def has(self, path: Path) -> bool:
        """Whether a file was there when its folder was first listed."""
        return path.name in self.files(path.parent)
