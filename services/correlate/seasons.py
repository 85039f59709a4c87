"""Seasons: whether the same has happened at this time of the day or week before. Asked only about what looks unusual."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from services.correlate.detectors.base import Observation
from services.correlate.scene import Track

DAY = 1440
MARGIN = 15
"""Minutes by which a recurring event may shift from day to day."""
_DAYS = (1, 2, 3, 4, 5, 6, 7, 14, 21, 28)
_ENOUGH = 0.5
"""Share of the observed excess that the same time on another day must have had."""


class RollupSeasons:
    """Asks the roll-ups about the same window one to seven days and two to four weeks ago.

    What came on two of the days before (on the only one, while there is only one), or on the same weekday a week
    ago, is the season, be it a nightly job or the rush of Monday morning.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def sift(self, observations: Sequence[Observation]) -> list[Observation]:
        """Returns the observations that the season does not explain."""
        if not observations:
            return []
        oldest: int | None = await self._pool.fetchval("SELECT min(minute) FROM correlate.roll_up")
        return [observation for observation in observations if not await self._explain(observation, oldest)]

    async def _explain(self, observation: Observation, oldest: int | None) -> bool:
        days = [day for day in _DAYS if oldest is not None and observation.first - day * DAY >= oldest]
        if not days:
            return False
        is_drop = observation.observed < observation.expected
        margin = 0 if is_drop else MARGIN
        rows = await self._pool.fetch(
            """SELECT day, coalesce(sum(events), 0)::float8 AS events
               FROM unnest($1::int[]) AS days (day)
               LEFT JOIN (correlate.roll_up JOIN correlate.series ON series.id = series_id
                          JOIN correlate.source ON source.id = source_id JOIN correlate.service ON service.id = service_id
                          JOIN correlate.fingerprint ON fingerprint.id = fingerprint_id
                          JOIN unnest($4::text[], $5::text[], $6::bigint[], $7::smallint[]) AS track (source, service, template, severity)
                               ON track.source = source.name AND track.service = service.name
                                  AND track.template = fingerprint.template AND track.severity = severity_number)
                    ON minute BETWEEN $2 - day * 1440 AND $3 - day * 1440
               GROUP BY day""",
            days,
            observation.first - margin,
            observation.last + margin,
            *_columns(observation.tracks),
        )
        if is_drop:
            alike = {row["day"] for row in rows if row["events"] <= 2 * observation.observed + 1}
        else:
            least = observation.expected + _ENOUGH * (observation.observed - observation.expected)
            alike = {row["day"] for row in rows if row["events"] >= least}
        daily = [day for day in days if day <= 7]
        return len(alike.intersection(daily)) >= min(2, len(daily)) or bool(alike & {7, 14})


def _columns(tracks: tuple[Track, ...]) -> tuple[list[str], list[str], list[int], list[int]]:
    return (
        [track.source for track in tracks],
        [track.service for track in tracks],
        [track.template for track in tracks],
        [track.severity for track in tracks],
    )
