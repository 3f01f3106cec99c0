"""An event as a line that is printed."""

import json

from edge.core.batch import Event
from edge.core.clock import iso8601


def as_line(event: Event) -> str:
    """Return an event as one JSON object."""
    told = {
        "ts": iso8601(event.ts),
        "source": event.source,
        "kind": event.kind,
        "severity": int(event.severity),
        "text": event.message,
        "facts": dict(event.facts),
    }
    return json.dumps({"event": told}, ensure_ascii=False)


def as_text(event: Event) -> str:
    """Return an event's source and text without line breaks."""
    return f"{event.source}: {' '.join(event.message.split())}"
