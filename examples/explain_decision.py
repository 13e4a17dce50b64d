"""Why a forecast says what it says: experts with their weights, experiences recalled, outcomes per key."""

import random

from engine import OnlineClassifier

chance = random.Random(5)
model = OnlineClassifier(seed=0, keys=("shop",), horizons=(500.0,))
for i in range(1500):
    x = {"shop": chance.choice(["a", "b", "c"]), "amount": chance.uniform(1, 100), "weekend": i % 7 > 4}
    fraud = chance.random() < (0.6 if x["shop"] == "b" and x["amount"] > 70 else 0.03)
    model.learn_one(x, "fraud" if fraud else "fine", id=f"payment-{i}", time=float(i))

x = {"shop": "b", "amount": 95.0, "weekend": False}
kept = model.forecast_one(x, id="payment-new", time=1500.0)
why = model.explain(kept)

print(f"forecast for {x}: {why['forecast']['fraud']:.2f} fraud, after {why['version']} labels")
print("experts that weigh most:")
for expert in sorted(why["experts"], key=lambda e: -abs(e["weight"]))[:4]:
    print(f"  {expert['name']:24} weight {expert['weight']:+.2f}  says {expert['forecast']['fraud']:.2f}")
print("nearest experiences:")
for found in [r for r in why["recalled"] if r["memory"] == "features"][:3]:
    print(f"  {found['id']:14} was {found['label']:6} distance {found['distance']:.4f}")
print("outcomes of this shop:")
for entry in why["keys"]:
    share = entry["share"]["fraud"]
    print(f"  shop {entry['value']}: {share:.2f} fraud among {entry['labels']:.0f} decayed labels")

# An experience can be taken back; what the weights learned from it stays.
nearest = why["recalled"][0]["id"]
print(f"forgotten: {model.forget(nearest)} experience of {nearest}")
print("still recalled:", any(r["id"] == nearest for r in model.explain_one(x, time=1500.0)["recalled"]))
