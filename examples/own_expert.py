"""A model of River's own as one more expert: the mixture follows it where it understands the stream better.

A till rings up baskets; what is asked is whether the clerk will check the bill by hand, which she does when the
total is a multiple of seven. No general learner finds that; a model that knows it is given as an expert, beside
a Hoeffding tree of River's. While the clerk takes another rule for a week, nobody listens to the first one.
"""

import json
import random

from river import base, tree

from engine import Expert, OnlineClassifier


class Divides(base.Classifier):
    """Checked or not, by divisibility; how often that was right is learned."""

    def __init__(self, by=7):
        self.by = by
        self.right, self.labels = 1.0, 2.0

    def predict_proba_one(self, x):
        checked, sure = x["total"] % self.by == 0, self.right / self.labels
        return {checked: sure, not checked: 1.0 - sure}

    def learn_one(self, x, y):
        self.right += (x["total"] % self.by == 0) == y
        self.labels += 1.0


def written(model):
    return json.dumps([model.by, model.right, model.labels]).encode()


def restored(data):
    model = Divides()
    model.by, model.right, model.labels = json.loads(data)
    return model


def baskets(n, seed=5):
    """(features, whether the bill was checked); the clerk's rule is another one from event 2,000 to 3,000."""
    chance = random.Random(seed)
    for i in range(n):
        x = {"total": chance.randrange(100, 10_000), "items": chance.randrange(1, 40)}
        yield x, x["total"] % 7 == 0 if not 2000 <= i < 3000 else x["items"] > 20


def caught(model, first, last):
    """The share of checked bills that were foreseen between two events."""
    return sum(hits[model][first:last]) / sum(checked[first:last])


rule = Expert(Divides(), name="sevens", to_bytes=written, from_bytes=restored)
learners = {
    "alone": OnlineClassifier(seed=0),
    "with experts of one's own": OnlineClassifier(seed=0, experts=(rule, tree.HoeffdingTreeClassifier())),
}
hits, checked = {name: [] for name in learners}, []
for x, y in baskets(4000):
    checked.append(y)
    for name, learner in learners.items():
        hits[name].append(learner.predict_one(x) == y and y)
        learner.learn_one(x, y)
for name in learners:
    shares = ", ".join(f"{caught(name, i, i + 500):.2f}" for i in (1500, 2500, 3500))
    print(f"{name}: checked bills foreseen, before, during and after the other rule: {shares}")
weights = learners["with experts of one's own"].expert_weights()
print(
    f"weight of the rule: {weights['sevens']:.2f}, of River's tree: {weights['HoeffdingTreeClassifier']:.2f}"
)
try:
    learners["with experts of one's own"].save("till.everlearn")
except ValueError as error:
    print("not saved:", error)
