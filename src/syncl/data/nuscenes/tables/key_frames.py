"""The two longest tables, each gone through once for both parts of the index."""

from collections.abc import Collection
from functools import cached_property
from pathlib import Path

from syncl.data.json_stream import find_flagged_records, find_records
from syncl.data.nuscenes.tables.schema import KEY_FRAME
from syncl.data.nuscenes.tables.table_files import Record, existing_table


class KeyFrames:
    """What `sample_data` and `ego_pose` hold of key frames, as it is written there.

    Of 2.6 million records each, key frames are a sixth; a file is gone through when it is first asked for.

    Args:
        folder: version folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def _data(self) -> list[Record] | None:
        return find_flagged_records(existing_table(self._folder, "sample_data"), KEY_FRAME)

    @cached_property
    def _poses(self) -> list[Record]:
        tokens = {record.get("ego_pose_token") for record in self._data or ()}
        wanted = [token for token in tokens if isinstance(token, str)]
        return find_records(existing_table(self._folder, "ego_pose"), "token", wanted)

    def data(self, calibrations: Collection[str] | None = None) -> list[Record] | None:
        """The records of `sample_data`, in file order; None where they have to be looked for one by one.

        Args:
            calibrations: of which sensors; None = of all.

        Raises:
            SynclError: the file is missing.
        """
        if self._data is None or calibrations is None:
            return self._data
        return [each for each in self._data if each.get("calibrated_sensor_token") in calibrations]

    def poses(self, tokens: Collection[str]) -> list[Record] | None:
        """The records of `ego_pose` with these tokens, in file order; None where `data` is.

        Raises:
            SynclError: the file is missing or is not a JSON array of records.
        """
        return None if self._data is None else [each for each in self._poses if each.get("token") in tokens]
