"""The learner inside River: its protocol, its pipelines, its evaluation, on River's own Phishing data."""

from river import compose, datasets, evaluate, metrics

from engine import OnlineClassifier

# One event at a time: predict, then learn. Before the first label there is nothing to say.
model = OnlineClassifier(seed=0)
print("before the first label:", model.predict_proba_one({"https": 0.5}))
for x, y in datasets.Phishing().take(200):
    model.predict_proba_one(x)
    model.learn_one(x, y)
x, y = next(iter(datasets.Phishing()))
print("after 200 labels:", model.predict_one(x), "where the label is", y)

# A part of a River pipeline like any other. No scaler: the learner standardises by itself.
pipeline = compose.Discard("ip_in_url") | OnlineClassifier(seed=0)
accuracy = evaluate.progressive_val_score(datasets.Phishing(), pipeline, metrics.Accuracy())
print("pipeline over 1,250 sites,", accuracy)

# Labels that come 100 events late, as River simulates them.
area = evaluate.progressive_val_score(
    datasets.Phishing(), OnlineClassifier(seed=0), metrics.ROCAUC(), delay=100
)
print("labels 100 events late,", area)
