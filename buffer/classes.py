"""Which data class a reading has: by its tag, as the configuration says at this moment."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from edge.core.batch import Batch, Event, Record
from edge.core.catalogue import Catalogue
from edge.core.data_class import DataClass


class ClassMap:
    """Classes of tags by id. A tag that nobody classed is telemetry, and a log without classes costs nothing."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._told: dict[str, Mapping[str, DataClass]] = {}
        self._known_id = 0
        self._tags = np.empty(0, np.int32)
        self._classes = np.empty(0, np.int8)

    def tell(self, device: str, classes: Mapping[str, DataClass]) -> None:
        """Take up the classes of a device's tags by name, in place of what was told before. Elements of an array go
        with its name."""
        if classes:
            self._told[device] = classes
        else:
            self._told.pop(device, None)
        self._known_id = 0
        self._tags, self._classes = np.empty(0, np.int32), np.empty(0, np.int8)

    def _learn(self) -> None:
        found = [
            (tag.id, told)
            for tag in self._catalogue.since(self._known_id)
            if (known := self._told.get(tag.device))
            and (told := known.get(tag.name, known.get(tag.name.partition("[")[0]))) is not None
        ]
        self._tags = np.append(self._tags, np.array([tag for tag, _ in found], np.int32))
        self._classes = np.append(self._classes, np.array([told for _, told in found], np.int8))
        self._known_id = self._catalogue.last_id

    def of_tags(self, tags: npt.NDArray[np.int32]) -> npt.NDArray[np.int8]:
        """Return each row's class as int8[n]."""
        if self._known_id != self._catalogue.last_id:
            self._learn()
        classes = np.full(len(tags), DataClass.TELEMETRY, np.int8)
        if len(self._tags):
            place = np.minimum(np.searchsorted(self._tags, tags), len(self._tags) - 1)
            classes = np.where(self._tags[place] == tags, self._classes[place], classes)
        return classes

    def of(self, record: Record) -> DataClass:
        """Return the class of a record whose rows all have one."""
        match record:
            case Event():
                return DataClass.EVENT
            case Batch():
                return DataClass(int(self.of_tags(record.tag[:1])[0]))
            case _:
                return DataClass(int(self.of_tags(np.array([record.tag], np.int32))[0]))

    def split(self, batch: Batch) -> list[Batch]:
        """Return a batch's rows by class, each in its order."""
        if not self._told:
            return [batch]
        classes = self.of_tags(batch.tag)
        if (classes == classes[0]).all():
            return [batch]
        return [batch.take(classes == each) for each in np.unique(classes)]
