"""Numbers instead of classes: the approval of a president, from River's TrumpApproval data."""

from river import datasets, evaluate, metrics

from engine import OnlineRegressor

error = evaluate.progressive_val_score(datasets.TrumpApproval(), OnlineRegressor(seed=0), metrics.MAE())
print("approval in percent,", error)

model = OnlineRegressor(seed=0)
x, y = next(iter(datasets.TrumpApproval()))
print("before the first target:", model.predict_one(x))
for x, y in datasets.TrumpApproval():
    said = model.predict_one(x)
    model.learn_one(x, y)
print(f"the last poll: said {said:.2f}, was {y:.2f}")
print(
    "weights:", {name: round(weight, 2) for name, weight in sorted(model.expert_weights().items())[:3]}, "…"
)
