"""Writes parcels.csv beside this file: invented parcels, the seed below, ours, under the project's licence.

What makes a parcel late: a depot in its bad ten days, and weight on long ways. Every 50th weight is missing.
"""

import csv
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

SEED = 20_131
ROWS = 1500


def write(path: Path) -> None:
    """The same bytes on every machine."""
    chance = random.Random(SEED)
    begin = datetime(2024, 3, 1, tzinfo=UTC)
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["parcel", "sent", "depot", "kg", "km", "late", "known"])
        for i in range(ROWS):
            sent = begin + timedelta(minutes=40 * i)
            depot = chance.choice(["north", "south", "harbour"])
            kg, km = round(chance.uniform(0.1, 30.0), 1), chance.randrange(20, 900)
            bad_days = ((sent - begin).days // 10 + len(depot)) % 3 == 0
            late = chance.random() < (0.8 if bad_days else 0.6 if kg * km > 12_000 else 0.05)
            known = sent + timedelta(hours=6 + chance.randrange(6) + 12 * late)
            shown = "" if i % 50 == 49 else kg
            rows.writerow([f"p{i}", sent.isoformat(), depot, shown, km, int(late), known.isoformat()])


if __name__ == "__main__":
    write(Path(__file__).with_name("parcels.csv"))
