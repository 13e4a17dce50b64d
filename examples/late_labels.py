"""Labels that come days later: keep the forecast, let the event happen, learn when the outcome is known.

Parcels leave three depots. Whether one was late is known when it arrives, one to four days on. What is
scored is what was said when it left.
"""

import heapq
import random

from engine import OnlineClassifier

HOUR, DAY = 3600.0, 86400.0


def parcels(n, seed=3):
    """(id, time it left, features, whether it was late, time it arrived); a depot has bad weeks."""
    chance = random.Random(seed)
    for i in range(n):
        left = i * HOUR / 2
        depot = chance.choice(["north", "south", "harbour"])
        x = {"depot": depot, "kg": round(chance.uniform(0.1, 30), 1), "km": chance.randrange(20, 900)}
        bad_week = (int(left // (7 * DAY)) + len(depot)) % 3 == 0
        late = chance.random() < (0.75 if bad_week else 0.1)
        yield f"parcel-{i}", left, x, late, left + DAY * (1 + chance.random() + 2 * late)


def run(keys):
    """The share of parcels for which what was said at their departure came true."""
    model = OnlineClassifier(seed=0, keys=keys, horizons=(2 * DAY, 10 * DAY))
    waiting, right, labels = [], 0, 0

    def learn(kept, late):
        nonlocal right, labels
        if kept.labels:  # something was said
            right += max(kept.proba, key=kept.proba.get) == late
            labels += 1
        model.learn(kept, late)

    for i, (id, left, x, late, arrived) in enumerate(parcels(3000)):
        while waiting and waiting[0][0] <= left:  # arrivals before this departure
            _, _, kept, outcome = heapq.heappop(waiting)
            learn(kept, outcome)
        kept = model.forecast_one(x, id=id, time=left)  # changes nothing
        model.observe(kept)  # the parcel left; its label is awaited from now on
        heapq.heappush(waiting, (arrived, i, kept, late))
    return right / labels, model, len(waiting)


accuracy, _, _ = run(keys=None)
print(f"without keys: {accuracy:.3f} right")
accuracy, model, waiting = run(keys=("depot",))
print(f"with outcomes kept per depot: {accuracy:.3f} right")
print("still on their way:", waiting)
for entry in model.explain_one({"depot": "north", "kg": 2.0, "km": 100}, time=3000 * HOUR / 2)["keys"]:
    print(
        f"  {entry['value']}, last {entry['horizon'] / DAY:.0f} days: {entry['share'][True]:.0%} late "
        f"of {entry['labels']:.1f} labels for {entry['events']:.1f} parcels (both decayed)"
    )
